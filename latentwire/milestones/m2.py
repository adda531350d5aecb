"""M2: what does precision cost? The whole cache through each codec.

Within a budget in bytes: as much of the cache as each codec brings into it.
"""

from collections.abc import Sequence
from dataclasses import replace

from latentwire.parameters import (
    BUDGET_BYTES,
    CALIBRATION,
    CODEC,
    KV_BITS,
    ORDER,
    Values,
    budgets_of,
    codecs_of,
    of_grid,
)
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition

# Which tokens go matters only where not all fit.
_ORDER = replace(ORDER, default="back", help=f"within a budget: {ORDER.help}")
PARAMETERS = of_grid(KV_BITS, CODEC, CALIBRATION, BUDGET_BYTES, _ORDER)


def conditions(values: Values, keep_ratios: Sequence[float] = (1.0,)) -> list[Condition]:
    """Every codec, budget, keep ratio, order and control; what is one condition, once."""
    channels = dict.fromkeys(
        Channel(name, keep_ratio, order, budget_bytes=budget)
        for name in codecs_of(values)
        for budget in budgets_of(values)
        for keep_ratio in keep_ratios
        for order in values["order"]
    )
    return [Condition(C2C, each, control) for each in channels for control in values["controls"]]
