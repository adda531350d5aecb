"""A SQLite store is whole or not there, whenever its making is interrupted."""

import sqlite3
from pathlib import Path

import pytest

from latentwire.errors import LatentWireError
from latentwire.tracking import store as module
from latentwire.tracking.store import open_store


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    return path


def test_an_interrupted_making_leaves_nothing_in_the_way(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def half(uri: str, *rest: object) -> None:
        with sqlite3.connect(uri.removeprefix("sqlite:///")) as connection:
            connection.execute("create table spans (trace_id text)")
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module, "SqlAlchemyStore", half)
        open_store("a")
    assert not database.exists() and (database.parent / "mlflow.db.new").exists()
    assert open_store("a").client.search_experiments()
    assert not (database.parent / "mlflow.db.new").exists()
    # As MLflow would have made it: new runs' artifacts go to the folder beside it.
    experiment = open_store("a").client.get_experiment_by_name("a")
    assert experiment.artifact_location.startswith(str(database.parent / "mlruns"))


def test_a_file_that_somebody_else_left_half_made_is_one_sentence(database: Path) -> None:
    with sqlite3.connect(database) as connection:  # as in the midst of MLflow's steps
        connection.execute("create table spans (trace_id text)")
    with pytest.raises(LatentWireError, match=r"mlflow\.db was interrupted.*delete it"):
        open_store("a")
