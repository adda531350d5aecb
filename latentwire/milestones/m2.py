"""M2: what does precision cost? The whole cache through each codec.

Within a budget in bytes: as much of the cache as each codec brings into it.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from latentwire.parameters import (
    BUDGET_BYTES,
    CALIBRATION,
    CODEC,
    CONTROLS_SENT,
    DONORS,
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

# Which tokens go matters only where not all fit.
_ORDER = replace(ORDER, default="back", help=f"within a budget: {ORDER.help}")
PARAMETERS = (
    *STUDY,
    WORKERS,
    KV_BITS,
    CODEC,
    CALIBRATION,
    BUDGET_BYTES,
    _ORDER,
    CONTROLS_SENT,
    DONORS,
)


def conditions(values: Values) -> list[Condition]:
    """Every codec, within every budget, under every control."""
    channels = dict.fromkeys(
        Channel(name, order=order, budget_bytes=budget)
        for name in codecs_of(values)
        for budget in budgets_of(values)
        for order in values["order"]
    )
    return [Condition(C2C, each, control) for each in channels for control in values["controls"]]


def run_on(session: "Session", parent: "MilestoneRun | None" = None) -> None:
    """The milestone on a session that is open already."""
    from latentwire.session.grid import run_grid

    run_grid(session, "m2", conditions(session.values), parent)
