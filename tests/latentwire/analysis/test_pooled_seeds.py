"""Gains over trainings of several seeds, against the answers themselves."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from latentwire.analysis.curve import ConditionResult
from latentwire.analysis.noninferiority import difference_interval, equal_p
from latentwire.analysis.pooled_seeds import pooled_table, sentences
from latentwire.analysis.seeds_and_questions import compare_seeds

Make = Callable[..., ConditionResult]
N = 60


def trained(make: Make, seed: int, right: float, donors: int = 2) -> list[ConditionResult]:
    """A training's answers with the own messages and with those of some donors."""
    draw = np.random.default_rng(seed)
    letters = ["".join(draw.choice(["A", "B"], N, p=[p, 1 - p])) for p in (right, 0.3, 0.35)]
    pair = f"qwen+int8+seed{seed}"
    lent = [make(letters[n], pair=pair, control="deranged", donor=n) for n in range(1, 1 + donors)]
    return [make(letters[0], pair=pair), *lent]


def right(result: ConditionResult) -> np.ndarray:
    return np.array([record.correct for record in result.records], float)


def test_a_gain_is_pooled_over_seeds_donors_and_questions(condition: Make) -> None:
    by_seed = [trained(condition, seed, 0.55 + seed / 20) for seed in (1, 2, 3)]
    table = pooled_table([part for parts in by_seed for part in parts])
    (row,) = table.to_dict("records")
    assert (row["pair"], row["condition"], row["seeds"], row["examples"]) == (
        *("qwen+int8", "int8"),
        *(3, N),
    )
    own = [right(parts[0]) for parts in by_seed]
    lent = [np.mean([right(part) for part in parts[1:]], axis=0) for parts in by_seed]
    gains = [float((a - b).mean()) for a, b in zip(own, lent, strict=True)]
    assert row["pairing_gain"] == pytest.approx(np.mean(gains))
    assert (row["pairing_gain_min"], row["pairing_gain_max"]) == pytest.approx(
        (min(gains), max(gains))
    )
    assert row["score"] == pytest.approx(np.mean(own))
    sides = [[dict(enumerate(map(float, each))) for each in side] for side in (own, lent)]
    named = [[{str(n): s for n, s in each.items()} for each in side] for side in sides]
    found = compare_seeds(*named)
    ends = row["pairing_gain_low"], row["pairing_gain_high"]
    assert ends == pytest.approx(difference_interval(found))
    assert row["pairing_gain_p"] == row["pairing_gain_p_holm"] == pytest.approx(equal_p(found))
    (said,) = sentences(table)
    assert said.startswith("set, qwen+int8, int8: over 3 trainings of other seeds and 60 questions")


def test_only_whole_answers_of_several_seeds_are_pooled(condition: Make) -> None:
    one, other = (trained(condition, seed, 0.7) for seed in (1, 2))
    assert pooled_table(one).empty and not list(sentences(pooled_table(one)))
    assert pooled_table([*one, other[0]]).empty  # without another question's messages
    part = condition("A" * 9, pair="qwen+int8+seed2", total=N)
    assert pooled_table([*one, part, *other[1:]]).empty
    alone = [condition("A" * N, pair=name) for name in ("demo", "qwen")]
    assert len(pooled_table([*one, *other, *alone])) == 1


def test_a_calibration_belongs_to_its_seed(condition: Make) -> None:
    def calibrated(seed: int, name: str) -> list[ConditionResult]:
        return [replace(part, calibration=name * 64) for part in trained(condition, seed, 0.7)]

    plain = pooled_table([*trained(condition, 1, 0.7), *trained(condition, 2, 0.7)])
    one, other = calibrated(1, "a"), calibrated(2, "b")
    table = pooled_table([*one, *other])
    assert len(table) == 1 and table["seeds"].item() == 2
    assert table["pairing_gain"].item() == plain["pairing_gain"].item()
    # Half of an earlier calibration's answers do not matter; two that are whole say two things.
    part = replace(other[0], calibration="c" * 64, records=other[0].records[:9])
    assert len(pooled_table([*one, *other, part])) == 1
    assert pooled_table([*one, *other, *calibrated(2, "c")]).empty
    third = pooled_table([*one, *other, *calibrated(2, "c"), *calibrated(3, "d")])
    assert third["seeds"].item() == 2
