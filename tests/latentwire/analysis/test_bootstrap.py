"""Resampled questions, against every possible resample."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from latentwire.analysis.bootstrap import BLOCK, SEED, ResampledMean, draws


def test_each_resample_has_as_many_questions_as_there_are() -> None:
    blocks = list(draws(7, 2 * BLOCK + 3, 1))
    assert [block.shape for block in blocks] == [(BLOCK, 7), (BLOCK, 7), (3, 7)]
    assert all((block.sum(1) == 7).all() and (block >= 0).all() for block in blocks)


def test_every_resample_is_as_likely_as_it_is() -> None:
    # Three questions can be drawn in 3^3 equally likely ways.
    exact = Counter(
        tuple(draw.count(n) for n in range(3)) for draw in itertools.product(range(3), repeat=3)
    )
    drawn = Counter(tuple(map(int, row)) for block in draws(3, 54_000, 2) for row in block)
    assert drawn.keys() == exact.keys()
    for counts, ways in exact.items():
        # Five standard deviations of a binomial count of 54,000.
        expected = ways / 27
        reach = 5 * math.sqrt(54_000 * expected * (1 - expected))
        assert drawn[counts] == pytest.approx(54_000 * expected, abs=reach)


def test_is_seeded() -> None:
    one, again, other = (np.concatenate(list(draws(9, 20, seed))) for seed in (3, 3, 4))
    assert (one == again).all() and (one != other).any()


@pytest.mark.parametrize("score", [1, 0.3, 2.0**24 - 1])
def test_means_are_those_of_exact_sums(score: float) -> None:
    """Whole numbers may be added in float32, but not those whose sums it cannot hold."""
    scores = {f"{number:02d}": score * (number % 3 > 0) for number in range(40)}
    values = np.array([*scores.values(), 0, 1])
    means = [
        math.fsum(row * values) / len(values) for block in draws(42, 600, SEED) for row in block
    ]
    found = ResampledMean(scores, (0, 1), 600)
    assert found.deviation == pytest.approx(float(np.std(means)), rel=1e-12)
    assert found.interval() == pytest.approx((sorted(means)[14], sorted(means)[-15]), rel=1e-12)
