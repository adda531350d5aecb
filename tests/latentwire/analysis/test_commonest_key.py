"""What the keys alone give, in words."""

from collections.abc import Callable

import pytest

from latentwire.analysis.commonest_key import FEW, commonest_key
from latentwire.analysis.curve import ConditionResult, build_curve

Make = Callable[..., ConditionResult]


@pytest.mark.parametrize(("keys", "share"), [("ABA", "66.7"), ("AABBCCDDDD", "40.0")])
def test_of_few_questions_the_plain_share_is_said(condition: Make, keys: str, share: str) -> None:
    frame = build_curve([condition("A" * len(keys), answers=keys)])
    assert commonest_key(frame) == f"the commonest key is that of {share} % of these questions"


def test_of_many_the_rule_of_two_halves_is_named(condition: Make) -> None:
    keys = "AB" * (FEW // 2)  # A at even places, B at odd ones: each half has another
    frame = build_curve([condition("A" * FEW, answers=keys), condition("A", codec="int4")])
    assert commonest_key(frame) == (
        "always the commonest key (of the other half of the questions): 0.0 %"
    )
    older = frame.assign(commonest_key_share=float("nan"))
    assert commonest_key(older) == commonest_key(frame)
    assert commonest_key(older.assign(letter_prior_accuracy=float("nan"))) is None
    assert commonest_key(frame.iloc[:0]) is None
