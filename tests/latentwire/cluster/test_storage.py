"""The tracking store as every task of a job will see it."""

from pathlib import Path

import pytest

from latentwire.cluster import storage
from latentwire.cluster.storage import seen_from_anywhere, store_warning


def test_relative_sqlite_paths_are_made_absolute() -> None:
    folder = Path("/scratch/me")
    for uri, seen in (
        ("sqlite:///mlflow.db", "sqlite:////scratch/me/mlflow.db"),
        ("sqlite:///mlflow.db?timeout=60", "sqlite:////scratch/me/mlflow.db?timeout=60"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("http://server:5000", "http://server:5000"),
        ("postgresql://me@server/runs", "postgresql://me@server/runs"),
    ):
        assert seen_from_anywhere(uri, folder) == seen


def test_stores_that_other_nodes_may_not_find_are_doubted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setattr(storage, "file_system", lambda path: "ext4")
    assert "this machine's own disk" in (store_warning(uri, tasks=1) or "")
    monkeypatch.setattr(storage, "file_system", lambda path: "lustre")
    assert store_warning(uri, tasks=1) is None
    assert "locks may not hold" in (store_warning(uri, tasks=2) or "")
    assert "give its host name" in (store_warning("http://localhost:5000", tasks=1) or "")
    shown = store_warning("http://me:secret@127.0.0.1:5000", tasks=1) or ""
    assert "127.0.0.1:5000" in shown and "secret" not in shown
    assert store_warning("https://runs.example.org", tasks=9) is None
    assert store_warning("postgresql://me@db/runs", tasks=9) is None
