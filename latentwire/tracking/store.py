"""The tracking store: where runs are kept, and the queries that everything else is built on."""

import heapq
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlparse

import requests
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage, Run, ViewType
from mlflow.environment_variables import MLFLOW_ALLOW_FILE_STORE
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import SQLITE
from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
from mlflow.store.tracking.dbmodels.models import SqlExperiment
from mlflow.store.tracking.rest_store import RestStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.rest_utils import http_request
from sqlalchemy import select
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from latentwire.errors import LatentWireError, first_line, first_of
from latentwire.garbage import gc_paused
from latentwire.redaction import redact_uri
from latentwire.tracking.database import OlderSchemaError, check_database, is_database
from latentwire.tracking.filters import holds, split
from latentwire.tracking.given_run import given_run
from latentwire.tracking.moved import follow_artifacts
from latentwire.tracking.pages import FIRST, Page, pages_ahead
from latentwire.tracking.retries import get, is_unavailable, patient_client
from latentwire.tracking.ui_views import (
    EXPERIMENT_NOTE,
    VIEW_TAG,
    VIEWS,
    experiment_note,
    view_tags,
)

# What `mlflow ui` opens by itself in the project folder.
DEFAULT_URI = "sqlite:///mlflow.db"
DEFAULT_EXPERIMENT = "latentwire"
PAGE = 1000  # the most runs, or experiments, that one search returns
_EXPERIMENTS = 2000  # of one search; databases take 2,100 to 65,535 values in a query
_IDS = 100  # of runs, named in one search
_LIST_S = 60.0  # how old a list of other people's experiments may be
REACH_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = 3  # while work goes on
_NAMES = 20  # of experiments in a sentence
_KEPT_BY_OTHERS = ("databricks", "uc")  # addresses that MLflow resolves itself
_BEING_MADE_S = 5.0  # a SQLite file that was not written to for so long is not being made
OPENING_S = 300.0  # how long other processes may take for it; making a file takes some seconds
_SQLITE_MARK = b"SQLite format 3\0"  # SQLite itself writes over a small file of anything else
_INVALID_HOST = "Invalid Host header"  # what a server says that is called by a name of others


@dataclass(frozen=True)
class Store:
    """A tracking store, and the experiment that new runs go to."""

    client: MlflowClient
    uri: str
    experiment_id: str
    # When all experiments were last listed, and their ids; nothing before.
    _listed: list[tuple[float, list[str]]] = field(default_factory=list, compare=False, repr=False)

    def search(
        self,
        filter_string: str = "",
        experiments: Sequence[str] | None = None,
        *,
        tags: Mapping[str, str] = {},
        params: Mapping[str, str] = {},
    ) -> Iterator[Run]:
        """All runs that match, of all experiments unless some are given by id; oldest first.

        `filter_string` is for what stands in the code; a value that comes from anywhere else may
        hold quotes, and is given in `tags` or `params`.
        """
        clauses, other_tags, other_params = split(tags, params)
        wanted = " and ".join(filter(None, [filter_string, *clauses]))
        ids = self.experiments() if experiments is None else list(experiments)
        parts = [ids[first : first + _EXPERIMENTS] for first in range(0, len(ids), _EXPERIMENTS)]
        pages = [self._search(wanted, part) for part in parts]
        for run in heapq.merge(*pages, key=lambda run: (run.info.start_time, run.info.run_id)):
            if holds(run, other_tags, other_params):
                yield run

    def _search(self, filter_string: str, experiments: list[str]) -> Iterator[Run]:
        def ask(token: str | None, size: int = PAGE) -> Page:
            with gc_paused():
                return self.client.search_runs(
                    experiments,
                    filter_string,
                    max_results=size,
                    order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
                    page_token=token,
                )

        if is_server(self.uri):
            page = ask(None, FIRST)
            yield from page
            for later in pages_ahead(ask, page.token, PAGE, FIRST):
                yield from later
            return
        page = ask(None)
        yield from page
        while page.token:
            page = ask(page.token)
            yield from page

    def by_id(self, run_ids: Sequence[str]) -> list[Run]:
        """The runs of those ids that are there, of any experiment."""
        found: list[Run] = []
        for start in range(0, len(run_ids), _IDS):
            ids = ", ".join(f"'{run_id}'" for run_id in run_ids[start : start + _IDS])
            found += self.search(f"attributes.run_id IN ({ids})")
        return found

    def experiments(self) -> list[str]:
        """The ids of all experiments that are not deleted.

        Behind a server, a list of thousands takes seconds. Those that the project has written to
        are asked for each time; the others may be as old as _LIST_S.
        """
        if isinstance(self.backend, SqlAlchemyStore):
            query = select(SqlExperiment.experiment_id).where(
                SqlExperiment.lifecycle_stage == LifecycleStage.ACTIVE
            )
            with self.backend.ManagedSessionMaker() as session:
                return [str(number) for (number,) in session.execute(query)]
        ours = self._list_experiments(f"tags.`{VIEW_TAG}{VIEWS[0].key}` != ''")
        now = time.monotonic()
        if not self._listed or now - self._listed[0][0] > _LIST_S:
            self._listed[:] = [(now, self._list_experiments(None))]
        return list(dict.fromkeys([*self._listed[0][1], *ours]))

    def newest_start_ms(self) -> int | None:
        """When the run began that began last, since the epoch; None where there is no run."""
        ids = self.experiments()
        found = [
            run.info.start_time
            for first in range(0, len(ids), _EXPERIMENTS)
            for run in self.client.search_runs(
                ids[first : first + _EXPERIMENTS],
                max_results=1,
                order_by=["attributes.start_time DESC"],
            )
        ]
        return max(found, default=None)

    def _list_experiments(self, filter_string: str | None) -> list[str]:
        found: list[str] = []
        token = None
        while True:
            page = self.client.search_experiments(
                ViewType.ACTIVE_ONLY, PAGE, filter_string, None, token
            )
            found += [experiment.experiment_id for experiment in page]
            token = page.token
            if not token:
                return found

    @property
    def backend(self) -> object:
        """MLflow's own store behind the client; None behind a stand-in for one."""
        return getattr(getattr(self.client, "_tracking_client", None), "store", None)

    def is_reachable(self) -> bool:
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

    def is_unavailable(self, error: MlflowException) -> bool:
        """Whether an error means that a server cannot be asked now, not that it refuses."""
        return is_server(self.uri) and is_unavailable(error)


def open_store(experiment: str | None = None, create: bool = True) -> Store:
    """The store that MLFLOW_TRACKING_URI names, or the local one.

    New runs go to `experiment`, else to that of the run that `mlflow run` has made, else to the one
    that MLFLOW_EXPERIMENT_ID or MLFLOW_EXPERIMENT_NAME says or "latentwire"; one that is missing is
    made, unless `create` is false. Raises LatentWireError when the store cannot be reached or used.
    """
    uri = tracking_uri()
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run
    with refusals_named(uri):
        require_usable(uri)
        # Processes that make one SQLite file at the same time break each other's migrations.
        with _creation_lock(uri):
            check_reachable(uri)
            _make_database(uri)
            if (path := sqlite_path(uri)) is not None:
                follow_artifacts(path)
            client = patient_client(uri) if is_server(uri) else MlflowClient(tracking_uri=uri)
            experiment_id = _chosen(client, experiment, create)
            if create:
                _add_views(client, experiment_id)
            return Store(client, uri, experiment_id)


@contextmanager
def refusals_named(uri: str) -> Iterator[None]:
    """Say in a sentence why the store at `uri` cannot be opened."""
    try:
        yield
    except MlflowException as error:
        raise LatentWireError(refusal(uri, error)) from error
    except OperationalError as error:
        if "already exists" not in str(error) or sqlite_path(uri) is None:
            raise _unusable(uri, first_line(error)) from error
        raise LatentWireError(
            f"the making of {sqlite_path(uri)} was interrupted, before it could hold a run: delete"
            " it, and start again"
        ) from error
    except SQLAlchemyError as error:
        raise _unusable(uri, first_line(error)) from error
    except OSError as error:
        raise _unusable(uri, str(error)) from error


def _unusable(uri: str, reason: str) -> LatentWireError:
    return LatentWireError(f"the tracking store {redact_uri(uri)} cannot be used: {reason}")


def _chosen(client: MlflowClient, name: str | None, create: bool) -> str:
    """The id of the experiment that new runs go to; see `open_store`."""
    if name is None:
        if run := given_run(client):
            return str(run.info.experiment_id)
        found = experiment_by_id(client)
        if found is not None:
            return _active(found, found.name)
    return _experiment_id(client, name or experiment_name(), create)


def experiment_by_id(client: MlflowClient) -> Experiment | None:
    """The experiment that MLFLOW_EXPERIMENT_ID says; LatentWireError where it says none that is
    there, or another than MLFLOW_EXPERIMENT_NAME."""
    number, name = os.environ.get("MLFLOW_EXPERIMENT_ID"), os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if not number:
        return None
    try:
        found = client.get_experiment(number)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise LatentWireError(
            f"MLFLOW_EXPERIMENT_ID={number!r} is no experiment of this tracking store: mend or"
            " unset it"
        ) from error
    if name and name != found.name:
        raise LatentWireError(
            f"MLFLOW_EXPERIMENT_ID={number} is the experiment {found.name!r}, but"
            f" MLFLOW_EXPERIMENT_NAME says {name!r}: unset one of them"
        )
    return found


def _experiment_id(client: MlflowClient, name: str, create: bool) -> str:
    found = client.get_experiment_by_name(name)
    if found is None and not create:
        known = sorted(each.name for each in client.search_experiments(max_results=PAGE))
        there = first_of(known, _NAMES)
        raise LatentWireError(f"there is no experiment {name}; there are: {there}")
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another worker was quicker
    return _active(found, name)


def _active(found: Experiment | None, name: str) -> str:
    if found is None or found.lifecycle_stage != LifecycleStage.ACTIVE:
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


def refusal(uri: str, error: MlflowException) -> str:
    """What a store that answers with an error means for the user."""
    place = redact_uri(uri)
    if _INVALID_HOST in error.message:
        return _wrong_host(uri)
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
    return str(_unusable(uri, first_line(error)))


def _wrong_host(uri: str) -> str:
    """What it means that a server refuses the Host header: MLflow guards against web pages that
    rename themselves."""
    host = urlparse(redact_uri(uri)).netloc.rpartition("@")[2]
    return (
        f"the tracking server {redact_uri(uri)} does not answer to the name {host} (403,"
        f" {_INVALID_HOST}): start it with --allowed-hosts {host}, or name it in"
        " MLFLOW_TRACKING_URI as it is known"
    )


def tracking_uri() -> str:
    """The store that MLFLOW_TRACKING_URI names, or the local one."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def experiment_name() -> str:
    """The experiment that new runs go to where nothing else is said."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other store."""
    if uri.partition(":")[0].partition("+")[0] != SQLITE:
        return None
    return Path(unquote(uri.partition("///")[2].partition("?")[0]))


def sqlite_address(path: Path) -> str:
    """The address of a SQLite file, of which `sqlite_path` gives the path again."""
    return f"sqlite:///{str(path).replace('%', '%25').replace('?', '%3F')}"


@contextmanager
def _creation_lock(uri: str) -> Iterator[None]:
    """Where the store is a SQLite file, other processes wait before they open it; its folder is
    made. Raises LatentWireError where one that has it open does not go on."""
    path = sqlite_path(uri)
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=OPENING_S)
    except Timeout:
        raise LatentWireError(
            f"another process has been opening {path} for {OPENING_S:g} s: continue it or end it,"
            " if it is stopped, and start again"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _make_database(uri: str) -> None:
    """Make the file of a SQLite store that is not there, under another name until it is whole.

    MLflow makes its tables in dozens of steps, and a file that a kill leaves between two of them is
    one that no MLflow opens again. Nobody else makes it meanwhile (`_creation_lock`).
    """
    path = sqlite_path(uri)
    if path is None or (path.exists() and path.stat().st_size):
        return
    for leftover in path.parent.glob(f"{path.name}.new*"):
        leftover.unlink()
    new = path.with_name(f"{path.name}.new")
    SqlAlchemyStore(sqlite_address(new), DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine.dispose()
    new.replace(path)


def check_reachable(uri: str) -> None:
    """Ask a server or a database once, with little patience: MLflow would retry for minutes."""
    place = redact_uri(uri)
    if is_server(uri):
        try:
            http_get(uri)
        except LatentWireError as error:
            if _INVALID_HOST in str(error):
                raise
            raise LatentWireError(
                f"{error}: start it, or mend or unset MLFLOW_TRACKING_URI"
            ) from None
    elif is_database(uri):
        _check_database(uri)
    elif not uri.startswith(_KEPT_BY_OTHERS) and not MLFLOW_ALLOW_FILE_STORE.get():
        raise LatentWireError(
            f"the tracking store {place} is of no kind that can be used: set MLFLOW_TRACKING_URI to"
            " sqlite:///FILE, a database (postgresql+psycopg://...) or a server (https://...)"
        )


def require_usable(uri: str) -> None:
    """Raise LatentWireError for the address of a SQLite file that can hold no store. Nothing is
    made for it, and nothing that is there is written over."""
    path = sqlite_path(uri)
    if path is None:
        return
    if str(path) in (".", ":memory:"):
        raise LatentWireError(
            f"the tracking store {redact_uri(uri)} is in memory, which keeps nothing: name a"
            f" file, as in {DEFAULT_URI}"
        )
    if str(path).startswith(("file:", "~")):
        raise LatentWireError(
            f"the tracking store {path} is no plain path: name a file, without file: and ~"
        )
    if path.is_dir():
        raise LatentWireError(f"the tracking store {path} is a folder: name a file in it")
    if path.exists() and not path.is_file():  # a device would be replaced by a database
        raise LatentWireError(f"the tracking store {path} is a pipe or a device: name a file")
    with suppress(FileNotFoundError), path.open("rb") as file:
        if file.read(len(_SQLITE_MARK)) not in (b"", _SQLITE_MARK):
            raise LatentWireError(
                f"the tracking store {path}: file is not a database: name another file"
            )


def _check_database(uri: str) -> None:
    """`check_database`; of a SQLite file only where it is there."""
    require_usable(uri)
    path = sqlite_path(uri)
    if path is not None and not (path.exists() and path.stat().st_size):
        return
    while True:
        try:
            return check_database(uri, redact_uri(uri))
        except OlderSchemaError:
            # Another program, such as `mlflow ui`, may be making it at this moment.
            if path is None or time.time() - path.stat().st_mtime > _BEING_MADE_S:
                raise
            time.sleep(0.1)


def is_server(uri: str) -> bool:
    """Whether a tracking URI is a server's."""
    return uri.partition("://")[0].lower() in ("http", "https")


def http_get(uri: str, path: str = "/health") -> requests.Response:
    """One GET below a tracking server's address, with little patience.

    Raises LatentWireError when nothing answers, and for an answer that says the server is broken.
    """
    try:
        answer = get(f"{uri.rstrip('/')}{path}", REACH_TIMEOUT_S)
    except (requests.RequestException, UnicodeError) as error:  # the second: no host's name
        raise LatentWireError(
            f"no tracking server answers at {redact_uri(uri)} ({type(error).__name__})"
        ) from None
    if answer.status_code == 403 and _INVALID_HOST in answer.text:
        raise LatentWireError(_wrong_host(uri))
    if answer.status_code >= 500:
        raise LatentWireError(f"the tracking server {redact_uri(uri)} answers {answer.status_code}")
    return answer
