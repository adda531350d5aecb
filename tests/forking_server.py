"""`mlflow server` without imports of its own processes: MLflow starts uvicorn in another, and that
one more for each of several workers, and each takes seconds for what it imports. Here one process
is the server, and several workers are forked from it."""

import gc
import multiprocessing
import os
import runpy
import sys

import uvicorn._subprocess  # before mlflow.server, which looks whether it is in a server
from mlflow import server
from mlflow.cli import cli
from sqlalchemy.engine import Engine

uvicorn._subprocess.spawn = multiprocessing.get_context("fork")  # type: ignore[assignment]


def _here(command: list[str], extra_env: dict[str, str], **_: object) -> None:
    os.environ.update(extra_env)
    assert command[1:3] == ["-m", "uvicorn"]
    for engine in gc.get_objects():  # no two workers may have one connection to the database
        if type(engine) is Engine:
            engine.dispose()
    sys.argv = command[2:]
    runpy.run_module("uvicorn", run_name="__main__")


server._exec_cmd = _here
cli()
