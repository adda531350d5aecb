"""Starts entry points without their imports: python launcher.py, one JSON line a request.

A start takes seconds to import what it needs and then a few to do its work. This process imports it
all, computes nothing, and forks a child for each request {"folder", "entry", "options", "uri"}: the
child does what the entry point does, in a session (and process group) of its own, its output in
`output.txt` of the folder. The answer is the child's process id; an empty line asks for the exit
status of the last child, once it has ended.
"""

import gc
import json
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "C2C")]
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from latentwire.entry import start  # noqa: E402
from latentwire.milestones import main as everything  # noqa: E402, F401

OUTPUT = "output.txt"


def serve() -> None:
    """Answer until standard input ends."""
    gc.freeze()  # a collection in a child would copy every page
    pid = 0
    for line in sys.stdin:
        if line.strip():
            request = json.loads(line)
            pid = os.fork()
            if pid == 0:
                become(request)
            print(pid, flush=True)
        else:
            _, status = os.waitpid(pid, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)


def become(request: dict[str, str]) -> None:
    """Be the entry point that a request asks for, and end."""
    status = 1
    try:
        os.setsid()
        folder = Path(request["folder"])
        os.chdir(folder)
        file = os.open(folder / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        os.environ["MLFLOW_TRACKING_URI"] = request["uri"]
        sys.argv = [request["entry"], *request["options"]]
        milestone = import_module(f"latentwire.milestones.{request['entry']}")
        start(milestone.PARAMETERS, milestone.run, milestone.__doc__)
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    print("ready", flush=True)
    serve()
