"""What is certain of a process, and what is not."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from studies import dead_process, far_process

from latentwire.tracking import processes
from latentwire.tracking.processes import is_gone, is_stopped, own_process, process_number

UNSHARE = shutil.which("unshare")
ROOT = Path(__file__).parents[3]
SAY = "import sys; from latentwire.tracking.processes import *; print(own_process())"
ASK = SAY + "; print([is_gone(name) for name in (own_process(), *sys.argv[1:])])"


def child() -> tuple[int, str]:
    """A process that does nothing, and its name."""
    reading, writing = os.pipe()
    number = os.fork()
    if number == 0:
        os.write(writing, own_process().encode())
        signal.pause()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return number, os.read(pipe.fileno(), 1000).decode()


def test_a_process_is_alive_stopped_a_zombie_and_gone() -> None:
    number, name = child()
    assert process_number(name) == str(number) and name.split()[0] != own_process().split()[0]
    assert is_gone(name) is False and not is_stopped(name)
    os.kill(number, signal.SIGSTOP)
    while not is_stopped(name):
        time.sleep(0.01)
    assert is_gone(name) is False
    os.kill(number, signal.SIGKILL)
    while is_gone(name) is False:  # a zombie until it is waited for
        time.sleep(0.01)
    os.waitpid(number, 0)
    assert is_gone(name) is True and not is_stopped(name)


def test_another_process_with_the_same_number_is_another_one() -> None:
    *place, started = own_process().split(" ")
    later = " ".join([*place, str(int(started) + 1)])
    assert is_gone(own_process()) is False and is_gone(later) is True
    assert is_gone(dead_process()) is True


def test_of_another_boot_or_namespace_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_gone(far_process()) is None
    number, boot, *_ = own_process().split(" ")
    for odd in ("", "x", "1@0.0", f"{number} {boot}", "a b c d e f", "- - - - - -", "ä" * 9000):
        assert is_gone(odd) is None and not is_stopped(odd)
    for number_and_start in ("1@1 5", "-1 5", "² ²", f"{10**400} 5"):
        odd = " ".join([*own_process().split(" ")[:4], number_and_start])
        assert is_gone(odd) in (None, True)
    gone = dead_process()
    monkeypatch.setattr(processes, "PROC", Path("/nowhere"))  # as on a system without one
    assert is_gone(gone) is None and is_gone(own_process()) is False


def can_unshare() -> bool:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return UNSHARE is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="this user may not make a PID namespace")
@pytest.mark.parametrize("options", [["--mount-proc"], [], ["--mount-proc", "--uts"]])
def test_from_another_pid_namespace_nobody_is_taken_for_dead(options: list[str]) -> None:
    """Without a /proc of its own, a process there sees the numbers of this one's."""
    command = ["unshare", "--pid", "--fork", *options, sys.executable, "-c", ASK]
    number, name = child()
    try:
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'C2C'}"}
        done = subprocess.run(
            [*command, own_process(), name], capture_output=True, text=True, env=environment
        )
        inner, answers = done.stdout.splitlines()
        assert answers == "[False, None, None]", done.stderr
        assert is_gone(inner) is None
    finally:
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
