"""`mlflow server` with one worker, in one process: MLflow's own starts another, which takes seconds
for what it imports."""

import os
import runpy
import sys

import uvicorn  # noqa: F401  before mlflow.server, which looks whether it is in a server
from mlflow import server
from mlflow.cli import cli


def _here(command: list[str], extra_env: dict[str, str], **_: object) -> None:
    os.environ.update(extra_env)
    assert command[1:3] == ["-m", "uvicorn"]
    sys.argv = command[2:]
    runpy.run_module("uvicorn", run_name="__main__")


server._exec_cmd = _here
cli()
