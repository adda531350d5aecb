import json
import math
from typing import Any

import pytest
from google.protobuf.json_format import ParseError
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunTag,
)
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.service_pb2 import Run as ProtoRun
from mlflow.utils.proto_json_utils import message_to_json, parse_dict
from requests import Response

from latentwire.tracking import server_client
from latentwire.tracking.server_client import ServerClient, run_from_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TIME = st.integers(0, 2**62)
NUMBER = st.floats(allow_nan=True)
INPUTS = [DatasetInput(Dataset("set", "abc", "local", "{}", None, None), [InputTag("a", "b")])]
RUNS = st.builds(
    Run,
    st.builds(
        RunInfo,
        run_id=TEXT,
        experiment_id=TEXT,
        user_id=TEXT,
        status=st.sampled_from(["FINISHED", "RUNNING", "KILLED"]),
        start_time=TIME,
        end_time=st.none() | TIME,
        lifecycle_stage=TEXT,
        artifact_uri=TEXT,
        run_name=TEXT,
    ),
    st.builds(
        RunData,
        st.lists(st.builds(Metric, TEXT, NUMBER, TIME, TIME, run_id=st.none() | TEXT), max_size=3),
        st.lists(st.builds(Param, TEXT, TEXT), max_size=3),
        st.lists(st.builds(RunTag, TEXT, TEXT), max_size=3),
    ),
    st.sampled_from([RunInputs([]), RunInputs(INPUTS)]),
)


def told(run: Run) -> dict[str, Any]:
    """A run as a server's JSON has it."""
    return dict(json.loads(message_to_json(run.to_proto())))


def by_mlflow(found: dict[str, Any]) -> Run:
    message = ProtoRun()
    parse_dict(found, message)
    return Run.from_proto(message)


def everything(value: Any) -> Any:
    """All that an entity holds; NaN equal to itself."""
    if isinstance(value, list):
        return [everything(each) for each in value]
    if isinstance(value, dict):
        return {key: everything(each) for key, each in value.items()}
    if hasattr(value, "__dict__"):
        return type(value), everything(vars(value))
    return "nan" if isinstance(value, float) and math.isnan(value) else value


@given(RUNS)
def test_a_run_is_read_as_mlflow_reads_it(run: Run) -> None:
    found = told(run)
    assert everything(run_from_json(found)) == everything(by_mlflow(found))


def test_a_field_that_is_not_told_is_what_mlflow_takes_for_it() -> None:
    assert everything(run_from_json({})) == everything(by_mlflow({}))
    found = told(Run(RunInfo("r", "1", "u", "FINISHED", 5, 6, "active"), RunData()))
    for name in found["info"]:
        less = {"info": {k: v for k, v in found["info"].items() if k != name}, "data": {}}
        assert everything(run_from_json(less)) == everything(by_mlflow(less)), name


def test_what_is_no_run_is_refused_as_mlflow_does() -> None:
    with pytest.raises(ParseError):
        run_from_json({"info": [], "data": 3})


def answered(monkeypatch: pytest.MonkeyPatch, text: bytes, status: int = 200) -> list[Run]:
    """What a search finds where a server answers that."""
    answer = Response()
    answer.status_code, answer._content = status, text

    def request(*_: Any, extra_headers: dict[str, str], **__: Any) -> Response:
        assert extra_headers == {"Connection": "close"}  # each by whichever process is free
        return answer

    monkeypatch.setattr(server_client, "http_request", request)
    return list(ServerClient(tracking_uri="http://127.0.0.1:1").search_runs(["1"]))


def test_an_answer_is_utf8_whatever_it_says_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    run = told(
        Run(RunInfo("r", "1", "u", "FINISHED", 5, 6, "active", run_name="é \u2028"), RunData())
    )
    text = json.dumps({"runs": [run]}, ensure_ascii=False).encode()
    assert [found.info.run_name for found in answered(monkeypatch, text)] == ["é \u2028"]


@pytest.mark.parametrize("text", [b"", b"200 OK", b"{}"])
def test_an_answer_may_be_empty(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    assert answered(monkeypatch, text) == []


@pytest.mark.parametrize("text", [b"<html>log in</html>", b"[]", b"3", b'{"runs": [', b"\xff"])
def test_an_answer_that_is_none_is_refused_as_mlflow_does(
    monkeypatch: pytest.MonkeyPatch, text: bytes
) -> None:
    with pytest.raises(MlflowException, match="not in a valid JSON format"):
        answered(monkeypatch, text)


def test_a_refusal_says_what_the_server_said(monkeypatch: pytest.MonkeyPatch) -> None:
    told = b'{"error_code": "PERMISSION_DENIED", "message": "not yours"}'
    with pytest.raises(RestException, match="PERMISSION_DENIED: not yours"):
        answered(monkeypatch, told, 403)
    with pytest.raises(MlflowException, match="failed with error code 502"):
        answered(monkeypatch, b"bad gateway", 502)
