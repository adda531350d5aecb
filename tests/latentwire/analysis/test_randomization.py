"""Ranks and dealt tables, against every way that there is."""

import math
from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from statsmodels.stats.contingency_tables import mcnemar

from latentwire.analysis.randomization import dealt_anew, drawn_p, generator, rank_p

Rows = list[list[float]]


def by_enumeration(rows: Rows) -> float:
    """Each of a row in turn for the own one: every combination, counted."""
    ranks = [rankdata(row) for row in rows]
    sums = np.array([sum(chosen) for chosen in product(*ranks)])
    observed = sum(each[0] for each in ranks)
    return min(1.0, 2 * min((sums <= observed + 1e-9).mean(), (sums >= observed - 1e-9).mean()))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=4),
        min_size=1,
        max_size=6,
    )
)
def test_ranks_are_tested_exactly(rows: Rows) -> None:
    assert rank_p(rows) == pytest.approx(by_enumeration(rows))


def test_with_one_donor_it_is_the_exact_mcnemar_test() -> None:
    for first, second, alike in ((0, 0, 5), (9, 2, 40), (3, 3, 1), (60, 31, 1000)):
        rows: Rows = [[1, 0]] * first + [[0, 1]] * second + [[1, 1]] * alike
        expected = mcnemar([[alike, first], [second, 0]], exact=True).pvalue
        assert rank_p(rows) == pytest.approx(expected, rel=1e-9)


def test_large_samples_are_as_normal_as_they_should_be() -> None:
    """Of right and wrong with four donors: the variance is known in closed form."""
    draw = np.random.default_rng(3)
    rows = (draw.random((1150, 5)) < 0.4).astype(float)
    rows[:, 0] = draw.random(1150) < 0.43
    right = rows.mean(axis=1)
    # Whole numbers are half a step from the next one.
    away = abs(rows[:, 0].sum() - right.sum()) - 0.5
    normal = math.erfc(away / math.sqrt(2 * (right * (1 - right)).sum()))
    assert rank_p(rows.tolist()) == pytest.approx(normal, rel=0.05)
    assert rank_p([]) == 1 and rank_p([[0.3], [0.7]]) == 1


def test_tables_are_those_of_shuffled_columns() -> None:
    answers, keys = "AABBC", "ABABB"
    ways: Counter[tuple[int, ...]] = Counter()
    for shuffled in permutations(keys):
        pairs = Counter(zip(answers, shuffled, strict=True))
        ways[tuple(pairs[a, k] for a in "ABC" for k in "AB")] += 1
    table = np.zeros((3, 2), np.int64)
    for answer, key in zip(answers, keys, strict=True):
        table["ABC".index(answer), "AB".index(key)] += 1
    drawn = Counter(tuple(map(int, each.ravel())) for each in dealt_anew(table, generator()))
    assert drawn.keys() == ways.keys()
    for cells, count in ways.items():
        share = count / math.factorial(5)
        assert drawn[cells] / 9999 == pytest.approx(share, abs=5 * math.sqrt(share / 9999))


@pytest.mark.parametrize(
    "table", [[[3, 2, 4]], [[3], [2], [4]], [[7]], [[5, 1], [2, 9]], [[1, 0, 30], [2, 4, 1]]]
)
def test_tables_keep_their_sums(table: list[list[int]]) -> None:
    counts = np.array(table)
    drawn = dealt_anew(counts, generator())
    assert drawn.shape == (9999, *counts.shape) and (drawn >= 0).all()
    assert (drawn.sum(axis=1) == counts.sum(axis=0)).all()
    assert (drawn.sum(axis=2) == counts.sum(axis=1)).all()


def test_what_was_observed_is_one_of_those_drawn() -> None:
    drawn = np.array([0.0, 1.0, 2.0, 3.0])
    assert drawn_p(5, drawn, two_sided=False) == 1 / 5
    assert drawn_p(2.0, drawn, two_sided=False) == 3 / 5
    assert drawn_p(-1, drawn, two_sided=True) == 2 / 5
    assert drawn_p(1.5, drawn, two_sided=True) == 1
