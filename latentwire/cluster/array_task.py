"""One task of an array job: runs a command, stops it when Slurm warns, has itself requeued.

The job script ends by becoming this process (exec), for Slurm sends its warning to the script's own
process. A file to be run, with the standard library alone: python array_task.py RESTARTS COMMAND...
"""

import os
import signal
import socket
import subprocess
import sys
import time
from types import FrameType

TERMINATED = 128 + signal.SIGTERM


def main(most_restarts: int, command: list[str]) -> int:
    """Run the command; its exit status, as a shell gives it."""
    # Not SLURM_JOB_ID: one task has the whole array's number there.
    name = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    restarts = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
    _say(f"task {name} on {socket.gethostname()}, restart {restarts}: {' '.join(command)}")
    # Both signals stay blocked until there is a worker to tell.
    both = {signal.SIGUSR1, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, both)
    unblock = lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, both)  # noqa: E731
    worker = subprocess.Popen(command, preexec_fn=unblock)

    def warned(_number: int, _frame: FrameType | None) -> None:
        # Slurm told this process alone.
        _say("warned that the job must end soon: stopping the work")
        worker.terminate()

    def told_to_end(_number: int, _frame: FrameType | None) -> None:
        # Slurm told every process of the job. A second time would cut short how the worker ends.
        _say("told to end")

    signal.signal(signal.SIGUSR1, warned)
    signal.signal(signal.SIGTERM, told_to_end)
    unblock()
    code = worker.wait()
    status = code if code >= 0 else 128 - code
    if status == TERMINATED and _ended_by_nobody(name):
        _requeue(name, restarts, most_restarts)
    _say(f"ended with status {status}")
    return status


def _ended_by_nobody(name: str) -> bool:
    """Whether the job should go on: it only ran into its time limit, or was preempted.

    A job that somebody cancelled or requeued is no longer RUNNING: to requeue it would bring it
    back. One that was preempted where preempted jobs are cancelled has a time of preemption.
    """
    done = _scontrol("show", "job", "--oneliner", name)
    words = dict(word.partition("=")[::2] for word in done.stdout.split())
    preempted = words.get("PreemptTime", "None") not in ("None", "Unknown")
    return words.get("JobState") == "RUNNING" or preempted


def _requeue(name: str, restarts: int, most_restarts: int) -> None:
    if restarts >= most_restarts:
        _say(f"stopped, and not requeued: it has been restarted {restarts} times")
        return
    # All processes of a job that is requeued are told to end: scontrol too, which ignores what this
    # process does, so that it still gets Slurm's answer.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    done = _scontrol("requeue", name)
    if done.returncode == 0:
        _say("stopped and requeued; finished chunks are kept")
    else:
        _say(f"stopped, and could not be requeued; submit again to go on: {done.stderr.strip()}")


def _scontrol(*arguments: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            ["scontrol", *arguments], capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        return subprocess.CompletedProcess(arguments, 1, "", f"scontrol: {error.strerror}")


def _say(text: str) -> None:
    # Not print, which must not be entered again by a signal's handler.
    os.write(1, f"{time.strftime('%F %T')} {text}\n".encode())


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
