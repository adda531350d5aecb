"""The only writer of runs.

    milestone run -> condition run -> chunk run

Identity stands in tags, never in names. A run is FINISHED only when all that belongs to it is
stored. Condition runs end together with their milestone: so what a killed milestone leaves behind
is chunk runs that are whole, and runs that the next start marks KILLED.
"""

import gc
import hashlib
import json
import logging
import os
import platform
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psutil
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import (
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
    MLFLOW_USER,
)

from latentwire.evaluation.record import Record, record_lines
from latentwire.redaction import clean_tags
from latentwire.tracking.heartbeats import LEASE_S, still_s
from latentwire.tracking.processes import is_gone, own_process
from latentwire.tracking.retries import fail_fast
from latentwire.tracking.signals import Terminated
from latentwire.tracking.store import Store
from latentwire.tracking.ui_views import REPEATED

LEVEL = "latentwire.level"  # milestone, condition, chunk, codec or link
CODEC_LEVEL, LINK_LEVEL = "codec", "link"  # M1's measurements
MILESTONE = "latentwire.milestone"
FINGERPRINT = "latentwire.fingerprint"
CONDITION = "latentwire.condition"  # fingerprint of the condition that a chunk belongs to
IDENTITY = "latentwire.identity"  # what all points of one curve have in common
CHUNK = "latentwire.chunk"
DATASET_HASH = "dataset_hash"  # a param, of answers to a user's own question set
INSTEAD_OF = "latentwire.instead_of"  # runs of the same chunk whose answers could not be read
ATTEMPT = "latentwire.attempt"
CODE_SHA = "latentwire.code_sha"
SOURCE = "latentwire.source"  # local, or published for figures that others measured
DEVICE = "latentwire.device"  # what was computed on: a GPU's name, or cpu
HOST = "latentwire.host"
PROCESS = "latentwire.process"  # number and start: what earlier versions know a process by
PROCESS_ID = "latentwire.process_id"  # as `processes.own_process` names it
CLAIMS = "latentwire.claims"  # on a milestone's run: the work that it has in hand
RECORDS_SHA256 = "latentwire.records_sha256"
RECORDS_FILE = "records.jsonl"
MOST_PARAMS = 100  # in one request; MLflow refuses more
MOST_METRICS = 1000

log = logging.getLogger("latentwire")


@dataclass
class RunWriter:
    """Writes runs of one milestone into a store, and closes what an interruption leaves open."""

    store: Store
    common_tags: Mapping[str, str]
    _open: list[str] = field(default_factory=list)

    def start(
        self,
        name: str,
        level: str,
        parent: str | None,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        start_time_ms: int | None = None,
    ) -> str:
        """A new run below `parent`; its id. It began now, or so many ms after the epoch."""
        identity = {
            **self.common_tags,
            LEVEL: level,
            **_writer_tags(),
            MLFLOW_USER: os.environ.get("USER", "unknown"),
            MLFLOW_SOURCE_NAME: "latentwire",
            **({MLFLOW_PARENT_RUN_ID: parent} if parent else {}),
            **tags,
        }
        run = self.store.client.create_run(
            self.store.experiment_id, start_time_ms, identity, run_name=name
        )
        self._open.append(run.info.run_id)
        if params:
            self.log(run.info.run_id, params=params)
        return str(run.info.run_id)

    def adopt(self, run_id: str, name: str, level: str, params: Mapping[str, str]) -> None:
        """Make the run that `mlflow run` started ours; it has logged the project's parameters."""
        self._open.append(run_id)
        found = self.store.client.get_run(run_id).data
        known, given = found.params, found.tags
        tags = {
            **{k: v for k, v in clean_tags(given).items() if v != given[k]},
            **self.common_tags,
            LEVEL: level,
            **_writer_tags(),
            MLFLOW_RUN_NAME: name,
        }
        new = {key: value for key, value in params.items() if key not in known}
        self.log(run_id, params=new, tags=tags)

    def log(
        self,
        run_id: str,
        params: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        step: int = 0,
    ) -> None:
        """Log in one request; ValueError for more values than one takes."""
        now = int(time.time() * 1000)
        values = [Metric(k, float(v), now, step) for k, v in (metrics or {}).items()]
        pairs = [Param(k, str(v)) for k, v in (params or {}).items()]
        labels = [RunTag(k, str(v)) for k, v in (tags or {}).items()]
        if len(values) > MOST_METRICS or max(len(pairs), len(labels)) > MOST_PARAMS:
            raise ValueError("more values than one request takes")
        self.store.client.log_batch(run_id, values, pairs, labels)

    def log_text(self, run_id: str, text: str, artifact: str) -> None:
        """Store `text` as an artifact file of that path."""
        self.store.client.log_text(run_id, text, artifact)

    def log_file(self, run_id: str, path: Path, folder: str | None = None) -> None:
        """Store a file as an artifact."""
        self.store.client.log_artifact(run_id, str(path), folder)

    def log_bytes(self, run_id: str, data: bytes, name: str) -> None:
        """Store `data` as an artifact file of that name."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(data)
            self.log_file(run_id, path)

    def log_folder(self, run_id: str, folder: Path, name: str) -> None:
        """Store a folder of files as artifacts below `name`."""
        self.store.client.log_artifacts(run_id, str(folder), name)

    def set_description(self, run_id: str, text: str) -> None:
        """The description that MLflow shows on the run's page (Markdown)."""
        self.store.client.set_tag(run_id, MLFLOW_RUN_NOTE, text)

    def finish(
        self, run_id: str, metrics: Mapping[str, float] | None = None, status: str = "FINISHED"
    ) -> None:
        """Log last metrics and end the run."""
        if metrics:
            self.log(run_id, metrics=metrics)
        self.store.client.set_terminated(run_id, status)
        self._open.remove(run_id)

    def write_chunk(
        self,
        name: str,
        condition_run: str,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        records: Sequence[Record],
        metrics: Mapping[str, float],
    ) -> str:
        """One whole chunk run: FINISHED only once its records are stored."""
        lines = record_lines(records)
        return self.write_lines(name, condition_run, params, tags, lines, metrics)

    def write_lines(
        self,
        name: str,
        condition_run: str,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        records: str,
        metrics: Mapping[str, float],
        start_time_ms: int | None = None,
        is_wanted: Callable[[str], bool] = lambda run_id: True,
    ) -> str:
        """`write_chunk` for records as `record_lines` gives them; with as few requests as will do,
        since there are many such runs. The run ends as KILLED if `is_wanted`, which is asked at the
        last moment, says no."""
        data = records.encode()
        tags = {**tags, RECORDS_SHA256: hashlib.sha256(data).hexdigest()}
        run_id = self.start(name, "chunk", condition_run, {}, tags, start_time_ms)
        self.log_bytes(run_id, data, RECORDS_FILE)
        self.log(run_id, params=params, metrics=metrics)
        if is_wanted(run_id):
            self.finish(run_id)
        else:
            self.close("KILLED")
        return run_id

    def kill_orphans(self, milestone: str) -> int:
        """`kill_orphans` for a milestone that this writes alone in its process."""
        return kill_orphans(self.store, milestone, self._open)

    def explain(self, text: str) -> None:
        """Describe the first run that is open, if there is one and the store takes it: the error
        that brought us here is the one to show."""
        with suppress(Exception), fail_fast():
            if self._open:
                self.set_description(self._open[0], text)

    def close(self, status: str) -> None:
        """End every run that is still open, children first.

        A store that refuses twice takes no more: what is left stays RUNNING, for the next start to
        mark KILLED. The error that brought us here is the one to show.
        """
        refusals = 0
        with fail_fast():
            while self._open and refusals < 2:
                try:
                    self.store.client.set_terminated(self._open.pop(), status)
                except Exception as error:
                    refusals += 1
                    log.debug("a run stays RUNNING: %s", error)


@contextmanager
def closing(
    writer: RunWriter, describe: Callable[[BaseException], str] | None = None
) -> Iterator[None]:
    """Runs that the block leaves open end as KILLED when it was stopped, else as FAILED; of the
    first, `describe` then says why."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, (KeyboardInterrupt, Terminated))
        _release_frames(error, stopped)
        if describe and not stopped:
            writer.explain(describe(error))
        writer.close("KILLED" if stopped else "FAILED")
        raise


def _release_frames(error: BaseException | None, stopped: bool) -> None:
    """Free what the frames that an error has left still hold.

    A signal may fall where SQLAlchemy is about to close a transaction, or between two rows of a
    query. Connection and cursor live as long as the traceback, and lock a SQLite file against this
    process itself. Of a signal nobody reads the traceback, and it is cut off: a frame that is
    cleared still holds the variables that its function has from outside.
    """
    while error is not None:
        trace = error.__traceback__
        traceback.clear_frames(trace)
        while stopped and trace is not None:  # every link: who passes the error on holds some too
            trace.tb_next, trace = None, trace.tb_next
        error = error.__context__
    gc.collect()


def artifact_address(run_id: str, artifact: str) -> str:
    """Where MLflow's pages find a run's artifact, behind the server's address."""
    return f"get-artifact?run_uuid={run_id}&path={quote(artifact)}"


def digest_of(content: object) -> str:
    """sha256 of a value as JSON, for fingerprints; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _writer_tags() -> dict[str, str]:
    """Who writes a run."""
    return {HOST: platform.node(), PROCESS: process_name(), PROCESS_ID: own_process()}


def process_name() -> str:
    """Process number and start time, as earlier versions look for them."""
    process = psutil.Process()
    return f"{process.pid}@{process.create_time():.2f}"


def mark_killed(store: Store) -> int:
    """Mark KILLED what processes of this host that are gone have left RUNNING.

    At once where it is certain that a process has ended; else once the heartbeat of its milestone
    has been seen to stand still for LEASE_S, and never while the process is seen to live.
    Condition runs of a milestone that was killed while its runs were being ended may already be
    FINISHED; they are marked too, since their milestone will be run again. Chunk runs that are
    FINISHED are whole, and stay. Returns how many runs were marked.
    """
    asked = time.monotonic()
    running = _running_here(store)
    doomed = {run.info.run_id for run in running if is_gone(run.data.tags.get(PROCESS_ID, ""))}
    silent = {run.info.run_id for run in running if _is_silent(run, asked)}
    above = {run.info.run_id: run.data.tags.get(MLFLOW_PARENT_RUN_ID, "") for run in running}
    for run in running:
        parents = {run.info.run_id, parent := above[run.info.run_id], above.get(parent, "")}
        if not parents.isdisjoint(silent) and not _is_here(run):
            doomed.add(run.info.run_id)
    if doomed:  # a process that has ended since the store was asked may have ended its runs well
        doomed &= {run.info.run_id for run in _running_here(store)}
    for run in running:
        if run.data.tags[LEVEL] == "milestone" and run.info.run_id in doomed:
            doomed |= {child.info.run_id for child in conditions_below(store, run.info.run_id)}
    return sum(_end(store, run_id) for run_id in sorted(doomed))


def _running_here(store: Store) -> list[Run]:
    """The RUNNING runs of processes of this host."""
    return [
        run
        for run in store.search(f"attributes.status = 'RUNNING' and tags.`{LEVEL}` != ''")
        if run.data.tags.get(HOST) == platform.node() and PROCESS in run.data.tags
    ]


def _is_silent(run: Run, asked: float) -> bool:
    """Whether a milestone's heartbeat stands still; those of chunks and conditions have none."""
    if run.data.tags[LEVEL] != "milestone" or _is_here(run):
        return False
    return still_s(run.info.run_id, run.data.tags.get(CLAIMS, ""), asked) >= LEASE_S


def _is_here(run: Run) -> bool:
    """Whether the process that writes a run is seen to live: of an earlier version by its number
    alone, since the start that it wrote moves with the clock."""
    name = run.data.tags.get(PROCESS_ID)
    if name is not None:
        return is_gone(name) is False
    number = run.data.tags[PROCESS].partition("@")[0]
    return number.isdecimal() and len(number) < 10 and psutil.pid_exists(int(number))


def _end(store: Store, run_id: str) -> bool:
    """Mark a run KILLED; False if the store refuses that, which is for nobody to mend now."""
    try:
        store.client.set_terminated(run_id, "KILLED")
        return True
    except MlflowException as error:
        if store.is_unavailable(error):
            raise
        log.warning("run %s of a process that is gone stays as it is: %s", run_id, error.message)
        return False


def kill_orphans(store: Store, milestone: str | None = None, known: Collection[str] = ()) -> int:
    """Mark KILLED the RUNNING runs of this process whose creation response was lost.

    A server can die, or the network fail, between the making of a run and the answer; the run is
    then made again. `milestone` and `known` (ids) leave out what is still being written. Returns
    how many runs were marked.
    """
    own = f"attributes.status = 'RUNNING' and tags.`{PROCESS_ID}` = '{own_process()}'"
    if milestone is not None:
        own += f" and tags.`{MILESTONE}` = '{milestone}'"
    strays = {run.info.run_id for run in store.search(own)} - set(known)
    for run_id in sorted(strays):
        store.client.set_terminated(run_id, "KILLED")
    return len(strays)


def conditions_below(store: Store, milestone_run: str) -> list[Run]:
    """The condition runs of a milestone run."""
    return list(store.search(tags={MLFLOW_PARENT_RUN_ID: milestone_run, LEVEL: "condition"}))


def mark_repeated(
    store: Store, identities: Collection[str], condition_runs: Mapping[str, str]
) -> None:
    """Mark the earlier FINISHED runs of these conditions (fingerprint -> the run that has just
    finished) in the experiment: a view shows each condition once. Of two that end together, one is
    marked. `identities` are those of the conditions."""
    found: dict[str, list[Run]] = defaultdict(list)
    for identity in identities:
        for run in store.search(
            "attributes.status = 'FINISHED'",
            [store.experiment_id],
            tags={LEVEL: "condition", IDENTITY: identity},
        ):
            found[run.data.tags.get(FINGERPRINT, "")].append(run)
    for fingerprint, ours in condition_runs.items():
        for run in found[fingerprint]:  # oldest first
            if run.info.run_id == ours:
                break
            if REPEATED not in run.data.tags:
                store.client.set_tag(run.info.run_id, REPEATED, "true")


def next_attempt(store: Store, milestone: str, config_fingerprint: str) -> int:
    """1 + how many runs of this milestone with this configuration there have been."""
    tags = {MILESTONE: milestone, LEVEL: "milestone", FINGERPRINT: config_fingerprint}
    return 1 + sum(1 for _ in store.search(tags=tags))
