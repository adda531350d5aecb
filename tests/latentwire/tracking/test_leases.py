import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from launched import surroundings, the_launcher
from mlflow.entities import Run
from studies import dead_process, far_process

from latentwire.tracking import heartbeats
from latentwire.tracking import leases as claims_module
from latentwire.tracking.leases import Leases, read
from latentwire.tracking.processes import own_process
from latentwire.tracking.runs import CLAIMS, LEVEL, PROCESS_ID, RunWriter
from latentwire.tracking.store import Store


def milestone(store: Store) -> str:
    return RunWriter(store, {}).start("m", "milestone", None, {}, {})


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock, to be turned on."""
    clock = [time.monotonic()]
    for module in (claims_module, heartbeats):
        monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(heartbeats, "_seen", {})
    return clock


def raw(store: Store, run_id: str, text: str, process: str) -> None:
    """Claims of a process, as text."""
    store.client.set_tag(run_id, CLAIMS, text)
    store.client.set_tag(run_id, PROCESS_ID, process)


def test_a_key_has_one_holder(store: Store) -> None:
    with Leases(store, milestone(store)) as first, Leases(store, milestone(store)) as second:
        assert first.take("a") and second.take("b")
        assert not second.take("a") and not first.take("b")
        assert second.of_others().keys == {"a"} and first.of_others().keys == {"b"}
        first.release(["a"])
        assert first.take("c")  # which tells the store
        assert second.take("a")


def test_spans_that_overlap_have_one_holder(store: Store) -> None:
    with Leases(store, milestone(store)) as first, Leases(store, milestone(store)) as second:
        assert first.take("x:set:00000-00020")
        for taken in ("00000-00020", "00000-00010", "00010-00020", "00019-00030", "00000-00100"):
            assert not second.take(f"x:set:{taken}"), taken
        others = second.of_others()
        assert others.cuts("x:set:00010-00020") and not others.cuts("x:set:00000-00020")
        for free in ("x:set:00020-00040", "x:other:00000-00020", "y:set:00000-00020"):
            assert second.take(free), free
            assert not others.cuts(free)


def test_other_conditions_of_the_same_examples_have_holders_of_their_own(store: Store) -> None:
    with Leases(store, milestone(store)) as first, Leases(store, milestone(store)) as second:
        assert first.take("x:set#a0b1+c2d3:00000-00020")
        for taken in ("#c2d3", "#a0b1+ffff", ""):  # "": as an earlier version claims
            assert not second.take(f"x:set{taken}:00010-00030"), taken
        others = second.of_others()
        assert others.cuts("x:set#c2d3:00010-00030") and not others.cuts("x:set:00000-00020")
        for free in ("x:set#eeee:00000-00020", "x:set#a0b1:00020-00040"):
            assert second.take(free), free


def test_claims_end_with_the_block_and_with_the_run(store: Store) -> None:
    ended = milestone(store)
    with Leases(store, milestone(store)) as first, Leases(store, ended) as second:
        with second.until_done():
            assert second.take("a") and not first.take("a")
        assert first.take("a")
        with pytest.raises(ZeroDivisionError), second.until_done():
            assert second.take("b")
            raise ZeroDivisionError
        assert not first.take("b")  # an interrupted one leaves that to whoever ends the run
        store.client.set_terminated(ended, "KILLED")
        assert first.take("b")


def test_any_number_of_claims_is_readable(store: Store) -> None:
    """They overflowed one tag, which MLflow cuts: nobody could read it, and all was free."""
    keys = [f"{'f' * 24}:arc_c:{at:05d}-{at + 10:05d}" for at in range(0, 4000, 10)]
    run_id = milestone(store)
    with Leases(store, run_id) as many, Leases(store, milestone(store)) as other:
        for key in keys[:-1]:
            many._add(key)
        assert many.take(keys[-1])
        assert other.of_others().keys == set(keys) and not other.take(keys[200])
        tags = store.client.get_run(run_id).data.tags
        assert max(map(len, tags.values())) <= claims_module.PAGE_CHARACTERS
        many.release(keys[:200])
        assert many.take("more")
        assert other.of_others().keys == {*keys[200:], "more"}
        assert other.take(keys[0]) and not other.take(keys[-1])


def test_a_key_is_found_while_other_tags_are_being_written(store: Store) -> None:
    """Requests are carried out one by one: a reader may see some tags new and others old."""
    run_id = milestone(store)
    leases = Leases(store, run_id)
    keys = [f"{number:04d}{'k' * 60}" for number in range(150)]
    for key in keys:
        leases._add(key)
    leases._write()
    before = store.client.get_run(run_id).data.tags
    leases.release(keys[:75])
    for key in ("new", "newer"):
        leases._add(key)
    leases._write()
    after = store.client.get_run(run_id).data.tags
    names = [name for name in after if name.startswith(CLAIMS)]
    assert len(names) >= 3
    for torn in itertools.product((before, after), repeat=len(names)):
        found = read({n: tags[n] for n, tags in zip(names, torn, strict=True) if n in tags})
        assert found is not None and set(found) >= set(keys[75:])


def test_a_dead_process_of_this_host_holds_nothing(store: Store) -> None:
    dead = milestone(store)
    raw(store, dead, json.dumps({"beat": 1, "keys": ["a"]}), dead_process())
    with Leases(store, milestone(store)) as leases:
        assert leases.take("a")


@pytest.mark.parametrize("process", [far_process(), own_process(), ""], ids=["far", "own", "none"])
def test_a_heartbeat_that_stands_still_ends_a_claim(
    store: Store, now: list[float], process: str
) -> None:
    """Of a process elsewhere, of one of this machine that is stopped, of an earlier version."""
    far = milestone(store)

    def beat(number: int) -> None:
        raw(store, far, json.dumps({"beat": number, "keys": ["a"]}), process)

    beat(1)
    leases = Leases(store, milestone(store), lease_s=60)
    assert not leases.take("a")
    now[0] += 59
    beat(2)
    assert not leases.take("a")
    now[0] += 59
    assert not leases.take("a")
    now[0] += 2
    assert leases.take("a")
    beat(3)  # it was only slow: alive again
    assert leases.of_others().keys == {"a"}


def test_a_reader_that_was_stopped_takes_nobody_for_dead(
    store: Store, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    far = milestone(store)
    raw(store, far, json.dumps({"beat": 1, "keys": ["a"]}), far_process())
    leases = Leases(store, milestone(store), lease_s=60)
    assert not leases.take("a")
    usual = Store.search

    def stopped_behind_the_answer(self: Store, text: str) -> Iterator[Run]:
        found = list(usual(self, text))
        now[0] += 300
        return iter(found)

    now[0] += 10
    monkeypatch.setattr(Store, "search", stopped_behind_the_answer)
    assert "a" in leases.of_others()


def test_who_was_stopped_for_a_lease_knows_it(store: Store, now: list[float]) -> None:
    run_id = milestone(store)
    leases = Leases(store, run_id, lease_s=60)
    assert leases.take("a") and leases.keeps("a") and not leases.keeps("b")
    now[0] += 59
    assert leases.keeps("a")
    store.client.set_terminated(run_id, "KILLED")  # by somebody who took it for dead
    now[0] += 2
    assert leases.take("b")
    assert leases.keeps("b") and not leases.keeps("a")
    assert store.client.get_run(run_id).info.status == "RUNNING"


def test_a_machine_that_was_halted_knows_it_by_the_clock_on_the_wall(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = Leases(store, milestone(store), lease_s=60)
    assert leases.take("a")
    later = time.time() + 61
    monkeypatch.setattr(claims_module.time, "time", lambda: later)
    assert not leases.keeps("a")


def test_what_was_cut_may_hold_anything(store: Store, now: list[float]) -> None:
    """As an earlier version wrote more than 150 claims; until its process is gone."""
    for process, lives in ((far_process(), True), (dead_process(), False)):
        cut = milestone(store)
        raw(store, cut, '{"beat": 7, "keys": ["f:set:00000-00010", "f:set:000', process)
        own = milestone(store)
        leases = Leases(store, own, lease_s=60)
        assert leases.take("f:set:00400-00500") != lives
        now[0] += 61
        assert leases.take("f:set:00400-00500")
        for run_id in (cut, own):
            store.client.set_terminated(run_id)


@pytest.mark.parametrize(
    "text",
    ["[]", "3", '{"beat":1e400}', '{"beat": 1, "keys": 3}', '{"beat": "x", "keys": []}', "null"],
)
def test_what_no_version_writes_is_no_claim(store: Store, text: str) -> None:
    hostile = {LEVEL: "milestone", CLAIMS: text}
    store.client.create_run(store.experiment_id, 10**15, hostile)
    with Leases(store, milestone(store)) as leases:
        assert read({CLAIMS: text}) == []
        assert leases.take("a")


def test_a_run_that_no_process_writes_holds_nothing(store: Store) -> None:
    for text in ("{" * 5000, "[" * 5000, '{"beat": 1, "keys": ["a"', '{"beat": 1, "keys": ["a"]}'):
        store.client.create_run(store.experiment_id, None, {LEVEL: "milestone", CLAIMS: text})
    with Leases(store, milestone(store)) as leases:
        assert leases.take("a")


def test_a_heartbeat_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_module, "BEAT_S", 0.05)
    run_id = milestone(store)

    def written() -> str:
        return str(store.client.get_run(run_id).data.tags.get(CLAIMS))

    with Leases(store, run_id) as leases:
        leases.take("a")
        began = written()
        for _ in range(100):
            threading.Event().wait(0.05)
            if written() != began:
                break
    assert json.loads(written())["keys"] == ["a"]
    assert json.loads(written())["beat"] > json.loads(began)["beat"]


TAKER = """
import sys, time
from pathlib import Path
from latentwire.tracking.leases import Leases
from latentwire.tracking.runs import RunWriter
from latentwire.tracking.store import open_store

def wait_for(name):
    while not Path(name).exists():
        time.sleep(0.001)

own, *keys = sys.argv[1:]
store = open_store("tests")
run_id = RunWriter(store, {}).start("m", "milestone", None, {}, {})
with Leases(store, run_id) as claims:
    Path(f"ready {own}").touch()
    wait_for("go")
    taken = [key for key in keys if claims.take(key)]
    Path(f"asked {own}").touch()
    wait_for("end")
print(*taken)
"""


def test_a_heartbeat_that_waits_for_the_store_holds_up_nothing_else(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, began, back = threading.Event(), threading.Event(), threading.Event()
    write = type(store.client).log_batch

    def away(*args: object, **options: object) -> None:
        if taken.is_set() and threading.current_thread() is not threading.main_thread():
            began.set()
            assert back.wait(60)
        write(*args, **options)

    monkeypatch.setattr(claims_module, "BEAT_S", 0.01)
    monkeypatch.setattr(type(store.client), "log_batch", away)
    run_id = milestone(store)
    with Leases(store, run_id) as leases:
        assert leases.take("a")
        taken.set()
        assert began.wait(60)
        asked = threading.Thread(target=lambda: (leases.keeps("a"), leases.release(["a"])))
        asked.start()
        asked.join(10)
        waited = asked.is_alive()
        back.set()
        assert not waited
        assert leases.take("b") and not leases.keeps("a")
    assert read(store.client.get_run(run_id).data.tags) == ["b"]


def test_processes_that_ask_at_the_same_instant_never_share_a_key(
    store: Store, tmp_path: Path
) -> None:
    keys = [f"key{number}" for number in range(12)]
    script = tmp_path / "taker.py"
    script.write_text(TAKER)
    environment = surroundings() | {"MLFLOW_TRACKING_URI": store.uri}
    takers = [
        the_launcher().start_script(script, [str(number), *keys], tmp_path, environment)
        for number in range(3)
    ]
    for what, then in (("ready", "go"), ("asked", "end")):
        while len(list(tmp_path.glob(f"{what} *"))) < len(takers):
            assert all(taker.poll() in (None, 0) for taker in takers), takers[0].communicate()
            time.sleep(0.01)
        (tmp_path / then).touch()
    taken: list[str] = []
    for taker in takers:
        printed, err = taker.communicate()
        assert taker.returncode == 0, err
        taken += printed.split()
    assert taken and len(taken) == len(set(taken))
