"""How often a tracking server is asked again.

MLflow asks again when a connection fails or an answer is an error, but not when the connection is
lost in the middle of an answer: then nobody knows whether the request was carried out. All requests
that are made here may be carried out twice: of a run that is made twice the first stays RUNNING and
unknown, until `runs.kill_orphans` finds it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import requests
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES
from mlflow.exceptions import MlflowException
from tenacity import (
    retry,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
)

from latentwire.tracking.server_client import ServerClient

RETRIES = MLFLOW_HTTP_REQUEST_MAX_RETRIES.name
ATTEMPTS = 4  # at a request where nobody waits for long
ASKED_AGAIN_S = 20.0  # what fails after longer has been tried by MLflow for minutes

Result = TypeVar("Result")


def is_unavailable(error: BaseException) -> bool:
    """Whether an error of a request to a server means that it cannot be asked now, not that it
    refuses."""
    if isinstance(error, MlflowException):
        return bool(error.get_http_status_code() >= 500)
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, requests.RequestException)


def _is_lost(error: BaseException) -> bool:
    lost = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, lost) and not isinstance(error, requests.Timeout)


@retry(retry=retry_if_exception(_is_lost), stop=stop_after_attempt(ATTEMPTS), reraise=True)
def get(url: str, timeout_s: float) -> requests.Response:
    """One GET, made again at once where the connection is lost; requests.RequestException."""
    return requests.get(url, timeout=timeout_s)


def with_retries(call: Callable[..., Result]) -> Callable[..., Result]:
    """The function, called again for a while where the answer of a server is lost; not within
    `fail_fast`."""
    again = retry(
        retry=retry_if_exception(lambda error: is_unavailable(error) and _retries() > 1),
        stop=stop_after_delay(ASKED_AGAIN_S),
        wait=wait_exponential(multiplier=0.1, max=2),
        reraise=True,
    )
    return again(call)


def patient_client(uri: str) -> MlflowClient:
    """A client of the server at `uri` that asks again for a while, whatever it is asked."""
    return cast(MlflowClient, _Patient(ServerClient(tracking_uri=uri), with_retries))


def careful_client(uri: str) -> MlflowClient:
    """A client of the store at `uri` that asks again a few times for all but the making of a run:
    whoever asked for that must first see whether it is there."""
    return cast(MlflowClient, _Patient(ServerClient(tracking_uri=uri), _soon, "create_run"))


_soon = retry(
    retry=retry_if_exception(is_unavailable),
    stop=stop_after_attempt(ATTEMPTS),
    wait=wait_exponential(multiplier=0.1),
    reraise=True,
)


@contextmanager
def fail_fast() -> Iterator[None]:
    """A server is given up after MLflow's second attempt."""
    usual = os.environ.get(RETRIES)
    os.environ[RETRIES] = str(min(_retries(), 1))
    try:
        yield
    finally:
        os.environ.pop(RETRIES)
        if usual is not None:
            os.environ[RETRIES] = usual


class _Patient:
    """A client whose methods, but some, are called in the way of `again`."""

    def __init__(self, client: MlflowClient, again: Callable[[Any], Any], *but: str) -> None:
        self._client = client
        self._again = again
        self._but = but

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return self._again(found) if callable(found) and name not in self._but else found


def _retries() -> int:
    return int(MLFLOW_HTTP_REQUEST_MAX_RETRIES.get())
