"""Which points no other beats, against its definition."""

import math

from hypothesis import example, given
from hypothesis import strategies as st

from latentwire.analysis.pareto import pareto_front


@example([(1, 0.0), (1, math.nan), (1, 1.0)])
@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from([0.0, 1.0, 2.0, 3.0, float("nan")]))))
def test_the_front_is_what_no_point_beats(points: list[tuple[int, float]]) -> None:
    front = [points[place] for place in pareto_front([(float(a), b) for a, b in points])]
    real = [point for point in points if not math.isnan(point[1])]
    expected = {
        (cost, value)
        for cost, value in real
        if not any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in real)
    }
    assert front == sorted(expected)  # each once, by rising cost
