"""Searches behind a tracking server: what it answers is read without protobuf, which took the
client nine tenths of the time of a search."""

import json
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from mlflow import MlflowClient
from mlflow.entities import (
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunOutputs,
    RunTag,
    ViewType,
)
from mlflow.protos.service_pb2 import Run as ProtoRun
from mlflow.store.entities import PagedList
from mlflow.store.tracking.rest_store import RestStore
from mlflow.utils.proto_json_utils import parse_dict
from mlflow.utils.rest_utils import http_request, verify_rest_response
from requests import Response

_SEARCH = "/api/2.0/mlflow/runs/search"
# A connection stays with one of a server's processes: on those kept open, one made all pages while
# the others waited.
_ONCE = {"Connection": "close"}


class ServerClient(MlflowClient):
    """MLflow's client; one of an HTTP server finds the same runs sooner."""

    def search_runs(
        self,
        experiment_ids: list[str],
        filter_string: str = "",
        run_view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int = 1000,
        order_by: list[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[Run]:
        """One page of the runs that match. Raises what MLflow's own search does."""
        store = self._tracking_client.store
        asked = (experiment_ids, filter_string, run_view_type, max_results, order_by, page_token)
        if not isinstance(store, RestStore):
            return super().search_runs(*asked)
        body = {
            "experiment_ids": experiment_ids,
            "filter": filter_string,
            "run_view_type": ViewType.to_string(run_view_type).upper(),
            "max_results": max_results,
            "order_by": order_by or [],
            **({"page_token": page_token} if page_token else {}),
        }
        answer = http_request(
            store.get_host_creds(), _SEARCH, "POST", extra_headers=_ONCE, json=body
        )
        found = _object_of(answer)
        runs = [run_from_json(run) for run in found.get("runs", [])]
        return PagedList(runs, found.get("next_page_token") or None)


def _object_of(answer: Response) -> dict[str, Any]:
    """What an answer tells. MLflow, which decodes and reads a good one several times, looks at the
    others, and refuses them as it does."""
    if answer.status_code == HTTPStatus.OK:
        with suppress(ValueError):
            found = json.loads(answer.content)
            if isinstance(found, dict):
                return found
    answer.encoding = "utf-8"  # as JSON is; else what the bytes look like is guessed
    return cast(dict[str, Any], verify_rest_response(answer, _SEARCH).json())


def run_from_json(found: dict[str, Any]) -> Run:
    """A run as a server tells it: what MLflow makes of that. What is out of the ordinary MLflow
    reads itself, and refuses as it does."""
    try:
        if not (found.get("inputs") or found.get("outputs")):
            return _plain_run(found)
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    message = ProtoRun()
    parse_dict(found, message)
    return cast(Run, Run.from_proto(message))


def _plain_run(found: dict[str, Any]) -> Run:
    info, data = found["info"], found["data"]
    return Run(
        RunInfo(
            run_id=info["run_id"],
            experiment_id=info["experiment_id"],
            user_id=info["user_id"],
            status=info["status"],
            start_time=int(info["start_time"]),
            end_time=int(info.get("end_time", 0)) or None,
            lifecycle_stage=info["lifecycle_stage"],
            artifact_uri=info["artifact_uri"],
            run_name=info["run_name"],
        ),
        RunData(
            [_metric(**metric) for metric in data.get("metrics", [])],
            [Param(param["key"], param["value"]) for param in data.get("params", [])],
            [RunTag(tag["key"], tag["value"]) for tag in data.get("tags", [])],
        ),
        RunInputs([]),
        RunOutputs([]),
    )


def _metric(key: str, value: float | str, timestamp: int | str, step: int | str) -> Metric:
    """TypeError where it has more fields. Numbers that JSON has not (NaN) are told as text."""
    return Metric(key, float(value), int(timestamp), int(step))
