"""Starts entry points without their imports: a process that has them, and forks.

A start takes longer to import what it needs than to do what most tests ask of it. `python
launcher.py FD` imports it all, computes nothing, and forks a child for each request that comes over
the socket FD. The child runs entry_points/run.py as `__main__`, with the arguments, folder,
environment and output that the request gives, and ends as any Python process does.
"""

import gc
import json
import os
import runpy
import signal
import socket
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RUN = str(ROOT / "entry_points" / "run.py")
LONGEST = 1 << 17  # bytes of a request
FILES = 3  # output, errors, and where a process's number and exit status are written


def serve(requests: socket.socket) -> None:
    """Answer until nobody can ask any more; returns in a child, which has something to run."""
    gc.freeze()  # a collection in a child would copy every page
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers that have ended leave nothing
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which close the socket
    while True:
        text, files, _, _ = socket.recv_fds(requests, LONGEST, FILES)
        if not text:
            sys.exit(0)
        if os.fork() == 0:
            requests.close()
            if keep(*files):
                become(json.loads(text), *files)
                return
        for file in files:
            os.close(file)


def keep(output: int, errors: int, status: int) -> bool:
    """Fork once more: True in the child. This process waits for it, and tells how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        return True
    os.close(output)
    os.close(errors)
    os.write(status, f"{pid}\n".encode())
    _, ended = os.waitpid(pid, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())
    os._exit(0)


def become(request: dict[str, Any], output: int, errors: int, status: int) -> None:
    """Be a process as a shell would have started it."""
    os.close(status)
    if request["apart"]:
        os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1)
    os.close(output)
    os.close(errors)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [RUN, request["entry"], *request["options"]]


if __name__ == "__main__":
    del sys.path[0]
    runpy.run_path(RUN)  # what comes before the imports
    import matplotlib.backends.backend_agg  # noqa: F401
    import transformers.models.qwen2.modeling_qwen2
    import transformers.models.qwen3.modeling_qwen3  # noqa: F401

    from latentwire.milestones.registry import all_milestones

    all_milestones()
    serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_path(RUN, run_name="__main__")
