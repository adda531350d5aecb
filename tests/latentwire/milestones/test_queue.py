"""Two processes, each with its own queue over one store."""

import time
from pathlib import Path

import pytest
from studies import CONDITIONS, make_plan, make_records, make_setting, start_condition, write_chunk

from latentwire.session import chunk_queue
from latentwire.session.chunk_queue import Queue, WorkItem, WorkResult, work_items
from latentwire.spec.condition import Condition
from latentwire.tracking.finished_chunks import Span
from latentwire.tracking.leases import Leases
from latentwire.tracking.runs import RunWriter
from latentwire.tracking.store import Store

TWO = CONDITIONS[:2]
HUNDRED = make_setting()


def queue(store: Store, size: int, stop: int = 40) -> Queue:
    """What a process has that lacks the first examples under two conditions."""
    run_id = RunWriter(store, {}).start("m", "milestone", None, {}, {})
    spans = [(start, start + size) for start in range(0, stop, size)]
    units = work_items([(HUNDRED, condition, spans) for condition in TWO])
    return Queue(store, Leases(store, run_id), units)


def finish(store: Store, condition: Condition, span: Span) -> None:
    plan = make_plan(condition, 100)
    writer = RunWriter(store, {})
    write_chunk(writer, start_condition(writer, "0" * 32, plan), plan, span)


def spans(units: list[WorkItem]) -> list[Span]:
    return [unit.span for unit in units]


def test_chunks_of_two_sizes_are_never_computed_at_the_same_time(store: Store) -> None:
    twenty, ten = queue(store, 20), queue(store, 10)
    first, second = twenty.take(), ten.take()
    assert first is not None and first.span == (0, 20)
    assert second is not None and second.span in ((20, 30), (30, 40))
    assert twenty.take() is None  # the other half of it is in other hands
    third = ten.take()
    assert third is not None and {second.span, third.span} == {(20, 30), (30, 40)}
    assert ten.take() is None


def test_nobody_waits_for_conditions_of_others(store: Store) -> None:
    """A slow codec held up every other one of the same pair."""
    slow, other, both = (queue(store, 20, 20) for _ in range(3))
    slow.units = [WorkItem(HUNDRED, (0, 20), TWO[:1])]
    other.units = [WorkItem(HUNDRED, (0, 20), TWO[1:])]
    assert slow.take() is not None and other.take() is not None
    assert both.take() is None and len(both.units) == 1


def test_what_was_finished_since_is_claimed_anew(store: Store) -> None:
    one = queue(store, 20, 20)
    finish(store, TWO[0], (0, 20))
    unit = one.take()
    assert unit is not None and unit.conditions == TWO[1:] and one.keeps(unit)
    other = queue(store, 20, 20)
    assert other.take() is None
    one.mark_submitted(unit, None)
    one.leases._write()
    again = other.take()
    assert again is not None and again.conditions == TWO[1:]


@pytest.mark.parametrize("cheap", [True, False])
def test_what_was_finished_in_chunks_of_another_size_is_not_computed(
    store: Store, monkeypatch: pytest.MonkeyPatch, cheap: bool
) -> None:
    """A search for each condition is made where somebody was seen to cut otherwise."""
    monkeypatch.setattr(chunk_queue, "is_cheap", lambda store: cheap)
    twenty, ten = queue(store, 20), queue(store, 10)
    assert ten.take() is not None and twenty.take() is not None
    for condition in TWO:
        finish(store, condition, (0, 10))
    ten.leases.release([WorkItem(HUNDRED, (0, 10), TWO).key])
    ten.leases._write()
    again = twenty.take()
    assert again is not None and again.span == (10, 20) and again.conditions == TWO


def test_what_each_condition_lacks_is_computed(store: Store) -> None:
    one = queue(store, 20, 20)
    finish(store, TWO[0], (5, 10))
    found = []
    while unit := one.take():
        found.append((unit.span, unit.conditions))
    assert found == [((0, 5), TWO[:1]), ((0, 20), TWO[1:]), ((10, 20), TWO[:1])]


def test_who_has_lost_the_claim_stores_what_is_still_missing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = queue(store, 20, 20)
    unit = one.take()
    assert unit is not None and one.keeps(unit) and one.still_wanted(unit) == [unit]
    finish(store, TWO[0], (0, 20))
    finish(store, TWO[1], (0, 15))
    assert one.still_wanted(unit) == [unit]
    later = time.time() + 1000  # it was stopped for so long
    monkeypatch.setattr("latentwire.tracking.leases.time.time", lambda: later)
    assert not one.keeps(unit)
    (part,) = one.still_wanted(unit)
    assert (part.span, part.conditions) == ((15, 20), TWO[1:])
    records = make_records(make_plan(TWO[1], 100), (0, 20))
    cut = WorkResult({TWO[1]: records}, 2.0).cut(unit.span, part.span)
    assert cut == WorkResult({TWO[1]: records[15:]}, 0.5)
    one.mark_submitted(unit, None)
    one.mark_submitted(unit, Path("nowhere"))


def test_finished_runs_that_cannot_be_read_do_not_count(store: Store) -> None:
    one = queue(store, 20, 20)
    for condition in TWO:
        finish(store, condition, (0, 20))
    chunks = store.search("tags.`latentwire.level` = 'chunk'")
    one.unreadable = {run.info.run_id for run in chunks}
    assert one.take() is not None
    assert queue(store, 20, 20).take() is None
