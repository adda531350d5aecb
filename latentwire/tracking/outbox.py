"""Results on their way to the tracking store: first a file here, then a chunk run there.

What a milestone has computed lies in a file before anything else happens with it, so that neither a
kill nor a store that does not answer loses it. A process of its own (`deliver.py`) writes the runs:
it does not hold up the computing one, which a thread would. What it could not deliver, the next
start delivers first.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Self

from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record, record_lines
from latentwire.tracking.store import Store, without_password

FOLDER = "LATENTWIRE_OUTBOX"  # environment: where letters wait
DEFAULT_FOLDER = "outbox"  # in the folder that is worked in
PATIENCE = "LATENTWIRE_STORE_PATIENCE_S"  # environment: how long a store may not answer
DEFAULT_PATIENCE_S = 600.0
FAREWELL_S = 2.0  # after an interruption: for the chunk that is just being delivered
_POLL_S = 0.05
_SUFFIX = ".json"
_PARTIAL = ".part"  # what a process that was killed has left of a letter
PARTIAL_S = 60.0  # writing one takes milliseconds


@dataclass(frozen=True)
class Letter:
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


def letter(
    store: Store,
    name: str,
    parent: str,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    records: Sequence[Record],
    seconds: float,
    claimed: bool = True,
) -> Letter:
    """The letter for records that took `seconds` up to now."""
    began = int((time.time() - seconds) * 1000)
    text = record_lines(records)
    floats = {key: float(value) for key, value in metrics.items()}
    return Letter(
        store.experiment_id, name, parent, {**params}, {**tags}, floats, began, text, claimed
    )


def to_bytes(messages: Sequence[Letter]) -> bytes:
    """The content of the file of some letters (of one experiment): a checksum's line, then JSON."""
    body = json.dumps([asdict(message) for message in messages], ensure_ascii=False).encode()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def from_file(path: Path) -> list[Letter]:
    """What `to_bytes` wrote; LatentWireError for a file that is altered or cut short."""
    checksum, _, body = path.read_bytes().partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        raise LatentWireError(
            f"{path} is not as it was written: delete it, and its chunk is computed again"
        )
    found = json.loads(body)
    names = {field.name for field in fields(Letter)}
    if not (found and isinstance(found, list) and all(set(values) == names for values in found)):
        raise LatentWireError(
            f"{path} is of another version of LatentWire: deliver it with that one, or delete it"
        )
    return [Letter(**values) for values in found]


def folder_of(uri: str) -> Path:
    """Where letters to the store at `uri` wait."""
    folder = Path(os.environ.get(FOLDER) or DEFAULT_FOLDER)
    return (folder / hashlib.sha256(uri.encode()).hexdigest()[:12]).absolute()


def waiting(folder: Path) -> list[Path]:
    """Letters not yet delivered, oldest first."""
    return sorted(folder.glob(f"*{_SUFFIX}"))


def patience_s() -> float:
    """How long a store may not answer before it is given up."""
    text = os.environ.get(PATIENCE, "")
    try:
        return float(text) if text else DEFAULT_PATIENCE_S
    except ValueError:
        raise LatentWireError(f"{PATIENCE}={text} must be a number of seconds") from None


def deliver_waiting(store: Store) -> None:
    """Deliver what an earlier start could not; LatentWireError when that still cannot be."""
    found = waiting(folder_of(store.uri))
    if found:
        print(f"delivering {len(found)} results that an earlier start has left", flush=True)
        with Outbox(store):
            pass


class Outbox:
    """Takes letters, and has them delivered while the block goes on.

    When it ends well, all have arrived; when it is interrupted, the letter in hand is finished and
    the rest waits in the folder. Raises LatentWireError when the store is given up.
    """

    def __init__(self, store: Store) -> None:
        self._uri = store.uri
        self._folder = folder_of(store.uri)
        self._log = self._folder / f"deliver-{os.getpid()}.log"
        self._patience_s = patience_s()
        self._process: subprocess.Popen[bytes] | None = None
        self._on_their_way: list[Path] = []

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        for partial in self._folder.glob(f"*{_PARTIAL}"):
            with suppress(OSError):  # another process may be quicker
                if time.time() - partial.stat().st_mtime > PARTIAL_S:
                    partial.unlink()
        self._on_their_way = waiting(self._folder)
        if self._on_their_way:
            self._start()
        return self

    def put(self, messages: Sequence[Letter]) -> Path:
        """Keep letters in one file, durably; the path that is gone once all are delivered.

        Letters of one chunk go together: a file that must be on the disk takes milliseconds,
        however little it holds.
        """
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex}{_SUFFIX}"
        partial, path = self._folder / f"{name}{_PARTIAL}", self._folder / name
        try:
            with partial.open("wb") as file:
                file.write(to_bytes(messages))
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            if error.filename is None:  # a write does not say where
                error.filename = str(partial)
            raise
        self._on_their_way.append(path)
        self._start()
        return path

    def wait(self) -> None:
        """Return once the letters that were here or put here have arrived (other processes may go
        on putting theirs). Raises LatentWireError when they cannot."""
        told = False
        began = time.monotonic()
        while self._left():
            if self._process is None or self._process.poll() is not None:
                self._refuse()
            if not told and time.monotonic() - began > 10:
                told = True
                print(
                    f"waiting for the tracking store {without_password(self._uri)}:"
                    f" {len(self._left())} results lie in {self._folder}",
                    file=sys.stderr,
                )
            time.sleep(_POLL_S)

    def _left(self) -> list[Path]:
        self._on_their_way = [path for path in self._on_their_way if path.exists()]
        return self._on_their_way

    def _refuse(self) -> None:
        said = (self._log.read_text(errors="replace").strip().splitlines() or [""])[-1]
        raise LatentWireError(
            f"{len(self._left())} results could not be delivered to"
            f" {without_password(self._uri)} ({said or 'the delivering process ended'}); they wait"
            f" in {self._folder}, and the next start delivers them first"
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._stop()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None:
            self._refuse()
        command = [sys.executable, "-m", "latentwire.tracking.deliver"]
        command += [str(self._folder), str(self._patience_s)]
        # The packages are those of this process. The URI, which may hold a password, is not for
        # lists of processes to show.
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "MLFLOW_TRACKING_URI": self._uri,
        }
        environment.pop("MLFLOW_RUN_ID", None)
        with self._log.open("w") as log:  # a pipe that nobody reads would fill
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=log, env=environment
            )

    def _stop(self) -> None:
        """Have the letter in hand finished. Its end of the pipe tells the process that we ended."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(FAREWELL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.unlink(missing_ok=True)
