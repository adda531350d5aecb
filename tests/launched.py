"""Entry points that the launcher has started, as `subprocess.Popen` shows processes."""

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import IO

# What processes read while they import: the launcher's children have its values of these.
READ_EARLY = ("CUDA_", "HF_", "OMP_", "TRANSFORMERS_", "PYTHON", "LD_")

CODE = str(Path(__file__).with_name("run_code.py"))
INPUT = str(Path(__file__).with_name("run_input.py"))
RUN = str(Path(__file__).parents[1] / "entry_points" / "run.py")
SHARED = "TESTS_LAUNCHER"  # environment: where the launcher of these tests listens
_ENDED_LAST = ExitStack()
atexit.register(_ENDED_LAST.close)


def options_of(parameters: Mapping[str, object]) -> list[str]:
    """An entry point's parameters as its command line has them."""
    return [
        text
        for name, value in parameters.items()
        for text in ("--" + name.replace("_", "-"), str(value))
    ]


class Launched:
    """A process; what it prints into pipes is read by `communicate`, else by nobody."""

    def __init__(
        self,
        args: Sequence[str],
        status: int,
        pipes: Sequence[IO[str]],
        stdin: IO[bytes] | None = None,
    ) -> None:
        self.args, self.stdin = args, stdin
        self.returncode: int | None = None
        self._status = os.fdopen(status)
        self.pid = int(self._status.readline())
        self._pipes = pipes  # of its output and its errors

    def poll(self) -> int | None:
        """Its exit status (or minus the signal that ended it), or None while it runs."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended; subprocess.TimeoutExpired after `timeout` s."""
        if self.returncode is None:
            select.select([self._status], [], [], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All it printed, once it and all that has its output have ended."""
        said = ["", ""]

        def read(place: int) -> None:
            with self._pipes[place] as pipe:
                said[place] = pipe.read()

        places = range(len(self._pipes))
        readers = [threading.Thread(target=read, args=(n,), daemon=True) for n in places]
        began = time.monotonic()
        for reader in readers:
            reader.start()
        for reader in readers:
            left_s = None if timeout is None else timeout - (time.monotonic() - began)
            reader.join(left_s if left_s is None else max(0.0, left_s))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        self.wait(timeout)
        return said[0], said[1]

    def forget(self) -> None:
        """Let nobody know how it ends."""
        self._status.close()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forker:
    """A process that forks what it is asked to over a socket, and ends when that closes."""

    def __init__(self, asking: socket.socket) -> None:
        self._socket = asking

    def subprocess(self) -> SimpleNamespace:
        """What stands for the module `subprocess` in one that starts such commands."""
        return SimpleNamespace(
            Popen=self.popen, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired
        )

    def popen(
        self, command: Sequence[str], stdin: int, stderr: IO[str], env: Mapping[str, str]
    ) -> Launched:
        """What `subprocess.Popen` makes of a command `python -m MODULE ...` that reads a pipe."""
        assert command[1] == "-m" and stdin == subprocess.PIPE
        theirs, ours = os.pipe()
        request = {"module": command[2], "options": list(command[3:]), "folder": str(Path.cwd())}
        status = self.ask(request, env, [theirs, 1, stderr.fileno()])
        os.close(theirs)
        return Launched(command, status, [], os.fdopen(ours, "wb"))

    def ask(
        self, request: dict[str, object], environment: Mapping[str, str], files: Sequence[int]
    ) -> int:
        """Have a process started with three standard files; where its number and, later, its exit
        status can be read."""
        text = json.dumps(
            {"environment": dict(environment), "apart": False, "plain": False, **request}
        )
        ours, theirs = os.pipe()
        socket.send_fds(self._socket, [text.encode()], [*files, theirs])
        os.close(theirs)
        return ours


class Launcher(Forker):
    """A connection to the process that has all imports."""

    def __init__(self, path: str, environment: Mapping[str, str]) -> None:
        """`path` is where that process listens, `environment` what it has been started with."""
        self.path, self._early = path, _early(environment)
        asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        asking.connect(path)
        super().__init__(asking)

    def close(self) -> None:
        """Ask no more."""
        self._socket.close()

    def knows(self, environment: Mapping[str, str]) -> bool:
        """Whether its children can have that environment."""
        return _early(environment) == self._early

    def start(
        self,
        entry: str,
        options: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        within: int | None = None,
    ) -> Launched:
        """An entry point, started in a folder; in the user and mount namespaces of a process if its
        number is given."""
        what = {"module": None, "within": within}
        return self._start(what, [entry, *options], folder, environment)

    def start_here(
        self, options: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> Launched:
        """An entry point that has this process's own standard files."""
        return self._start_here({"module": None}, options, folder, environment)

    def start_code(
        self, options: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> Launched:
        """`python -c CODE` with this process's own standard files and without stand-ins."""
        what = {"module": None, "script": CODE, "plain": True}
        return self._start_here(what, options, folder, environment)

    def start_input(
        self, options: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> Launched:
        """`python - ...` likewise, whose program comes from the standard input."""
        what = {"module": None, "script": INPUT, "plain": True}
        return self._start_here(what, options, folder, environment)

    def start_module_here(
        self, options: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> Launched:
        """`python -m MODULE ...` with this process's own standard files."""
        return self._start_here({"module": options[0]}, options[1:], folder, environment)

    def _start_here(
        self,
        what: Mapping[str, object],
        options: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
    ) -> Launched:
        request = {**what, "options": list(options), "folder": str(folder)}
        return Launched(options, self.ask(request, environment, [0, 1, 2]), [])

    def start_script(
        self, script: Path, options: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> Launched:
        """`python SCRIPT ...`, started in a folder."""
        what = {"module": None, "script": str(script)}
        return self._start(what, options, folder, environment)

    def start_module(
        self, module: str, options: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> Launched:
        """`python -m MODULE ...`, started in a folder."""
        return self._start({"module": module}, options, folder, environment)

    def start_apart(
        self,
        entry: str,
        options: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        output: Path,
    ) -> Launched:
        """An entry point in a session (and process group) of its own, with all it prints in a
        file."""
        return self._start_apart({"module": None}, [entry, *options], folder, environment, output)

    def start_module_apart(
        self,
        module: str,
        options: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        output: Path,
    ) -> Launched:
        """`python -m MODULE ...` likewise."""
        return self._start_apart({"module": module}, options, folder, environment, output)

    def start_script_apart(
        self,
        script: Path,
        options: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        output: Path,
    ) -> Launched:
        """`python SCRIPT ...` likewise."""
        what = {"module": None, "script": str(script)}
        return self._start_apart(what, options, folder, environment, output)

    def _start(
        self,
        what: Mapping[str, object],
        options: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
    ) -> Launched:
        pipes = [os.pipe() for _ in range(2)]
        ours, theirs = zip(*pipes, strict=True)
        status = self._ask(what, options, folder, environment, theirs)
        for end in theirs:
            os.close(end)
        return Launched(options, status, [os.fdopen(end) for end in ours])

    def _start_apart(
        self,
        what: Mapping[str, object],
        options: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        output: Path,
    ) -> Launched:
        with output.open("w") as file:
            ends = (file.fileno(), file.fileno())
            status = self._ask({**what, "apart": True}, options, folder, environment, ends)
        return Launched(options, status, [])

    def _ask(
        self,
        what: Mapping[str, object],
        options: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        outputs: Sequence[int],
    ) -> int:
        request = {**what, "options": list(options), "folder": str(folder)}
        with Path(os.devnull).open() as nothing:
            return self.ask(request, environment, [nothing.fileno(), *outputs])


def _early(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in environment.items() if name.startswith(READ_EARLY)}


@contextmanager
def launcher_process(
    environment: Mapping[str, str], names: Sequence[str] = ("launcher",)
) -> Iterator[list[str]]:
    """Where processes listen that have all imports, one for each name: a single one imports them
    once somebody has connected to it. They end with the block, or with this process."""
    with tempfile.TemporaryDirectory(prefix="lw-") as folder, ExitStack() as stack:
        paths = [f"{folder}/{name}" for name in names]  # short, as a socket's must be
        listeners = []
        for path in paths:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listeners.append(stack.enter_context(listener))
            listener.bind(path)
            listener.listen()
        numbers = [listener.fileno() for listener in listeners]
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("launcher.py")), *map(str, numbers)],
            env=dict(environment),
            stdin=subprocess.PIPE,
            pass_fds=numbers,
        )
        for listener in listeners:
            listener.close()
        yield paths
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


@functools.cache
def the_launcher() -> Launcher:
    """The one of these tests, which all their processes share."""
    environment = surroundings()
    path = os.environ.get(SHARED)
    if path is None:
        (path,) = _ENDED_LAST.enter_context(launcher_process(environment))
    return Launcher(path, environment)


def surroundings() -> dict[str, str]:
    """The environment of entry points in tests: without a GPU, a network and a store."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    return environment | {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
