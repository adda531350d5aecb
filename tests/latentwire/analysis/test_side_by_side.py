"""Work that a copy of this process does on another core."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latentwire.analysis import side_by_side
from latentwire.analysis.side_by_side import beside

needs_copies = pytest.mark.skipif(not side_by_side._can_copy(), reason="no copy is made here")


def told(path: Path) -> int:
    """The process that has done the work."""
    return int(path.read_text())


@needs_copies
def test_a_copy_does_it_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "done"
    with beside(lambda: path.write_text(str(os.getpid()))):
        pass
    assert told(path) != os.getpid()


def test_without_a_copy_it_is_done_behind_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "_can_copy", lambda: False)
    path = tmp_path / "done"
    with beside(lambda: path.write_text(str(os.getpid()))):
        assert not path.exists()
    assert told(path) == os.getpid()


def test_what_a_copy_cannot_do_is_done_here_and_says_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "no_folder" / "file"
    with pytest.raises(FileNotFoundError, match="no_folder"), beside(lambda: path.write_text("")):
        pass
    assert capfd.readouterr() == ("", "")


@needs_copies
def test_a_copy_that_is_killed_is_replaced(tmp_path: Path) -> None:
    path, here = tmp_path / "done", os.getpid()

    def work() -> None:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        path.write_text(str(os.getpid()))

    with beside(work):
        pass
    assert told(path) == here


@needs_copies
def test_an_interrupted_block_leaves_no_copy(tmp_path: Path) -> None:
    path = tmp_path / "begun"

    def work() -> None:
        path.write_text(str(os.getpid()))
        time.sleep(600)

    with pytest.raises(KeyboardInterrupt), beside(work):
        while not (path.exists() and path.read_text()):
            time.sleep(0.01)
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(told(path), 0)


@needs_copies
def test_a_copy_ends_with_the_process_that_it_is_of(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, time\n"
        "from latentwire.analysis.side_by_side import beside\n"
        "def work():\n"
        f"    pathlib.Path({str(tmp_path / 'begun')!r}).write_text(str(os.getpid()))\n"
        "    time.sleep(60)\n"
        "with beside(work):\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    path = tmp_path / "begun"
    while not (path.exists() and path.read_text()):
        time.sleep(0.01)
    process.kill()
    process.wait()
    with pytest.raises(ProcessLookupError):
        for _ in range(2000):
            os.kill(told(path), 0)
            time.sleep(0.01)


@needs_copies
def test_a_copy_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, here = tmp_path / "done", os.getpid()
    monkeypatch.setattr(side_by_side, "PATIENCE_S", 0.05)

    def work() -> None:
        if os.getpid() != here:
            time.sleep(600)
        path.write_text(str(os.getpid()))

    with beside(work):
        pass
    assert told(path) == here
