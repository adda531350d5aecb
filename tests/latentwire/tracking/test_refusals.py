"""What servers and databases that refuse are said to mean, and what is not shown of them."""

import pytest
from mlflow.exceptions import MlflowException, RestException
from small_server import small_server

from latentwire.errors import LatentWireError
from latentwire.tracking import store
from latentwire.tracking.store import http_get, is_server, refusal

WRONG_HOST = "Invalid Host header - possible DNS rebinding attack detected"


def test_a_server_that_is_called_by_another_name_is_not_blamed_on_permissions() -> None:
    error = RestException({"error_code": "PERMISSION_DENIED", "message": WRONG_HOST})
    said = refusal("http://me:secret-word@runs.example.org:5000", error)
    assert "--allowed-hosts runs.example.org:5000" in said and "EDIT" not in said
    assert "secret-word" not in said


def test_such_a_server_is_seen_at_the_first_request() -> None:
    with small_server(status=403, body=WRONG_HOST.encode()) as uri:
        for look in (lambda: http_get(uri), lambda: store.check_reachable(uri)):
            with pytest.raises(LatentWireError, match="--allowed-hosts 127") as caught:
                look()
            assert "start it, or" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:secret-word@127.0.0.1:9",
        "https://secret-word@127.0.0.1:9",
        "http://me:a/secret-word@127.0.0.1:9",
        "http://[secret-word@::1",
        "http://127.0.0.1:9/?password=secret-word",
        "odd://me:secret-word@host/runs",
        "postgresql+nothing://me:secret-word@127.0.0.1:9/runs",
    ],
)
def test_no_refusal_shows_a_password(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setattr(store, "REACH_TIMEOUT_S", 1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    message = f"cannot use '{uri}' (secret-word)"
    said = [str(LatentWireError(refusal(uri, MlflowException(message))))]
    if is_server(uri):
        with pytest.raises(LatentWireError) as caught:
            http_get(uri)
        said.append(str(caught.value))
    assert "secret-word" not in "".join(said)
