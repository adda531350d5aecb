"""The process that turns letters into chunk runs: python -m latentwire.tracking.deliver.

Arguments: the folder of letters, and how many seconds the store that MLFLOW_TRACKING_URI names may
not answer. It ends when standard input does, which the process that started it holds open; after
the letter in hand, so that a run it has begun is whole.
"""

import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from latentwire.errors import LatentWireError, unwritable
from latentwire.tracking.outbox import Letter, from_file, waiting
from latentwire.tracking.patience import RETRIES, careful_client
from latentwire.tracking.resume import is_finished
from latentwire.tracking.runs import FINGERPRINT, RunWriter, mark_strays
from latentwire.tracking.store import Store

PAUSE_S = 0.1  # between looks into an empty folder
MOST_SAID = 120  # characters of an error
LONGEST_PAUSE_S = 5.0  # between attempts at a store that does not answer


def main(folder: Path, patience_s: float) -> int:
    """Deliver until standard input ends; 0, or 1 with a sentence on standard error."""
    # The process that started this one ends it; signals to the whole group are for that one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    client = careful_client(uri)
    lock = FileLock(folder / "lock")
    while True:
        try:
            lock.acquire(timeout=PAUSE_S)
            break
        except Timeout:  # another process delivers from this folder
            if _ended(0):
                return 0
    with lock:
        began = set(waiting(folder))  # of an earlier process, which may have delivered them
        failing_since = None
        pause_s = PAUSE_S
        while True:
            letters = waiting(folder)
            if not letters:
                if _ended(PAUSE_S):
                    return 0
                continue
            path = letters[0]
            try:
                messages = from_file(path)
                store = Store(client, uri, messages[0].experiment_id)
                if path in began:
                    mark_strays(store)
                for message in messages:
                    if _ended(0):
                        return 0
                    if deliver(store, message, check=path in began):
                        failing_since, pause_s = None, PAUSE_S
                path.unlink()
            except LatentWireError as error:
                print(error, file=sys.stderr)
                return 1
            except Exception as error:  # each kind of store fails in ways of its own
                began.add(path)  # runs may be whole although the answer was lost
                failing_since = failing_since or time.monotonic()
                if reason := unwritable(error):  # no use in trying again: somebody must make room
                    with suppress(Exception):
                        mark_strays(store)
                    print(reason, file=sys.stderr)
                    return 1
                if time.monotonic() - failing_since > patience_s:
                    print(_short(error), file=sys.stderr)
                    return 1
                if _ended(pause_s):
                    return 0
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def deliver(store: Store, message: Letter, check: bool) -> bool:
    """Write a letter's chunk run; False if (with `check`) the store holds it."""
    check = check or not message.claimed
    if check and is_finished(store, message.tags[FINGERPRINT]):
        return False
    RunWriter(store, {}).write_lines(
        message.name,
        message.parent,
        message.params,
        message.tags,
        message.records,
        message.metrics,
        message.start_time_ms,
    )
    return True


def _ended(seconds: float) -> bool:
    """Wait so long at most; whether standard input has ended."""
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)


def _short(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {text[:MOST_SAID]}" + ("..." if len(text) > MOST_SAID else "")


if __name__ == "__main__":
    # MLflow would make a second run where the answer about the first was lost, and say nothing.
    os.environ[RETRIES] = "0"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2])))
