"""A milestone's curve in its run: table, pictures, headline metrics and a description."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from latentwire.analysis.csv_files import csv_text
from latentwire.analysis.curve_files import write_budget_curves
from latentwire.analysis.run_description import description, headline
from latentwire.analysis.table import render_table
from latentwire.session.milestone_run import MilestoneRun
from latentwire.tracking.runs import artifact_address

PICTURES = "pictures"  # the folder of those that a description shows


def log_pictures(run: MilestoneRun, frame: pd.DataFrame) -> list[str]:
    """Draw and log the budget curves that the run's description shows; their artifact paths."""
    with tempfile.TemporaryDirectory() as folder:
        return log_pages(run, write_budget_curves(frame, Path(folder)))


def log_pages(run: MilestoneRun, paths: Sequence[Path]) -> list[str]:
    """Log the pictures that the run's description shows; their artifact paths."""
    for path in paths:
        run.writer.log_file(run.run_id, path, PICTURES)
    return [f"{PICTURES}/{path.name}" for path in paths]


def log_csv(run: MilestoneRun, table: pd.DataFrame, name: str) -> None:
    """Print a small table, and log it to a milestone's run as CSV."""
    run.writer.log_text(run.run_id, csv_text(table), name)
    print(table.to_string(index=False, float_format=lambda number: f"{number:.4g}"), flush=True)


def log_table(
    run: MilestoneRun,
    frame: pd.DataFrame,
    measured: pd.DataFrame | None = None,
    pictures: Sequence[str] = (),
    shown: bool = True,
    said: Sequence[str] = (),
) -> None:
    """Print the table if it is to be `shown`, and log it with the headline metrics and a
    description of the run, with pictures among its artifacts and what else is `said`.

    The table has the milestone's own rows, `measured`: all of `frame`, the curve with what these
    are compared with, unless given.
    """
    measured = frame if measured is None else measured
    table = render_table(measured)
    if shown:
        print(table)
    writer, run_id = run.writer, run.run_id
    writer.log_text(run_id, table, "table.txt")
    writer.log_text(run_id, csv_text(measured), "conditions.csv")
    writer.log(run_id, metrics=headline(frame))
    places = [artifact_address(run_id, picture) for picture in pictures]
    writer.set_description(run_id, description(run.name, frame, measured, places, said))
