"""Letters whose process is gone, taken over by the next one.

Each outbox is a folder of its own, named after its process: nobody touches the letters of a process
that lives, and nobody waits for it. What a dead one has left is taken over by renaming its folder,
so that of several that try one succeeds. Where it cannot be known whether a process lives (another
machine, another container), its deliverer's heartbeat decides, a file that it touches.
"""

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from latentwire.tracking.heartbeats import LEASE_S
from latentwire.tracking.processes import is_gone, is_stopped, own_process, process_number

SUFFIX = ".json"
PARTIAL = ".part"  # what a process that was killed has left of a letter
SET_ASIDE = "set_aside"  # the folder of letters that no store takes
REASON = ".txt"  # beside one of these: why
_MOST_NAME_BYTES = 255  # what file systems take
BEAT_S = 2.0
LEFT = "left"  # a file that says: this process lives, and will not deliver what is here
ENDING_S = 15.0  # for a deliverer whose process is gone, and which has a letter in hand
_DELIVERER = ".deliverer"  # a file named after the process that delivers from a folder
_BEAT = "beat"  # the file that it touches
_BETWEEN = "_"  # the parts of a process's name, in a folder's
_PARTS = 7  # those, and one for the outbox

log = logging.getLogger("latentwire")


def folder_name(process: str, outbox: str) -> str:
    """The folder of one outbox of a process."""
    return _BETWEEN.join([*process.split(" "), outbox])


def deliverers(folder: Path) -> list[str]:
    """The processes that deliver from an outbox, or did when they were killed."""
    return [
        path.name.removesuffix(_DELIVERER).replace(_BETWEEN, " ")
        for path in folder.glob(f"*{_DELIVERER}")
    ]


@contextmanager
def delivering(folder: Path) -> Iterator[None]:
    """This process delivers from an outbox, and shows that it lives; both end with the block."""
    over = threading.Event()
    own, beat = folder / f"{own_process().replace(' ', _BETWEEN)}{_DELIVERER}", folder / _BEAT

    def show() -> None:
        while not over.wait(BEAT_S):
            with suppress(OSError):  # the disk is full, or the folder was taken over
                beat.touch()

    with suppress(OSError):
        own.touch()
        beat.touch()
    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        with suppress(OSError):
            own.unlink(missing_ok=True)


def set_aside(path: Path, folder: Path, reason: str) -> None:
    """Move a letter that no store takes out of the way, and write down why; `folder` is that of all
    outboxes of the store."""
    place = folder / SET_ASIDE
    place.mkdir(parents=True, exist_ok=True)
    _reason_of(path, folder).write_text(f"{reason}\n", encoding="utf-8", errors="backslashreplace")
    _move([path], place)


def why_set_aside(path: Path, folder: Path) -> str | None:
    """The reason for which `set_aside` moved a letter; None if it did not."""
    try:
        return _reason_of(path, folder).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _reason_of(path: Path, folder: Path) -> Path:
    """The file that says why a letter was set aside; of a long name, without its end."""
    name = os.fsdecode(os.fsencode(path.name)[: _MOST_NAME_BYTES - len(REASON)])
    return folder / SET_ASIDE / f"{name}{REASON}"


def waiting(folder: Path) -> list[Path]:
    """Letters not yet delivered, oldest first: all below a folder but those set aside."""
    found = [path for path in folder.rglob(f"*{SUFFIX}") if SET_ASIDE not in path.parts]
    return sorted(found, key=lambda path: (path.name, path))


def take_over(folder: Path, own: Path) -> None:
    """Move the letters of processes that are gone, and those of earlier versions, from below
    `folder` into the folder `own`, which is made if there are any."""
    for place in _left(_outboxes(folder, own), folder):
        own.mkdir(parents=True, exist_ok=True)
        taken = own / f"of-{uuid.uuid4().hex}"
        with suppress(OSError):  # another process may be quicker
            place.rename(taken)
            _unpack(taken, own)
    _take_loose(folder, own, list(folder.glob(f"*{SUFFIX}")))


def take_moved(base: Path, folder: Path, own: Path, is_ours: Callable[[Path], bool]) -> None:
    """Move letters that wait below `base` under another name of this store (it was moved, or an
    earlier version named the folder otherwise) and that `is_ours` knows by their content."""
    if not base.is_dir():
        return
    for other in sorted(base.iterdir()):
        if other == folder or not other.is_dir():
            continue
        _take_loose(other, own, [path for path in other.glob(f"*{SUFFIX}") if is_ours(path)])
        letters = {
            place: ours
            for place in _outboxes(other, own)
            if (ours := [path for path in waiting(place) if is_ours(path)])
        }
        for place in _left(list(letters), other):
            _move(letters[place], own)


def _take_loose(folder: Path, own: Path, letters: list[Path]) -> None:
    """Move letters that lie in `folder` itself, as earlier versions left them, unless one of these
    is delivering them."""
    if not letters:
        return
    try:
        with FileLock(folder / "lock", timeout=1):
            _move(letters, own)
    except Timeout:
        log.warning(
            "%d results in %s are left to the process of an earlier version that has them in hand",
            len(letters),
            folder,
        )


def _unpack(taken: Path, own: Path) -> None:
    _move(waiting(taken), own)
    for path in sorted(taken.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    taken.rmdir()


def _move(letters: list[Path], own: Path) -> None:
    own.mkdir(parents=True, exist_ok=True)
    for path in letters:
        target = own / path.name
        if target.exists():  # nothing is written over
            target = own / f"{uuid.uuid4().hex}{SUFFIX}"
        with suppress(FileNotFoundError):  # another process was quicker
            path.rename(target)


def _outboxes(folder: Path, own: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = (p for p in folder.iterdir() if len(p.name.split(_BETWEEN)) == _PARTS and p.is_dir())
    return sorted(place for place in found if place != own)


def _left(places: list[Path], folder: Path) -> Iterator[Path]:
    """Those outboxes that nobody delivers from any more."""
    states = {place: _is_left(place) for place in places}
    yield from (place for place, left in states.items() if left)
    unknown = [place for place, left in states.items() if left is None]
    if unknown:
        yield from _silent(unknown, folder)


def _is_left(place: Path) -> bool | None:
    """Whether an outbox's process is gone, and the one that delivers for it; None where that cannot
    be known."""
    *parts, _ = place.name.split(_BETWEEN)
    owner = " ".join(parts)
    owner_gone = True if (place / LEFT).exists() else is_gone(owner)
    if owner_gone is False:
        _tell_of_stopped(place, owner)
        return False
    states = [owner_gone, *(_wait_for(place, name) for name in deliverers(place))]
    return False if False in states else None if None in states else True


def _wait_for(place: Path, deliverer: str) -> bool | None:
    """Whether a deliverer is gone; one that has lost its process ends with the letter in hand."""
    began = time.monotonic()
    while (gone := is_gone(deliverer)) is False and not is_stopped(deliverer):
        if time.monotonic() - began > ENDING_S:
            break
        time.sleep(0.1)
    if gone is False:
        log.warning(
            "%d results in %s are left to process %s, which has one of them in hand%s",
            len(waiting(place)),
            place,
            process_number(deliverer),
            " and is stopped: continue it, or end it" if is_stopped(deliverer) else "",
        )
    return gone


def _tell_of_stopped(place: Path, owner: str) -> None:
    stopped = is_stopped(owner) and owner != own_process()
    if stopped and (count := len(waiting(place))):
        log.warning(
            "%d results in %s wait for process %s, which is stopped: continue it, or end it",
            count,
            place,
            process_number(owner),
        )


def _silent(places: list[Path], folder: Path) -> Iterator[Path]:
    """Those whose heartbeat is old, by the clock of the files, and stays so for a few beats."""
    probe = folder / f".{own_process()[:32]}"
    try:
        probe.touch()
        now = probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
    seen = {place: _newest(place) for place in places}
    old = [place for place, newest in seen.items() if now - newest > LEASE_S]
    if old:
        time.sleep(3 * BEAT_S)  # clocks are stepped: a living one shows itself
    yield from (place for place in old if place.is_dir() and _newest(place) == seen[place])


def _newest(place: Path) -> float:
    """When something in a folder was last written; 0 for one that another process has taken."""
    times = [0.0]
    with suppress(FileNotFoundError):
        times += [path.stat().st_mtime for path in (place, *place.iterdir())]
    return max(times)
