"""A study in MLflow's own pages: what its runs hold, and what a browser shows of them."""

import json
from pathlib import Path

import pytest
from browser import chromium, require_browser
from in_process import run_milestone
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow_pages import (
    column_titles,
    milestone_page,
    pictures,
    run_names,
    runs_page,
    show,
    ui,
    unfold_description,
    wait_for,
)
from studies import made_by_mlflow

from latentwire.errors import LatentWireError
from latentwire.milestones import m2
from latentwire.run_entry_point import main
from latentwire.tasks.registry import load_dataset
from latentwire.tracking.archive import open_study
from latentwire.tracking.dataset_inputs import DIGEST_CHARACTERS
from latentwire.tracking.export_import import export_study, import_study
from latentwire.tracking.runs import LEVEL, artifact_address
from latentwire.tracking.store import open_store
from latentwire.tracking.ui_views import VIEW_TAG, VIEWS


def uri(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def runs(folder: Path, level: str) -> list[Run]:
    client = MlflowClient(uri(folder))
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(ids, f"tags.`{LEVEL}` = '{level}'"))


def test_a_milestone_explains_itself(studied: Path) -> None:
    (milestone,) = runs(studied, "milestone")
    run_id, text = milestone.info.run_id, milestone.data.tags["mlflow.note.content"]
    assert milestone.data.metrics["demo_facts/examples"] == 6
    assert "What does precision cost?" in text and "| int4 | 1 | front | 6/500 |" in text
    picture = "pictures/budget_curve_demo_facts.png"
    assert artifact_address(run_id, picture) in text
    found = MlflowClient(uri(studied)).list_artifacts(run_id, "pictures")
    assert [entry.path for entry in found] == [picture]


def test_a_view_has_a_condition_once_however_often_it_was_asked_for(
    folder: Path, values, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"kv_bits": 4, "limit": 6, "chunk_size": 4, "dataset": "demo_facts"}
    run_milestone(m2, values(m2, **given))
    experiment = runs(folder, "milestone")[0].info.experiment_id
    assert (
        f"--backend-store-uri {uri(folder)}, then\n  http://127.0.0.1:5000/#/experiments/{experiment}/runs?viewStateShareKey={VIEWS[0].key}\n"
        in capsys.readouterr().out
    )
    assert len(runs(folder, "condition")) == 4
    client = MlflowClient(uri(folder))
    tag = client.get_experiment(experiment).tags[f"{VIEW_TAG}{VIEWS[1].key}"]
    wanted = json.loads(json.loads(tag)["state"])["searchFilter"]
    shown = list(client.search_runs([experiment], wanted))
    newest = max(runs(folder, "milestone"), key=lambda run: run.info.start_time).info.run_id
    assert {run.data.tags["mlflow.parentRunId"] for run in shown} == {newest}
    assert len({run.info.run_name for run in shown}) == len(shown) == 2


def test_accuracy_is_the_first_metric_of_a_condition(studied: Path) -> None:
    for run in runs(studied, "condition"):
        assert next(iter(run.data.metrics)) == "accuracy"


def test_a_run_that_ends_by_an_error_says_why(
    folder: Path, values, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise LatentWireError("no *luck*")

    monkeypatch.setattr("latentwire.session.grid.log_checkpoints", fail)
    with pytest.raises(LatentWireError, match="no"):
        run_milestone(m2, values(m2, kv_bits=4, limit=6, chunk_size=4, dataset="demo_facts"))
    (failed,) = [run for run in runs(folder, "milestone") if run.info.status == "FAILED"]
    text = failed.data.tags["mlflow.note.content"]
    assert text == "**Ended by an error:**\n\n    no *luck*"


def test_a_run_that_mlflow_made_says_why_it_was_not_begun(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(uri(folder))
    given = client.create_run("1", tags=made_by_mlflow("m2")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    with pytest.raises(SystemExit, match="2"):
        main("run", ["m2", "--kv-bits", "five"])
    run = client.get_run(given)
    assert run.info.run_name == "m2 (not begun)"
    assert "    kv_bits=five: must be one of" in run.data.tags["mlflow.note.content"]


def test_question_sets_are_inputs_of_all_but_chunks(studied: Path) -> None:
    digest = load_dataset("demo_facts", None).hash[:DIGEST_CHARACTERS]
    for run in [*runs(studied, "milestone"), *runs(studied, "condition")]:
        (entry,) = run.inputs.dataset_inputs
        assert (entry.dataset.name, entry.dataset.digest) == ("demo_facts", digest)
        assert [tag.value for tag in entry.tags] == ["test"]
    chunks = runs(studied, "chunk")
    assert chunks and not any(run.inputs.dataset_inputs for run in chunks)


def test_a_copy_has_its_inputs_and_shows_its_own_picture(
    studied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri(studied))
    export_study(open_store(), tmp_path / "study.zip")
    monkeypatch.chdir(tmp_path)  # where MLflow puts a local store's artifacts
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri(tmp_path))
    with open_study(tmp_path / "study.zip") as study:
        import_study(open_store(), study)
    (old,), (new,) = runs(studied, "milestone"), runs(tmp_path, "milestone")
    text = new.data.tags["mlflow.note.content"]
    assert new.info.run_id in text and old.info.run_id not in text
    assert [i.to_dictionary() for i in new.inputs.dataset_inputs] == [
        i.to_dictionary() for i in old.inputs.dataset_inputs
    ]


@pytest.mark.slow
def test_the_pages_show_it(studied: Path) -> None:
    require_browser()
    (milestone,) = runs(studied, "milestone")
    experiment, run_id = milestone.info.experiment_id, milestone.info.run_id
    for name in ("accuracy", "wire_bytes_mean"):  # as a study of all questions has them
        MlflowClient(uri(studied)).log_metric(run_id, name, 1.0)
    overview, results = VIEWS
    with ui(uri(studied)) as address, chromium(2200, 1000) as page:
        show(page, address, runs_page(experiment, overview))
        assert wait_for(lambda: run_names(page)) == [milestone.info.run_name]
        titles = column_titles(page)
        shown = ["latentwire.milestone", "pair", "accuracy", "wire_bytes_mean", "Dataset"]
        assert titles[2:7] == shown

        show(page, address, runs_page(experiment, results))
        conditions = {run.info.run_name for run in runs(studied, "condition")}
        assert wait_for(lambda: set(run_names(page)) >= conditions)
        assert set(run_names(page)) == conditions
        wanted = [column.split("`")[1] for column in results.columns]
        assert column_titles(page)[2 : 2 + len(wanted)] == wanted

        text = show(page, address, milestone_page(experiment, run_id))
        assert "What does precision cost?" in text and "demo_facts/examples" in text
        unfold_description(page)
        shown = wait_for(lambda: pictures(page))
        assert list(shown.values()) == [650]
        assert "| int4" not in text and "vs 16 bits" in text  # a table, not its source
