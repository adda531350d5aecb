"""The tracking store: where runs are kept, and the queries that everything else is built on."""

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import requests
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from latentwire.errors import LatentWireError

# What `mlflow ui` opens by itself in the project folder.
DEFAULT_URI = "sqlite:///mlflow.db"
DEFAULT_EXPERIMENT = "latentwire"
PAGE = 1000  # the most runs that one search returns
REACH_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = 3  # while work goes on


@dataclass(frozen=True)
class Store:
    """A tracking store, and the experiment that new runs go to."""

    client: MlflowClient
    uri: str
    experiment_id: str

    def search(self, filter_string: str) -> Iterator[Run]:
        """All runs of all experiments that match, oldest first; pages until there are no more."""
        experiments = [
            e.experiment_id for e in self.client.search_experiments(ViewType.ACTIVE_ONLY)
        ]
        token = None
        while True:
            page = self.client.search_runs(
                experiments,
                filter_string,
                max_results=PAGE,
                order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def answers(self) -> bool:
        """Whether the store can be asked now; for a server, with little patience."""
        return not is_server(self.uri) or is_reachable(self.uri, ANSWER_TIMEOUT_S)


def open_store(experiment: str | None = None) -> Store:
    """The store that MLFLOW_TRACKING_URI names, or the local one.

    New runs go to the experiment of the run that `mlflow run` has made, else to `experiment`,
    MLFLOW_EXPERIMENT_NAME or "latentwire", in this order. Raises LatentWireError when the store
    cannot be reached.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    _check_reachable(uri)
    try:
        # Processes that make one SQLite file at the same time break each other's migrations.
        with FileLock(_sqlite_path(uri) + ".lock") if uri.startswith("sqlite:") else nullcontext():
            client = MlflowClient(tracking_uri=uri)
            given = os.environ.get("MLFLOW_RUN_ID")
            if given:
                return Store(client, uri, client.get_run(given).info.experiment_id)
            name = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
            found = client.get_experiment_by_name(name)
            return Store(
                client, uri, found.experiment_id if found else client.create_experiment(name)
            )
    except MlflowException as error:
        raise LatentWireError(
            f"the tracking store {uri} cannot be used: {error.message}"
        ) from error
    except OSError as error:
        raise LatentWireError(f"the tracking store {uri} cannot be used: {error}") from error


def _sqlite_path(uri: str) -> str:
    path = uri.split("///", 1)[-1].split("?")[0]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return path


def _check_reachable(uri: str) -> None:
    """Ask a server once, with little patience: the client itself would retry for minutes."""
    if is_server(uri) and not is_reachable(uri, REACH_TIMEOUT_S):
        raise LatentWireError(
            f"no tracking server answers at {uri}: start it, or mend or unset MLFLOW_TRACKING_URI"
        )


def is_server(uri: str) -> bool:
    """Whether a tracking URI is a server's."""
    return urlparse(uri).scheme in ("http", "https")


def is_reachable(uri: str, timeout_s: float) -> bool:
    """Whether a tracking server says that it is well."""
    try:
        return requests.get(uri.rstrip("/") + "/health", timeout=timeout_s).ok
    except requests.RequestException:
        return False
