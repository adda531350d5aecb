"""The records of a condition's chunk runs in one file, behind a real server."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from in_process import run_milestone
from launched import the_launcher
from mlflow import MlflowClient
from servers import mlflow_server
from tests_support import empty_store

from latentwire.errors import LatentWireError
from latentwire.milestones import m2
from latentwire.milestones.budget_curves import load_curve
from latentwire.parameters import checked
from latentwire.tracking import outbox, results_reader
from latentwire.tracking.kept_together import TOGETHER, TOGETHER_FILE
from latentwire.tracking.runs import LEVEL, RECORDS_FILE, RECORDS_SHA256
from latentwire.tracking.store import Store, open_store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Path]]:
    """A server's store in which M2 has finished int4 in chunks of 4, and the artifacts' folder."""
    folder = tmp_path_factory.mktemp("served")
    database = empty_store(folder)
    with (
        mlflow_server(folder, f"sqlite:///{database}") as port,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.chdir(folder)
        patch.setattr(outbox, "subprocess", the_launcher().subprocess())
        patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        texts = {parameter.name: parameter.default for parameter in m2.PARAMETERS}
        texts |= {"pair": "demo", "device": "cpu", "dataset": "demo_facts", "workers": "1"}
        texts |= {"kv_bits": "4", "limit": "6", "chunk_size": "4"}
        run_milestone(m2, checked(m2.PARAMETERS, texts))
        yield open_store(), folder / "artifacts"


@pytest.fixture
def altered(remote: tuple[Store, Path]) -> Iterator[Callable[[str, str], list[Path]]]:
    """Finds artifact files of runs of a level; they are put back after the test."""
    store, folder = remote
    shutil.copytree(folder, folder.with_name("as it was"))

    def find(level: str, name: str) -> list[Path]:
        ids = [run.info.run_id for run in store.search(tags={LEVEL: level})]
        return sorted(path for path in folder.rglob(name) if path.parent.parent.name in ids)

    yield find
    shutil.rmtree(folder)
    folder.with_name("as it was").rename(folder)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of runs whose records were fetched singly."""
    found: list[str] = []
    fetch = results_reader.local_artifact

    def counted(store, run, path):  # type: ignore[no-untyped-def]
        found.append(run.info.run_id)
        return fetch(store, run, path)

    monkeypatch.setattr(results_reader, "local_artifact", counted)
    return found


def curve(store: Store) -> pd.DataFrame:
    return load_curve(store, ("local",), None, None)


@pytest.fixture
def singly(remote: tuple[Store, Path], monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """The curve from each chunk run's own file."""
    with monkeypatch.context() as patch:
        patch.setattr(results_reader, "kept_together", lambda *_: {})
        return curve(remote[0])


def test_no_chunk_is_asked_for_by_itself(
    remote: tuple[Store, Path], singly: pd.DataFrame, fetched: list[str]
) -> None:
    store, _ = remote
    conditions = list(store.search(tags={LEVEL: "condition"}))
    assert [run.data.tags[TOGETHER] for run in conditions] == ["2"] * len(conditions)
    pd.testing.assert_frame_equal(curve(store), singly)
    assert len(singly) == 1 and not fetched


@pytest.mark.parametrize("damage", ["gone", "cut", "of others", "empty"])
def test_where_that_file_is_not_right_the_chunks_own_count(
    remote: tuple[Store, Path],
    altered: Callable[[str, str], list[Path]],
    singly: pd.DataFrame,
    fetched: list[str],
    damage: str,
) -> None:
    first, second = altered("condition", TOGETHER_FILE)
    if damage == "gone":
        first.unlink()
    elif damage == "of others":
        shutil.copy(second, first)
    else:
        first.write_bytes(first.read_bytes()[: 0 if damage == "empty" else 300])
    pd.testing.assert_frame_equal(curve(remote[0]), singly)
    assert len(fetched) == 2


def test_a_chunk_that_is_altered_or_deleted_is_not_brought_back(
    remote: tuple[Store, Path], singly: pd.DataFrame
) -> None:
    store, _ = remote
    chunk, other, *_ = store.search(tags={LEVEL: "chunk"})
    client = MlflowClient(store.uri)
    client.set_tag(chunk.info.run_id, RECORDS_SHA256, "0" * 64)
    client.delete_run(other.info.run_id)
    try:
        found = results_reader.read_answers(store, store.search(tags={LEVEL: "chunk"}))
        assert [entry.run.info.run_id for entry in found.unreadable] == [chunk.info.run_id]
        assert len(found.found) == 2
    finally:
        client.set_tag(chunk.info.run_id, RECORDS_SHA256, chunk.data.tags[RECORDS_SHA256])
        client.restore_run(other.info.run_id)


def test_artifacts_that_are_gone_are_not_a_server_that_is_away(
    remote: tuple[Store, Path], altered: Callable[[str, str], list[Path]]
) -> None:
    for path in [*altered("chunk", RECORDS_FILE), *altered("condition", TOGETHER_FILE)]:
        path.unlink()
    with pytest.raises(LatentWireError, match="none of 4 finished chunk runs can be read"):
        curve(remote[0])
