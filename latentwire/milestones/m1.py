"""M1: are the quantizers right, and what do they cost? Every codec on the pair's real caches.

For each codec: relative error of K and V by sharer layer, what it does to the receiver's next
token, bytes of the real packet, and time to encode and decode. That a packet carries exactly what
the other milestones evaluate is checked on the way. Beside it, the times of all that is not the
codec's (see `link_times`).
"""

from typing import TYPE_CHECKING

from latentwire.parameters import CALIBRATION, CODEC, SAMPLE, STUDY, Values

if TYPE_CHECKING:  # they take seconds to import: a help text must not
    from latentwire.milestones.milestone import MilestoneRun
    from latentwire.milestones.study import Study

PARAMETERS = (*STUDY, CODEC, CALIBRATION, SAMPLE)


def run(values: Values) -> None:
    from latentwire.milestones.checking import begin

    run_in(begin(values), values)


def run_in(study: "Study", values: Values, parent: "MilestoneRun | None" = None) -> None:
    """The milestone on a study that is open already."""
    from latentwire.milestones.codec_measurements import measure_codecs

    measure_codecs(study, values, parent)
