import json
import subprocess
import sys
import textwrap
import threading

import pytest

from latentwire.tracking import claims as module
from latentwire.tracking.claims import Claims, read
from latentwire.tracking.runs import CLAIMS, HOST, PROCESS, RunWriter
from latentwire.tracking.store import Store


def milestone(store: Store) -> str:
    return RunWriter(store, {}).start("m", "milestone", None, {}, {})


def test_a_key_has_one_holder(store: Store) -> None:
    with Claims(store, milestone(store)) as first, Claims(store, milestone(store)) as second:
        assert first.take("a") and second.take("b")
        assert not second.take("a") and not first.take("b")
        assert second.of_others() == {"a"} and first.of_others() == {"b"}
        first.release(["a"])
        assert first.take("c")  # which tells the store
        assert second.take("a")


def test_claims_end_with_the_block_and_with_the_run(store: Store) -> None:
    ended = milestone(store)
    with Claims(store, milestone(store)) as first:
        with Claims(store, ended) as second:
            assert second.take("a")
        assert first.take("a")
        with pytest.raises(ZeroDivisionError), Claims(store, ended) as second:
            assert second.take("b")
            raise ZeroDivisionError
        assert not first.take("b")  # an interrupted one leaves that to whoever ends the run
        store.client.set_terminated(ended, "KILLED")
        assert first.take("b")


def test_a_dead_process_of_this_host_holds_nothing(store: Store) -> None:
    dead = milestone(store)
    text = json.dumps({"beat": 1, "keys": ["a"]})
    store.client.set_tag(dead, CLAIMS, text)
    store.client.set_tag(dead, PROCESS, "1@0.0")
    with Claims(store, milestone(store)) as claims:
        assert claims.take("a")


def test_elsewhere_a_heartbeat_that_stands_still_ends_a_claim(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    far = milestone(store)
    store.client.set_tag(far, HOST, "another-host")

    def beat(number: int) -> None:
        store.client.set_tag(far, CLAIMS, json.dumps({"beat": number, "keys": ["a"]}))

    beat(1)
    claims = Claims(store, milestone(store), lease_s=60)
    assert not claims.take("a")
    now[0] += 59
    beat(2)
    assert not claims.take("a")
    now[0] += 59
    assert not claims.take("a")
    now[0] += 2
    assert claims.take("a")
    beat(3)  # it was only slow: alive again
    assert claims.of_others() == {"a"}


def test_what_is_no_claim_is_passed_over() -> None:
    for text in (
        "",
        "x",
        "[]",
        '{"beat": "x", "keys": []}',
        '{"beat": 1}',
        '{"beat": 1, "keys": 3}',
    ):
        assert read({CLAIMS: text}) is None
    assert read({CLAIMS: '{"beat": 3, "keys": ["a"]}'}) == (3, ["a"])


def test_a_heartbeat_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.05)
    run_id = milestone(store)
    with Claims(store, run_id) as claims:
        claims.take("a")
        began = read(store.client.get_run(run_id).data.tags)
        for _ in range(100):
            threading.Event().wait(0.05)
            found = read(store.client.get_run(run_id).data.tags)
            if found != began:
                break
    assert began == (1, ["a"]) and found is not None and found[0] > 1


TAKER = """
    import sys, time
    from latentwire.tracking.claims import Claims
    from latentwire.tracking.runs import RunWriter
    from latentwire.tracking.store import open_store

    store = open_store("tests")
    run_id = RunWriter(store, {}).start("m", "milestone", None, {}, {})
    with Claims(store, run_id) as claims:
        print("ready", flush=True)
        sys.stdin.readline()
        for key in sys.argv[1:]:
            if claims.take(key):
                print(key, flush=True)
        print("end", flush=True)
        sys.stdin.readline()
"""


def test_processes_that_ask_at_the_same_instant_never_share_a_key(store: Store) -> None:
    keys = [f"key{number}" for number in range(12)]
    command = [sys.executable, "-c", textwrap.dedent(TAKER), *keys]
    takers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for taker in takers:
        assert taker.stdout is not None and taker.stdout.readline() == "ready\n"
    for taker in takers:
        assert taker.stdin is not None
        taker.stdin.write("\n")
        taker.stdin.flush()
    taken: list[str] = []
    for taker in takers:
        assert taker.stdout is not None
        taken += iter(taker.stdout.readline, "end\n")
    for taker in takers:
        taker.communicate("\n")
        assert taker.returncode == 0
    assert len(taken) == len(set(taken))
