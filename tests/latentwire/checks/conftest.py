"""Fixtures for tests of checks."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from latentwire.tracking.store import Store


@pytest.fixture(scope="session")
def sqlite_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A SQLite store with an empty experiment."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("checks", artifact_location=str(folder / "files"))
    return Store(client, uri, experiment)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub_answers: None) -> Path:
    """An empty hub cache that may be asked online, and no C2C_CKPT_ROOT."""
    from huggingface_hub import constants

    home = tmp_path / "hf"
    home.mkdir()
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.delenv("C2C_CKPT_ROOT", raising=False)
    return home
