"""The run that `mlflow run` has made for this start, whose id is in MLFLOW_RUN_ID.

The variable may as well have been left in the shell, and name a run of anybody's: what is there
would be written over. So a run is taken only while nothing but `mlflow run` has written to it.
"""

import logging
import os
from pathlib import Path
from urllib.parse import unquote, urlparse

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run, SourceType
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import (
    MLFLOW_PROJECT_ENTRY_POINT,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
)

GIVEN = "MLFLOW_RUN_ID"
OUR_TAGS = "latentwire."
PROJECT = Path(__file__).resolve().parents[2]
_NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")

log = logging.getLogger("latentwire")


def given_run(client: MlflowClient, entry_point: str | None = None) -> Run | None:
    """The run to be taken over: None where none is given, or not one that was made for us.

    Of the latter a warning says so, and the variable is dropped: nothing that is started from here
    shall resume that run. `entry_point` is ours, where it is known.
    """
    run_id = os.environ.get(GIVEN)
    if not run_id:
        return None
    try:
        run = client.get_run(run_id)
        reason = _why_not(run, entry_point)
    except MlflowException as error:
        if error.error_code not in _NOT_THERE:
            raise
        reason = "is not in this tracking store"
    if reason is None:
        return run
    log.warning(
        "%s is set, but run %r %s: it is left as it is, and a run of our own is made (unset %s)",
        GIVEN,
        run_id[:40],
        reason,
        GIVEN,
    )
    del os.environ[GIVEN]
    return None


def _why_not(run: Run, entry_point: str | None) -> str | None:
    """What tells a run from one that `mlflow run` has just made for this entry point."""
    tags = run.data.tags
    if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        return "has been deleted"
    if run.info.status != "RUNNING":
        return f"has ended ({run.info.status})"
    if any(name.startswith(OUR_TAGS) for name in tags):
        return "is a run of LatentWire already"
    made = tags.get(MLFLOW_SOURCE_TYPE) == SourceType.to_string(SourceType.PROJECT)
    if not made or MLFLOW_PROJECT_ENTRY_POINT not in tags:
        return "was not made by `mlflow run`"
    if _is_elsewhere(tags.get(MLFLOW_SOURCE_NAME, "")):
        return "was made for another project"
    if run.data.metrics:
        return "has metrics of another program"
    if entry_point is not None and tags[MLFLOW_PROJECT_ENTRY_POINT] != entry_point:
        return f"was made for the entry point {tags[MLFLOW_PROJECT_ENTRY_POINT]!r}"
    return None


def _is_elsewhere(source: str) -> bool:
    """Whether a run's source is a folder of this machine that is not this project's; of what was
    fetched from a repository, the copy lies in a folder that nobody knows."""
    place, _, below = source.partition("#")
    try:
        if place.startswith("file:"):
            place = unquote(urlparse(place).path)
        folder = Path(place, below)
        return bool(place) and folder.is_dir() and folder.resolve() != PROJECT
    except (OSError, ValueError):  # no path of this machine
        return False
