"""A study in MLflow's own pages: what its runs hold, and what a browser shows of them."""

from pathlib import Path

import pytest
from browser import chromium, require_browser
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

from latentwire.tasks.registry import load_dataset
from latentwire.tracking.archive import open_study
from latentwire.tracking.dataset_inputs import DIGEST_CHARACTERS
from latentwire.tracking.export_import import export_study, import_study
from latentwire.tracking.runs import LEVEL, artifact_address
from latentwire.tracking.store import open_store
from latentwire.tracking.ui_views import VIEWS


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
    overview, results = VIEWS
    with ui(uri(studied)) as address, chromium(2200, 1000) as page:
        show(page, address, runs_page(experiment, overview))
        assert wait_for(lambda: run_names(page)) == [milestone.info.run_name]
        titles = column_titles(page)
        assert titles[2:5] == ["latentwire.milestone", "pair", "Dataset"]

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
