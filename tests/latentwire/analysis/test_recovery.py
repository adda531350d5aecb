"""What came back, against values worked out by hand."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from latentwire.analysis.noninferiority import difference_interval
from latentwire.analysis.recovery import SeedOutcomes, recovery, recovery_table
from latentwire.analysis.stats import PairedOutcomes


def outcomes(*right: int) -> dict[str, bool]:
    return {f"q{place}": bool(each) for place, each in enumerate(right)}


def test_points_cost_and_points_that_come_back() -> None:
    first = SeedOutcomes(outcomes(1, 1, 1, 0), outcomes(0, 0, 1, 0), outcomes(1, 0, 1, 0))
    second = SeedOutcomes(outcomes(1, 1, 0, 0), outcomes(0, 1, 0, 0), outcomes(1, 1, 0, 1))
    found = recovery("set", "int2", [first, second])
    assert (found.seeds, found.questions) == (2, 4)
    assert found.accuracy_plain == 5 / 8 and found.accuracy_coded == 2 / 8
    assert found.accuracy_trained == 5 / 8
    assert found.cost == 3 / 8 and found.recovered == 3 / 8 and found.recovered_share == 1
    assert found.recovered_low < 0 < 3 / 8 < found.recovered_high and found.p > 0.05
    assert found.by_seed == ((3 / 4, 1 / 4, 2 / 4), (2 / 4, 1 / 4, 3 / 4))
    (row,) = recovery_table([found]).to_dict(orient="records")
    assert "by_seed" not in row and row["recovered_points"] == 37.5 and row["cost_points"] == 37.5
    assert row["recovered_points_low"] == pytest.approx(100 * found.recovered_low)
    assert row["p_holm"] == found.p


def test_the_test_of_one_seed_is_the_sign_test() -> None:
    """Every difference is of one size: flipping signs is tossing coins."""
    coded = [0] * 9 + [1] * 2 + [1] * 5
    trained = [1] * 9 + [0] * 2 + [1] * 5
    one = SeedOutcomes(outcomes(*trained), outcomes(*coded), outcomes(*trained))
    found = recovery("set", "int2", [one])
    assert found.p == pytest.approx(binomtest(2, 11).pvalue)
    low, high = difference_interval(PairedOutcomes(5, 9, 2, 0))
    assert (found.recovered_low, found.recovered_high) == (low, high)


def test_nothing_that_comes_back_is_told_from_chance() -> None:
    chance = np.random.default_rng(0)
    p = [
        recovery(
            "set",
            "int2",
            [
                SeedOutcomes(*(outcomes(*chance.integers(2, size=30)) for _ in range(3)))
                for s in range(3)
            ],
        ).p
        for _ in range(60)
    ]
    assert 0.4 < np.mean(p) < 0.75 and np.mean(np.less(p, 0.05)) < 0.12


def test_only_questions_that_all_answered_count() -> None:
    whole, part = outcomes(1, 0, 1), outcomes(1, 0)
    assert recovery("set", "int2", [SeedOutcomes(whole, part, whole)]).questions == 2
    with pytest.raises(ValueError, match="no question in common"):
        recovery("set", "int2", [SeedOutcomes(whole, {}, whole)])
    with pytest.raises(ValueError, match="no training"):
        recovery("set", "int2", [])


def test_a_codec_that_costs_nothing_has_no_share() -> None:
    same = outcomes(1, 0)
    found = recovery("set", "int8", [SeedOutcomes(same, same, same)])
    assert math.isnan(found.recovered_share) and found.p == 1
