"""M1: are the quantizers right, and what do they cost? Every codec on the pair's real caches.

For each codec: relative error of K and V by sharer layer, what it does to the receiver's next
token, bytes of the real packet, and time to encode and decode. That a packet carries exactly what
the other milestones evaluate is checked on the way. Beside it, the times of all that is not the
codec's (see `latency`).
"""

from typing import TYPE_CHECKING

from latentwire.parameters import CALIBRATION, CODEC, SAMPLE, STUDY

if TYPE_CHECKING:  # it takes seconds to import: a help text must not
    from latentwire.session.session import Session

PARAMETERS = (*STUDY, CODEC, CALIBRATION, SAMPLE)


def run_on(session: "Session") -> None:
    """The milestone on a session that is open already."""
    from latentwire.milestones.codec_measurements import measure_codecs

    measure_codecs(session)
