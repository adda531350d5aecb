"""M3: what does cache length cost? A part of the cache, from its front or its back, in int8."""

from dataclasses import replace

from latentwire.milestones import m2
from latentwire.parameters import (
    BUDGET_BYTES,
    CALIBRATION,
    CODEC,
    KEEP_RATIOS,
    KV_BITS,
    ORDER,
    Values,
    of_grid,
)
from latentwire.spec.condition import Condition

PARAMETERS = of_grid(
    replace(KV_BITS, default="8"), CODEC, CALIBRATION, KEEP_RATIOS, ORDER, BUDGET_BYTES
)


def conditions(values: Values) -> list[Condition]:
    """M2's, at every keep ratio."""
    return m2.conditions(values, values["keep_ratio"])
