"""Trainings of several seeds, against min F' from two t-tests and against simulated truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t, ttest_1samp

from latentwire.analysis.noninferiority import difference_interval, equal_p, margin_test
from latentwire.analysis.paired_scores import compare
from latentwire.analysis.seeds_and_questions import PairedSeeds, compare_seeds
from latentwire.analysis.stats import ALPHA, Outcomes, Score


def sides(
    first: np.ndarray, second: np.ndarray, cluster: int = 0
) -> tuple[list[Outcomes], list[Outcomes]]:
    """Scores [seeds, questions] as outcomes; questions in groups of `cluster` share a passage."""
    one, other = (
        [
            {f"q{n}": Score(v, f"p{n // cluster}" if cluster else "") for n, v in enumerate(row)}
            for row in side
        ]
        for side in (first, second)
    )
    return list(one), list(other)


def drawn(seed: int, seeds: int, questions: int, shift: float = 0.0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    hard = draw.random(questions)
    return np.array(
        [draw.random(questions) < hard * 0.6 + 0.2 + shift for _ in range(seeds)], float
    )


def test_p_is_min_f_of_two_t_tests() -> None:
    first, second = drawn(1, 4, 50, 0.15), drawn(2, 4, 50)
    found = compare_seeds(*sides(first, second))
    assert isinstance(found, PairedSeeds)
    values = np.hstack([first - second, np.tile([1.0, -1.0], (4, 1))])
    by_question, by_seed = (ttest_1samp(values.mean(axis=axis), 0) for axis in (0, 1))
    f1, f2 = by_question.statistic**2, by_seed.statistic**2
    freedom = (f1 + f2) ** 2 / (f1**2 / by_seed.df + f2**2 / by_question.df)
    min_f = f1 * f2 / (f1 + f2)
    assert equal_p(found) == pytest.approx(2 * t.sf(np.sqrt(min_f), freedom))
    reach = t.isf(ALPHA / 2, freedom) * abs(values.mean()) / np.sqrt(min_f)
    ends = (values.mean() - reach, values.mean() + reach)
    assert difference_interval(found) == pytest.approx(ends)
    assert found.difference == pytest.approx((first - second).mean())
    test = margin_test(found, "non_inferior", 0.02)
    assert (test.p < ALPHA) == (difference_interval(found).low > -0.02)


def test_a_passage_is_one_observation() -> None:
    first, second = drawn(1, 3, 40, 0.2), drawn(2, 3, 40)
    whole = compare_seeds(*sides(first, second))
    copied = compare_seeds(
        *sides(np.repeat(first, 3, axis=1), np.repeat(second, 3, axis=1), cluster=3)
    )
    (low, high), (other_low, other_high) = map(difference_interval, (whole, copied))
    assert other_high - other_low == pytest.approx(high - low, rel=0.1)


def test_one_seed_is_two_conditions() -> None:
    first, second = sides(drawn(1, 1, 60, 0.2), drawn(2, 1, 60))
    assert compare_seeds(first, second) == compare(first[0], second[0])
    assert compare_seeds([{"a": True}, {}], [{"a": True}, {"a": True}]).examples == 0


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_the_interval_holds_the_truth_where_seeds_and_questions_are_drawn(spread: float) -> None:
    """A difference of 0 on average: each seed has its own, and each question."""
    held = 0
    for seed in range(200):
        draw = np.random.default_rng(seed)
        of_seed = draw.normal(0, spread, (4, 1))
        of_question = draw.normal(0, 0.2, (1, 80))
        first = 0.5 + of_seed + of_question + draw.normal(0, 0.2, (4, 80))
        found = compare_seeds(*sides(first, np.full((4, 80), 0.5)))
        low, high = difference_interval(found)
        held += low <= 0 <= high
    assert held >= 183  # fewer than 183 of 200 at 95 % happens about once in 80 times


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 4), st.integers(1, 6), st.data())
def test_intervals_have_a_width_and_agree_with_their_test(
    seeds: int, questions: int, data: st.DataObject
) -> None:
    rows = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=questions, max_size=questions)
    table = st.lists(rows, min_size=seeds, max_size=seeds)
    found = compare_seeds(*sides(np.array(data.draw(table)), np.array(data.draw(table))))
    low, high = difference_interval(found)
    assert low < high and low <= found.difference <= high
    assert (equal_p(found) < ALPHA) == (not low <= 0 <= high)
