"""Milestones run in this process."""

from pathlib import Path
from types import ModuleType

import pandas as pd
from mlflow import MlflowClient

from latentwire.milestones.registry import load_milestone
from latentwire.parameters import Values


def run_milestone(module: ModuleType, values: Values) -> None:
    """Run the milestone that a module is, as its entry point does."""
    load_milestone(module.__name__.rpartition(".")[2]).run(values)


def table_of(milestone: str, name: str) -> pd.DataFrame:
    """A table that the newest run of a milestone has logged."""
    client = MlflowClient()
    (experiment,) = [e for e in client.search_experiments() if e.name == "latentwire"]
    named = f"tags.`latentwire.level` = 'milestone' and tags.`latentwire.milestone` = '{milestone}'"
    run = client.search_runs([experiment.experiment_id], named)[0]
    return pd.read_csv(Path(run.info.artifact_uri.removeprefix("file://")) / name)
