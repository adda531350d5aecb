"""M0: what do receiver, sharer and uncompressed C2C score, and does the content matter?

The cache is sent whole in 16 bits. Under `deranged` it is another question's, under `zero` it is
zeros: what C2C scores above another question's is what the own cache was worth.
"""

from latentwire.milestones.grid import run_grid
from latentwire.milestones.milestone import MilestoneRun
from latentwire.milestones.preflight import begin
from latentwire.milestones.study import Study
from latentwire.parameters import STUDY, WORKERS, Values
from latentwire.spec.axes import C2C, CONTROLS
from latentwire.spec.condition import Channel, Condition

PARAMETERS = (*STUDY, WORKERS)
CONDITIONS = (
    Condition("receiver"),
    Condition("sharer"),
    *(Condition(C2C, Channel("bf16"), control) for control in CONTROLS),
)


def run(values: Values) -> None:
    run_in(begin(values), values)


def run_in(study: Study, values: Values, parent: MilestoneRun | None = None) -> None:
    """The milestone on a study that is open already."""
    run_grid(study, "m0", values, CONDITIONS, parent)
