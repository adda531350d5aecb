"""Bootstrap intervals of differences, against every possible resample and against scipy."""

import itertools
import math
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from answers_of_conditions import by_question
from scipy.stats import bootstrap

from latentwire.analysis.bootstrap import BLOCK, paired_bootstrap_intervals
from latentwire.analysis.stats import Interval, Outcomes


def answers(letters: str) -> Outcomes:
    """ "10-" is question 0 right, 1 wrong, 2 not asked."""
    return {f"q{place}": letter == "1" for place, letter in enumerate(letters) if letter != "-"}


def interval(first: Outcomes, second: Outcomes, **options: float) -> Interval:
    (only,) = paired_bootstrap_intervals([(first, second)], **options)  # type: ignore[arg-type]
    return only


def test_equals_every_possible_resample() -> None:
    # Four questions can be drawn in 4^4 equally likely ways: the resamples' exact distribution.
    sums = Counter(sum(draw) / 4 for draw in itertools.product((1, 1, 0, -1), repeat=4))
    exact = np.repeat(list(sums), list(sums.values()))
    for confidence in (0.5, 0.8, 0.95):
        tail = (1 - confidence) / 2
        expected = np.quantile(exact, [tail, 1 - tail])
        found = interval(answers("1110"), answers("0011"), resamples=100_000, confidence=confidence)
        assert found == pytest.approx(tuple(expected))


def test_agrees_with_scipy_on_published_answers(shared_dir: Path) -> None:
    path = shared_dir / "reference" / "published_per_question.csv"
    conditions = [(0.5, "back"), (0.5, "front"), (0.1, "back")]
    first, *others = (by_question(path, "arc_c", "int8", *condition) for condition in conditions)
    found = paired_bootstrap_intervals([(first, other) for other in others])
    for other, own in zip(others, found, strict=True):
        reference = bootstrap(
            [np.array([each[key] for key in first], dtype=float) for each in (first, other)],
            lambda a, b, axis=-1: a.mean(axis) - b.mean(axis),
            paired=True,
            vectorized=True,
            method="percentile",
            n_resamples=4000,
            batch=500,
            rng=np.random.default_rng(1),
        ).confidence_interval
        # The ends of two independent bootstraps scatter by about 0.001 here.
        assert own == pytest.approx((reference.low, reference.high), abs=0.004)


def test_conditions_are_compared_on_the_same_resampled_questions() -> None:
    generator = np.random.default_rng(3)
    letters = ["".join(generator.choice(["0", "1"], size=60)) for _ in range(3)]
    one, two, three = map(answers, letters)
    grid = paired_bootstrap_intervals([(one, two), (two, one), (one, three)])
    # With draws of its own, the turned pair would not be the mirror image to the last resample.
    assert grid[1] == pytest.approx((-grid[0].high, -grid[0].low), abs=1e-12)
    # What else is compared, and in which order questions come, changes nothing.
    assert grid[2] == interval(dict(reversed(one.items())), three)
    assert grid[0] == interval(one, answers(letters[1] + "1"))


def test_is_seeded_and_counts_every_resample() -> None:
    first, second = answers("1101011100"), answers("0101100100")
    assert interval(first, second) == interval(first, second)
    few = [interval(first, second, resamples=BLOCK + 7, seed=seed) for seed in range(8)]
    assert len(set(few)) > 1
    # Of one resample both ends are that resample's difference, a multiple of a tenth.
    low, high = interval(first, second, resamples=1)
    assert low == high == pytest.approx(round(10 * low) / 10)


def test_without_differences_no_width_and_without_questions_nothing() -> None:
    assert interval(answers("1100"), answers("1100")) == (0, 0)
    found = paired_bootstrap_intervals(
        [(answers("1"), answers("-1")), (answers("1"), answers("0"))]
    )
    assert all(math.isnan(end) for end in found[0])
    assert found[1] == (1, 1)
    assert paired_bootstrap_intervals([]) == []


def test_a_whole_grid_takes_seconds() -> None:
    generator = np.random.default_rng(0)
    right = generator.random((30, 1650)) < 0.5
    conditions = [{f"q{n}": bool(one) for n, one in enumerate(row)} for row in right]
    began = time.process_time()
    found = paired_bootstrap_intervals([(each, conditions[0]) for each in conditions])
    assert time.process_time() - began < 5
    assert len(found) == 30 and found[0] == (0, 0) and found[1].low < found[1].high
