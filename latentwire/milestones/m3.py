"""M3: what does cache length cost? A part of the cache, from its front or its back, in int8."""

from dataclasses import replace
from typing import TYPE_CHECKING

from latentwire.parameters import (
    BUDGET_BYTES,
    CALIBRATION,
    CODEC,
    CONTROLS_SENT,
    DONORS,
    KEEP_RATIOS,
    KV_BITS,
    ORDER,
    STUDY,
    WORKERS,
    Values,
    budgets_of,
    codecs_of,
)
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition

if TYPE_CHECKING:  # they take seconds to import: a help text must not
    from latentwire.session.milestone_run import MilestoneRun
    from latentwire.session.session import Session

PARAMETERS = (
    *STUDY,
    WORKERS,
    replace(KV_BITS, default="8"),
    CODEC,
    CALIBRATION,
    KEEP_RATIOS,
    ORDER,
    BUDGET_BYTES,
    CONTROLS_SENT,
    DONORS,
)


def conditions(values: Values) -> list[Condition]:
    """Every codec, keep ratio, order, budget and control; what is one condition, once."""
    codecs = codecs_of(values)
    channels = [
        Channel(name, keep_ratio, order, budget_bytes=budget)
        for name in codecs
        for budget in budgets_of(values)
        for keep_ratio in values["keep_ratio"]
        for order in values["order"]
    ]
    return [
        Condition(C2C, channel, control)
        for channel in dict.fromkeys(channels)
        for control in values["controls"]
    ]


def run_on(session: "Session", parent: "MilestoneRun | None" = None) -> None:
    """The milestone on a session that is open already."""
    from latentwire.session.grid import run_grid

    run_grid(session, "m3", conditions(session.values), parent)
