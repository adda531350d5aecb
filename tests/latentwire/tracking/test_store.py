"""Opening a store and searching it: whatever names hold, and whatever its address leads to."""

import os
import random
import shutil
import sqlite3
import time
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow.entities import Run, RunData, RunInfo
from mlflow.store.entities import PagedList
from mlflow.utils.search_utils import SearchUtils
from tests_support import empty_store

from latentwire.errors import LatentWireError
from latentwire.tracking import store as module
from latentwire.tracking.pages import FIRST
from latentwire.tracking.read_only_store import open_read_only
from latentwire.tracking.store import PAGE, Store, open_store, sqlite_address, sqlite_path


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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with nothing in it, to be copied: making one takes seconds."""
    return empty_store(tmp_path_factory.mktemp("made"))


@pytest.fixture
def filled(database: Path, made: Path) -> Store:
    shutil.copy(made, database)
    return open_store("a")


def text_of(draw: random.Random) -> str:
    """A name of few characters, most of which mean something to somebody."""
    letters = "ab'\"\\`%_;-/*#\n\t\u2028é{}?:$(), =.[]"
    return "".join(draw.choice(letters) for _ in range(draw.randint(1, 6)))


NAMES = ["Bob's pair", 'a"b', "both ' and \"", "end\\", "\\'", "x" * 3000, "'a' and tags.x = 'y"]


def test_any_name_is_found_and_nothing_else(filled: Store) -> None:
    draw = random.Random(7)
    names = list(dict.fromkeys(NAMES + [text_of(draw) for _ in range(25)]))
    ids = {}
    for name in names:
        run = filled.client.create_run(filled.experiment_id, tags={"name": name})
        filled.client.log_param(run.info.run_id, "pair", name)
        ids[name] = [run.info.run_id]
    for name in names:
        running = "attributes.status = 'RUNNING'"
        assert [r.info.run_id for r in filled.search(running, params={"pair": name})] == ids[name]
        assert [r.info.run_id for r in filled.search(tags={"name": name})] == ids[name], name


def test_all_experiments_are_searched_however_many_there_are(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = filled.client.create_run(filled.experiment_id).info.run_id
    path = filled.uri.removeprefix("sqlite:///")
    columns = "experiment_id, name, artifact_location, lifecycle_stage, creation_time"
    with sqlite3.connect(path) as connection:
        rows = [(n, f"other {n}", f"/no/{n}", "active", n, n) for n in range(100, 2300)]
        connection.executemany(
            f"insert into experiments ({columns}, last_update_time) values (?, ?, ?, ?, ?, ?)", rows
        )
    last = filled.client.create_run("2299").info.run_id
    assert [run.info.run_id for run in filled.search()] == [first, last]
    assert filled.newest_start_ms() == filled.client.get_run(last).info.start_time
    # As behind a server: in pages, ours at each search, those of others once in a while.
    monkeypatch.setattr(Store, "backend", None)
    assert len(filled.experiments()) == 2202 and filled.experiment_id in filled.experiments()
    assert {run.info.run_id for run in filled.search()} == {first, last}
    own, other = open_store("new").experiment_id, filled.client.create_experiment("of others")
    assert own in filled.experiments() and other not in filled.experiments()
    filled._listed[0] = (-1e9, [])
    assert other in filled.experiments()
    with pytest.raises(LatentWireError, match=r"no experiment b; there are: .* and \d+ more"):
        open_store("b", create=False)


def names_a_store(monkeypatch: pytest.MonkeyPatch, uri: str, reason: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    began = time.monotonic()
    for opened in (lambda: open_store("a"), open_read_only):
        with pytest.raises(LatentWireError, match=reason) as error:
            opened()
        assert "\n" not in str(error.value) and "secret" not in str(error.value)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("postgresql+psycopg2://u:secret@h/d", "needs the Python package psycopg2"),
        ("mysql://u:secret@127.0.0.1/d", "needs the Python package MySQLdb"),
        ("postgresql+nodriver://u:secret@h/d", "no database address"),
        (
            "postgresql://u:secret@127.0.0.1:1/d",
            "cannot be used .*connection",
        ),
        ("postgresql://u:secret@127.0.0.1:port/d", "no database address"),
        ("gopher://u:secret@h/d", "no kind that can be used"),
        ("./mlruns", "no kind that can be used"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:////proc", "is a folder"),
        ("sqlite:///file::memory:?cache=shared&uri=true", "no plain path"),
        ("sqlite+pysqlite:///~/runs.db", "no plain path"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_sentence(
    database: Path, monkeypatch: pytest.MonkeyPatch, uri: str, reason: str
) -> None:
    names_a_store(monkeypatch, uri, reason)
    assert not list(database.parent.iterdir())


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("f5a4f2784254", "older MLflow: .*`mlflow db upgrade`"),
        ("0123456789ab", "a newer MLflow"),
    ],
)
def test_tables_of_another_version_are_left_alone(
    filled: Store, monkeypatch: pytest.MonkeyPatch, version: str, reason: str
) -> None:
    path = filled.uri.removeprefix("sqlite:///")
    with sqlite3.connect(path) as connection:
        connection.execute("update alembic_version set version_num = ?", (version,))
        connection.execute("drop table spans")  # as before there were any: MLflow would add them
    names_a_store(monkeypatch, filled.uri, reason)
    with sqlite3.connect(path) as connection:
        assert not connection.execute("select * from sqlite_master where name = 'spans'").fetchall()


def test_files_of_other_programs_are_left_alone(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.write_text("no database at all" * 100)
    with pytest.raises(LatentWireError, match="file is not a database"):
        open_store("a")
    database.unlink()
    with sqlite3.connect(database) as connection:
        connection.execute("create table bookmarks (place text)")
    with pytest.raises(LatentWireError, match=r"of another program .*bookmarks"):
        open_store("a")


def test_what_is_no_database_is_not_written_over(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.write_text("notes")
    names_a_store(monkeypatch, f"sqlite:///{database}", "not a database")
    assert database.read_text() == "notes"
    database.unlink()
    os.mkfifo(database)
    names_a_store(monkeypatch, f"sqlite:///{database}", "a pipe or a device")
    assert database.is_fifo()


def test_one_that_was_stopped_while_it_opened_a_store_is_not_waited_for_without_end(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPENING_S", 0.1)
    with (
        FileLock(f"{database}.lock"),
        pytest.raises(LatentWireError, match="another process has been opening"),
    ):
        open_store("a")


def test_a_sqlite_file_is_known_however_its_address_is_written() -> None:
    for address in ("sqlite:///a b.db", "sqlite+pysqlite:///a%20b.db?timeout=9"):
        assert sqlite_path(address) == Path("a b.db")
    odd = Path("/100%20/a?b.db")
    assert sqlite_path(sqlite_address(odd)) == odd


def test_the_experiment_that_a_variable_names(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = filled.client.create_experiment("other")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", other)
    assert open_store().experiment_id == other == open_read_only().experiment_id
    assert open_store("a").experiment_id == filled.experiment_id
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    assert open_store().experiment_id == other
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "a")
    with pytest.raises(LatentWireError, match="unset one of them"):
        open_store()
    for wrong in ("999", "no number", "1; drop table runs"):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", wrong)
        with pytest.raises(LatentWireError, match="no experiment of this tracking store"):
            open_store()


def test_a_servers_pages_are_asked_for_where_they_begin() -> None:
    """The first is small; those that are guessed are those that the server then names."""
    asked, runs = [], 2_500

    class Server:
        def search_runs(self, *_, max_results, page_token, **__):  # type: ignore[no-untyped-def]
            start = SearchUtils.parse_start_offset_from_page_token(page_token)
            asked.append((start, max_results))
            stop = min(start + max_results, runs)
            infos = (
                RunInfo(str(n), "1", "u", "FINISHED", n, n, "active") for n in range(start, stop)
            )
            token = SearchUtils.create_page_token(stop).decode() if stop < runs else None
            return PagedList([Run(info, RunData()) for info in infos], token)

    store = Store(Server(), "http://127.0.0.1:1", "1")  # type: ignore[arg-type]
    assert [run.info.start_time for run in store.search(experiments=["1"])] == list(range(runs))
    assert sorted(asked)[:4] == [(0, FIRST), *((FIRST + n * PAGE, PAGE) for n in range(3))]
    assert len(asked) == len(set(asked))
