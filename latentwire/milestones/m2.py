"""M2: what does precision cost? The whole cache through each codec."""

from typing import TYPE_CHECKING

from latentwire.parameters import (
    CALIBRATION,
    CODEC,
    CONTROLS_SENT,
    KV_BITS,
    STUDY,
    WORKERS,
    Values,
    codecs_of,
)
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition

if TYPE_CHECKING:  # they take seconds to import: a help text must not
    from latentwire.session.milestone_run import MilestoneRun
    from latentwire.session.session import Session

PARAMETERS = (*STUDY, WORKERS, KV_BITS, CODEC, CALIBRATION, CONTROLS_SENT)


def conditions(values: Values) -> list[Condition]:
    """Every codec under every control."""
    codecs = codecs_of(values)
    return [
        Condition(C2C, Channel(name), control) for name in codecs for control in values["controls"]
    ]


def run_on(session: "Session", parent: "MilestoneRun | None" = None) -> None:
    """The milestone on a session that is open already."""
    from latentwire.session.grid import run_grid

    run_grid(session, "m2", conditions(session.values), parent)
