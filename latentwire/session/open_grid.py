"""A milestone's grid whose runs are open."""

from collections.abc import Sequence
from dataclasses import dataclass

from latentwire.session.condition_plan import ConditionPlan
from latentwire.session.milestone_run import MilestoneRun
from latentwire.session.session import Session


@dataclass(frozen=True)
class OpenGrid:
    """What a milestone still needs, and where its answers go."""

    session: Session
    run: MilestoneRun
    plans: Sequence[ConditionPlan]
    condition_runs: dict[str, str]  # fingerprint -> run id
