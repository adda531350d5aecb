import platform
import signal
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from launched import surroundings, the_launcher
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from sqlalchemy.orm import Session
from studies import dead_process, far_process

from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record
from latentwire.tracking import finished_chunks as lookup
from latentwire.tracking import runs
from latentwire.tracking import store as store_module
from latentwire.tracking.finished_chunks import chunk_name, finished_chunks, parse_chunk
from latentwire.tracking.heartbeats import LEASE_S
from latentwire.tracking.processes import own_process
from latentwire.tracking.runs import (
    CHUNK,
    CLAIMS,
    CONDITION,
    FINGERPRINT,
    HOST,
    LEVEL,
    PROCESS,
    PROCESS_ID,
    RunWriter,
    closing,
    mark_killed,
)
from latentwire.tracking.signals import Terminated
from latentwire.tracking.store import Store, open_store

RECORD = Record("q1", 0, "A", "A", True, 10, 2, 99, "A")


def write_chunk(writer: RunWriter, parent: str, number: int, condition: str = "c") -> str:
    span = chunk_name(number, number + 1)
    tags = {FINGERPRINT: f"{condition}{number}", CONDITION: condition, CHUNK: span}
    return writer.write_chunk(span, parent, {"codec": "int8"}, tags, [RECORD], {"accuracy": 1.0})


def status(store: Store, run_id: str) -> str:
    return str(store.client.get_run(run_id).info.status)


def test_a_chunk_is_found_again(store: Store) -> None:
    writer = RunWriter(store, {})
    run_id = write_chunk(writer, writer.start("m", "milestone", None, {}, {}), 3)
    found = finished_chunks(store, ["c"])["c"]
    assert [(f.run_id, f.start, f.stop) for f in found.values()] == [(run_id, 3, 4)]
    assert finished_chunks(store, ["other"]) == {"other": {}}


def test_the_database_and_the_api_say_the_same(store: Store) -> None:
    writer = RunWriter(store, {})
    parent = writer.start("m", "milestone", None, {}, {})
    for number, condition in enumerate("aabbc"):
        write_chunk(writer, parent, number, condition)
    again = write_chunk(writer, parent, 0, "a")  # a second time: the older one counts
    deleted = write_chunk(writer, parent, 7, "a")
    store.client.delete_run(deleted)
    writer.start("open", "chunk", parent, {}, {CONDITION: "a", FINGERPRINT: "a9", CHUNK: "9-10"})
    asked = ["a", "b", "nothing"]
    found = finished_chunks(store, asked)
    assert found == {condition: lookup._by_search(store, condition) for condition in asked}
    assert sorted(found["a"]) == ["a0", "a1"] and sorted(found["b"]) == ["b2", "b3"]
    assert "a0" not in finished_chunks(store, ["a"], [found["a"]["a0"].run_id, again])["a"]


def test_all_pages_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PAGE", 2)
    writer = RunWriter(store, {})
    parent = writer.start("m", "milestone", None, {}, {})
    for number in range(5):
        write_chunk(writer, parent, number)
    assert len(finished_chunks(store, ["c"])["c"]) == 5


def test_a_chunk_whose_records_cannot_be_stored_is_not_finished(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = RunWriter(store, {})
    parent = writer.start("m", "milestone", None, {}, {})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.client, "log_artifact", full)
    with pytest.raises(OSError, match="No space"), closing(writer):
        write_chunk(writer, parent, 0)
    assert finished_chunks(store, ["c"]) == {"c": {}}
    assert status(store, parent) == "FAILED"


@pytest.mark.parametrize(
    ("error", "ends_as"),
    [(KeyboardInterrupt, "KILLED"), (Terminated, "KILLED"), (ValueError, "FAILED")],
)
def test_no_run_is_left_running(store: Store, error: type[BaseException], ends_as: str) -> None:
    writer = RunWriter(store, {})
    with pytest.raises(error), closing(writer):
        parent = writer.start("m", "milestone", None, {}, {})
        child = writer.start("c", "condition", parent, {}, {})
        raise error
    assert [status(store, run_id) for run_id in (parent, child)] == [ends_as] * 2


def test_a_signal_in_an_open_transaction_locks_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It falls where the session is being closed, which then holds what it has written."""
    writer = RunWriter(store, {})
    usual = Session.close

    def interrupted(session: Session) -> None:
        monkeypatch.setattr(Session, "close", usual)
        raise KeyboardInterrupt

    def write(session: Session) -> None:
        session.flush()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), closing(writer):
        parent = writer.start("m", "milestone", None, {}, {})
        child = writer.start("c", "condition", parent, {}, {})
        monkeypatch.setattr(Session, "close", interrupted)
        with monkeypatch.context() as patch:
            patch.setattr(Session, "commit", write)
            began = time.monotonic()
            writer.set_description(parent, "half")
    assert time.monotonic() - began < 5
    assert [status(store, run_id) for run_id in (parent, child)] == ["KILLED"] * 2
    assert "mlflow.note.content" not in store.client.get_run(parent).data.tags


def test_one_refusal_leaves_the_other_runs_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = RunWriter(store, {})
    usual, refuse = store.client.set_terminated, {"c"}
    ids: dict[str, str] = {}

    def sometimes(run_id: str, how: str) -> None:
        if run_id in {ids[name] for name in refuse}:
            raise MlflowException("no")
        usual(run_id, how)

    monkeypatch.setattr(store.client, "set_terminated", sometimes)
    for name in "abcde":
        ids[name] = writer.start(name, "condition", None, {}, {})
    with pytest.raises(ZeroDivisionError), closing(writer):
        raise ZeroDivisionError
    found = {name: status(store, ids[name]) for name in "abcde"}
    assert found == dict.fromkeys("abde", "FAILED") | {"c": "RUNNING"}


def test_runs_of_dead_processes_are_marked(store: Store, tmp_path: Path) -> None:
    script = tmp_path / "dies.py"
    script.write_text(
        textwrap.dedent("""
            import os, signal
            from latentwire.tracking.runs import RunWriter
            from latentwire.tracking.store import open_store
            writer = RunWriter(open_store("tests"), {})
            milestone = writer.start("m", "milestone", None, {}, {})
            ended = writer.start("ended", "condition", milestone, {}, {})
            writer.finish(ended)
            left = writer.start("open", "condition", milestone, {}, {})
            print(milestone, ended, left, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """)
    )
    environment = surroundings() | {"MLFLOW_TRACKING_URI": store.uri}
    process = the_launcher().start_script(script, [], tmp_path, environment)
    printed, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, err
    own = RunWriter(store, {}).start("mine", "milestone", None, {}, {})
    assert mark_killed(store) == 3
    assert [status(store, run_id) for run_id in printed.split()] == ["KILLED"] * 3
    assert status(store, own) == "RUNNING"
    assert mark_killed(store) == 0


def test_a_process_that_ends_well_while_it_is_looked_at_is_not_killed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run was RUNNING when the store was asked, and the process is gone a moment later."""
    left, done = left_by(store, dead_process()), left_by(store, own_process())
    below = left_by(store, own_process(), "condition", done)
    store.client.set_terminated(below)

    def ends_now(process: str) -> bool:
        if process == own_process():
            store.client.set_terminated(done)
        return True

    monkeypatch.setattr(runs, "is_gone", ends_now)
    assert mark_killed(store) == 1
    assert [status(store, run) for run in (left, done, below)] == ["KILLED", *["FINISHED"] * 2]


def left_by(store: Store, process: str, level: str = "milestone", parent: str = "") -> str:
    """A run that a process has left RUNNING."""
    run_id = RunWriter(store, {}).start("left", level, parent or None, {}, {})
    store.client.set_tag(run_id, PROCESS_ID, process)
    return run_id


def test_no_clock_decides_whether_a_process_lives(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that psutil tells moves with the boot time, which every step of the clock moves."""
    own = left_by(store, own_process())
    for step_s in (-1.0, 1.5, 86400.0):
        started = psutil.Process().create_time() + step_s
        with monkeypatch.context() as patch:
            patch.setattr(psutil.Process, "create_time", lambda _, started=started: started)
            patch.setattr("time.time", lambda step_s=step_s: time.monotonic() + 1.7e9 + step_s)
            assert mark_killed(store) == 0
    assert status(store, own) == "RUNNING"


@pytest.mark.parametrize("another_host", [False, True])
def test_where_it_is_uncertain_a_heartbeat_decides(
    store: Store, monkeypatch: pytest.MonkeyPatch, another_host: bool
) -> None:
    """Of two containers of one host name, and of a machine that was started again. Of other hosts
    nothing is marked."""
    now = [time.monotonic()]
    monkeypatch.setattr("latentwire.tracking.heartbeats.time.monotonic", lambda: now[0])
    beating, still = left_by(store, far_process()), left_by(store, far_process())
    below = left_by(store, far_process(), "condition", still)
    chunk = left_by(store, far_process(), "chunk", below)
    lives = left_by(store, own_process(), "chunk", below)
    stopped = left_by(store, own_process())
    everything = (beating, still, below, chunk, lives, stopped)
    if another_host:
        for run_id in everything:
            store.client.set_tag(run_id, HOST, "another")
    for beat in range(3):
        store.client.set_tag(beating, CLAIMS, str(beat))
        assert mark_killed(store) == 0
        now[0] += LEASE_S / 2 - 1
    store.client.set_tag(beating, CLAIMS, "another")
    now[0] += 10
    assert mark_killed(store) == (0 if another_host else 3)
    found = {run_id: status(store, run_id) for run_id in everything}
    killed = [] if another_host else [still, below, chunk]
    assert [run_id for run_id in everything if found[run_id] == "KILLED"] == killed


def test_odd_runs_of_others_end_nothing(store: Store) -> None:
    host, dead = {HOST: platform.node()}, {PROCESS_ID: dead_process(), PROCESS: "1@0"}
    create = store.client.create_run
    create(store.experiment_id, 10**15, {**host, LEVEL: "milestone"})
    create(store.experiment_id, 0, host)
    create(store.experiment_id, None, {**host, PROCESS: "²@x", LEVEL: "x", CLAIMS: "{" * 9})
    create(store.experiment_id, None, {**host, PROCESS: "9" * 999, LEVEL: "milestone"})
    gone = create(store.experiment_id, 10**15, {**host, **dead, LEVEL: "milestone"})
    assert mark_killed(store) == 1
    assert status(store, gone.info.run_id) == "KILLED"
    odd = {LEVEL: "chunk", CONDITION: "c", FINGERPRINT: "f"}
    for tags in ({**odd, CHUNK: "first"}, {**odd, CHUNK: "9-1"}, {**odd, CHUNK: "²-³"}, odd):
        run = create(store.experiment_id, None, tags)
        store.client.set_terminated(run.info.run_id)
    assert finished_chunks(store, ["c"]) == {"c": {}} == {"c": lookup._by_search(store, "c")}


def test_a_run_that_cannot_be_marked_does_not_keep_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = left_by(store, dead_process()), left_by(store, dead_process())
    usual = store.client.set_terminated

    def refuse_one(run_id: str, how: str) -> None:
        if run_id == min(first, second):
            raise MlflowException("not this one", error_code=PERMISSION_DENIED)
        usual(run_id, how)

    monkeypatch.setattr(store.client, "set_terminated", refuse_one)
    assert mark_killed(store) == 1
    assert status(store, max(first, second)) == "KILLED"


def test_an_unreachable_server_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(
        LatentWireError, match=r"no tracking server answers at http://127\.0\.0\.1:9"
    ):
        open_store()


def test_the_file_store_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "mlruns"))
    with pytest.raises(LatentWireError, match="is of no kind that can be used"):
        open_store()


def test_chunk_names_are_parsed_or_refused() -> None:
    assert parse_chunk(chunk_name(200, 400)) == (200, 400)
    with pytest.raises(LatentWireError, match="not like 00000-00200"):
        parse_chunk("first")
