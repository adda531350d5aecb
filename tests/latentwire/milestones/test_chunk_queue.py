"""Units of work, cut into parts and put together again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import CONDITIONS, make_plan, make_records, make_setting

from latentwire.session.chunk_queue import WorkItem, WorkResult, merge_results


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
