"""Fixtures for tests of the suite."""

import shutil
from pathlib import Path

import pytest
from tests_support import Project

from latentwire.tracking.store import Store, _make_database, open_store


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store's file that holds nothing yet: MLflow takes a second or more to make one."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    _make_database(f"sqlite:///{path}")
    return path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> Store:
    """A new SQLite store, in a folder that is worked in."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return open_store("tests")
