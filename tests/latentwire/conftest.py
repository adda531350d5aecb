"""Fixtures for tests of the suite."""

from pathlib import Path

import pytest
from tests_support import Project, empty_store

from latentwire import hub
from latentwire.tracking.store import Store, open_store


@pytest.fixture
def hub_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub is taken to be there, without asking: what it says is made up."""
    monkeypatch.setattr(hub, "answers", lambda: True)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.with_store(tmp_path)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A new SQLite store, in a folder that is worked in."""
    monkeypatch.chdir(tmp_path)
    empty_store(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return open_store("tests")
