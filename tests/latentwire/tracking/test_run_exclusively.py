import threading
import time

import pytest

from latentwire.tracking import leases
from latentwire.tracking.leases import Leases, read, run_exclusively
from latentwire.tracking.runs import RunWriter
from latentwire.tracking.store import Store


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "POLL_S", 0.05)


def milestone(store: Store) -> str:
    return RunWriter(store, {}).start("m", "milestone", None, {}, {})


def test_what_is_found_is_not_made(store: Store) -> None:
    made = []

    def make(item: str) -> str:
        made.append(item)
        return f"new {item}"

    with Leases(store, milestone(store)) as leases:
        found = dict(run_exclusively(leases, ["a", "b", "c"], str, {"b": "old b"}.get, make))
        assert leases.take("a")  # nothing is held any more
    assert found == {"a": "new a", "b": "old b", "c": "new c"} and made == ["a", "c"]


def test_what_another_has_in_hand_is_waited_for_and_found(store: Store) -> None:
    there: dict[str, str] = {}
    with Leases(store, milestone(store)) as other, Leases(store, milestone(store)) as leases:
        assert other.take("a")

        def finish() -> None:
            time.sleep(0.5)
            there["a"] = "theirs"
            other.release(["a"])
            assert other.take("something else")  # which tells the store

        thread = threading.Thread(target=finish)
        thread.start()
        order = list(run_exclusively(leases, ["a", "b"], str, there.get, lambda item: "mine"))
        thread.join()
    assert order == [("b", "mine"), ("a", "theirs")]


def test_what_a_dead_process_had_in_hand_is_made(store: Store) -> None:
    dead = milestone(store)
    other = Leases(store, dead)
    assert other.take("a")
    threading.Timer(0.3, lambda: store.client.set_terminated(dead, "KILLED")).start()
    with Leases(store, milestone(store)) as leases:
        assert list(run_exclusively(leases, ["a"], str, {}.get, lambda item: 3)) == [("a", 3)]


def test_a_failure_leaves_the_claim_until_the_run_ends(store: Store) -> None:
    run_id = milestone(store)

    def fail(item: str) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Leases(store, run_id) as leases:
        list(run_exclusively(leases, ["a"], str, {}.get, fail))
    assert read(store.client.get_run(run_id).data.tags) == ["a"]


@pytest.mark.parametrize("to_the_end", [False, True])
def test_claims_may_last_as_long_as_the_run(store: Store, to_the_end: bool) -> None:
    run_id = milestone(store)
    with Leases(store, run_id) as leases, Leases(store, milestone(store)) as other:
        found = run_exclusively(
            leases, ["a"], str, {}.get, lambda item: 3, to_the_runs_end=to_the_end
        )
        assert list(found) == [("a", 3)]
        assert leases.take("b")  # which tells the store
        assert other.take("a") != to_the_end
        store.client.set_terminated(run_id)
        assert other.take("a")
