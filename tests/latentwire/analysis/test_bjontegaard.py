"""Bjontegaard's measure: its properties, a second implementation, and another library's values."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from latentwire.analysis.bjontegaard import (
    Curve,
    bytes_difference,
    curve,
    efficient,
    score_difference,
)

Floats = NDArray[np.float64]


@st.composite
def curves(draw: st.DrawFn, *, rising: bool = False) -> Curve:
    count = draw(st.integers(2, 7))
    sent = draw(st.lists(st.integers(1, 10**6), min_size=count, max_size=count, unique=True))
    right = draw(st.lists(st.integers(0, 500), min_size=count, max_size=count, unique=True))
    right, sent = (sorted(right), sorted(sent)) if rising else (right, sent)
    return curve(np.array(sent, float), np.array(right) / 500)


@given(curves())
def test_a_curve_is_as_good_as_itself(one: Curve) -> None:
    assert score_difference(one, one) == 0
    assert bytes_difference(one, one) == 0 or len(efficient(one).score) == 1


@given(curves(rising=True), st.floats(0.01, 100))
def test_bytes_that_are_f_times_as_many_are_f_minus_1_more(one: Curve, factor: float) -> None:
    more = Curve(one.wire_bytes * factor, one.score)
    assert bytes_difference(one, more) == pytest.approx(factor - 1, rel=1e-9, abs=1e-9)


@given(curves(), st.integers(-200, 200))
def test_scores_that_are_higher_by_so_much_are_that_much_higher(one: Curve, right: int) -> None:
    better = Curve(one.wire_bytes, one.score + right / 500)
    assert score_difference(one, better) == pytest.approx(right / 500, abs=1e-9)


@given(curves(), curves())
def test_the_other_way_round_is_the_opposite(one: Curve, other: Curve) -> None:
    there, back = score_difference(one, other), score_difference(other, one)
    assert there == -back or (math.isnan(there) and math.isnan(back))
    there, back = bytes_difference(one, other), bytes_difference(other, one)
    assert math.isnan(there) == math.isnan(back)
    if not math.isnan(there):
        assert math.log1p(there) == pytest.approx(-math.log1p(back), abs=1e-9)


def slopes(x: Floats, y: Floats) -> list[float]:
    """Fritsch and Butland's, with the three-point ends of Moler's `pchiptx`."""
    h, d = np.diff(x), np.diff(y) / np.diff(x)
    if len(d) == 1:
        return [d[0], d[0]]

    def end(h0: float, h1: float, d0: float, d1: float) -> float:
        slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
        if np.sign(slope) != np.sign(d0):
            return 0.0
        return 3 * d0 if np.sign(d0) != np.sign(d1) and abs(slope) > abs(3 * d0) else slope

    inner = []
    for (h0, h1), (d0, d1) in zip(pairwise(h), pairwise(d), strict=True):
        one, other = 2 * h1 + h0, h1 + 2 * h0
        inner.append(0.0 if d0 * d1 <= 0 else (one + other) / (one / d0 + other / d1))
    return [end(h[0], h[1], d[0], d[1]), *inner, end(h[-1], h[-2], d[-1], d[-2])]


def at(x: Floats, y: Floats, places: Floats) -> Floats:
    m = np.array(slopes(x, y))
    i = np.clip(np.searchsorted(x, places) - 1, 0, len(x) - 2)
    h = x[i + 1] - x[i]
    t = (places - x[i]) / h
    return (
        (1 + 2 * t) * (1 - t) ** 2 * y[i] + t * (1 - t) ** 2 * h * m[i]
        + t**2 * (3 - 2 * t) * y[i + 1] + t**2 * (t - 1) * h * m[i + 1]
    )  # fmt: skip


def by_sums(x: Floats, y: Floats, other_x: Floats, other_y: Floats) -> float:
    """The mean difference, summed up at many places (midpoint rule)."""
    low, high = max(x[0], other_x[0]), min(x[-1], other_x[-1])
    places = low + (high - low) * (np.arange(4000) + 0.5) / 4000
    return float((at(other_x, other_y, places) - at(x, y, places)).mean())


@given(curves(), curves())
def test_points_gained_against_a_sum_at_many_places(one: Curve, other: Curve) -> None:
    found = score_difference(one, other)
    assume(not math.isnan(found))
    logs = [np.log(each.wire_bytes) for each in (one, other)]
    assert found == pytest.approx(by_sums(logs[0], one.score, logs[1], other.score), abs=2e-3)


@given(curves(rising=True), curves(rising=True))
def test_bytes_at_equal_score_against_a_sum_at_many_places(one: Curve, other: Curve) -> None:
    found = bytes_difference(one, other)
    assume(not math.isnan(found))
    logs = [np.log(each.wire_bytes) for each in (one, other)]
    mean = by_sums(one.score, logs[0], other.score, logs[1])
    assert math.log1p(found) == pytest.approx(mean, abs=2e-2)


def test_against_another_library() -> None:
    """The example of the package bjontegaard 1.3.0, as `bd_rate` and `bd_psnr` (pchip) give it."""
    one = curve(
        np.array([9487.76, 4593.60, 2486.44, 1358.24]), np.array([40.037, 38.615, 36.845, 34.851])
    )
    other = curve(
        np.array([9787.80, 4469.00, 2451.52, 1356.24]), np.array([40.121, 38.651, 36.970, 34.987])
    )
    assert 100 * bytes_difference(one, other) == pytest.approx(-4.417485350589045, abs=1e-10)
    assert score_difference(one, other) == pytest.approx(0.11969278542479489, abs=1e-10)


def test_points_that_no_sender_would_choose_change_no_bytes() -> None:
    one = curve(np.array([100.0, 1000.0]), np.array([0.2, 0.8]))
    other = curve(np.array([200.0, 2000.0]), np.array([0.2, 0.8]))
    worse = curve(np.array([200.0, 900.0, 2000.0, 9000.0]), np.array([0.2, 0.1, 0.8, 0.7]))
    assert bytes_difference(one, worse) == bytes_difference(one, other) == pytest.approx(1)
    # At equal bytes they count, for that is what the curve has there.
    assert score_difference(one, worse) < score_difference(one, other) < 0


def test_what_shares_nothing_cannot_be_compared() -> None:
    low = curve(np.array([1.0, 10.0]), np.array([0.1, 0.2]))
    high = curve(np.array([10.0, 100.0]), np.array([0.2, 0.4]))  # they touch
    falling = curve(np.array([1.0, 10.0]), np.array([0.2, 0.1]))
    point = curve(np.array([5.0, 5.0]), np.array([0.1, 0.2]))
    for one, other in ((low, high), (high, low), (low, point), (point, low)):
        assert math.isnan(score_difference(one, other)) and math.isnan(bytes_difference(one, other))
    assert math.isnan(bytes_difference(falling, low)) and score_difference(falling, low) == 0


def test_a_curve_has_one_point_for_each_number_of_bytes() -> None:
    found = curve(np.array([7.0, 0.0, np.nan, 3.0, 7.0]), np.array([0.1, 0.9, 0.9, 0.3, 0.2]))
    assert found.wire_bytes.tolist() == [3, 7] and found.score.tolist() == [0.3, 0.2]
