"""The run of a milestone: what it logs whatever it computes, and how it ends."""

import json
import logging
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME, MLFLOW_RUN_NOTE

from latentwire import environment
from latentwire.ending import reason
from latentwire.errors import LatentWireError
from latentwire.parameters import Values
from latentwire.redaction import redact_uri
from latentwire.terminal import PlainLines, tell
from latentwire.tracking.given_run import GIVEN, given_run
from latentwire.tracking.leases import Leases
from latentwire.tracking.retries import fail_fast
from latentwire.tracking.runs import (
    ATTEMPT,
    CODE_SHA,
    DEVICE,
    FINGERPRINT,
    MILESTONE,
    SOURCE,
    RunWriter,
    closing,
    digest_of,
    mark_killed,
    next_attempt,
)
from latentwire.tracking.store import DEFAULT_URI, Store, is_server, tracking_uri
from latentwire.tracking.ui_views import printed_address

if TYPE_CHECKING:  # it brings the models' library
    from latentwire.session.session import Session

log = logging.getLogger("latentwire")

# Parameters that do not change what a milestone's runs are about.
_NOT_IDENTITY = (
    "batch_size",
    "device",
    "data_dir",
    "dry_run",
    "preflight",
    "output_dir",
    "workers",
)


@dataclass(frozen=True)
class MilestoneRun:
    """A milestone run that is open for writing."""

    writer: RunWriter
    run_id: str
    name: str
    leases: Leases  # and the heartbeat
    is_part: bool = False  # of `main`, which shows one table for all


_TOLD: ContextVar[list[str] | None] = ContextVar("told runs", default=None)


@contextmanager
def told_runs() -> Iterator[list[str]]:
    """The ids of the milestone runs that the block makes, oldest first: for who starts a milestone
    from Python."""
    runs: list[str] = []
    token = _TOLD.set(runs)
    try:
        yield runs
    finally:
        _TOLD.reset(token)


@contextmanager
def milestone_run(
    store: Store,
    name: str,
    values: Values,
    subject: str,
    parent: MilestoneRun | None = None,
    source: str = "local",
) -> Iterator[MilestoneRun]:
    """Open the run of milestone `name`, and end it however the block ends.

    The run that `mlflow run` has made for this start is taken over (see `given_run`), unless there
    is a `parent` (under `main`).
    `subject` says in the run's name what it is about. Logged before the block: parameters, the
    resolved configuration and the environment; after it, whatever happens, the log.
    """
    marked = mark_killed(store)
    if marked:
        log.info("marked %d runs of processes that are gone as KILLED", marked)
    config = {key: _plain(value) for key, value in values.items()}
    identity = {k: v for k, v in config.items() if k not in _NOT_IDENTITY}
    fingerprint = digest_of([name, identity])
    attempt = next_attempt(store, name, fingerprint)
    tags = {MILESTONE: name, CODE_SHA: environment.commit(), SOURCE: source}
    writer = RunWriter(store, tags)
    device = {DEVICE: environment.device_kind(str(config["device"]))} if "device" in config else {}
    title = f"{name} {subject}" + (f" (attempt {attempt})" if attempt > 1 else "")
    params = {key: str(value) for key, value in config.items()}
    given = given_run(store.client, name) if parent is None else None
    # The variable would make every later start of a run, here or in a worker, resume this one.
    os.environ.pop(GIVEN, None)
    with closing(writer, _failure):
        if given:
            run_id = given.info.run_id
            writer.adopt(run_id, title, "milestone", params)
        else:
            above = parent.run_id if parent else None
            run_id = writer.start(title, "milestone", above, params, {})
        if (told := _TOLD.get()) is not None:
            told.append(run_id)
        writer.log(run_id, tags={FINGERPRINT: fingerprint, ATTEMPT: str(attempt), **device})
        writer.log_text(run_id, json.dumps(config, indent=2, sort_keys=True), "config.json")
        writer.log_text(run_id, json.dumps(environment.describe(), indent=2), "environment.json")
        with Leases(store, run_id) as leases, _log_kept(writer, run_id):
            yield MilestoneRun(writer, run_id, name, leases, is_part=parent is not None)
        writer.kill_orphans(name)
        mark_killed(store)  # by now those may be seen to be gone that only a heartbeat tells of
        writer.finish(run_id)
    if parent is None:
        tell(f"in MLflow's pages: {_page(store)}")


def _page(store: Store) -> str:
    """The address of the milestones' view, and what shows it where no server does."""
    address = printed_address(store.uri, store.experiment_id)
    if is_server(store.uri):
        return address
    uri = shlex.quote(redact_uri(store.uri))
    where = "" if store.uri == DEFAULT_URI else f" --backend-store-uri {uri}"
    return f"mlflow ui{where}, then\n  {address}"


def _failure(error: BaseException) -> str:
    """A description in Markdown; what is quoted is no markup."""
    lines = reason(error).splitlines()
    return "**Ended by an error:**\n\n" + "\n".join(f"    {line}" for line in lines)


def tell_failure(name: str, error: BaseException) -> None:
    """Name the run that `mlflow run` has made for a start which ended before the run was taken
    over, and say why in its description; nothing where there is none, or its store refuses."""
    if not os.environ.get(GIVEN):
        return
    with suppress(Exception), fail_fast():
        client = MlflowClient(tracking_uri())
        if run := given_run(client, name):
            client.set_tag(run.info.run_id, MLFLOW_RUN_NAME, f"{name} (not begun)")
            client.set_tag(run.info.run_id, MLFLOW_RUN_NOTE, _failure(error))


def session_run(
    session: "Session", name: str, computes: bool = True
) -> AbstractContextManager[MilestoneRun]:
    """The run of a milestone on a session, with its parameters. `computes`: unless all is
    finished."""
    if computes:
        session.files.fit_threads()  # before the environment is logged, which tells them
    subject = session.pair.name
    return milestone_run(session.store, name, session.resolved, subject, session.parent)


def log_checkpoints(run: MilestoneRun, session: "Session") -> None:
    """Store which files the pair is made of, with sizes and hashes."""
    content: Mapping[str, object] = {
        "pair": session.pair.name,
        "identity": session.files.identity,
        "files": session.files.manifest(),
    }
    run.writer.log_text(run.run_id, json.dumps(content, indent=2), "checkpoints.json")


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value) if isinstance(value, Path) else value


@contextmanager
def _log_kept(writer: RunWriter, run_id: str) -> Iterator[None]:
    """Write log messages to a file too, and store it when the block ends, even by an error."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "latentwire.log"
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(PlainLines("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
        try:
            yield
            log.removeHandler(handler)
            writer.log_file(run_id, path)
        except BaseException as error:
            # Only what is not the user's to mend needs the lines of code that it comes from.
            trace = isinstance(error, Exception) and not isinstance(error, LatentWireError)
            log.info("ended by %s: %s", type(error).__name__, error, exc_info=trace)
            with suppress(Exception):  # what ended it is what is to be shown
                writer.log_file(run_id, path)
            raise
        finally:
            log.removeHandler(handler)
            handler.close()
