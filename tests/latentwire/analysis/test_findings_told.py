"""The sentences that a curve comes to."""

from collections.abc import Callable

import pytest

from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.findings_told import MOST_CODECS, findings

Make = Callable[..., ConditionResult]


def study(condition: Make, dataset: str = "set", **changes: object) -> list[ConditionResult]:
    """16 bits: 30 of 40 right, 10 deranged; int8 one less at half the bytes; int2 10 at an 8th."""

    def one(right: int, **others: object) -> ConditionResult:
        given = {"dataset": dataset, **changes, **others}
        return condition("A" * right + "B" * (40 - right), **given)

    return [
        one(20, system="receiver"),
        one(30, codec="bf16", wire_bytes=8000),
        one(10, codec="bf16", wire_bytes=8000, control="deranged"),
        one(29, codec="int8", wire_bytes=4000),
        one(10, codec="int2", kv_bits=2, wire_bytes=1000),
    ]


def test_a_sentence_holds_the_numbers_of_the_curve(condition: Make) -> None:
    frame = build_curve(study(condition))
    (said,) = findings(frame)
    assert said == (
        "set, demo: of 40 questions, the cache in 16 bits gets 75.0! [59.8, 85.8] % right"
        f" (receiver alone 50.0); int8: half the bytes, -2.5 {ends(frame, 'int8')} points;"
        f" int2: 13 % of the bytes, -50.0 {ends(frame, 'int2')} points;"
        " another question's cache scores 25.0!."
    )


def ends(frame: object, codec: str) -> str:
    (row,) = frame[frame["codec"] == codec].to_dict("records")  # type: ignore[index]
    low, high = (100 * row[f"bf16_difference_{end}"] for end in ("low", "high"))
    return f"[{low:+.1f}, {high:+.1f}]"


def test_what_is_incomplete_is_counted_and_not_told_of(condition: Make) -> None:
    whole = study(condition)
    tried = condition("A" * 7, codec="int4", total=40, wire_bytes=2000)
    (said,) = findings(build_curve([*whole, tried]))
    assert said == findings(build_curve(whole))[0].removesuffix(".") + (
        "; 1 condition is incomplete and not counted (n = 7)."
    )
    (said,) = findings(build_curve(study(condition, total=100)))
    assert said == (
        "set, demo: no whole cache in 16 bits (m0) has answered all 100 questions; 4 conditions"
        " are incomplete and not counted (n = 40)."
    )


def test_a_control_that_was_not_run_whole_is_said(condition: Make) -> None:
    own = condition("A" * 9, codec="bf16")
    assert "cache scores was not measured." in findings(build_curve([own]))[0]
    some = condition("B" * 4, codec="bf16", control="deranged", total=9)
    assert "is known of 4 questions only." in findings(build_curve([own, some]))[0]


def test_of_many_codecs_those_that_no_other_beats(condition: Make) -> None:
    bits = range(1, 2 * MOST_CODECS)
    many = [
        condition("A" * (20 + k) + "B" * (20 - k), codec=f"int{k}_x", kv_bits=k, wire_bytes=k)
        for k in bits
    ]
    beaten = condition("A" * 3 + "B" * 37, codec="int9_x", kv_bits=9, wire_bytes=900)
    (said,) = findings(build_curve([*study(condition)[:2], *many, beaten]))
    assert said.count(" points") == MOST_CODECS and "int9_x" not in said
    assert (
        f"; {1 + len(bits) - MOST_CODECS} more codecs: see the table" in said
    )  # the beaten one too


def test_the_set_on_which_codecs_differ_comes_first(condition: Make) -> None:
    alike = [condition("A" * 40, dataset="easy", codec=codec) for codec in ("bf16", "int8")]
    hard, easy = findings(build_curve([*alike, *study(condition, "hard")]))
    assert hard.startswith("hard, demo: ") and easy.startswith("easy, demo: ")


def test_published_answers_are_called_so(condition: Make) -> None:
    (said,) = findings(build_curve(study(condition, source="published")))
    assert said.startswith("set, demo, published answers: ")


@pytest.mark.parametrize("wire_bytes, said", [(4100, "half"), (1950, "a quarter"), (3000, "38 %")])
def test_shares_of_bytes_in_words(condition: Make, wire_bytes: int, said: str) -> None:
    own = condition("AAAB", codec="bf16", wire_bytes=8000)
    other = condition("AAAB", codec="int4", wire_bytes=wire_bytes)
    assert f"int4: {said}" in findings(build_curve([own, other]))[0]
