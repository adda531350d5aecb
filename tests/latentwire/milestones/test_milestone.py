"""How a milestone's run ends."""

import sqlite3
import time
from pathlib import Path

import pytest

from latentwire.milestones.milestone import milestone_run
from latentwire.tracking.store import open_store


def test_a_signal_that_leaves_the_store_locked_by_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection lives in a frame that the signal has left: all that is still to be written is
    written, and nothing waits for the lock."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    store = open_store("tests")

    def interrupted() -> None:
        connection = sqlite3.connect(tmp_path / "mlflow.db")
        connection.execute("BEGIN EXCLUSIVE")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), milestone_run(store, "m9", {}, "nothing") as run:
        run_id = run.run_id
        began = time.monotonic()
        interrupted()
    assert time.monotonic() - began < 5
    assert store.client.get_run(run_id).info.status == "KILLED"
    names = {file.path for file in store.client.list_artifacts(run_id)}
    assert "latentwire.log" in names
