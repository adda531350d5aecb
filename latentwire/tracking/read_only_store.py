"""A look at the tracking store that writes nothing: what a dry run knows it by."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import cast

from mlflow import MlflowClient
from mlflow.entities import Experiment, Run
from mlflow.store.entities import PagedList

from latentwire.errors import LatentWireError
from latentwire.tracking.store import (
    Store,
    check_reachable,
    experiment_by_id,
    experiment_name,
    refusals_named,
    sqlite_path,
    tracking_uri,
)


def open_read_only() -> Store:
    """The store to read from. Neither a file nor an experiment is made: without them, there are no
    runs; `experiment_id` is "" for an experiment that is not there.

    Raises LatentWireError when the store cannot be reached.
    """
    uri = tracking_uri()
    path = sqlite_path(uri)
    with refusals_named(uri):
        check_reachable(uri)
        if path and not _holds_runs(path):
            return no_store(uri)
        client = MlflowClient(tracking_uri=uri)
        found = experiment_by_id(client) or client.get_experiment_by_name(experiment_name())
    return Store(client, uri, found.experiment_id if found else "")


def no_store(uri: str) -> Store:
    """In place of a store that is not there: it finds nothing, and takes nothing."""
    return Store(cast(MlflowClient, _NoRuns()), uri, "")


class _NoRuns:
    """What of a client a search needs."""

    def search_experiments(self, *_: object) -> PagedList[Experiment]:
        return PagedList([], None)

    def search_runs(self, *_: object, **__: object) -> PagedList[Run]:
        return PagedList([], None)


def _holds_runs(path: Path) -> bool:
    """Whether MLflow has made its tables in a SQLite file; to open any other would make them."""
    if not path.is_file():
        return False
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            query = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
            return connection.execute(query).fetchone() is not None
    except sqlite3.Error as error:
        raise LatentWireError(f"the tracking store {path} cannot be read: {error}") from None
