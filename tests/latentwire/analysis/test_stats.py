import math
from pathlib import Path

import numpy as np
import pytest
from answers_of_conditions import by_question
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from latentwire.analysis.stats import (
    PairedOutcomes,
    holm,
    mcnemar_p,
    paired_outcomes,
    wilson_interval,
)


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


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_steps_down(p_values: list[float]) -> None:
    # By the definition: sorted, the k-th smallest times how many are left, never falling.
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    expected, largest = [0.0] * len(p_values), 0.0
    for done, place in enumerate(order):
        largest = max(largest, (len(p_values) - done) * p_values[place])
        expected[place] = min(1.0, largest)
    assert holm(p_values) == pytest.approx(expected)


def test_holm_of_a_grid() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    grid = [0.2, 1e-9, 0.013, 0.013, 0.9, 0.0, 0.051]
    assert holm(grid) == multipletests(grid, method="holm")[1].tolist()
