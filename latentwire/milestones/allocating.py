"""What M10 does: the grid of budgets, and a table of what each one gives, beside the published
study's.

The study labelled its budgets as shares of a cache that it counted as the receiver's: against the
sharer's, which is what travels, they are 8.5 times too generous, so that its 1/8 is all of that
cache in 8 bits. What its labels are as shares of 16 bits stands in `study.csv`, with what it
scored.
"""

from collections.abc import Sequence

import pandas as pd

from latentwire.analysis.csv_files import csv_text
from latentwire.channel.by_token import PREFIX
from latentwire.channel.selectors.registry import SELECTORS
from latentwire.errors import LatentWireError
from latentwire.session.grid import run_grid
from latentwire.session.milestone_run import MilestoneRun
from latentwire.session.session import Session
from latentwire.spec.axes import share_label
from latentwire.spec.condition import Condition

TABLE, STUDY_TABLE = "budgets.csv", "study.csv"
_COLUMNS = (
    *("dataset", "budget_ratio", "budget_bytes", "codec", "order", "wire_bytes_mean"),
    *("unused_bytes_mean", "bits_per_element", "examples", "unanswered", "accuracy"),
    *("accuracy_low", "accuracy_high", "deranged_accuracy", "pairing_gain", "pairing_gain_low"),
    "pairing_gain_high",
)
TOO_GENEROUS = 8.5  # the study's budgets, over what their labels say of the sharer's cache in int8
# Label -> accuracy of `rd_greedy`, int8 or nothing, by receiver-side scores: an oracle's.
PUBLISHED = {
    1 / 32: {"arc_c": 0.548, "openbookqa": 0.498},
    1 / 16: {"arc_c": 0.570, "openbookqa": 0.534},
    1 / 8: {"arc_c": 0.549, "openbookqa": 0.524},
    1 / 4: {"arc_c": 0.550, "openbookqa": 0.528},
}


def compare_within_budgets(
    session: Session, conditions: Sequence[Condition], parent: MilestoneRun | None = None
) -> None:
    """Evaluate what is not finished, and write the tables. LatentWireError for a codec by token
    with an order that chooses by layer."""
    for channel in (condition.channel for condition in conditions):
        assert channel is not None
        by_layer = channel.order not in SELECTORS or SELECTORS[channel.order].by_layer
        if channel.codec.startswith(PREFIX) and by_layer:
            raise LatentWireError(
                f"order={channel.order}: it chooses by layer, and {channel.codec} gives bits to"
                " whole tokens; take another order, or other codecs"
            )
    run_grid(session, "m10", conditions, parent, _log_tables)


def study_table() -> pd.DataFrame:
    """The published budgets: label, share of the sharer's 16 bits (at most all of it in int8), and
    accuracies."""
    return pd.DataFrame(
        {
            "label": share_label(label),
            "share_of_16_bits": min(TOO_GENEROUS * label, 1) / 2,
            **{f"accuracy_{name}": value for name, value in accuracies.items()},
        }
        for label, accuracies in PUBLISHED.items()
    )


def _log_tables(run: MilestoneRun, measured: pd.DataFrame) -> None:
    """Print the tables, and log them to the milestone's run."""
    table, study = measured[list(_COLUMNS)], study_table()
    ratios = table["budget_ratio"].astype("float64")
    # What the study would have called so large a budget: its labels promise less than they give.
    table = table.assign(study_label=2 * ratios / TOO_GENEROUS)
    for name, rows in ((TABLE, table), (STUDY_TABLE, study)):
        run.writer.log_text(run.run_id, csv_text(rows), name)
        print(rows.to_string(index=False, float_format=lambda x: f"{x:.4g}"), flush=True)
