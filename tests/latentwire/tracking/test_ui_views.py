"""What a new experiment is given for MLflow's pages, and question sets as inputs of runs."""

import json
from pathlib import Path

import pytest
from studies import made_by_mlflow
from tests_support import empty_store

from latentwire.tracking.dataset_inputs import DIGEST_CHARACTERS, TRAINING, log_question_sets
from latentwire.tracking.runs import RunWriter
from latentwire.tracking.store import open_store
from latentwire.tracking.ui_views import EXPERIMENT_NOTE, VIEW_TAG, VIEWS


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    empty_store(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return open_store("a study").experiment_id


def test_a_new_experiment_has_the_views(made: str) -> None:
    tags = open_store("a study").client.get_experiment(made).tags
    for view in VIEWS:
        envelope = json.loads(tags[f"{VIEW_TAG}{view.key}"])
        state = json.loads(envelope["state"])
        assert envelope["name"] == view.name
        assert state["columnOrder"] == state["selectedColumns"] == list(view.columns)
        assert f"'{view.level}'" in state["searchFilter"]
        assert f"#/experiments/{made}/runs?viewStateShareKey={view.key}" in tags[EXPERIMENT_NOTE]


def test_an_experiment_that_mlflow_made_gets_them(
    made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_store("a study").client
    other = client.create_experiment("by mlflow run")
    monkeypatch.setenv(
        "MLFLOW_RUN_ID", client.create_run(other, tags=made_by_mlflow("m2")).info.run_id
    )
    assert open_store().experiment_id == other
    tags = client.get_experiment(other).tags
    assert {f"{VIEW_TAG}{view.key}" for view in VIEWS} <= tags.keys()
    assert f"#/experiments/{other}/runs" in tags[EXPERIMENT_NOTE]


def test_what_an_experiment_has_is_left_alone(made: str) -> None:
    client = open_store("a study").client
    client.set_experiment_tag(made, EXPERIMENT_NOTE, "mine")
    open_store("a study")
    assert client.get_experiment(made).tags[EXPERIMENT_NOTE] == "mine"


def test_question_sets_are_inputs(made: str) -> None:
    store = open_store("a study")
    run_id = RunWriter(store, {}).start("m", "milestone", None, {}, {})
    log_question_sets(store, run_id, {"set": ("ab" * 32, 7, "a file")}, TRAINING)
    (entry,) = store.client.get_run(run_id).inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("set", ("ab" * 32)[:DIGEST_CHARACTERS])
    assert json.loads(entry.dataset.profile) == {"questions": 7, "sha256": "ab" * 32}
    assert [(tag.key, tag.value) for tag in entry.tags] == [("mlflow.data.context", "training")]
