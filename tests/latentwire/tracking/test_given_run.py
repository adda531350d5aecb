"""Which run MLFLOW_RUN_ID may name: what `mlflow run` made for this start, and nobody else's."""

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
from studies import made_by_mlflow

from latentwire.session.milestone_run import milestone_run
from latentwire.tracking.given_run import PROJECT, _is_elsewhere
from latentwire.tracking.runs import LEVEL
from latentwire.tracking.store import Store, open_store

MADE = made_by_mlflow("m9")


def made(store: Store, tags: Mapping[str, str], status: str = "RUNNING") -> str:
    """A run in an experiment of its own."""
    found = store.client.get_experiment_by_name("theirs")
    experiment = found.experiment_id if found else store.client.create_experiment("theirs")
    run_id: str = store.client.create_run(experiment, tags=dict(tags)).info.run_id
    store.client.log_param(run_id, "seed", "42")
    if status != "RUNNING":
        store.client.set_terminated(run_id, status)
    return run_id


def start(monkeypatch: pytest.MonkeyPatch, run_id: str) -> str:
    """The id of the run that milestone m9 wrote into."""
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with milestone_run(open_store(), "m9", {"seed": 42, "limit": 5}, "nothing") as run:
        return run.run_id


@pytest.mark.parametrize(
    "source", [f"file://{PROJECT}", str(PROJECT), "https://example.org/a.git", "/gone/clone", ""]
)
def test_a_run_that_was_made_for_us_is_taken_over(
    store: Store, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    given = made(store, MADE | {"mlflow.source.name": source})
    assert start(monkeypatch, given) == given
    run = store.client.get_run(given)
    assert run.info.status == "FINISHED" and run.data.params == {"seed": "42", "limit": "5"}
    assert start(monkeypatch, given) != given  # the variable was left in the shell


@pytest.mark.parametrize(
    ("tags", "status", "reason"),
    [
        (MADE, "FINISHED", "has ended (FINISHED)"),
        (MADE, "KILLED", "has ended (KILLED)"),
        (MADE | {LEVEL: "milestone"}, "RUNNING", "is a run of LatentWire already"),
        (MADE | {"mlflow.project.entryPoint": "m3"}, "RUNNING", "for the entry point 'm3'"),
        (MADE | {"mlflow.source.name": "file:///usr#lib"}, "RUNNING", "for another project"),
        (MADE | {"mlflow.source.type": "LOCAL"}, "RUNNING", "not made by `mlflow run`"),
        ({}, "RUNNING", "not made by `mlflow run`"),
    ],
)
def test_a_run_of_anybody_else_stays_as_it_is(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tags: Mapping[str, str],
    status: str,
    reason: str,
) -> None:
    given = made(store, tags, status)
    before = store.client.get_run(given).to_dictionary()
    with caplog.at_level(logging.WARNING, "latentwire"):
        own = start(monkeypatch, given)
    assert store.client.get_run(given).to_dictionary() == before
    assert store.client.get_run(own).info.status == "FINISHED"
    assert len(caplog.messages) == 1 and reason in caplog.messages[0], caplog.messages


@pytest.mark.parametrize("source", ["file://[a/b", "x" * 400, "https://host/" + "y" * 400])
def test_a_source_that_is_no_path_is_no_other_project(source: str) -> None:
    assert not _is_elsewhere(source)


@pytest.mark.parametrize("run_id", ["0" * 32, "no id", "a'b", "x" * 5000, "../.."])
def test_an_id_of_no_run_here_is_one_warning(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, run_id: str
) -> None:
    with caplog.at_level(logging.WARNING, "latentwire"):
        own = start(monkeypatch, run_id)
    assert store.client.get_run(own).info.status == "FINISHED"
    assert len(caplog.messages) == 1 and "not in this tracking store" in caplog.messages[0]


def test_a_deleted_run_is_not_written_to(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given = made(store, MADE)
    store.client.delete_run(given)
    assert start(monkeypatch, given) != given
    assert "has been deleted" in caplog.messages[0]
    store.client.restore_run(given)
    assert LEVEL not in store.client.get_run(given).data.tags


def test_an_experiment_that_is_asked_for_is_not_overruled(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As by `latentwire import --experiment`."""
    monkeypatch.setenv("MLFLOW_RUN_ID", made(store, MADE))
    assert open_store("tests").experiment_id == store.experiment_id
