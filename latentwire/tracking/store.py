"""The tracking store: where runs are kept, and the queries that everything else is built on."""

import gc
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import requests
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
from mlflow.store.tracking.rest_store import RestStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.rest_utils import http_request
from sqlalchemy.exc import OperationalError

from latentwire.errors import LatentWireError
from latentwire.tracking.patience import get, is_away, patient_client
from latentwire.tracking.views import EXPERIMENT_NOTE, experiment_note, view_tags

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

    def search(self, filter_string: str, experiments: Sequence[str] | None = None) -> Iterator[Run]:
        """All runs that match, of all experiments unless some are given by id; oldest first."""
        if experiments is None:
            found = self.client.search_experiments(ViewType.ACTIVE_ONLY)
            experiments = [experiment.experiment_id for experiment in found]
        token = None
        while True:
            with without_collector():
                page = self.client.search_runs(
                    list(experiments),
                    filter_string,
                    max_results=PAGE,
                    order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
                    page_token=token,
                )
            yield from page
            token = page.token
            if not token:
                return

    @property
    def backend(self) -> object:
        """MLflow's own store behind the client; None behind a stand-in for one."""
        return getattr(getattr(self.client, "_tracking_client", None), "store", None)

    def answers(self) -> bool:
        """Whether the store can be asked now; for a server, with little patience.

        It is asked for the experiment: a server whose database is away still says that it is well.
        """
        if not isinstance(self.backend, RestStore):
            return True
        try:
            response = http_request(
                self.backend.get_host_creds(),
                "/api/2.0/mlflow/experiments/get",
                "GET",
                params={"experiment_id": self.experiment_id},
                max_retries=0,
                timeout=ANSWER_TIMEOUT_S,
                raise_on_status=False,
            )
        except (MlflowException, requests.RequestException):
            return False
        return bool(response.status_code < 500)

    def is_away(self, error: MlflowException) -> bool:
        """Whether an error means that a server cannot be asked now, not that it refuses."""
        return is_server(self.uri) and is_away(error)


@contextmanager
def without_collector() -> Iterator[None]:
    """Garbage is not looked for meanwhile. For reading much that is kept: a run is 40 objects, and
    walking the heap again and again tripled the time of a search (docs/findings.md)."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def open_store(experiment: str | None = None, create: bool = True) -> Store:
    """The store that MLFLOW_TRACKING_URI names, or the local one.

    New runs go to the experiment of the run that `mlflow run` has made, else to `experiment`,
    MLFLOW_EXPERIMENT_NAME or "latentwire", in this order; one that is missing is made, unless
    `create` is false. Raises LatentWireError when the store cannot be reached or used.
    """
    uri = tracking_uri()
    _check_reachable(uri)
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run
    try:
        # Processes that make one SQLite file at the same time break each other's migrations.
        with _one_opens(uri):
            _make_database(uri)
            client = patient_client(uri) if is_server(uri) else MlflowClient(tracking_uri=uri)
            given = os.environ.get("MLFLOW_RUN_ID")
            if given:
                experiment_id = client.get_run(given).info.experiment_id
            else:
                name = experiment or experiment_name()
                experiment_id = _experiment_id(client, name, create)
            if create:
                _add_views(client, experiment_id)
            return Store(client, uri, experiment_id)
    except MlflowException as error:
        raise LatentWireError(_refusal(uri, error)) from error
    except OperationalError as error:
        if "already exists" not in str(error) or sqlite_path(uri) is None:
            raise
        raise LatentWireError(
            f"the making of {sqlite_path(uri)} was interrupted, before it could hold a run: delete"
            " it, and start again"
        ) from error
    except OSError as error:
        raise LatentWireError(
            f"the tracking store {without_password(uri)} cannot be used: {error}"
        ) from error


def _experiment_id(client: MlflowClient, name: str, create: bool) -> str:
    found = client.get_experiment_by_name(name)
    if found is None and not create:
        known = sorted(experiment.name for experiment in client.search_experiments())
        raise LatentWireError(f"there is no experiment {name}; there are: {', '.join(known)}")
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another worker was quicker
    if found is None or found.lifecycle_stage != "active":
        raise LatentWireError(
            f"the experiment {name} has been deleted: restore it, or name another one"
        )
    return str(found.experiment_id)


def _add_views(client: MlflowClient, experiment_id: str) -> None:
    """Give an experiment the project's views of the runs page, but what it has already.

    `mlflow run` makes experiments itself. Who may not change one goes without.
    """
    with suppress(MlflowException):
        tags = client.get_experiment(experiment_id).tags
        wanted = {**view_tags(), EXPERIMENT_NOTE: experiment_note(experiment_id)}
        for name in wanted.keys() - tags.keys():
            client.set_experiment_tag(experiment_id, name, wanted[name])


def _refusal(uri: str, error: MlflowException) -> str:
    """What a store that answers with an error means for the user."""
    place = without_password(uri)
    if uri.startswith("http") and error.get_http_status_code() == 401:
        return (
            f"the tracking server refuses the user name or password ({place}): set"
            " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    if uri.startswith("http") and error.get_http_status_code() == 403:
        return (
            f"the tracking server {place} does not permit this user to use the experiment: ask its"
            " administrator for EDIT (docs/sharing.md)"
        )
    return f"the tracking store {place} cannot be used: {error.message}"


def without_password(uri: str) -> str:
    """A store's address as it may be shown."""
    return re.sub(r"://([^/@:]*):[^/@]*@", r"://\1:***@", uri)


def tracking_uri() -> str:
    """The store that MLFLOW_TRACKING_URI names, or the local one."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def experiment_name() -> str:
    """The experiment that new runs go to where nothing else is said."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other store."""
    if not uri.startswith("sqlite:"):
        return None
    return Path(uri.split("///", 1)[-1].partition("?")[0])


def _one_opens(uri: str) -> AbstractContextManager[object]:
    """Where the store is a SQLite file, other processes wait before they open it; its folder is
    made."""
    path = sqlite_path(uri)
    if path is None:
        return nullcontext()
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{path}.lock")


def _make_database(uri: str) -> None:
    """Make the file of a SQLite store that is not there, under another name until it is whole.

    MLflow makes its tables in dozens of steps, and a file that a kill leaves between two of them is
    one that no MLflow opens again. Nobody else makes it meanwhile (`_one_opens`).
    """
    path = sqlite_path(uri)
    if path is None or (path.exists() and path.stat().st_size):
        return
    for leftover in path.parent.glob(f"{path.name}.new*"):
        leftover.unlink()
    new = path.with_name(f"{path.name}.new")
    SqlAlchemyStore(f"sqlite:///{new}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine.dispose()
    new.replace(path)


def _check_reachable(uri: str) -> None:
    """Ask a server once, with little patience: the client itself would retry for minutes."""
    if not is_server(uri):
        return
    try:
        ask(uri)
    except LatentWireError:
        raise LatentWireError(
            f"no tracking server answers at {without_password(uri)}: start it, or mend or unset"
            " MLFLOW_TRACKING_URI"
        ) from None


def is_server(uri: str) -> bool:
    """Whether a tracking URI is a server's."""
    return urlparse(uri).scheme in ("http", "https")


def ask(uri: str, path: str = "/health") -> requests.Response:
    """One GET below a tracking server's address, with little patience.

    Raises LatentWireError when nothing answers, and for an answer that says the server is broken.
    """
    try:
        answer = get(f"{uri.rstrip('/')}{path}", REACH_TIMEOUT_S)
    except requests.RequestException as error:
        raise LatentWireError(
            f"no tracking server answers at {without_password(uri)} ({type(error).__name__})"
        ) from None
    if answer.status_code >= 500:
        raise LatentWireError(
            f"the tracking server {without_password(uri)} answers {answer.status_code}"
        )
    return answer
