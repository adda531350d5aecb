"""What M10 does: the grid of budgets, and a table of what each one gives, beside the published
study's (see `published_budgets`): what its labels are as shares of 16 bits stands in `study.csv`,
with what it scored; `study_label` is what it would have called a budget of this pair.
"""

from functools import partial

import pandas as pd

from c2c.cache import geometry
from latentwire.analysis.reproduction.published_accuracies import CacheSize
from latentwire.analysis.reproduction.published_budgets import (
    counted_size,
    generosity,
    label_of,
    study_table,
)
from latentwire.checks.weights import configs
from latentwire.milestones import m10
from latentwire.session.curve_log import log_csv
from latentwire.session.grid import run_grid
from latentwire.session.milestone_run import MilestoneRun
from latentwire.session.session import Session

TABLE, STUDY_TABLE = "budgets.csv", "study.csv"
_COLUMNS = (
    *("dataset", "budget_ratio", "budget_bytes", "codec", "order", "wire_bytes_mean"),
    *("unused_bytes_mean", "bits_per_element", "examples", "unanswered", "accuracy"),
    *("accuracy_low", "accuracy_high", "deranged_accuracy", "pairing_gain", "pairing_gain_low"),
    "pairing_gain_high",
)


def run_on(session: Session) -> None:
    """Evaluate what is not finished, and write the tables."""
    run_grid(session, "m10", m10.conditions(session.values), partial(_log_tables, session))


def _log_tables(session: Session, run: MilestoneRun, measured: pd.DataFrame) -> None:
    """Print the tables, and log them to the milestone's run."""
    table, study = measured[list(_COLUMNS)], study_table()
    sharer, receiver = configs(session.files.located)
    times = generosity(counted_size(receiver), CacheSize(**vars(geometry(sharer))))
    ratios = table["budget_ratio"].astype("float64")
    table = table.assign(study_label=ratios.map(partial(label_of, generosity=times)))
    for name, rows in ((TABLE, table), (STUDY_TABLE, study)):
        log_csv(run, rows, name)
