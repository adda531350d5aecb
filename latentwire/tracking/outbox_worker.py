"""The process that turns letters into chunk runs: python -m latentwire.tracking.outbox_worker.

Arguments: the outbox's folder, and how many seconds the store that MLFLOW_TRACKING_URI names may
not answer. It ends when standard input does, which the process that started it holds open; after
the letter in hand, so that a run it has begun is whole.

Nothing is written twice. The store is asked about every file of letters before anything of it is
written. Where that was a moment ago (this process may have been stopped since), or where others may
be writing the same, it is asked once more when the run is there and not yet FINISHED: of two that
see each other, both give way, and each tries again at a time of its own.
"""

import os
import random
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlflow.entities import Run
from mlflow.exceptions import MlflowException, RestException

from latentwire.errors import LatentWireError, as_sentence, first_line, unwritable
from latentwire.terminal import prepare_output
from latentwire.tracking.finished_chunks import finished_spans, missing_spans, parse_chunk
from latentwire.tracking.heartbeats import LEASE_S, still_s
from latentwire.tracking.left_behind import SET_ASIDE, delivering, set_aside, waiting
from latentwire.tracking.outbox import PendingChunk, from_file
from latentwire.tracking.processes import is_gone, own_process
from latentwire.tracking.retries import RETRIES, careful_client, is_unavailable
from latentwire.tracking.runs import (
    CHUNK,
    CONDITION,
    FINGERPRINT,
    INSTEAD_OF,
    LEVEL,
    PROCESS_ID,
    RunWriter,
    kill_orphans,
)
from latentwire.tracking.store import Store, is_server

PAUSE_S = 0.1  # between looks into an empty folder
MOST_SAID = 120  # characters of an error
LONGEST_PAUSE_S = 5.0  # between attempts at a store that does not answer
FRESH_S = 2.0  # how long what the store said about a chunk is relied on
REFUSALS = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE")


class _Refused(Exception):
    """The store will never take this."""


class _Later(Exception):
    """Another process is writing the same chunk at this moment."""


def main(folder: Path, patience_s: float) -> int:
    """Deliver until standard input ends; 0, or 1 with a sentence on standard error."""
    # The process that started this one ends it; signals to the whole group are for that one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    with delivering(folder):
        here = Store(careful_client(uri), uri, "")
        return _Deliverer(here, folder, patience_s).work()


@dataclass
class _Deliverer:
    here: Store  # of whatever experiment a letter names
    folder: Path
    patience_s: float
    failing: dict[Path, float] = field(default_factory=dict)  # letters, and since when
    tried: dict[Path, float] = field(default_factory=dict)  # letters, and when last
    pause_s: float = PAUSE_S
    delivered: float = 0.0  # when one last was
    known: set[str] = field(default_factory=set)  # condition runs that are in the store

    def work(self) -> int:
        left = set(waiting(self.folder))  # runs may be whole although their letter is still here
        while True:
            letters = waiting(self.folder)
            if not letters:
                if _ended(PAUSE_S):
                    return 0
                continue
            # One that fails does not hold up those behind it.
            path = min(letters, key=lambda path: self.tried.get(path, 0.0))
            self.tried[path] = time.monotonic()
            try:
                if not self._deliver(path, careful=path in left or path in self.failing):
                    return 0
            except FileNotFoundError:
                if path.exists():
                    raise
            except LatentWireError as error:
                if not self._set_aside(path, str(error)):
                    return 1
            except Exception as error:  # each kind of store fails in ways of its own
                status = self._failed(path, error)
                if status is not None:
                    return status

    def _deliver(self, path: Path, careful: bool) -> bool:
        """Deliver a file of letters; False if standard input ended before."""
        messages = from_file(path)
        store = replace(self.here, experiment_id=messages[0].experiment_id)
        if path in self.failing:
            kill_orphans(store)
        self._check_runs_above(store, path, messages)
        asked = time.monotonic()
        for message in missing(store, messages):
            if _ended(0):
                return False
            firm = message.claimed and not careful
            try:
                deliver(store, message, path, asked if firm else None)
            except MlflowException as error:
                if _is_refusal(error, self.here.uri):
                    raise _Refused(first_line(error)) from error
                raise
            self.pause_s, self.delivered = PAUSE_S, time.monotonic()
        self.failing.pop(path, None)
        path.unlink(missing_ok=True)
        return True

    def _check_runs_above(self, store: Store, path: Path, messages: Sequence[PendingChunk]) -> None:
        """Raises LatentWireError where the runs that letters belong to are not in this store."""
        for parent in {message.parent for message in messages} - self.known:
            try:
                self.here.client.get_run(parent)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                place = messages[0].store or "another store"
                raise LatentWireError(
                    f"results for run {parent}, which is not in this store (they were computed for"
                    f" {place}), are set aside: {self._aside(path)}; to deliver them, move the file"
                    " back once that store is the one that is used"
                ) from error
            self.known.add(parent)

    def _failed(self, path: Path, error: Exception) -> int | None:
        """What an error means: an exit status, or None to go on."""
        now = time.monotonic()
        since = self.failing.setdefault(path, now)
        if reason := unwritable(error):  # no use in trying again: somebody must make room
            with suppress(Exception):
                kill_orphans(self.here)
            print(reason, file=sys.stderr)
            return 1
        is_over = now - since > self.patience_s
        is_its_own = is_over and self.delivered > since and not is_unavailable(error)
        if is_its_own or isinstance(error, _Refused):
            why = (
                f"the tracking store takes other results and refuses {path.name}"
                f" ({_short(error)}): it is set aside in {self._aside(path)}; if what it belongs to"
                " was deleted, restore that and move the file back, else delete it, and its chunk"
                " is computed again"
            )
            return None if self._set_aside(path, why) else 1
        if is_over:
            print(_short(error), file=sys.stderr)
            return 1
        if isinstance(error, _Later):  # who both gave way must not meet again
            return 0 if _ended(random.uniform(PAUSE_S, 1)) else None
        if _ended(self.pause_s):
            return 0
        self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)
        return None

    def _set_aside(self, path: Path, reason: str) -> bool:
        self.failing.pop(path, None)
        try:
            set_aside(path, self.folder.parent, reason)
            with suppress(Exception):
                kill_orphans(self.here)
        except OSError as error:
            print(unwritable(error) or f"{reason} ({error})", file=sys.stderr)
            return False
        return True

    def _aside(self, path: Path) -> Path:
        return self.folder.parent / SET_ASIDE / path.name


def missing(store: Store, messages: Sequence[PendingChunk]) -> list[PendingChunk]:
    """The letters whose chunks the store does not hold, in whatever chunks it was computed."""
    conditions = list({message.tags[CONDITION] for message in messages})
    lost = {run_id for message in messages for run_id in _instead_of(message)}
    found = finished_spans(store, conditions, lost)
    return [
        m for m in messages if missing_spans([parse_chunk(m.tags[CHUNK])], found[m.tags[CONDITION]])
    ]


def _instead_of(message: PendingChunk) -> list[str]:
    return message.tags.get(INSTEAD_OF, "").split(",")


def deliver(store: Store, message: PendingChunk, path: Path, asked: float | None) -> None:
    """Write a letter's chunk run, unless its file is gone by then, or another process writes it.

    `asked` is when the store was asked about it (`time.monotonic()`), if nobody else can be writing
    it. Raises _Later where somebody is.
    """
    later = False

    def is_wanted(run_id: str) -> bool:
        nonlocal later
        if not path.exists():  # this process was taken for dead, and its letters with it
            return False
        if asked is not None and time.monotonic() - asked < FRESH_S:
            return True
        others = _others(store, message, run_id)
        later = any(run.info.status != "FINISHED" for run in others)
        return not others

    RunWriter(store, {}).write_lines(
        message.name,
        message.parent,
        message.params,
        message.tags,
        message.records,
        message.metrics,
        message.start_time_ms,
        is_wanted,
    )
    if later:
        raise _Later


def _others(store: Store, message: PendingChunk, run_id: str) -> list[Run]:
    """Other runs of the same chunk that are finished, or that a live process is writing."""
    asked = time.monotonic()
    runs = store.search(tags={FINGERPRINT: message.tags[FINGERPRINT], LEVEL: "chunk"})
    return [
        run
        for run in runs
        if run.info.run_id not in (run_id, *_instead_of(message))
        and (
            run.info.status == "FINISHED" or (run.info.status == "RUNNING" and _writes(run, asked))
        )
    ]


def _writes(run: Run, asked: float) -> bool:
    """Whether the process that began a chunk run may still finish it."""
    process = run.data.tags.get(PROCESS_ID, "")
    if process == own_process() or is_gone(process):
        return False
    return still_s(run.info.run_id, "", asked) < LEASE_S


def _is_refusal(error: MlflowException, uri: str) -> bool:
    """Whether a store has understood, and will never take this. What stands before a server, and
    knows nothing of MLflow, gives other errors."""
    understood = isinstance(error, RestException) or not is_server(uri)
    return understood and error.error_code in REFUSALS


def _ended(seconds: float) -> bool:
    """Wait so long at most; whether standard input has ended."""
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)


def _short(error: Exception) -> str:
    text = as_sentence(first_line(error))
    kind = "" if isinstance(error, _Refused) else f"{type(error).__name__}: "
    return f"{kind}{text[:MOST_SAID]}" + ("..." if len(text) > MOST_SAID else "")


if __name__ == "__main__":
    prepare_output()
    # MLflow would make a second run where the answer about the first was lost, and say nothing.
    os.environ[RETRIES] = "0"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2])))
