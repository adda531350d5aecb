import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, norm
from statsmodels.stats.contingency_tables import mcnemar

from latentwire.analysis.stats import (
    PairedOutcomes,
    mcnemar_p,
    paired_bootstrap_interval,
    paired_outcomes,
    wilson_interval,
)


def by_question(path: Path, dataset: str, scheme: str, ratio: float, order: str) -> dict[str, bool]:
    table = pd.read_csv(path)
    rows = table[
        (table["dataset"] == dataset)
        & (table["scheme"] == scheme)
        & (table["cache_proportion"] == ratio)
        & (table["order_mode"] == order)
    ]
    return {
        str(index): bool(correct)
        for index, correct in zip(rows["question_index"], rows["correct"], strict=True)
    }


@pytest.mark.parametrize(("correct", "examples"), [(0, 7), (7, 7), (3, 7), (264, 500), (634, 1150)])
def test_wilson_is_where_the_score_test_turns(correct: int, examples: int) -> None:
    # The interval holds the shares p that the score test does not reject:
    # |observed - p| <= z sqrt(p (1 - p) / n).
    interval = wilson_interval(correct, examples, confidence=0.95)
    shares = np.linspace(0, 1, 200_001)
    z = norm.ppf(0.975)
    kept = shares[
        np.abs(correct / examples - shares) <= z * np.sqrt(shares * (1 - shares) / examples) + 1e-12
    ]
    assert interval.low == pytest.approx(kept.min(), abs=1e-5)
    assert interval.high == pytest.approx(kept.max(), abs=1e-5)


def test_wilson_of_a_known_value() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), Table I, method 3: 81 of 263.
    low, high = wilson_interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_wilson_without_examples_is_unknown_and_nonsense_is_refused() -> None:
    assert all(math.isnan(end) for end in wilson_interval(0, 0))
    for correct, examples in ((-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="impossible"):
            wilson_interval(correct, examples)


def test_outcomes_are_counted_over_the_common_questions_only() -> None:
    first = {"a": True, "b": True, "c": False, "d": False, "only here": True}
    second = {"d": False, "c": True, "b": False, "a": True, "only there": True}
    assert paired_outcomes(first, second) == PairedOutcomes(1, 1, 1, 1)
    assert paired_outcomes(first, second).difference == 0
    assert paired_outcomes({"a": True, "b": True}, {"a": False, "b": True}).difference == 0.5
    assert math.isnan(paired_outcomes(first, {}).difference)


def test_bootstrap_equals_every_possible_resample() -> None:
    # Four questions can be drawn in 4^4 equally likely ways: the resamples' exact distribution.
    differences = (1, 1, 0, -1)
    sums = Counter(sum(draw) / 4 for draw in itertools.product(differences, repeat=4))
    exact = np.repeat(list(sums), list(sums.values()))
    outcomes = PairedOutcomes(both=1, only_first=2, only_second=1, neither=0)
    for confidence in (0.5, 0.8, 0.95):
        tail = (1 - confidence) / 2
        expected = np.quantile(exact, [tail, 1 - tail])
        interval = paired_bootstrap_interval(outcomes, resamples=100_000, confidence=confidence)
        assert interval == pytest.approx(tuple(expected))


def test_bootstrap_agrees_with_scipy_on_published_answers(shared_dir: Path) -> None:
    path = shared_dir / "reference" / "published_per_question.csv"
    first = by_question(path, "arc_c", "int8", 0.5, "back")
    second = by_question(path, "arc_c", "int8", 0.5, "front")
    outcomes = paired_outcomes(first, second)
    assert outcomes.examples == 1150
    assert outcomes.difference == pytest.approx((658 - 532) / 1150)

    samples = [
        np.array([answers[key] for key in first], dtype=float) for answers in (first, second)
    ]
    reference = bootstrap(
        samples,
        lambda a, b, axis=-1: a.mean(axis) - b.mean(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=4000,
        batch=500,
        rng=np.random.default_rng(1),
    ).confidence_interval
    interval = paired_bootstrap_interval(outcomes)
    # The ends of two independent bootstraps scatter by about 0.001 here.
    assert interval == pytest.approx((reference.low, reference.high), abs=0.004)


def test_bootstrap_is_seeded_and_has_no_width_where_nothing_differs() -> None:
    outcomes = PairedOutcomes(200, 90, 60, 150)
    assert paired_bootstrap_interval(outcomes) == paired_bootstrap_interval(outcomes)
    other = paired_bootstrap_interval(outcomes, seed=1, resamples=100)
    assert paired_bootstrap_interval(outcomes) != other
    assert paired_bootstrap_interval(PairedOutcomes(30, 0, 0, 20)) == (0, 0)
    empty = paired_bootstrap_interval(PairedOutcomes(0, 0, 0, 0))
    assert all(math.isnan(end) for end in empty)


@pytest.mark.parametrize(("first", "second"), [(1, 0), (2, 9), (9, 2), (5, 5), (40, 71)])
def test_mcnemar_sums_the_binomial_tail(first: int, second: int) -> None:
    differing, fewer = first + second, min(first, second)
    tail = sum(math.comb(differing, k) for k in range(fewer + 1)) / 2**differing
    expected = min(1.0, 2 * tail)
    assert mcnemar_p(PairedOutcomes(10, first, second, 10)) == pytest.approx(expected)


def test_mcnemar_agrees_with_statsmodels_on_published_answers(shared_dir: Path) -> None:
    path = shared_dir / "reference" / "published_per_question.csv"
    first = by_question(path, "openbookqa", "int8", 0.1, "back")
    second = by_question(path, "openbookqa", "int8", 0.1, "front")
    outcomes = paired_outcomes(first, second)
    table = [
        [outcomes.both, outcomes.only_first],
        [outcomes.only_second, outcomes.neither],
    ]
    assert mcnemar_p(outcomes) == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert mcnemar_p(outcomes) < 0.001


def test_mcnemar_of_equal_conditions_is_one() -> None:
    assert mcnemar_p(PairedOutcomes(3, 0, 0, 4)) == 1.0
