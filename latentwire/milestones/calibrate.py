"""calibrate: what calibrated codecs need to know of a pair's caches, from training questions.

Measured on questions that are never scored: the training splits of the pair's question sets (the
bundled sets have a development split instead). Writes one artifact, named by its hash; m1, m2 and
m3 use the newest of the pair, or the one that `calibration` names.
"""

from typing import TYPE_CHECKING

from latentwire.parameters import CALIBRATION_EXAMPLES, STUDY

if TYPE_CHECKING:  # it takes seconds to import: a help text must not
    from latentwire.session.session import Session

_USED = ("pair", "dataset", "data_dir", "device", "dtype", "dry_run", "preflight")
PARAMETERS = (*(p for p in STUDY if p.name in _USED), CALIBRATION_EXAMPLES)


def run_on(session: "Session") -> None:
    """The milestone on a session that is open already; nothing where it has been done."""
    from latentwire.milestones.calibrating import calibrate_once

    calibrate_once(session)
