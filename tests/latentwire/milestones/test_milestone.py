"""How a milestone's run ends."""

import sqlite3
import time
from pathlib import Path

import pytest

from latentwire.session.milestone_run import milestone_run
from latentwire.tracking.store import open_store


@pytest.mark.parametrize("closure", [False, True])
def test_a_signal_that_leaves_the_store_locked_by_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closure: bool
) -> None:
    """The connection lives in a frame that the signal has left, or in the closure of its function:
    all that is still to be written is written, and nothing waits for the lock."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    store = open_store("tests")

    def interrupted() -> None:
        connection = sqlite3.connect(tmp_path / "mlflow.db")

        def in_the_middle() -> None:
            connection.execute("BEGIN EXCLUSIVE")
            raise KeyboardInterrupt

        if closure:
            in_the_middle()
        connection.execute("BEGIN EXCLUSIVE")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), milestone_run(store, "m9", {}, "nothing") as run:
        run_id = run.run_id
        began = time.monotonic()
        interrupted()
    assert time.monotonic() - began < 15  # less than it waits for a lock
    assert store.client.get_run(run_id).info.status == "KILLED"
    names = {file.path for file in store.client.list_artifacts(run_id)}
    assert "latentwire.log" in names
