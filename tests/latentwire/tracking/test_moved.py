"""A moved or copied project: artifacts are found, and the old place stays as it is."""

import logging
import shutil
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient
from studies import CHUNKS, CONDITIONS, make_plan, start_condition, write_chunk
from tests_support import empty_store

from latentwire.milestones.budget_curves import load_curve
from latentwire.tracking.archive import open_study
from latentwire.tracking.export_import import export_study
from latentwire.tracking.moved import local_folder
from latentwire.tracking.runs import SOURCE, RunWriter
from latentwire.tracking.store import Store, open_store


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return empty_store(tmp_path_factory.mktemp("made"))


class Places:
    """Folders of projects with a store each, one of them the current folder."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self._patch = root, patch

    def open(self, name: str) -> Store:
        self._patch.chdir(self.root / name)
        # MLflow keeps what it has open of an address, and so of a relative one.
        self._patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{self.root}/{name}/mlflow.db")
        return open_store("study")


@pytest.fixture
def places(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    (tmp_path / "here").mkdir()
    shutil.copy(template, tmp_path / "here")
    found = Places(tmp_path, monkeypatch)
    store = found.open("here")
    writer = RunWriter(store, {SOURCE: "local"})
    plan = make_plan(CONDITIONS[0])
    parent = start_condition(writer, writer.start("m", "milestone", None, {}, {}), plan)
    for span in CHUNKS:
        write_chunk(writer, parent, plan, span)
    writer.close("FINISHED")
    return found


@pytest.mark.parametrize("location", ["s3://[bucket/a", "file://[a/b", "s3://bucket/a"])
def test_a_place_that_is_no_folder_ends_no_start(location: str) -> None:
    assert local_folder(location) is None


def write_more(store: Store) -> Path:
    """A new run's artifact below the current folder."""
    run = store.client.create_run(store.experiment_id)
    store.client.log_text(run.info.run_id, "new", "new.txt")
    store.client.set_terminated(run.info.run_id)
    return next(Path("mlruns").rglob(f"{run.info.run_id}/artifacts/new.txt"))


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


def test_a_moved_project_is_read_and_written_where_it_is(
    places: Places, caplog: pytest.LogCaptureFixture
) -> None:
    drawn = load_curve(places.open("here"), ("local",), None, None)
    (places.root / "here").rename(places.root / "there")
    with caplog.at_level(logging.WARNING, "latentwire"):
        store = places.open("there")
    assert ["'study'" in text for text in caplog.messages].count(True) == 1
    assert load_curve(store, ("local",), None, None).equals(drawn)
    assert write_more(store).is_file()
    assert not (places.root / "here").exists()
    export_study(store, places.root / "all.zip", everything=True)
    with open_study(places.root / "all.zip") as study:
        held = sum("records.jsonl" in run.artifacts for run in study.runs)
    assert held == len(CHUNKS)
    caplog.clear()
    places.open("there")
    assert not caplog.messages


def test_a_copy_does_not_write_into_the_original(places: Places) -> None:
    original = places.root / "here"
    shutil.copytree(original, places.root / "copy")
    before = files(original)
    store = places.open("copy")
    write_more(store)
    shutil.rmtree(places.root / "copy" / "mlruns" / "0", ignore_errors=True)
    assert files(original) == before
    locations = {run.info.artifact_uri for run in store.search()}
    assert all(place.startswith(str(places.root / "copy")) for place in locations)
    again = places.open("here")
    assert all(run.info.artifact_uri.startswith(str(original)) for run in again.search())


def test_a_copy_of_the_file_alone_reads_the_original_and_writes_beside_itself(
    places: Places,
) -> None:
    before = files(places.root / "here")
    (places.root / "copy").mkdir()
    shutil.copy(places.root / "here" / "mlflow.db", places.root / "copy")
    store = places.open("copy")
    assert len(load_curve(store, ("local",), None, None))
    assert write_more(store).is_file()
    assert files(places.root / "here") == before


def test_one_file_from_two_folders_is_no_copy(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's address is absolute, or the folder has two names."""
    monkeypatch.chdir(places.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{places.root}/here/mlflow.db")
    location = str(places.root / "here" / "mlruns")
    store = open_store("study")
    assert store.client.get_experiment(store.experiment_id).artifact_location.startswith(location)
    (places.root / "link").symlink_to("here")
    store = places.open("link")
    assert store.client.get_experiment(store.experiment_id).artifact_location.startswith(location)


def test_artifacts_that_are_gone_leave_the_old_place_gone(
    places: Places, caplog: pytest.LogCaptureFixture
) -> None:
    (places.root / "here").rename(places.root / "there")
    shutil.rmtree(places.root / "there" / "mlruns")
    store = places.open("there")
    assert any("earlier runs were not found" in text for text in caplog.messages)
    assert write_more(store).is_file() and not (places.root / "here").exists()


def test_a_place_elsewhere_on_purpose_stays(places: Places) -> None:
    store = places.open("here")
    far = places.root / "disk" / "art" / "x"
    experiment = store.client.create_experiment("far", artifact_location=str(far))
    unmounted = store.client.create_experiment("net", artifact_location="s3://bucket/net")
    run = store.client.create_run(experiment)
    store.client.log_text(run.info.run_id, "text", "a.txt")
    (places.root / "here").rename(places.root / "there")
    store = places.open("there")
    assert store.client.get_experiment(experiment).artifact_location == str(far)
    assert store.client.get_experiment(unmounted).artifact_location == "s3://bucket/net"
    assert store.client.get_run(run.info.run_id).info.artifact_uri.startswith(str(far))


def test_a_run_that_mlflow_made_before_the_place_was_corrected_is_written_at_the_new_one(
    places: Places,
) -> None:
    (places.root / "here").rename(places.root / "there")
    database = places.root / "there" / "mlflow.db"
    client = MlflowClient(f"sqlite:///{database}")
    experiment = client.get_experiment_by_name("study").experiment_id
    run = client.create_run(experiment).info.run_id
    store = places.open("there")
    store.client.log_text(run, "new", "new.txt")
    assert not (places.root / "here").exists()


def test_odd_places_in_the_database_stop_nothing(places: Places) -> None:
    store = places.open("here")
    for number, place in enumerate(["", "relative/x", "/a" * 3000, "file:///a/b/c", "/nul\0/x/y"]):
        store.client.create_experiment(f"odd {number}")
        with sqlite3.connect("mlflow.db") as database:
            database.execute(
                "update experiments set artifact_location = ? where name = ?",
                (place, f"odd {number}"),
            )
    database.close()
    assert places.open("here").experiment_id == store.experiment_id
