"""Starts entry points without their imports: a process that has them, and forks.

A start takes longer to import what it needs than to do what most tests ask of it. `python
launcher.py FD` waits for somebody to connect to the socket FD, imports it all, makes the tables of
one store, and forks a child for each request that comes over a connection. With a second socket
there are two such processes, which share most imports: the second one's children are pytest's
workers, in the environment of the tests.

The child runs entry_points/run.py as `__main__`, or another script or a module, with the arguments,
folder, environment and files that the request gives, and ends as any Python process does. The
launcher itself ends when its input does.

An entry point starts a process that delivers its results, which would import as much. So a child
has a forker of its own, in its process group, that has opened nothing yet.
"""

import atexit
import ctypes
import functools
import gc
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack, chdir, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from blank_pictures import DRAWN, stand_ins
from large_pages import gather, own_memory
from launched import RUN, Forker, surroundings

LONGEST = 1 << 17  # bytes of a request
FILES = 4  # input, output, errors, and where a process's number and exit status are written


def wait_for_one(listener: socket.socket) -> None:
    """Return when somebody has connected; where nobody can any more, end."""
    if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
        os._exit(0)


def serve_all(listener: socket.socket) -> str | None:
    """Have a process `serve` each connection; returns in its children, as that does."""
    heed_nothing()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that have ended leave nothing
    while True:
        wait_for_one(listener)
        requests, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return serve(requests)
        requests.close()


def serve(requests: socket.socket) -> str | None:
    """Answer until nobody can ask any more, and tell how processes have ended; returns in a child,
    with the module that it is to run, None for a script."""
    heed_nothing()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    running: dict[int, tuple[int, int]] = {}  # what shows its end -> a process, where to tell it
    while True:
        ready = select.select([requests, *running], [], [])[0]
        for ended in running.keys() & set(ready):
            tell_end(*running.pop(ended))
            os.close(ended)
        if requests not in ready:
            continue
        text, files, _, _ = socket.recv_fds(requests, LONGEST, FILES)
        if not text:
            os._exit(0)
        *standard, status = files
        if (pid := os.fork()) == 0:
            requests.close()
            for file in [*running, *(told for _, told in running.values())]:
                os.close(file)
            request = json.loads(text)
            become(request, *files)
            return None if request["plain"] else request["module"] or fork_deliverers()
        for file in standard:
            os.close(file)
        tell(status, pid)
        running[os.pidfd_open(pid)] = pid, status


def heed_nothing() -> None:
    """Ctrl-C is for the tests, which close their end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def tell(status: int, number: int) -> None:
    """Write a number to who has asked for a process, if that is still there."""
    with suppress(BrokenPipeError):
        os.write(status, f"{number}\n".encode())


def tell_end(pid: int, status: int) -> None:
    """Tell how a process that has ended did so."""
    tell(status, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os.close(status)


def become(request: dict[str, Any], *files: int) -> None:
    """Be a process as a shell would have started it."""
    if request["apart"]:
        os.setsid()
    if request.get("within"):
        enter_namespaces(request["within"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if DRAWN not in os.environ and not request["plain"]:
        for replaced in stand_ins():
            setattr(*replaced)
    for number, file in enumerate(files[:-1]):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    # The numbers stay open when a process that is forked from this one puts others in their place.
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    script = request.get("script", RUN)
    sys.argv = [script, *request["options"]]
    sys.path.insert(0, str(Path(script).parent))


def enter_namespaces(pid: int) -> None:
    """Go into the user and mount namespaces of a process."""
    with ExitStack() as stack:
        paths = [Path(f"/proc/{pid}/ns/{kind}") for kind in ("user", "mnt")]
        files = [stack.enter_context(path.open()) for path in paths]
        library = ctypes.CDLL(None, use_errno=True)
        for file in files:
            if library.setns(file.fileno(), 0):
                raise OSError(ctypes.get_errno(), "setns", file.name)


def fork_deliverers() -> str | None:
    """From now on the outbox has its process forked; returns None, and in such a process the module
    that it is to run."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if (pid := os.fork()) == 0:
        if os.fork():  # so that it is no child of the entry point
            os._exit(0)
        ours.close()
        with Path(os.devnull).open("r+") as nothing:
            for number in range(3):
                os.dup2(nothing.fileno(), number)
        return serve(theirs)
    os.waitpid(pid, 0)
    theirs.close()
    from latentwire.tracking import outbox

    outbox.subprocess = Forker(ours).subprocess()
    return None


def import_all(package: ModuleType) -> None:
    """What milestones import when they run."""
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("kernel") and "kernels" not in module.name:  # need a GPU
            import_module(module.name)


class Ending:
    """How a child ends: as Python does, but for taking apart all that was imported. That would copy
    every page that the launcher shares with it, and take longer than most of what tests ask for."""

    status = 0

    @classmethod
    def note(cls, error: SystemExit) -> None:
        """The status that an error which ends Python stands for."""
        code = error.code
        cls.status = code if isinstance(code, int) else int(code is not None)

    @classmethod
    def now(cls) -> None:
        """Called when all threads have ended and whatever imports had registered is done."""
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            return  # to Python, which says so
        os._exit(cls.status & 0xFF)


class RunAsMain(ModuleType):
    """What runs as `__main__`, under the name by which workers know it: `multiprocessing` has noted
    this program when it was imported."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.modules["__main__"], name)


def import_what_reads_no_variables() -> None:
    """What is the same in any environment (see `launched.READ_EARLY`), and takes longest."""
    import sqlite_stores
    import torch.distributed.tensor  # noqa: F401

    sqlite_stores.make_the_first()


def import_the_rest() -> None:
    """The project and what it imports; and what is made once."""
    import transformers.models.auto.tokenization_auto
    import transformers.models.encoder_decoder
    import transformers.models.qwen2.modeling_qwen2
    import transformers.models.qwen2.tokenization_qwen2
    import transformers.models.qwen3.modeling_qwen3  # noqa: F401
    from PIL import Image
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    import c2c
    import latentwire
    from latentwire.analysis.reproduction.published_accuracies import bundled_study

    import_all(latentwire)
    import_all(c2c)
    Image.init()
    get_checkpoint_conversion_mapping("qwen3")  # compiles 800 expressions, and keeps them
    bundled_study()  # which each picture asks for, and which is kept


def know_statements() -> None:
    """Write a study, whose statements each start would compile anew."""
    from studies import write_study

    from latentwire.tracking.store import open_store

    with tempfile.TemporaryDirectory() as name, chdir(name):
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{name}/mlflow.db"
        store = open_store()
        write_study(store, Path("content"))
        del os.environ["MLFLOW_TRACKING_URI"]
        store.client._tracking_client.store.engine.dispose()  # no child has its file open


def keep_versions() -> None:
    """Each start compares 200 installed versions with the lock: they are looked up once."""
    from latentwire.checks import packages
    from latentwire.checks.report import CheckWarning
    from latentwire.errors import LatentWireError

    packages._version = functools.cache(packages._version)
    with suppress(LatentWireError, CheckWarning):
        packages.check_packages()


def show_no_progress() -> None:
    """As every start of an entry point without a terminal."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def part(entry_points: socket.socket, workers: socket.socket) -> socket.socket:
    """Go on as two processes, one for each listener: which one this is for."""
    if os.fork() == 0:
        workers.close()
        environment = surroundings()
        os.environ.clear()
        os.environ.update(environment)
        show_no_progress()
        return entry_points
    entry_points.close()
    import anyio  # noqa: F401
    import hypothesis  # noqa: F401

    # Pytest would warn that it comes too late to write these anew; the last is hypothesis's own.
    for name in ("anyio", "hypothesis", "_hypothesis_globals"):
        if name in sys.modules:
            sys.modules[name].__doc__ = "PYTEST_DONT_REWRITE"
    return workers


if __name__ == "__main__":
    atexit.register(Ending.now)  # before all others, so called after them
    first, *others = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    if not others:
        wait_for_one(first)
        show_no_progress()
    gc.disable()  # nothing that is imported is garbage
    import_what_reads_no_variables()
    listener = part(first, *others) if others else first
    import_the_rest()
    know_statements()
    if listener is first:
        keep_versions()
    sys.path.remove(str(Path(__file__).parent))
    gc.freeze()  # a collection in a child would copy every page
    gather(own_memory())
    gc.enable()
    module = serve_all(listener)
    sys.modules["__mp_main__"] = RunAsMain("__mp_main__")
    try:
        if module:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as error:
        Ending.note(error)
        raise
    except KeyboardInterrupt:
        atexit.unregister(Ending.now)  # Python ends by the signal
        raise
    except BaseException:
        Ending.status = 1
        raise
