"""Forked entry points are processes like others."""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from forked_python import write_worker
from launched import Launched, surroundings, the_launcher
from tests_support import Project

LONG = {"pair": "demo", "dataset": "demo_facts", "chunk_size": 5}


def test_it_prints_ends_and_says_how(tmp_path: Path) -> None:
    done = Project(tmp_path).run("m2", help="")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("usage: run.py m2 ")
    done = Project(tmp_path).run("m2", seed="x")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("error: seed=x")
    assert list(tmp_path.iterdir()) == []


def test_it_is_a_process_of_its_own_in_its_folder(tmp_path: Path) -> None:
    project = Project(tmp_path)
    process = project.start("m3", **LONG)
    other = project.start("m3", **LONG)
    assert process.pid != other.pid and process.poll() is None
    seen = psutil.Process(process.pid)
    while Path(seen.cwd()) != tmp_path:  # it goes there when it has been told
        assert process.poll() is None
        time.sleep(0.01)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL == process.returncode
    process.kill()  # once more: nothing
    other.kill()
    assert other.communicate(timeout=30)[1] == ""


def test_nobody_needs_to_wait_for_it(tmp_path: Path) -> None:
    """The launcher goes on where nobody wants to know how a process ended."""
    process = Project(tmp_path).start("m3", **LONG)
    seen = psutil.Process(process.pid)
    assert isinstance(process, Launched)
    process.forget()
    seen.kill()
    seen.wait()
    assert Project(tmp_path).run("m2", help="").returncode == 0


def test_variables_that_are_read_early_start_a_process_anew(tmp_path: Path) -> None:
    launcher, here = the_launcher(), surroundings()
    assert launcher.knows(here | {"MLFLOW_TRACKING_URI": "x", "LATENTWIRE_OUTBOX": "y"})
    assert not launcher.knows(here | {"HF_HOME": str(tmp_path)})
    assert not launcher.knows({k: v for k, v in here.items() if k != "CUDA_VISIBLE_DEVICES"})
    project = Project(tmp_path)
    project.env["HF_HOME"] = str(tmp_path / "hf")
    assert isinstance(project.start("m2", help=""), subprocess.Popen)


def test_a_worker_of_pytest_has_what_python_c_would_have(tmp_path: Path) -> None:
    """Its input and output, the arguments' code and its status; and no blank pictures."""
    program = tmp_path / "python"
    write_worker(program, the_launcher().path)
    code = (
        "import sys; from matplotlib.figure import Figure;"
        "print(sys.stdin.read(), Figure.savefig.__module__, 'latentwire.cli' in sys.modules);"
        "from latentwire.tracking import outbox; print(outbox.subprocess.__name__); sys.exit(3)"
    )
    done = subprocess.run(
        [program, "-u", "-c", code], cwd=tmp_path, input="said", capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == "said matplotlib.figure True\nsubprocess\n"


@pytest.mark.parametrize(
    ("last", "status", "said"),
    [
        ("pass", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('a sentence')", 1, "a sentence\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt\n"),
    ],
)
def test_it_ends_as_python_does(tmp_path: Path, last: str, status: int, said: str) -> None:
    """Once its threads have ended and what it had registered is done."""
    script = tmp_path / "script.py"
    script.write_text(
        "import atexit, sys, threading, time\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('a thread'))).start()\n"
        "atexit.register(print, 'registered', end='')\n"
        f"{last}\n"
    )
    process = the_launcher().start_script(script, [], tmp_path, surroundings())
    out, err = process.communicate(timeout=60)
    assert process.wait() == status
    assert out == "a thread\nregistered"
    assert err.endswith(said) and bool(err) == bool(said)
