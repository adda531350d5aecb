"""M5: does training with the codec in the loop recover what the codec costs?

For each seed one interface is trained in 16 bits and one through each codec, on the same data and
for as many steps. Each is then evaluated in 16 bits and through every codec; where one needs a
calibration, each trained pair gets its own first. Killed anywhere and started again, it goes on
where it was.
"""

from dataclasses import replace

from latentwire.milestones import train
from latentwire.parameters import (
    CALIBRATION_EXAMPLES,
    CODEC,
    OUTPUT_DIR,
    STUDY,
    WORKERS,
    Parameter,
    int_at_least,
)

SEEDS = Parameter("seeds", "3", int_at_least(1, 100), "trainings of each kind: seed, seed + 1, ...")
_OWN = ("codec", "trained_pair", "output_dir")
WORK = "recovering"  # the module that does it
PARAMETERS = (
    *(parameter for parameter in train.PARAMETERS if parameter.name not in _OWN),
    replace(CODEC, default="int2,int3,kivi2", help="codecs to train through, one a training"),
    SEEDS,
    CALIBRATION_EXAMPLES,
    *(parameter for parameter in STUDY if parameter.name in ("limit", "chunk_size")),
    WORKERS,
    replace(OUTPUT_DIR, default="outputs/m5", help="folder of the trainings and the table"),
)
