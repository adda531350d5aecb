from hypothesis import given
from hypothesis import strategies as st

from latentwire.tracking.finished_chunks import Span, missing_spans

SIZE = 40


@st.composite
def spans(draw: st.DrawFn) -> list[Span]:
    pairs = draw(st.lists(st.tuples(st.integers(0, SIZE), st.integers(1, 12)), max_size=6))
    return [(start, min(start + length, SIZE)) for start, length in pairs if start < SIZE]


def members(parts: list[Span]) -> list[int]:
    return [index for start, stop in parts for index in range(start, stop)]


@given(st.integers(1, 15), st.integers(1, SIZE), spans())
def test_exactly_what_is_missing_is_left(size: int, examples: int, finished: list[Span]) -> None:
    chunks = [(start, min(start + size, examples)) for start in range(0, examples, size)]
    rest = missing_spans(chunks, finished)
    wanted = sorted(set(members(chunks)) - set(members(finished)))
    assert members(rest) == wanted  # each once, in order
    assert all(start < stop for start, stop in rest)
    assert all(any(a <= start and stop <= b for a, b in chunks) for start, stop in rest)
