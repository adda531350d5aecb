import os
from collections.abc import Iterator

import pytest
import requests
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    PERMISSION_DENIED,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)

from latentwire.tracking import retries
from latentwire.tracking.retries import (
    ATTEMPTS,
    RETRIES,
    careful_client,
    fail_fast,
    is_unavailable,
    patient_client,
)


class Client:
    """Raises what it is given, one error a call, and then answers."""

    version = 3

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked: list[int] = []

    def create_run(self, number: int) -> int:
        return self.search(number)

    def search(self, number: int) -> int:
        self.asked.append(number)
        if self.errors:
            raise self.errors.pop(0)
        return number + 1


def answered(status: int) -> requests.HTTPError:
    """What an artifact store raises for an answer."""
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(response=response)


LOST = MlflowException("connection reset", INTERNAL_ERROR)
REFUSED = MlflowException("no", PERMISSION_DENIED)


@pytest.fixture(autouse=True)
def usual(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(RETRIES, raising=False)
    yield


def patient(client: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(retries, "ServerClient", lambda tracking_uri: client)
    return patient_client("http://nowhere")  # type: ignore[return-value]


def test_a_lost_answer_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(LOST, requests.exceptions.ChunkedEncodingError(), LOST)
    assert patient(client, monkeypatch).search(4) == 5
    assert client.asked == [4] * 4
    assert patient(client, monkeypatch).version == 3


def test_a_refusal_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(REFUSED)
    with pytest.raises(MlflowException, match="no"):
        patient(client, monkeypatch).search(4)
    assert client.asked == [4]


def test_the_making_of_a_run_is_for_the_caller_to_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(LOST, LOST)
    monkeypatch.setattr(retries, "ServerClient", lambda tracking_uri: client)
    careful = careful_client("http://nowhere")
    assert careful.search(4) == 5 and client.asked == [4] * 3  # type: ignore[attr-defined]
    client.errors = [LOST]
    with pytest.raises(MlflowException, match="connection reset"):
        careful.create_run(4)  # type: ignore[arg-type]
    client.errors = [LOST] * 9
    with pytest.raises(MlflowException, match="connection reset"):
        careful.search(4)  # type: ignore[attr-defined]
    assert len(client.errors) == 9 - ATTEMPTS


def test_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "ASKED_AGAIN_S", 0.5)
    client = Client(*[LOST] * 1000)
    with pytest.raises(MlflowException, match="connection reset"):
        patient(client, monkeypatch).search(4)
    assert 1 < len(client.asked) < 20


def test_little_patience_asks_once_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(LOST)
    monkeypatch.setenv(RETRIES, "5")
    with pytest.raises(MlflowException), fail_fast():
        assert MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 1
        patient(client, monkeypatch).search(4)
    assert client.asked == [4] and os.environ[RETRIES] == "5"
    monkeypatch.delenv(RETRIES)
    with fail_fast():
        assert os.environ[RETRIES] == "1"
    assert RETRIES not in os.environ
    monkeypatch.setenv(RETRIES, "0")
    with fail_fast():
        assert os.environ[RETRIES] == "0"


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (LOST, True),
        (MlflowException("database", TEMPORARILY_UNAVAILABLE), True),
        (requests.ConnectionError(), True),
        (REFUSED, False),
        (MlflowException("deleted", RESOURCE_DOES_NOT_EXIST), False),
        (OSError(), False),
        (answered(404), False),
        (answered(403), False),
        (answered(429), True),
        (answered(503), True),
    ],
)
def test_what_means_that_a_server_is_away(error: Exception, away: bool) -> None:
    assert is_unavailable(error) == away


def test_a_get_is_made_again_where_the_connection_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Exception] = []
    asked: list[str] = []

    def fake(url: str, timeout: float) -> str:
        asked.append(url)
        if errors:
            raise errors.pop(0)
        return "answer"

    monkeypatch.setattr(requests, "get", fake)
    errors[:] = [requests.ConnectionError(), requests.exceptions.ChunkedEncodingError()]
    assert retries.get("http://a", 1) == "answer" and len(asked) == 3  # type: ignore[comparison-overlap]
    errors[:] = [requests.ConnectTimeout()]
    with pytest.raises(requests.ConnectTimeout):
        retries.get("http://a", 1)
    errors[:] = [requests.ConnectionError()] * 4
    with pytest.raises(requests.ConnectionError):
        retries.get("http://a", 1)
    assert len(asked) == 3 + 1 + 4
