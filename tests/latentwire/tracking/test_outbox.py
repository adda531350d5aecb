"""Letters are delivered once, whatever happens to the processes and to the store."""

import hashlib
import json
import os
import signal
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from launched import surroundings, the_launcher
from mlflow import MlflowClient
from studies import dead_process, far_process

from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record, record_lines
from latentwire.tracking import left_behind, outbox_worker
from latentwire.tracking import outbox as module
from latentwire.tracking.finished_chunks import finished_chunks
from latentwire.tracking.left_behind import SET_ASIDE, folder_name
from latentwire.tracking.outbox import (
    PATIENCE,
    Outbox,
    address,
    flush_outbox,
    folder_of,
    from_file,
    patience_s,
    pending_chunk,
    to_bytes,
    waiting,
)
from latentwire.tracking.processes import is_stopped, own_process
from latentwire.tracking.runs import (
    CHUNK,
    CONDITION,
    FINGERPRINT,
    LEVEL,
    MILESTONE,
    PROCESS_ID,
    RunWriter,
)
from latentwire.tracking.store import Store, open_store


@pytest.fixture(autouse=True)
def _forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What delivers is forked: its imports take much longer than what it has to do here."""
    monkeypatch.setattr(module, "subprocess", the_launcher().subprocess())


RECORDS = [Record("q1", 0, "A", "A", True, 10, 2, 99, "Ä")]


def message(store: Store, number: int, parent: str, claimed: bool = True) -> module.PendingChunk:
    tags = {FINGERPRINT: f"f{number}", CONDITION: "c", CHUNK: f"{number:05d}-{number + 1:05d}"}
    metrics = {"accuracy": 1, "seconds": 2.5}
    params = {"codec": "int8"}
    return pending_chunk(store, f"n{number}", parent, params, tags, metrics, RECORDS, 2.5, claimed)


def chunk_runs(store: Store) -> list[str]:
    return [run.info.run_name for run in store.search(f"tags.`{LEVEL}` = 'chunk'")]


@pytest.fixture
def deliver_here(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], int]:
    """Deliver all that lies in a folder, in this process; the exit status."""

    def work(folder: Path) -> int:
        reading, writing = os.pipe()
        closed: list[int] = []

        def ends_when_all_is_delivered(seconds: float) -> bool:
            if not waiting(folder) and not closed:
                closed.append(writing)
                os.close(writing)
            return ended(min(seconds, 0.05))

        with os.fdopen(reading) as standard_input:
            monkeypatch.setattr("sys.stdin", standard_input)
            monkeypatch.setattr(outbox_worker, "_ended", ends_when_all_is_delivered)
            monkeypatch.setattr(signal, "signal", lambda *_: None)
            status = outbox_worker.main(folder, 60)
        if not closed:
            os.close(writing)
        monkeypatch.setattr(outbox_worker, "_ended", ended)
        return status

    ended = outbox_worker._ended
    return work


def outbox(store: Store, process: str = "") -> Path:
    """The folder of an outbox of this process, or another."""
    place = folder_of(store.uri) / folder_name(process or own_process(), "1")
    place.mkdir(parents=True, exist_ok=True)
    return place


def condition(store: Store) -> str:
    return RunWriter(store, {}).start("c", "condition", None, {}, {})


def aside(store: Store) -> dict[str, str]:
    """Name -> reason of the letters that were set aside."""
    place = folder_of(store.uri) / SET_ASIDE
    names = [path.name.removesuffix(".txt") for path in place.glob("*.txt")]
    kept = {path.name for path in place.iterdir() if path.suffix != ".txt"}
    assert {name[:251] for name in kept} == set(names)
    return {name: (place / f"{name}.txt").read_text().strip() for name in names}


def test_what_the_store_refuses_is_set_aside_and_the_rest_delivered(
    store: Store, deliver_here: Callable[[Path], int], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, parent, elsewhere = outbox(store), condition(store), open_store("other")
    of_deleted = condition(elsewhere)
    written = {
        "1-deleted": to_bytes([message(elsewhere, 1, of_deleted)]),
        "2-types": changed(message(store, 2, parent), metrics={"accuracy": "much"}),
        "3-time": changed(message(store, 3, parent), start_time_ms=2**70),
        "4-newer": changed(message(store, 4, parent), colour="red"),
        "5-altered": to_bytes([message(store, 5, parent)])[:-3],
        "6-chunk": changed(message(store, 6, parent), tags={FINGERPRINT: "f"}),
        "7-records": changed(message(store, 7, parent), records="[1]\n"),
        "8-stranger": to_bytes([message(store, 8, "0" * 32)]),
        "9-nested": sealed(b"[" * 100_000),
        "9-half": changed(message(store, 10, parent), name="\ud800"),
        "9-half-record": changed(message(store, 11, parent), records='{"a": "\ud800"}\n'),
        "9-nul": changed(message(store, 12, parent), params={"codec": "a\0b"}),
        "9" * 250: b"long",
        "9\udcff": to_bytes([message(elsewhere, 13, of_deleted)]),
        "a-good": to_bytes([message(store, 9, parent)]),
    }
    for name, content in written.items():
        (folder / f"{name}.json").write_bytes(content)
    (folder / "0.json").mkdir()
    os.mkfifo(folder / "00.json")
    store.client.delete_experiment(elsewhere.experiment_id)
    assert deliver_here(folder) == 0
    assert chunk_runs(store) == ["n9"] and waiting(folder_of(store.uri)) == []
    found = aside(store)
    names = {"0.json", "00.json", *(f"{name}.json" for name in written)} - {"a-good.json"}
    assert set(found) == {name[:251] for name in names}
    assert "must be in the 'active' state" in found["1-deleted.json"]
    assert "restore that and move the file back" in found["1-deleted.json"]
    assert f"computed for {address(store.uri)}" in found["8-stranger.json"]
    assert "0.json cannot be read" in found["0.json"]
    assert all(reason.count("\n") == 0 for reason in found.values())
    running = f"attributes.status = 'RUNNING' and tags.`{LEVEL}` = 'chunk'"
    assert list(store.search(running)) == []


def test_letters_of_one_name_are_all_kept(tmp_path: Path) -> None:
    for content in ("one", "two"):
        path = tmp_path / "1.json"
        path.write_text(content)
        left_behind.set_aside(path, tmp_path, "why")
    kept = sorted(p.read_text() for p in (tmp_path / SET_ASIDE).glob("*.json"))
    assert kept == ["one", "two"] and left_behind.why_set_aside(path, tmp_path) == "why"


def sealed(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def changed(written: module.PendingChunk, **fields: object) -> bytes:
    """A letter's file with other fields, and a checksum that fits."""
    return sealed(json.dumps([{**vars(written), **fields}]).encode())


def test_a_letter_of_an_earlier_version_is_read(store: Store, tmp_path: Path) -> None:
    written = vars(message(store, 1, "p")).copy()
    assert written.pop("store") == f"sqlite:///{tmp_path}/mlflow.db"
    (tmp_path / "a.json").write_bytes(sealed(json.dumps([written]).encode()))
    assert from_file(tmp_path / "a.json") == [module.PendingChunk(**written)]


def test_what_was_claimed_is_looked_for_too_whatever_its_chunks(
    store: Store, deliver_here: Callable[[Path], int]
) -> None:
    """An import, another chunk size, a lease that was lost: the store knows."""
    folder, parent = outbox(store), condition(store)
    for number, (start, stop) in enumerate([(0, 20), (0, 10), (10, 20), (20, 30), (25, 40)]):
        written = message(store, number, parent)
        written.tags[CHUNK] = f"{start:05d}-{stop:05d}"
        (folder / f"{number}.json").write_bytes(to_bytes([written]))
    assert deliver_here(folder) == 0
    assert sorted(chunk_runs(store)) == ["n0", "n3", "n4"]


def test_two_that_write_the_same_at_the_same_time_both_give_way(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, parent = outbox(store), condition(store)
    path = folder / "1.json"
    path.write_bytes(to_bytes([message(store, 1, parent, claimed=False)]))
    (written,) = from_file(path)
    tags = {**written.tags, LEVEL: "chunk"}
    other = RunWriter(store, {}).start("other", "chunk", parent, {}, tags)
    store.client.set_tag(other, PROCESS_ID, far_process())
    with pytest.raises(outbox_worker._Later):
        outbox_worker.deliver(store, written, path, None)
    store.client.set_tag(other, PROCESS_ID, dead_process())
    outbox_worker.deliver(store, written, path, None)
    store.client.set_tag(other, PROCESS_ID, far_process())
    store.client.set_terminated(other, "FINISHED")
    outbox_worker.deliver(store, written, path, None)
    runs = [run for run in store.search(f"tags.`{LEVEL}` = 'chunk'") if run.info.run_id != other]
    assert sorted(run.info.status for run in runs) == ["FINISHED", "KILLED", "KILLED"]


def test_a_deliverer_that_was_stopped_writes_nothing_a_second_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on with a letter that another process has taken over or delivered meanwhile."""
    folder, parent = outbox(store), condition(store)
    path = folder / "1.json"
    path.write_bytes(to_bytes([message(store, 1, parent)]))
    (written,) = from_file(path)
    long_ago = time.monotonic() - 300
    outbox_worker.deliver(store, written, path, time.monotonic())
    outbox_worker.deliver(store, written, path, long_ago)
    path.unlink()
    outbox_worker.deliver(store, written, path, time.monotonic())
    runs = list(store.search(f"tags.`{LEVEL}` = 'chunk'"))
    assert sorted(run.info.status for run in runs) == ["FINISHED", "KILLED", "KILLED"]


def test_a_stopped_deliverer_is_named_and_not_waited_for(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    number = os.fork()
    if number == 0:
        with left_behind.delivering(outbox(store, dead_process_of_this_test)):
            signal.pause()
    place = outbox(store, dead_process_of_this_test)
    (place / "1.json").write_bytes(to_bytes([message(store, 1, "p")]))
    try:
        while not (names := left_behind.deliverers(place)):
            time.sleep(0.01)
        os.kill(number, signal.SIGSTOP)
        while not is_stopped(names[0]):
            time.sleep(0.01)
        began = time.monotonic()
        own = folder_of(store.uri) / folder_name(own_process(), "2")
        left_behind.take_over(folder_of(store.uri), own)
        assert time.monotonic() - began < 5 and not own.exists()
        assert f"process {number}, which has one of them in hand and is stopped" in caplog.text
    finally:
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
    left_behind.take_over(folder_of(store.uri), own)
    assert [path.name for path in waiting(own)] == ["1.json"]


dead_process_of_this_test = dead_process()


def test_where_nothing_is_certain_the_heartbeat_of_the_deliverer_decides(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left_behind.time, "sleep", lambda _: None)
    folder = folder_of(store.uri)
    own = folder / folder_name(own_process(), "2")
    quiet, living = outbox(store, far_process()), outbox(store, far_process())
    for place in (quiet, living):
        (place / "1.json").write_bytes(b"")
        (place / "beat").touch()
    for path in (*quiet.iterdir(), quiet):
        os.utime(path, (time.time() - 130, time.time() - 130))
    left_behind.take_over(folder, own)
    assert not quiet.exists() and (living / "1.json").exists()
    assert [path.name for path in waiting(own)] == ["1.json"]


def test_two_stores_of_one_outbox_are_apart_and_a_moved_one_finds_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = []
    for outbox_of_all in (None, tmp_path / "shared"):
        for name in ("one", "two"):
            (tmp_path / name).mkdir(exist_ok=True)
            monkeypatch.chdir(tmp_path / name)
            if outbox_of_all:
                monkeypatch.setenv(module.FOLDER, str(outbox_of_all))
            uris = ("sqlite:///mlflow.db", "sqlite:///./mlflow.db?timeout=5")
            uris += (f"sqlite:///{tmp_path}/{name}/mlflow.db",)
            assert len({folder_of(uri) for uri in uris}) == 1
            places.append(folder_of(uris[0]))
    assert len(set(places)) == 4
    assert places[0].name == places[1].name  # so that a project may be renamed
    assert places[2].parent == places[3].parent and places[2].name != places[3].name


@pytest.mark.parametrize("named", [True, False])
def test_letters_under_another_name_of_the_store_are_found_by_the_run_above(
    store: Store, named: bool
) -> None:
    """Of a store that was moved under an outbox elsewhere; or as an earlier version named it."""
    there = module.outbox_folder() / "0123456789ab"
    there.mkdir(parents=True)
    content = {"store": "sqlite:////nowhere/mlflow.db"} if named else {"store": ""}
    parents = {"ours": condition(store), "theirs": "0" * 32}
    for name, parent in parents.items():
        (there / f"{name}.json").write_bytes(changed(message(store, 1, parent), **content))
    lives = changed(message(store, 1, parents["ours"]), store=f"sqlite:///{there}/ours.json")
    (there / "of_a_store_that_is_there.json").write_bytes(lives)
    flush_outbox(store)
    assert chunk_runs(store) == ["n1"]
    left = [path.name for path in waiting(there)]
    assert left == ["of_a_store_that_is_there.json", "theirs.json"]


@pytest.mark.parametrize("below", ["", "below", "x" * 300])
def test_an_outbox_that_cannot_be_is_one_sentence(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(module.FOLDER, str(tmp_path / "file" / below))
    with pytest.raises(LatentWireError, match="set LATENTWIRE_OUTBOX to a folder"):
        flush_outbox(store)


def test_a_writer_whose_folder_was_taken_writes_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outbox, "_start", lambda self: None)
    with pytest.raises(LatentWireError), Outbox(store) as outbox:
        first = outbox.enqueue([message(store, 1, "p")])
        first.unlink()
        usual = Path.rename
        calls = []

        def taken_meanwhile(path: Path, target: Path) -> Path:
            calls.append(path)
            if len(calls) == 1:
                path.unlink()
                path.parent.rmdir()
            return usual(path, target)

        monkeypatch.setattr(Path, "rename", taken_meanwhile)
        second = outbox.enqueue([message(store, 2, "p")])
        assert len(calls) == 2 and from_file(second)[0].name == "n2"


def test_a_letter_becomes_a_whole_run(store: Store) -> None:
    parent = RunWriter(store, {}).start("c", "condition", None, {}, {})
    with Outbox(store) as outbox:
        path = outbox.enqueue([message(store, 3, parent)])
    assert not path.exists() and waiting(folder_of(store.uri)) == []
    run = next(store.search(f"tags.`{LEVEL}` = 'chunk'"))
    assert run.info.status == "FINISHED" and run.data.params == {"codec": "int8"}
    assert run.data.metrics == {"accuracy": 1, "seconds": 2.5}
    assert run.data.tags["mlflow.parentRunId"] == parent
    taken_ms = run.info.end_time - run.info.start_time
    assert taken_ms >= 2500  # it began with its computing
    file = Path(store.client.download_artifacts(run.info.run_id, "records.jsonl"))
    assert file.read_text(encoding="utf-8") == record_lines(RECORDS)


def test_a_letter_that_is_altered_is_named(store: Store, tmp_path: Path) -> None:
    written = [message(store, number, "p") for number in (1, 2)]
    good = to_bytes(written)
    path = tmp_path / "a.json"
    path.write_bytes(good)
    assert from_file(path) == written
    for bad in (b"", good[:-1], good[:40], good.replace(b"int8", b"int4"), b"x" + good):
        path.write_bytes(bad)
        with pytest.raises(LatentWireError, match=r"a\.json is not as it was written"):
            from_file(path)


def test_a_file_of_another_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for body in (b"{}", b"[]", b'[{"name": "n"}]'):
        path.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        with pytest.raises(LatentWireError, match=r"a\.json is of another version"):
            from_file(path)


def test_letters_of_one_file_are_looked_for_one_by_one(store: Store) -> None:
    parent = RunWriter(store, {}).start("c", "condition", None, {}, {})
    with Outbox(store) as outbox:
        outbox.enqueue([message(store, 2, parent)])
        outbox.wait()
    folder = folder_of(store.uri)
    # The process died when the second of three letters had become a run.
    left = [message(store, number, parent) for number in (1, 2, 3)]
    (folder / "1.json").write_bytes(to_bytes(left))
    flush_outbox(store)
    assert sorted(chunk_runs(store)) == ["n1", "n2", "n3"] and waiting(folder) == []


def test_what_was_left_is_delivered_once(store: Store) -> None:
    parent = RunWriter(store, {}).start("c", "condition", None, {}, {})
    folder = folder_of(store.uri)
    folder.mkdir(parents=True)
    for number in (1, 2):
        (folder / f"{number}.json").write_bytes(to_bytes([message(store, number, parent)]))
    flush_outbox(store)
    assert sorted(chunk_runs(store)) == ["n1", "n2"]
    # The process died after the run was whole and before the letter was deleted.
    (folder / "1.json").write_bytes(to_bytes([message(store, 1, parent)]))
    flush_outbox(store)
    assert sorted(chunk_runs(store)) == ["n1", "n2"] and waiting(folder) == []


def test_what_a_kill_left_of_a_letter_goes(store: Store) -> None:
    """Of a process that lives, though it may be stopped, nothing is touched."""
    parent = RunWriter(store, {}).start("c", "condition", None, {}, {})
    for process, lives in ((dead_process(), False), (own_process(), True)):
        place = folder_of(store.uri) / folder_name(process, "1")
        place.mkdir(parents=True)
        (place / "2.json.part").write_bytes(b"half")
        (place / "1.json").write_bytes(to_bytes([message(store, 1, parent)]))
        flush_outbox(store)
        assert [path.exists() for path in (place / "1.json", place / "2.json.part")] == [lives] * 2
    assert chunk_runs(store) == ["n1"]


def test_what_was_not_claimed_is_looked_for_first(store: Store) -> None:
    parent = RunWriter(store, {}).start("c", "condition", None, {}, {})
    with Outbox(store) as outbox:
        outbox.enqueue([message(store, 1, parent)])
        outbox.wait()
        outbox.enqueue([message(store, 1, parent, claimed=False)])
    assert chunk_runs(store) == ["n1"]


def test_a_store_that_never_answers_is_given_up_in_a_sentence(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE, "1")
    away = Store(store.client, "http://127.0.0.1:9", store.experiment_id)
    with (
        pytest.raises(LatentWireError, match=r"1 results could not be delivered .* they wait in"),
        Outbox(away) as outbox,
    ):
        outbox.enqueue([message(store, 1, "p")])
    assert len(waiting(folder_of(away.uri))) == 1


def test_the_patience_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("soon", "nan", "-1"):
        monkeypatch.setenv(PATIENCE, wrong)
        with pytest.raises(LatentWireError, match=f"PATIENCE_S={wrong} must be a number"):
            patience_s()


def test_letters_to_relative_addresses_are_those_of_one_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(module.FOLDER, str(tmp_path / "outbox"))
    places = set()
    for checkout in ("one", "two"):
        (tmp_path / checkout).mkdir()
        monkeypatch.chdir(tmp_path / checkout)
        same = {folder_of(f"{kind}:///mlflow.db") for kind in ("sqlite", "sqlite+pysqlite")}
        assert len(same) == 1
        places |= same
    assert len(places) == 2


def test_the_outbox_is_a_path_as_any_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(module.FOLDER, "~/box")
    assert module.outbox_folder() == tmp_path / "box"


WRITER = """
    import sys, time
    from pathlib import Path
    from latentwire.tracking.outbox import Outbox
    from latentwire.tracking.runs import RunWriter
    from latentwire.tracking.store import open_store
    sys.path[:0] = {tests!r}
    from test_outbox import message

    store = open_store("tests")
    parent = RunWriter(store, {{}}).start("c", "condition", None, {{}}, {{}})
    with Outbox(store) as outbox:
        for number in range(20):
            outbox.enqueue([message(store, 2 * number + part, parent) for part in (0, 1)])
        Path("written").touch()
        time.sleep(600)
"""


@pytest.mark.parametrize("delivered", [0, 1, 21])
def test_a_killed_writer_loses_and_repeats_nothing(
    store: Store, tmp_path: Path, delivered: int
) -> None:
    """Killed with all results written, once so many of them are in the store."""
    folders = [str(folder) for folder in (Path(__file__).parent, Path(__file__).parents[2])]
    script = tmp_path / "writer.py"
    script.write_text(textwrap.dedent(WRITER).format(tests=folders))
    environment = surroundings() | {"MLFLOW_TRACKING_URI": store.uri}
    process = the_launcher().start_script(script, [], tmp_path, environment)
    written = tmp_path / "written"
    while not written.exists() or len(finished_chunks(store, ["c"])["c"]) < delivered:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    for _ in range(1200):  # the process that delivered may have some in hand still
        flush_outbox(store)
        if len(found := finished_chunks(store, ["c"])["c"]) >= 40:
            break
        time.sleep(0.05)
    assert sorted(found) == sorted(f"f{number}" for number in range(40))
    finished = store.search(f"tags.`{LEVEL}` = 'chunk' and attributes.status = 'FINISHED'")
    assert len(list(finished)) == 40


@pytest.mark.parametrize("lost", ["create_run", "log_batch", "set_terminated"])
def test_a_request_whose_answer_is_lost_leaves_no_run_running(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    deliver_here: Callable[[Path], int],
    lost: str,
) -> None:
    folder, parent = outbox(store), condition(store)
    done_by_client = getattr(MlflowClient, lost)
    calls = []

    def loses_the_first_answer(*args: object, **options: object) -> object:
        answer = done_by_client(*args, **options)
        calls.append(lost)
        if len(calls) == 1:
            raise ConnectionError("the answer was lost")
        return answer

    monkeypatch.setattr(MlflowClient, lost, loses_the_first_answer)
    (folder / "1.json").write_bytes(to_bytes([message(store, 1, parent)]))
    assert deliver_here(folder) == 0
    assert len(calls) >= 1
    chunks = f"tags.`{LEVEL}` = 'chunk'"
    statuses = sorted(run.info.status for run in store.search(chunks))
    assert statuses in (["FINISHED"], ["FINISHED", "KILLED"])
    assert len(list(store.search(f"{chunks} and attributes.status = 'FINISHED'"))) == 1


def test_runs_that_a_milestone_does_not_know_of_end_as_killed(store: Store) -> None:
    tags = {MILESTONE: "m9"}
    lost = RunWriter(store, tags).start("made, but the answer was lost", "condition", None, {}, {})
    of_another = RunWriter(store, {MILESTONE: "m8"}).start("m8", "milestone", None, {}, {})
    writer = RunWriter(store, tags)
    known = writer.start("m9", "milestone", None, {}, {})
    assert writer.kill_orphans("m9") == 1
    status = {run.info.run_id: run.info.status for run in store.search("")}
    assert status == {lost: "KILLED", known: "RUNNING", of_another: "RUNNING"}
