"""Which process wrote something, and whether it is certainly gone.

Clocks are stepped, containers share host names, and PID namespaces share process numbers. So a
process is named by a random id, and by what the kernel alone gives out: the boot's id, the
namespaces in which its number and its start time count, the number, and the start in clock ticks
since boot. Only a reader in the same namespaces of the same boot can say that a process is gone;
every other reader gets None, and goes by a heartbeat.
"""

import os
import uuid
from functools import cache
from pathlib import Path

PROC = Path("/proc")
_PARTS = 6


@cache
def own_process() -> str:
    """The name of this process: random id, boot id, PID namespace, time namespace, process number
    and start in clock ticks; what the system does not tell is `-`."""
    place = _place()
    found = _state_and_start(os.getpid()) if place else None
    start = found[1] if found else "-"
    return " ".join([uuid.uuid4().hex, *(place or ["-"] * 3), str(os.getpid()), start])


os.register_at_fork(after_in_child=own_process.cache_clear)  # a child is another process


def is_gone(name: str) -> bool | None:
    """Whether the process of that name has ended: None where that cannot be known from here."""
    if name == own_process():
        return False
    parts = name.split(" ")
    place = _place()
    if len(parts) != _PARTS or place is None or parts[1:4] != place:
        return None
    number, started = parts[4:]
    if not (number.isascii() and number.isdigit() and started.isascii() and started.isdigit()):
        return None
    return _has_ended(int(number), started)


def is_stopped(name: str) -> bool:
    """Whether the process of that name is seen to be stopped (SIGSTOP, Ctrl-Z, a debugger)."""
    found = _state_and_start(int(name.split(" ")[4])) if is_gone(name) is False else None
    return found is not None and found[0] in "Tt"


def process_number(name: str) -> str:
    """The number that a process has on its own machine, for people to read."""
    parts = name.split(" ")
    return parts[4] if len(parts) == _PARTS else "unknown"


def _has_ended(number: int, started: str) -> bool | None:
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # it is another user's
        pass
    found = _state_and_start(number)
    if found is None:
        return None
    state, start = found
    return start != started or state in "ZX"  # a zombie has ended; its parent has not looked


def _place() -> list[str] | None:
    """Boot and namespaces of this process; None where the system has none, or where /proc shows
    another namespace's numbers."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        spaces = [str((PROC / "self/ns" / kind).stat().st_ino) for kind in ("pid", "time")]
        status = (PROC / "self/status").read_text()
    except (OSError, ValueError):
        return None
    numbers = [line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")]
    if numbers != [[str(os.getpid())]]:
        return None
    return [boot, *spaces]


def _state_and_start(number: int) -> tuple[str, str] | None:
    """A process's state, a letter, and its start in clock ticks since boot."""
    try:
        text = (PROC / str(number) / "stat").read_text(errors="replace")
        fields = text.rpartition(")")[2].split()  # behind the name, which may hold anything
        return fields[0], fields[19]
    except (OSError, IndexError):
        return None
