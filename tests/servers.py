"""Real servers for tests: PostgreSQL in a temporary folder, and `mlflow server`."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from launched import Launched, the_launcher

REQUIRED = "LATENTWIRE_REQUIRE_SERVERS"  # set: tests that lack PostgreSQL fail instead of skip
START_TIMEOUT_S = 300
SUPERUSER, PASSWORD = "tests", "only for tests"


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def postgresql_binaries() -> Path:
    """The newest PostgreSQL's programs; the test is skipped (or fails) where there are none."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    on_path = shutil.which("initdb")
    if not found and not on_path:
        reason = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
        if os.environ.get(REQUIRED):
            pytest.fail(f"{reason}, and {REQUIRED} is set")
        pytest.skip(reason)
    return found[-1].parent if found else Path(str(on_path)).parent


def database_url(port: int, database: str) -> str:
    """What SQLAlchemy and MLflow call a database of `postgresql()`."""
    user = f"{SUPERUSER}:{quote(PASSWORD)}"
    return f"postgresql+psycopg://{user}@127.0.0.1:{port}/{database}"


@contextmanager
def postgresql(*databases: str) -> Iterator[int]:
    """PostgreSQL on a loopback port (yielded) with empty databases of those names."""
    binaries = postgresql_binaries()
    user = "postgres" if getpass.getuser() == "root" else None  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="latentwire-postgresql-"))
    try:
        if user:
            shutil.chown(folder, user)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if user:
            shutil.chown(secret, user)
        data, port = folder / "data", free_port()
        checked(
            [binaries / "initdb", "-D", data, "-U", SUPERUSER, "-A", "scram-sha-256",
             "--pwfile", secret, "--no-sync"],
            user=user, cwd=folder,
        )  # fmt: skip
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                [binaries / "postgres", "-D", data, "-p", str(port), "-k", folder,
                 "-c", "listen_addresses=127.0.0.1",
                 # It need not survive a power cut.
                 "-c", "fsync=off", "-c", "full_page_writes=off"],
                user=user, cwd=folder, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            ready = [binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
            wait_until(lambda: subprocess.run(ready).returncode == 0, server, folder / "log")
            for database in databases:
                checked(
                    [binaries / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", SUPERUSER,
                     database],
                    env=os.environ | {"PGPASSWORD": PASSWORD},
                )  # fmt: skip
            yield port
        finally:
            server.send_signal(signal.SIGQUIT)  # at once: nobody will read what it holds
            server.wait(60)
    finally:
        shutil.rmtree(folder)


def server_environment() -> dict[str, str]:
    """The surroundings of `mlflow server`, as the recipe has them: without jobs, for which it would
    start eight processes that import all of MLflow. A worker that is slow to answer, on a busy
    machine, is not replaced: the next one would be as slow, and begins with its imports."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    patient = {"UVICORN_TIMEOUT_WORKER_HEALTHCHECK": str(START_TIMEOUT_S)}
    return clean | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | patient


@contextmanager
def mlflow_server(
    folder: Path,
    database: str,
    *options: str,
    workers: int = 1,
    forked: bool = True,
    env: Mapping[str, str] | None = None,
    host: str = "127.0.0.1",
) -> Iterator[int]:
    """`mlflow server` with proxied artifacts in `folder`/artifacts; its port."""
    port, options = free_port(), ("--host", host, "--workers", str(workers), *options)
    server = start_mlflow(folder, database, port, *options, forked=forked, env=env)
    try:
        yield port
    finally:
        stop_mlflow(server, signal.SIGKILL)  # asked to end, it waits for connections to be closed


def start_mlflow(
    folder: Path,
    database: str,
    port: int,
    *options: str,
    forked: bool = True,
    env: Mapping[str, str] | None = None,
) -> Launched:
    """The same server, once it answers; `stop_mlflow` ends it. One that is not `forked` has
    MLflow's own processes, with imports of their own."""
    log, environment = folder / "mlflow.log", server_environment() | dict(env or {})
    arguments = [
        "server", "--backend-store-uri", database, "--serve-artifacts",
        "--artifacts-destination", str(folder / "artifacts"), "--port", str(port),
        *options,
    ]  # fmt: skip
    launcher = the_launcher()
    if forked:
        script = Path(__file__).with_name("forking_server.py")
        server = launcher.start_script_apart(script, arguments, folder, environment, log)
    else:
        server = launcher.start_module_apart("mlflow", arguments, folder, environment, log)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"), server, log)
    except BaseException:
        stop_mlflow(server, signal.SIGKILL)
        raise
    return server


def stop_mlflow(server: Launched, number: signal.Signals) -> None:
    """Send a signal to the server and its workers, and wait for it."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, number)
    server.wait(60)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


def wait_until(ready, server: subprocess.Popen[bytes] | Launched, log: Path) -> None:  # type: ignore[no-untyped-def]
    """Return when `ready()`; fail with the server's log when it ends or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if server.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the server did not start:\n{log.read_text()}")
        time.sleep(0.2)


def checked(command, **options) -> None:  # type: ignore[no-untyped-def]
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
