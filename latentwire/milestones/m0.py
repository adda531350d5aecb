"""M0: what do receiver, sharer and uncompressed C2C score, and does the content matter?

The cache is sent whole in 16 bits. Under `deranged` it is another question's, under `zero` it is
zeros: what C2C scores above another question's is what the own cache was worth.
"""

from typing import TYPE_CHECKING

from latentwire.parameters import STUDY, WORKERS, Values
from latentwire.spec.axes import C2C, CONTROLS
from latentwire.spec.condition import Channel, Condition

if TYPE_CHECKING:  # they take seconds to import: a help text must not
    from latentwire.milestones.milestone import MilestoneRun
    from latentwire.milestones.study import Study

PARAMETERS = (*STUDY, WORKERS)
CONDITIONS = (
    Condition("receiver"),
    Condition("sharer"),
    *(Condition(C2C, Channel("bf16"), control) for control in CONTROLS),
)


def run(values: Values) -> None:
    from latentwire.milestones.checking import begin

    run_in(begin(values), values)


def run_in(study: "Study", values: Values, parent: "MilestoneRun | None" = None) -> None:
    """The milestone on a study that is open already."""
    from latentwire.milestones.grid import run_grid

    run_grid(study, "m0", values, CONDITIONS, parent)
