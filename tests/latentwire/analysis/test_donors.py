"""Rows of a curve whose questions got several other questions' messages."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_questions import make_questions
from scipy.stats import binomtest, rankdata
from statsmodels.stats.contingency_tables import mcnemar

from latentwire.analysis.comparison_columns import receiver_columns
from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.estimates import of_difference
from latentwire.analysis.paired_scores import (
    PairedScores,
    compare,
    compare_with_donors,
    own_rank_p,
)
from latentwire.analysis.stats import ALPHA, Score
from latentwire.tasks.question import derange

Make = Callable[..., ConditionResult]
KEYS = "ABCD" * 10


HALVES = slice(None, 20), slice(20, None)


def letters(seed: int, right: float) -> str:
    """Answers to KEYS of which so many are right, and others any letter."""
    draw = np.random.default_rng(seed)
    return "".join(k if draw.random() < right else "ABCD"[draw.integers(4)] for k in KEYS)


def donors(condition: Make, count: int, right: float = 0.2, **more: Any) -> list[ConditionResult]:
    return [
        condition(
            letters(n, right), answers=KEYS, control="deranged", donor=n,
            donors=KEYS[n:] + KEYS[:n], **more,
        )
        for n in range(1, count + 1)
    ]  # fmt: skip


def row_of(*results: ConditionResult) -> dict[str, Any]:
    frame = build_curve(results)
    (row,) = frame[frame["system"] == "c2c"].to_dict("records")
    return {str(name): value for name, value in row.items()}


def values(result: ConditionResult) -> np.ndarray:
    return np.array([record.correct for record in result.records], float)


def test_gains_are_averaged_over_donors(condition: Make) -> None:
    own, lent = condition(letters(9, 0.7), answers=KEYS), donors(condition, 3)
    alone = condition(letters(8, 0.4), answers=KEYS, system="receiver")
    row = row_of(own, alone, *lent)
    mean = np.mean([values(each) for each in lent], axis=0)
    assert row["donors"] == 3 and row["deranged_examples"] == row["pairing_examples"] == 40
    assert row["deranged_score"] == row["deranged_accuracy"] == pytest.approx(mean.mean())
    assert row["pairing_gain"] == pytest.approx((values(own) - mean).mean())
    assert row["harm"] == pytest.approx((values(alone) - mean).mean())
    assert row["gain_over_receiver"] == pytest.approx((values(own) - values(alone)).mean())
    counts = [((values(own) - values(alone)) == sign).sum() for sign in (1, -1)]
    assert row["gain_over_receiver_p"] == mcnemar([[0, counts[0]], [counts[1], 0]]).pvalue
    changed = [
        np.mean([a.predicted != b.predicted for a, b in zip(own.records, d.records, strict=True)])
        for d in lent
    ]
    assert row["influence"] == pytest.approx(np.mean(changed))
    # Their third shift has the key of another letter for every question, the fourth has none.
    assert row["key_collisions"] == 0
    assert row_of(own, alone, *donors(condition, 4))["key_collisions"] == 40
    # About as a t-interval of the question's differences.
    each = values(own) - mean
    reach = 2.02 * each.std(ddof=1) / math.sqrt(40)
    ends = (row["pairing_gain_low"], row["pairing_gain_high"])
    assert ends == pytest.approx((each.mean() - reach, each.mean() + reach), abs=0.07)


def test_more_donors_earn_a_smaller_interval(condition: Make) -> None:
    own = condition(letters(9, 0.6), answers=KEYS)
    widths = []
    for count in (1, 2, 4):
        row = row_of(own, *donors(condition, count))
        widths.append(row["pairing_gain_high"] - row["pairing_gain_low"])
        assert row["own_rank_p"] < 0.05 and row["pairing_p"] < 0.05
    assert widths[0] > widths[1] > widths[2]


def test_with_one_donor_everything_is_as_of_two_conditions(condition: Make) -> None:
    own, lent = condition(letters(9, 0.5), answers=KEYS), donors(condition, 1)[0]
    row = row_of(own, lent)
    unnumbered = row_of(own, replace(lent, donor=1))
    assert row == pytest.approx(unnumbered, nan_ok=True) and row["donors"] == 1
    apart = [
        (a.correct, b.correct)
        for a, b in zip(own.records, lent.records, strict=True)
        if a.correct != b.correct
    ]
    first = sum(a for a, _ in apart)
    assert row["pairing_p"] == binomtest(first, len(apart), 0.5).pvalue
    assert row["own_rank_p"] == pytest.approx(row["pairing_p"])


def test_a_donor_with_the_own_key_says_nothing_of_following(condition: Make) -> None:
    """Own answers right, donors' answers the donor's key: where the two are one, both are right."""
    lent = condition("AABBAABB", answers="AAAAAAAA", control="deranged", donors="AABBAABB")
    row = row_of(condition("AAAAAAAA"), lent)
    assert (row["key_collisions"], row["pairing_gain"]) == (4, 0.5)
    assert row["pairing_gain_distinct_keys"] == 1
    assert row["pairing_gain_distinct_keys_p"] == 2 / 2**4


def test_a_started_donor_changes_nothing(condition: Make) -> None:
    own, lent = condition(letters(9, 0.5), answers=KEYS), donors(condition, 2)
    whole = row_of(own, *lent)
    part = replace(lent[1], donor=3, records=lent[1].records[:7])
    assert row_of(own, *lent, part) == pytest.approx(whole, nan_ok=True)


def test_an_interval_of_several_donors_excludes_what_its_test_rejects() -> None:
    for seed in range(25):
        draw = np.random.default_rng(seed)
        own = {f"q{n}": Score(float(draw.random() < 0.35 + seed / 100)) for n in range(60)}
        lent = [{name: float(draw.random() < 0.35) for name in own} for _ in range(3)]
        found = of_difference(compare_with_donors(own, lent))
        assert found.p is not None and found.low < found.value < found.high
        assert (found.p < ALPHA) == (not found.low <= 0 <= found.high)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 3, st.sampled_from("xyz")),
        min_size=1,
        max_size=12,
    ),
    st.booleans(),
)
def test_differences_have_a_width(rows: list[tuple[Any, ...]], clustered: bool) -> None:
    sides = [
        {f"q{n}": Score(row[side], row[3] if clustered else "") for n, row in enumerate(rows)}
        for side in range(3)
    ]
    for compared in (compare(*sides[:2]), compare_with_donors(sides[0], sides[1:])):
        found = of_difference(compared)
        assert found.p is not None and found.low < found.high
        assert found.low <= found.value <= found.high
        assert (found.p < ALPHA) == (not found.low <= 0 <= found.high)


def test_questions_of_a_passage_are_dealt_together() -> None:
    """Copies of a question, known as such, prove no more."""
    own = {f"q{n}": float(n % 4 > 0) for n in range(20)}
    lent = [{name: float(name[1:].isdigit() and int(name[1:]) % 3 == d) for name in own}
            for d in range(2)]  # fmt: skip
    once = compare_with_donors(own, lent)
    copied = compare_with_donors(
        {f"{name}-{c}": Score(value, name) for name, value in own.items() for c in range(3)},
        [{f"{n}-{c}": v for n, v in each.items() for c in range(3)} for each in lent],
    )
    assert isinstance(once, PairedScores) and isinstance(copied, PairedScores)
    assert copied.exact_p == pytest.approx(once.exact_p)


def test_high_ranks_are_no_gain_where_the_mean_is_none() -> None:
    """Own scores a little above the donors' in nine of ten questions, and far below in the tenth:
    the ranks reject that messages are exchangeable, and no gain is shown."""
    own = {f"q{n}": Score(0.5 if n % 10 else 0.0) for n in range(200)}
    lent = [{n: (0.45, 0.45 + 0.001 * k)[bool(s)] for n, s in own.items()} for k in range(4)]
    rank = own_rank_p(own, lent)
    found = of_difference(compare_with_donors(own, lent))
    assert rank is not None and rank < 1e-6
    assert abs(found.value) < 0.003 and found.p is not None
    assert found.p >= ALPHA and found.low <= 0 <= found.high


def test_ranks_of_right_and_wrong_are_the_difference_of_means() -> None:
    """Where all questions have all donors: the ranks' sum less its mean is half the number of
    donors times the sum of the differences."""
    draw = np.random.default_rng(3)
    scores = draw.integers(0, 2, (50, 5)).astype(float)  # the own score first
    ranks = np.apply_along_axis(rankdata, 1, scores)
    difference = scores[:, 0] - scores[:, 1:].mean(1)
    assert (ranks[:, 0] - 3).sum() == pytest.approx(2 * difference.sum())


def test_harm_is_no_more_certain_for_donors_that_are_alike() -> None:
    """Four messages that all give one answer say no more than one of them does."""
    alone = {f"q{n}": n % 10 < 6 for n in range(100)}
    wrong = {f"q{n}": n % 5 in (0, 4) for n in range(100)}
    once, copied = (receiver_columns({}, [wrong] * count, alone) for count in (1, 4))
    assert copied["harm"] == once["harm"] == pytest.approx(0.2)
    assert once["harm_p"] == pytest.approx(copied["harm_p"], rel=0.25)


def test_who_computed_which_chunk_first_changes_no_number(condition: Make) -> None:
    """Of all columns: some are drawn by chance, and sums round by their order."""
    whole = [condition(letters(0, 0.7), answers=KEYS), *donors(condition, 3)]
    parts = [replace(each, records=each.records[at]) for each in whole for at in HALVES]
    order = np.random.default_rng(1).permutation(len(parts))
    turned = [replace(parts[n], records=parts[n].records[::-1]) for n in order]
    pd.testing.assert_frame_equal(build_curve(parts), build_curve(turned), check_exact=True)


def test_a_question_is_no_donor_of_its_own(condition: Make) -> None:
    """Where there is no other message to lend, there is no gain, and none of 0."""
    own, lent = condition("A"), condition("A", control="deranged", donors="A")
    itself = replace(lent, records=(replace(lent.records[0], donor_id="set:0"),))
    row = row_of(own, itself)
    assert row["donors"] == row["pairing_examples"] == 0 and math.isnan(row["pairing_gain"])
    own, lent = condition("AAB"), condition("AAB", control="deranged", donors="AAA")
    shared = [replace(each, cluster="passage") for each in own.records]
    first = [replace(each, cluster="passage", donor_id="set:0") for each in lent.records]
    row = row_of(replace(own, records=tuple(shared)), replace(lent, records=tuple(first)))
    assert row["pairing_examples"] == 0


@pytest.mark.parametrize("count", [2, 3, 40])
def test_small_sets_and_sets_of_one_length_have_other_donors(count: int) -> None:
    asked = make_questions([7] * count)
    for number in range(1, min(count, 5)):
        for question, donor in zip(asked, derange(asked, 42, number), strict=True):
            assert donor.example.id != question.example.id
            assert len(donor.prompts.receiver_ids) == len(question.prompts.receiver_ids)
    assert derange(asked[:1], 42) == asked[:1]


def test_no_donor_is_no_gain(condition: Make) -> None:
    row = row_of(condition("AAB"), condition("AAA", system="receiver"))
    assert row["donors"] == 0 and row["receiver_examples"] == 3
    for name in ("pairing_gain", "own_rank_p", "harm", "influence", "bits_communicated"):
        assert math.isnan(row[name])
    assert row["gain_over_receiver"] == pytest.approx(-1 / 3)
    assert compare_with_donors({"a": True}, [{}, {}]).examples == 0
