"""`python` for programs that start entry points: those are forked by the launcher, all else is not.

    python forked_python.py LAUNCHER ARGUMENT...

does what `python ARGUMENT...` does, and passes on the signals that it gets. What that costs less is
the imports; what it lacks is that the process is no child of the one that started it.
"""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

from launched import RUN, Launcher, surroundings

UNBUFFERED = "-u"  # what the program of pytest's workers is asked first, before `-c CODE`
MODULE, INPUT = "-m", "-"  # as Python has them: a module's name, or a program to read, comes next
PASSED_ON = {signal.SIGINT, signal.SIGTERM}


def main(path: str, asked: str, *arguments: str) -> None:
    """End as the process of the entry point does, or that of a worker."""
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until there is a process to tell
    launcher = Launcher(path, surroundings())
    start = {
        UNBUFFERED: launcher.start_code,
        MODULE: launcher.start_module_here,
        INPUT: launcher.start_input,
    }.get(asked, launcher.start_here)
    process = start(arguments, Path.cwd(), os.environ)

    def pass_on(number: int, _: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    code = process.wait()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def write_python(program: Path, launcher: Launcher) -> None:
    """Write an executable that stands for `python`; MLflow and programs that it reads from its
    input are forked too."""
    forked = f"{RUN}* | entry_points/run.py* | '{MODULE} mlflow' | '{INPUT} '*"
    program.write_text(
        "#!/bin/sh\n"
        'case "$1 $2" in\n'
        f'{forked}) exec {sys.executable} {__file__} {launcher.path} "$@" ;;\n'
        f'*) exec {sys.executable} "$@" ;;\n'
        "esac\n"
    )
    program.chmod(0o755)


def write_worker(program: Path, path: str) -> None:
    """Write an executable that stands for the `python` of pytest's workers, which are forked by
    what listens at `path`."""
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {path} "$@"\n')
    program.chmod(0o755)


if __name__ == "__main__":
    main(*sys.argv[1:])
