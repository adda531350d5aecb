"""calibrate: what calibrated codecs need to know of a pair's caches, from training questions.

Measured on questions that are never scored: the training splits of the pair's question sets (the
bundled sets have a development split instead). Writes one artifact, named by its hash; m1, m2 and
m3 use the newest of the pair, or the one that `calibration` names.
"""

from latentwire.parameters import CALIBRATION_EXAMPLES, STUDY

_USED = ("pair", "dataset", "data_dir", "device", "dtype", "dry_run", "preflight")
WORK = "calibrating"  # the module that does it
PARAMETERS = (*(p for p in STUDY if p.name in _USED), CALIBRATION_EXAMPLES)
