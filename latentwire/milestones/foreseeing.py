"""What M9 does: the grid of selectors and oracles, and a table of what an oracle is ahead by."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from latentwire.analysis.foresight import Choice, foresight_table
from latentwire.analysis.frames import records
from latentwire.milestones import m9
from latentwire.session.conclusion import stored_outcomes
from latentwire.session.curve_log import log_csv
from latentwire.session.grid import run_grid
from latentwire.session.milestone_run import MilestoneRun
from latentwire.session.session import Session
from latentwire.spec.axes import or_none
from latentwire.spec.condition import Channel, Condition

TABLE = "oracle.csv"


def run_on(session: Session) -> None:
    """Evaluate what is not finished, and write the table."""
    conditions = m9.conditions(session.values)
    run_grid(session, "m9", conditions, partial(_log_table, session, conditions))


def _log_table(
    session: Session, conditions: Sequence[Condition], run: MilestoneRun, measured: pd.DataFrame
) -> None:
    """Print the table, and log it to the milestone's run; nothing where nothing was chosen."""
    rows = {_place(row): row for row in records(measured)}
    tables = []
    for dataset in session.dataset_names:
        choices = [
            _choice(session, dataset, condition, rows)
            for condition in conditions
            if condition.control == "matched" and condition.channel
            if 0 < condition.channel.keep_ratio < 1 or condition.channel.has_budget
        ]
        tables.append(foresight_table(dataset, choices))
    table = pd.concat(tables, ignore_index=True)
    if not table.empty:
        log_csv(run, table, TABLE)


def _place(row: Mapping[str, Any]) -> tuple[object, ...]:
    axes = (row["codec"], row["keep_ratio"], row["budget_bytes"], row["order"])
    return row["dataset"], *map(or_none, axes)


def _choice(
    session: Session,
    dataset: str,
    condition: Condition,
    rows: Mapping[tuple[object, ...], Mapping[str, Any]],
) -> Choice:
    channel = condition.channel
    assert isinstance(channel, Channel)
    place = channel.codec, channel.keep_ratio, channel.budget_bytes or None, channel.order
    sent = float(rows[dataset, *place]["wire_bytes_mean"])
    return Choice(*place, sent, stored_outcomes(session, dataset, condition))
