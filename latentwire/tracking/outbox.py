"""Results on their way to the tracking store: first a file here, then a chunk run there.

What a milestone has computed lies in a file before anything else happens with it, so that neither a
kill nor a store that does not answer loses it. A process of its own (`outbox_worker.py`) writes the
runs: it does not hold up the computing one, which a thread would. What it could not deliver, the
next start delivers first (`left_behind.py`).

The folder of a store's letters is named by where the store lies as seen from the outbox: a project
that is moved as a whole finds its letters again, and two that share an outbox never mix theirs.
"""

import hashlib
import json
import logging
import math
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, fields
from errno import ENOTDIR
from pathlib import Path
from typing import Any, NoReturn, Self

from mlflow.exceptions import MlflowException

from c2c.files import read_file
from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record, record_lines
from latentwire.redaction import redact_uri
from latentwire.tracking.left_behind import (
    LEFT,
    PARTIAL,
    SUFFIX,
    deliverers,
    folder_name,
    take_moved,
    take_over,
    waiting,
    why_set_aside,
)
from latentwire.tracking.processes import is_stopped, own_process
from latentwire.tracking.runs import CHUNK, CONDITION, FINGERPRINT
from latentwire.tracking.store import Store, sqlite_address, sqlite_path
from latentwire.user_files import path_of

FOLDER = "LATENTWIRE_OUTBOX"  # environment: where letters wait
DEFAULT_FOLDER = "outbox"  # in the folder that is worked in
PATIENCE = "LATENTWIRE_STORE_PATIENCE_S"  # environment: how long a store may not answer
DEFAULT_PATIENCE_S = 600.0
SHUTDOWN_TIMEOUT_S = 2.0  # after an interruption: for the chunk that is just being delivered
LATEST_MS = 253_402_300_799_999  # the end of the year 9999
_POLL_S = 0.05
_LOG = "deliver.log"

log = logging.getLogger("latentwire")


@dataclass(frozen=True)
class PendingChunk:
    """A chunk's results, and all that its run needs."""

    experiment_id: str
    name: str
    parent: str  # id of the condition run
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]
    start_time_ms: int  # when its computing began, since the epoch
    records: str  # JSON lines
    claimed: bool = True  # while it was computed; else another process may have done the same
    store: str = ""  # its address, in full; "" in letters of earlier versions


def pending_chunk(
    store: Store,
    name: str,
    parent: str,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    records: Sequence[Record],
    seconds: float,
    claimed: bool = True,
) -> PendingChunk:
    """The letter for records that took `seconds` up to now."""
    return PendingChunk(
        experiment_id=store.experiment_id,
        name=name,
        parent=parent,
        params={**params},
        tags={**tags},
        metrics={key: float(value) for key, value in metrics.items()},
        start_time_ms=int((time.time() - seconds) * 1000),
        records=record_lines(records),
        claimed=claimed,
        store=address(store.uri),
    )


def to_bytes(messages: Sequence[PendingChunk]) -> bytes:
    """The content of the file of some letters (of one experiment): a checksum's line, then JSON."""
    body = json.dumps([asdict(message) for message in messages], ensure_ascii=False).encode()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def from_file(path: Path) -> list[PendingChunk]:
    """What `to_bytes` wrote; LatentWireError for a file that is altered or cannot be read."""
    try:
        content = read_file(path)  # a pipe would be waited for
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LatentWireError(f"{path} cannot be read: {error.strerror}") from error
    checksum, _, body = content.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        raise LatentWireError(
            f"{path} is not as it was written: delete it, and its chunk is computed again"
        )
    try:
        found: Any = json.loads(body)
        known = {field.name: field.default is MISSING for field in fields(PendingChunk)}
        needed = {name for name, is_needed in known.items() if is_needed}
        if not (found and all(needed <= set(values) <= known.keys() for values in found)):
            raise ValueError("other fields")
        return [_checked(PendingChunk(**values)) for values in found]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise LatentWireError(
            f"{path} is of another version of LatentWire ({error}): deliver it with that one, or"
            " delete it"
        ) from error


def _checked(found: PendingChunk) -> PendingChunk:
    """TypeError or ValueError for content that no run can be made from."""
    texts = [found.experiment_id, found.name, found.parent, found.records, found.store]
    texts += [text for pair in (*found.params.items(), *found.tags.items()) for text in pair]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("what should be a text is none")
    if any("\0" in text for text in texts):
        raise ValueError("a text holds a NUL character")
    "".join(texts).encode()  # no store takes half of a character
    if not all(isinstance(value, float) for value in found.metrics.values()):
        raise TypeError("a metric is no number")
    if type(found.start_time_ms) is not int or not 0 <= found.start_time_ms <= LATEST_MS:
        raise ValueError("it was computed at no time that a calendar knows")
    if not {FINGERPRINT, CONDITION, CHUNK} <= found.tags.keys():
        raise ValueError("it does not say which chunk it is")
    lines = found.records.removesuffix("\n").split("\n")
    if not all(isinstance(json.loads(line), dict) for line in lines):
        raise ValueError("it holds no records")
    return found


def address(uri: str) -> str:
    """Where a store is, wherever it is said; without a password."""
    path = sqlite_path(uri)
    return redact_uri(uri) if path is None else sqlite_address(path.resolve())


def outbox_folder() -> Path:
    """Where the letters of all stores wait. Raises LatentWireError where no folder can be."""
    folder = (path_of(FOLDER) or Path(DEFAULT_FOLDER)).absolute()
    try:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if not there.is_dir():
            raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR))
        return folder.resolve()
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise LatentWireError(
            f"results cannot wait in {folder} ({reason}): set {FOLDER} to a folder"
        ) from error


def folder_of(uri: str) -> Path:
    """Where letters to the store at `uri` wait, each outbox in a folder of its own."""
    folder, path = outbox_folder(), sqlite_path(uri)
    place = uri if path is None else os.path.relpath(path.resolve(), folder)
    return folder / hashlib.sha256(place.encode()).hexdigest()[:12]


def patience_s() -> float:
    """How long a store may not answer before it is given up."""
    text = os.environ.get(PATIENCE, "")
    try:
        seconds = float(text) if text else DEFAULT_PATIENCE_S
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:  # nor is there an end to a wait of NaN seconds
        raise LatentWireError(f"{PATIENCE}={text} must be a number of seconds")
    return seconds


def flush_outbox(store: Store) -> None:
    """Deliver what an earlier start could not; LatentWireError when that still cannot be."""
    if outbox_folder().is_dir():
        with Outbox(store) as outbox:
            if outbox.found:
                print(
                    f"delivering {outbox.found} results that an earlier start has left", flush=True
                )


class Outbox:
    """Takes letters, and has them delivered while the block goes on, with those that processes
    that are gone have left.

    When it ends well, all have arrived; when it is interrupted, the letter in hand is finished and
    the rest waits in the folder. Raises LatentWireError when the store is given up. A letter that
    the store refuses is set aside, with a sentence, and the others go on; of those that were put
    here, that sentence is raised in the end. `expecting` is for whom will put letters here.
    """

    def __init__(self, store: Store, expecting: bool = False) -> None:
        self._store, self._expecting = store, expecting
        self._uri = store.uri
        self._place = folder_of(store.uri)
        self._folder = self._place / folder_name(own_process(), uuid.uuid4().hex[:8])
        self._log = self._folder / _LOG
        self._patience_s = patience_s()
        self._process: subprocess.Popen[bytes] | None = None
        self._on_their_way: list[Path] = []
        self._put: set[str] = set()
        self._refused: list[str] = []  # why letters that were put here were set aside
        self.found = 0  # letters that were left behind

    def __enter__(self) -> Self:
        take_over(self._place, self._folder)
        take_moved(self._place.parent, self._place, self._folder, self._is_ours)
        self._on_their_way = waiting(self._folder)
        self.found = len(self._on_their_way)
        if self._expecting:  # the process imports what it needs while models are loaded
            self._folder.mkdir(parents=True, exist_ok=True)
        if self._expecting or self._on_their_way:
            self._start()
        return self

    def _is_ours(self, path: Path) -> bool:
        """Whether a letter under another store's name is for this one: its store is not at its
        place any more, and the run that it belongs to is here."""
        try:
            first = from_file(path)[0]
            named = sqlite_path(first.store)
            if first.store and (named is None or named.exists()):
                return False
            self._store.client.get_run(first.parent)
            return True
        except (LatentWireError, MlflowException, OSError):
            return False

    def enqueue(self, messages: Sequence[PendingChunk]) -> Path:
        """Keep letters in one file, durably; the path that is gone once all are delivered.

        Letters of one chunk go together: a file that must be on the disk takes milliseconds,
        however little it holds.
        """
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex}{SUFFIX}"
        path, content = self._folder / name, to_bytes(messages)
        try:
            self._keep(path, content)
        except FileNotFoundError:  # this process was stopped, and taken for dead
            self._keep(path, content)
        self._put.add(name)
        self._on_their_way.append(path)
        self._start()
        return path

    def _keep(self, path: Path, content: bytes) -> None:
        partial = path.with_name(f"{path.name}{PARTIAL}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            if error.filename is None:  # a write does not say where
                error.filename = str(partial)
            raise

    def wait(self) -> None:
        """Return once the letters that were here or put here have arrived (other processes may go
        on putting theirs). Raises LatentWireError when they cannot."""
        told = False
        began = time.monotonic()
        while self._left():
            if self._process is None or self._process.poll() is not None:
                self._refuse()
            waited_s = time.monotonic() - began
            if not told and waited_s > 10:
                told = True
                print(
                    f"waiting for the tracking store {redact_uri(self._uri)}:"
                    f" {len(self._left())} results lie in {self._folder}",
                    file=sys.stderr,
                )
            if waited_s > self._patience_s and self._is_stopped():
                self._process.kill()
                self._refuse(f"the delivering process {self._process.pid} was stopped")
            time.sleep(_POLL_S)
        if self._refused:
            raise LatentWireError("; ".join(dict.fromkeys(self._refused)))

    def _is_stopped(self) -> bool:
        return any(is_stopped(name) for name in deliverers(self._folder))

    def _left(self) -> list[Path]:
        gone = [path for path in self._on_their_way if not path.exists()]
        for path in gone:
            self._on_their_way.remove(path)
            reason = why_set_aside(path, self._place)
            if reason and path.name in self._put:
                self._refused.append(reason)
            elif reason:
                log.warning("%s", reason)
        return self._on_their_way

    def _refuse(self, why: str = "") -> NoReturn:
        said = why
        with suppress(OSError, IndexError):
            said = said or self._log.read_text(errors="replace").strip().splitlines()[-1]
        raise LatentWireError(
            f"{len(self._left())} results could not be delivered to"
            f" {redact_uri(self._uri)} ({said or 'the delivering process ended'}); they wait"
            f" in {self._folder}, and the next start delivers them first"
        )

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._stop()
            self._leave()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None:
            self._refuse()
        command = [sys.executable, "-m", "latentwire.tracking.outbox_worker"]
        command += [str(self._folder), str(self._patience_s)]
        # The packages are those of this process. The URI, which may hold a password, is not for
        # lists of processes to show.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_paths())}
        environment["MLFLOW_TRACKING_URI"] = self._uri
        environment.pop("MLFLOW_RUN_ID", None)
        with self._log.open("w") as said:  # a pipe that nobody reads would fill
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=said, env=environment
            )

    def _stop(self) -> None:
        """Have the letter in hand finished. Its end of the pipe tells the process that we ended."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(SHUTDOWN_TIMEOUT_S if self._put or self.found else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _leave(self) -> None:
        """Take the folder away, or leave what is in it to the next start."""
        if not self._folder.is_dir():
            return
        with suppress(OSError):
            if waiting(self._folder):
                (self._folder / LEFT).touch()
                return
            for path in self._folder.iterdir():
                path.unlink()
            self._folder.rmdir()


def _paths() -> list[str]:
    """Where a process that is started finds the packages of this one, from whatever folder."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [path for path in sys.path if path]
    return paths if root in paths else [root, *paths]
