"""Finished chunks whose answers are gone or altered: computed again, named, and counted once."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import run_milestone
from mlflow import MlflowClient

from latentwire.milestones import m2
from latentwire.milestones.budget_curves import load_curve
from latentwire.parameters import Values
from latentwire.tracking.runs import INSTEAD_OF, LEVEL
from latentwire.tracking.store import open_store


def test_what_cannot_be_read_is_computed_again_once(
    empty: Path,
    studied: Path,
    values: Callable[..., Values],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A copy of a study in which one chunk is altered, one lacks its file and one was deleted."""
    shutil.copy(studied / "mlflow.db", empty)
    shutil.copytree(studied / "mlruns", empty / "mlruns")
    store = open_store()
    drawn = load_curve(store, ("local",), None, None)
    wanted = values(m2, kv_bits=4, limit=6, chunk_size=4, dataset="demo_facts")
    altered, without, deleted, _ = store.search(tags={LEVEL: "chunk"})
    (Path(altered.info.artifact_uri) / "records.jsonl").open("a").write("\n")
    shutil.rmtree(Path(without.info.artifact_uri).parent)
    MlflowClient(store.uri).delete_run(deleted.info.run_id)
    caplog.clear()
    run_milestone(m2, wanted)
    assert altered.info.run_id in caplog.text and without.info.run_id in caplog.text
    store.client.restore_run(deleted.info.run_id)
    chunks = list(store.search("attributes.status = 'FINISHED'", tags={LEVEL: "chunk"}))
    assert len(chunks) == 7
    replaced = {run.data.tags.get(INSTEAD_OF) for run in chunks}
    assert replaced == {None, altered.info.run_id, without.info.run_id}
    caplog.clear()
    again = load_curve(store, ("local",), None, None)
    columns = [name for name in drawn.columns if "second" not in name]
    assert again[columns].equals(drawn[columns])
    run_milestone(m2, wanted)
    assert len(list(store.search(tags={LEVEL: "chunk"}))) == 7
    assert not [text for text in caplog.messages if "left out" in text]
    assert not list(store.search("attributes.status = 'RUNNING'"))
