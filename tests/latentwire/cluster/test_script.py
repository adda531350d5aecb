"""The job script: what Slurm is told, and what a task does."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latentwire.cluster.options import read_options
from latentwire.cluster.script import job_script
from latentwire.errors import LatentWireError

URI = {"MLFLOW_TRACKING_URI": "http://server:5000"}
# What Slurm says of a job that: runs, was cancelled, was preempted on a cluster that cancels.
RUNNING = "JobState=RUNNING PreemptTime=None"
CANCELLED = "JobState=COMPLETING PreemptTime=None"
PREEMPTED = "JobState=COMPLETING PreemptTime=2030-01-02T03:04:05"
SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


def script(command: list[str], folder: Path, after: str | None = None, **given: str) -> str:
    return job_script("latentwire-m3", command, read_options(None, given), URI, folder, after)


def test_directives_stand_before_the_first_command(tmp_path: Path) -> None:
    made = script(["python", "m3.py"], tmp_path / "a b", "12", tasks="4", constraint="a&b")
    lines = made.splitlines()
    directives = [line for line in lines if line.startswith("#SBATCH ")]
    assert lines[1 : 1 + len(directives)] == directives
    for line in (
        "#SBATCH --constraint='a&b'",
        "#SBATCH --array=0-3",
        "#SBATCH --requeue",
        "#SBATCH --signal=B:USR1@60",
        f"#SBATCH --output='{tmp_path}/a b/outputs/slurm/%x-%A_%a.log'",
        "#SBATCH --dependency=afterok:12",
    ):
        assert line in directives
    assert "dependency" not in script(["python"], tmp_path)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    made = script(["python", "m 3.py", "--kv-bits=8,4"], tmp_path, tasks="4", mem="1G")
    done = subprocess.run(["shellcheck", "-"], input=made, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout


def test_a_folder_that_sbatch_cannot_be_told_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LatentWireError, match="without quotes"):
        script(["python"], tmp_path / "it's")


def start(
    made: str, folder: Path, job: str, restarts: int = 0, first: str = ""
) -> subprocess.Popen[str]:
    """The script as Slurm would start it, with a scontrol that notes what it is asked, does what is
    to be done `first`, and says `job`."""
    tools = folder / "tools"
    tools.mkdir()
    scontrol = tools / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$*" >> "{folder}/asked"\n{first}\necho "{job}"\n')
    scontrol.chmod(0o755)
    (folder / "job.sh").write_text(made)
    env = os.environ | {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "2",
        "SLURM_RESTART_COUNT": str(restarts),
        "MLFLOW_RUN_ID": "of the submitter",
    }
    command = ["bash", str(folder / "job.sh")]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=env, stdout=pipe, stderr=subprocess.STDOUT, text=True, process_group=0
    )


def asked(folder: Path) -> list[str]:
    file = folder / "asked"
    return file.read_text().splitlines() if file.exists() else []


def test_the_commands_status_is_the_jobs(tmp_path: Path) -> None:
    code = "import os, sys; sys.exit(0 if 'MLFLOW_RUN_ID' in os.environ else 3)"
    process = start(script([sys.executable, "-c", code], tmp_path), tmp_path, RUNNING)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 3, out
    assert asked(tmp_path) == []


def wait_until_up(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    while "up\n" not in process.stdout.readline():
        assert process.poll() is None


@pytest.mark.parametrize(
    ("job", "restarts", "requeued"),
    [(RUNNING, 0, True), (CANCELLED, 0, False), (PREEMPTED, 0, True), (RUNNING, 3, False)],
)
def test_a_stopped_task_is_requeued_unless_somebody_ended_it(
    tmp_path: Path, job: str, restarts: int, requeued: bool
) -> None:
    process = start(script(SLEEP, tmp_path, restarts="3"), tmp_path, job, restarts)
    wait_until_up(process)
    os.killpg(process.pid, signal.SIGTERM)  # as Slurm: to the script and what it started
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 143, out
    assert ("requeue 7_2" in asked(tmp_path)) == requeued


def test_who_asks_for_the_requeue_outlives_that_the_job_is_told_to_end(tmp_path: Path) -> None:
    """Slurm may do that to all its processes before scontrol has the answer."""
    told = '[ "$1" != requeue ] || kill -TERM 0'
    process = start(script(SLEEP, tmp_path, restarts="3"), tmp_path, RUNNING, first=told)
    wait_until_up(process)
    os.killpg(process.pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert "stopped and requeued" in out, out


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_the_command_is_told_once(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import signal, sys, time\n"
        "def stop(*_): print('TERM', flush=True); time.sleep(1); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop); print('up', flush=True); time.sleep(60)"
    )
    process = start(script([sys.executable, "-c", code], tmp_path), tmp_path, RUNNING)
    wait_until_up(process)
    began = time.monotonic()
    # As Slurm: the warning to the script alone, the end to everything.
    (os.kill if number == signal.SIGUSR1 else os.killpg)(process.pid, number)
    out, _ = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert out.count("TERM") == 1  # the script writes between it and its line end, at times
    assert asked(tmp_path) == ["show job --oneliner 7_2", "requeue 7_2"]
    assert process.returncode == 143
