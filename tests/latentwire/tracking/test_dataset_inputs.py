"""Question sets as inputs of runs, of several processes at once."""

import uuid
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.store.tracking import sqlalchemy_store

from latentwire.tracking import dataset_inputs
from latentwire.tracking.dataset_inputs import log_question_sets
from latentwire.tracking.runs import RunWriter
from latentwire.tracking.store import Store

SETS = {"set": ("ab" * 32, 7, "a file"), "other": ("cd" * 32, 9, "")}


def names(store: Store, run_id: str) -> set[str]:
    return {entry.dataset.name for entry in store.client.get_run(run_id).inputs.dataset_inputs}


def test_two_that_name_a_new_set_at_the_same_instant(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Really: the other one is quicker between MLflow's look for the set and its making of it."""
    first, second = (RunWriter(store, {}).start("m", "milestone", None, {}, {}) for _ in range(2))
    refused = []
    log = store.client.log_inputs

    def watched(*arguments: object) -> None:
        try:
            log(*arguments)
        except MlflowException as error:
            refused.append(str(error))
            raise

    def other_is_quicker() -> uuid.UUID:
        monkeypatch.setattr(sqlalchemy_store, "uuid", uuid)
        log_question_sets(store, second, SETS)
        return uuid.uuid4()

    monkeypatch.setattr(sqlalchemy_store, "uuid", SimpleNamespace(uuid4=other_is_quicker))
    monkeypatch.setattr(store.client, "log_inputs", watched)
    log_question_sets(store, first, SETS)
    assert len(refused) == 1 and "UNIQUE" in refused[0]
    assert names(store, first) == names(store, second) == set(SETS)


def test_what_is_refused_again_and_again_is_raised(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(*arguments: object) -> None:
        asked.append(arguments)
        raise MlflowException("no", BAD_REQUEST)

    monkeypatch.setattr(store.client, "log_inputs", refuse)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(MlflowException, match="no"):
        log_question_sets(store, "run", SETS)
    assert len(asked) == dataset_inputs.ATTEMPTS
