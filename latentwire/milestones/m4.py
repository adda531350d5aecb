"""M4: accuracy against bytes, from the tracking store; prompts come from the question sets."""

from typing import TYPE_CHECKING

from latentwire.garbage import importing
from latentwire.milestones.from_store import store_for
from latentwire.parameters import DATA_DIR, DATASET, MARGIN_POINTS, OUTPUT_DIR, PAIR, SOURCE, Values

if TYPE_CHECKING:  # they take seconds to import: a help text must not
    from latentwire.session.milestone_run import MilestoneRun
    from latentwire.tracking.store import Store

PARAMETERS = (PAIR, DATASET, DATA_DIR, SOURCE, MARGIN_POINTS, OUTPUT_DIR)


def run(values: Values) -> None:
    run_on(store_for(values), values)


def run_on(store: "Store", values: Values, parent: "MilestoneRun | None" = None) -> None:
    """The milestone on a store that is open already."""
    with importing():
        from latentwire.milestones.budget_curves import draw

    draw(store, values, parent)
