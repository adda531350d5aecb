from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.report.warnings import _what_would_decide, warning_sentences

Make = Callable[..., ConditionResult]
KEYS = "ABCD" * 50
OTHERS = "BCDA" * 50


def sound(condition: Make) -> list[ConditionResult]:
    """Two codecs, all questions answered, half of them right, and nearly none with another's."""
    half = KEYS[:100] + OTHERS[100:]
    return [
        condition(answers, answers=KEYS, codec=codec, control=control)
        for codec in ("bf16", "int8")
        for answers, control in ((half, "matched"), (OTHERS, "deranged"))
    ]


def said(results: list[ConditionResult], **changes: dict[str, int] | list[str]) -> list[str]:
    identities = changes.pop("identities", {})
    assert isinstance(identities, dict)
    return warning_sentences(build_curve(results), identities, **changes)  # type: ignore[arg-type]


def test_sound_results_have_no_warnings_but_the_undecided_margin(condition: Make) -> None:
    (only,) = said(sound(condition))
    assert only.startswith("set, demo: int8: undecided whether the loss against 16 bits is below")
    assert "margin of 1 (percentage points), up to 381 questions would decide." in only


def test_one_letter_is_said(condition: Make) -> None:
    results = [*sound(condition), condition("A" * 200, answers=KEYS, system="receiver")]
    assert (
        "set, demo: receiver alone: the answer is one letter for at least 70 % of the questions;"
        " such an accuracy says little."
    ) in said(results)


def test_a_gain_that_is_not_shown_and_one_not_measured_are_said(condition: Make) -> None:
    results = [
        *sound(condition),
        condition(OTHERS, answers=KEYS, codec="int4"),
        condition(OTHERS, answers=KEYS, codec="int4", control="deranged"),
        condition(KEYS, answers=KEYS, codec="int8", keep_ratio=0.5, order="back"),
    ]
    sentences = said(results)
    assert any(s.startswith("set, demo: int4: no pairing gain is shown") for s in sentences)
    assert any(
        s.startswith("set, demo: int8 0.5 back: the deranged control was not run")
        for s in sentences
    )


def test_answers_that_run_to_the_limit_are_said(condition: Make) -> None:
    part = condition(KEYS, answers=KEYS, system="receiver")
    part = replace(part, records=tuple(replace(r, generated_tokens=64) for r in part.records))
    start = "set, demo: receiver alone: 200 of 200 answers ran to the limit of 64 tokens: "
    assert any(sentence.startswith(start) for sentence in said([*sound(condition), part]))


def test_unfinished_and_unparsed_answers_are_said(condition: Make) -> None:
    part = condition(KEYS[:150] + "-" * 50, answers=KEYS, codec="int4", total=300)
    sentences = said([part])
    assert "set, demo: int4: not all questions are answered yet." in sentences
    assert "set, demo: int4: more than 5 % of the outputs yield no letter." in sentences


def test_the_store_comes_first_and_what_is_missing_last(condition: Make) -> None:
    sentences = said(
        sound(condition),
        identities={"demo": 3, "other": 1},
        without_prompts=["arc_c (no network)"],
        disagreeing=["set"],
    )
    assert sentences[0].startswith("The store has answers of 3 identities of demo (")
    assert not any("identities of other" in sentence for sentence in sentences)
    assert sentences[-2] == "No prompts of arc_c (no network)."
    assert sentences[-1].startswith("The question set set at hand is not the one")


def test_long_lists_are_cut_and_counted(condition: Make) -> None:
    results = [condition("A" * 8, codec=f"codec{place}") for place in range(9)]
    (first, *_) = said(results)
    assert "codec0, codec1, codec2, codec3 and 5 more: the answer is one letter" in first


def test_what_is_undecided_by_the_correction_alone_is_not_told_to_ask_more() -> None:
    rows = pd.DataFrame({"questions_needed": [381.0, 381.0], "examples": [500, 500]})
    assert "each alone would be decided" in _what_would_decide(rows)
    assert "up to 934 questions" in _what_would_decide(rows.assign(questions_needed=[381.0, 934.0]))
    assert _what_would_decide(rows.assign(questions_needed=float("nan"))) == ""
