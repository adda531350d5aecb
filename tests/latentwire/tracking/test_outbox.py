"""Letters are delivered once, whatever happens to the processes and to the store."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from studies import dead_process

from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record, record_lines
from latentwire.tracking import deliver
from latentwire.tracking import outbox as module
from latentwire.tracking.left_behind import folder_name
from latentwire.tracking.outbox import (
    PATIENCE,
    Outbox,
    deliver_waiting,
    folder_of,
    from_file,
    letter,
    patience_s,
    to_bytes,
    waiting,
)
from latentwire.tracking.processes import own_process
from latentwire.tracking.resume import finished_chunks
from latentwire.tracking.runs import CHUNK, CONDITION, FINGERPRINT, LEVEL, MILESTONE, RunWriter
from latentwire.tracking.store import Store

RECORDS = [Record("q1", 0, "A", "A", True, 10, 2, 99, "Ä")]


def message(store: Store, number: int, parent: str, claimed: bool = True) -> module.Letter:
    tags = {FINGERPRINT: f"f{number}", CONDITION: "c", CHUNK: f"{number:05d}-{number + 1:05d}"}
    metrics = {"accuracy": 1, "seconds": 2.5}
    params = {"codec": "int8"}
    return letter(store, f"n{number}", parent, params, tags, metrics, RECORDS, 2.5, claimed)


def chunk_runs(store: Store) -> list[str]:
    return [run.info.run_name for run in store.search(f"tags.`{LEVEL}` = 'chunk'")]


def test_a_letter_becomes_a_whole_run(store: Store) -> None:
    parent = RunWriter(store, {}).start("c", "condition", None, {}, {})
    with Outbox(store) as outbox:
        path = outbox.put([message(store, 3, parent)])
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
        outbox.put([message(store, 2, parent)])
        outbox.wait()
    folder = folder_of(store.uri)
    # The process died when the second of three letters had become a run.
    left = [message(store, number, parent) for number in (1, 2, 3)]
    (folder / "1.json").write_bytes(to_bytes(left))
    deliver_waiting(store)
    assert sorted(chunk_runs(store)) == ["n1", "n2", "n3"] and waiting(folder) == []


def test_what_was_left_is_delivered_once(store: Store) -> None:
    parent = RunWriter(store, {}).start("c", "condition", None, {}, {})
    folder = folder_of(store.uri)
    folder.mkdir(parents=True)
    for number in (1, 2):
        (folder / f"{number}.json").write_bytes(to_bytes([message(store, number, parent)]))
    deliver_waiting(store)
    assert sorted(chunk_runs(store)) == ["n1", "n2"]
    # The process died after the run was whole and before the letter was deleted.
    (folder / "1.json").write_bytes(to_bytes([message(store, 1, parent)]))
    deliver_waiting(store)
    assert sorted(chunk_runs(store)) == ["n1", "n2"] and waiting(folder) == []


def test_what_a_kill_left_of_a_letter_goes(store: Store) -> None:
    """Of a process that lives, though it may be stopped, nothing is touched."""
    parent = RunWriter(store, {}).start("c", "condition", None, {}, {})
    for process, lives in ((dead_process(), False), (own_process(), True)):
        place = folder_of(store.uri) / folder_name(process, "1")
        place.mkdir(parents=True)
        (place / "2.json.part").write_bytes(b"half")
        (place / "1.json").write_bytes(to_bytes([message(store, 1, parent)]))
        deliver_waiting(store)
        assert [path.exists() for path in (place / "1.json", place / "2.json.part")] == [lives] * 2
    assert chunk_runs(store) == ["n1"]


def test_what_was_not_claimed_is_looked_for_first(store: Store) -> None:
    parent = RunWriter(store, {}).start("c", "condition", None, {}, {})
    with Outbox(store) as outbox:
        outbox.put([message(store, 1, parent)])
        outbox.wait()
        outbox.put([message(store, 1, parent, claimed=False)])
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
        outbox.put([message(store, 1, "p")])
    assert len(waiting(folder_of(away.uri))) == 1


def test_the_patience_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE, "soon")
    with pytest.raises(LatentWireError, match="PATIENCE_S=soon must be a number"):
        patience_s()


WRITER = """
    import sys, time
    from latentwire.tracking.outbox import Outbox
    from latentwire.tracking.runs import RunWriter
    from latentwire.tracking.store import open_store
    sys.path.insert(0, {tests!r})
    from test_outbox import message

    store = open_store("tests")
    parent = RunWriter(store, {{}}).start("c", "condition", None, {{}}, {{}})
    with Outbox(store) as outbox:
        for number in range(20):
            outbox.put([message(store, 2 * number + part, parent) for part in (0, 1)])
            print(number, flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("delay_s", [0.0, 2.5, 3.5])
def test_a_killed_writer_loses_and_repeats_nothing(store: Store, delay_s: float) -> None:
    program = textwrap.dedent(WRITER).format(tests=str(Path(__file__).parent))
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for number in range(20):
        assert process.stdout.readline() == f"{number}\n"
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deliver_waiting(store)
    found = finished_chunks(store, ["c"])["c"]
    assert sorted(found) == sorted(f"f{number}" for number in range(40))
    finished = store.search(f"tags.`{LEVEL}` = 'chunk' and attributes.status = 'FINISHED'")
    assert len(list(finished)) == 40


@pytest.mark.parametrize("lost", ["create_run", "log_batch", "set_terminated"])
def test_a_request_whose_answer_is_lost_leaves_no_run_running(
    store: Store, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    parent = RunWriter(store, {}).start("c", "condition", None, {}, {})
    folder = folder_of(store.uri)
    folder.mkdir(parents=True)
    reading, writing = os.pipe()
    done_by_client = getattr(MlflowClient, lost)
    calls = []

    def loses_the_first_answer(*args: object, **options: object) -> object:
        answer = done_by_client(*args, **options)
        calls.append(lost)
        if len(calls) == 1:
            raise ConnectionError("the answer was lost")
        return answer

    def ends_when_all_is_delivered(seconds: float) -> bool:
        if not waiting(folder) and writing not in closed:
            closed.append(writing)
            os.close(writing)
        return ended(seconds)

    closed: list[int] = []
    ended = deliver._ended
    with os.fdopen(reading) as standard_input:
        monkeypatch.setattr("sys.stdin", standard_input)
        monkeypatch.setattr(MlflowClient, lost, loses_the_first_answer)
        monkeypatch.setattr(deliver, "_ended", ends_when_all_is_delivered)
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        (folder / "1.json").write_bytes(to_bytes([message(store, 1, parent)]))
        assert deliver.main(folder, 60) == 0
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
    assert writer.mark_strays("m9") == 1
    status = {run.info.run_id: run.info.status for run in store.search("")}
    assert status == {lost: "KILLED", known: "RUNNING", of_another: "RUNNING"}
