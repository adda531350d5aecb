"""M7: what do different tokenizers cost? The whole cache under each way to align prompts.

`first` and `longest` are the published rule, `offsets` lets the sharer read its own tokens; `off`,
for a pair of one tokenizer, is the cache as all other milestones send it. How many of the
receiver's tokens have one of the sharer's for their own stands beside what is scored.
"""

from dataclasses import replace

from c2c.paired_prompts import ALIGNMENTS, OFF
from latentwire.parameters import (
    CALIBRATION,
    CODEC,
    KV_BITS,
    Parameter,
    Values,
    codecs_of,
    comma_list,
    of_grid,
    one_of,
)
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition

ALIGNMENT = Parameter(
    "alignment",
    ",".join((OFF, *ALIGNMENTS)),
    comma_list(one_of(OFF, *ALIGNMENTS)),
    "how prompts are aligned; off is left out where each model has a tokenizer of its own",
)
WORK = "aligning"  # the module that does it
PARAMETERS = of_grid(replace(KV_BITS, default="16"), CODEC, CALIBRATION, ALIGNMENT)


def conditions(values: Values) -> list[Condition]:
    """Every alignment, codec and control."""
    return [
        Condition(C2C, Channel(name, alignment="" if alignment == OFF else alignment), control)
        for alignment in values["alignment"]
        for name in codecs_of(values)
        for control in values["controls"]
    ]
