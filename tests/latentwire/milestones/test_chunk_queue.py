"""Units of work, cut into parts and put together again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import CONDITIONS, make_plan, make_records, make_setting

from latentwire.session.chunk_queue import (
    WorkItem,
    WorkResult,
    merge_results,
    shared_out,
    work_items,
)
from latentwire.spec.condition import Condition


@given(start=st.integers(0, 1000), examples=st.integers(1, 400), count=st.integers(1, 9))
def test_parts_are_the_whole(start: int, examples: int, count: int) -> None:
    unit = WorkItem(make_setting(), (start, start + examples), CONDITIONS)
    parts = unit.cut(count)
    assert [n for part in parts for n in range(*part.span)] == [*range(start, start + examples)]
    sizes = [part.span[1] - part.span[0] for part in parts]
    assert len(parts) == min(count, examples) and max(sizes) - min(sizes) <= 1
    assert {(part.setting, part.conditions) for part in parts} == {(unit.setting, unit.conditions)}


def test_what_parts_gave_is_what_the_whole_gives() -> None:
    def done(span: tuple[int, int]) -> WorkResult:
        return WorkResult({c: make_records(make_plan(c), span) for c in CONDITIONS}, 0.5)

    joined = merge_results([done((0, 2)), done((2, 3)), done((3, 5))])
    assert joined.records == done((0, 5)).records
    assert joined.seconds == pytest.approx(1.5)


def parts(lengths: list[int], workers: int) -> list[list[int]]:
    """How many examples each part has, of units that are taken one behind the other."""
    units = [WorkItem(make_setting(), (0, length), CONDITIONS) for length in lengths]
    cuts = [shared_out(unit, units[at + 1 :], workers) for at, unit in enumerate(units)]
    return [[part.span[1] - part.span[0] for part in cut] for cut in cuts]


def test_no_part_is_more_than_a_workers_share_of_what_is_left() -> None:
    assert parts([500, 545], 2) == [[500], [272, 273]]
    assert parts([10, 10, 10, 10], 2) == [[10], [10], [10], [5, 5]]
    assert parts([40], 4) == [[10, 10, 10, 10]]
    assert parts([30, 6], 3) == [[10, 10, 10], [2, 2, 2]]
    assert parts([7, 7], 1) == [[7], [7]]


def test_what_competes_with_caches_comes_behind_them() -> None:
    letter, setting = Condition("letter", control="matched"), make_setting()
    cache = CONDITIONS[0]
    units = work_items([(setting, c, [(0, 2), (2, 4)]) for c in (letter, cache)])
    assert [(unit.span, unit.conditions) for unit in units] == [
        ((0, 2), (cache,)),
        ((2, 4), (cache,)),
        ((0, 2), (letter,)),
        ((2, 4), (letter,)),
    ]
