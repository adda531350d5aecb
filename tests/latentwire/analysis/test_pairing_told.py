"""Why there is no pairing gain: everywhere the same, and never "not run" of a control that was."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from latentwire.analysis.budget_figure import draw_budget_curve
from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.findings_told import findings
from latentwire.analysis.nearest import Wanted, choose
from latentwire.analysis.pairing_told import NOT_RUN, uncounted_sentences, why_no_gain
from latentwire.analysis.report.warnings import warning_sentences
from latentwire.analysis.run_description import description
from latentwire.analysis.table import render_table

Make = Callable[..., ConditionResult]
WHY = (
    "all 10 donors have prompts of another length, so their answers do not count for the pairing"
    " gain; with more questions, some may have an equal length"
)


def lent(condition: Make, letters: str, others: int, **changes: object) -> ConditionResult:
    """Answers to other questions' caches, the first so many of prompts of another length."""
    part = condition(letters, control="deranged", donors="B" * len(letters), **changes)
    told = [
        replace(record, donor_tokens=90 if place < others else None)
        for place, record in enumerate(part.records)
    ]
    return replace(part, records=tuple(told))


@pytest.fixture
def results(condition: Make) -> list[ConditionResult]:
    """Ten questions, none of which has a donor of its length."""
    own = condition("AAAAABBBBB", codec="bf16")
    return [own, lent(condition, "AB" * 5, 10, codec="bf16")]


def row(results: list[ConditionResult]) -> dict[str, object]:
    (only,) = build_curve(results).to_dict("records")
    return only  # type: ignore[return-value]


def words(text: str) -> str:
    return " ".join(text.split())


def test_what_is_missing_is_told_apart(condition: Make, results: list[ConditionResult]) -> None:
    assert why_no_gain(row(results)) == WHY
    assert why_no_gain(row(results[:1])) == NOT_RUN
    assert why_no_gain(row([results[0], lent(condition, "AB" * 5, 9, codec="bf16")])) is None
    one = [condition("A", codec="bf16"), lent(condition, "B", 1, codec="bf16")]
    assert str(why_no_gain(row(one))).startswith("the only donor has a prompt of another length,")
    silent = lent(condition, "AB" * 5, 6, codec="bf16")
    told = [replace(r, unanswered=None if r.donor_tokens else "refused") for r in silent.records]
    assert why_no_gain(row([results[0], replace(silent, records=tuple(told))])) == (
        "of 10 answers to another question's message none counts for the pairing gain (6 because"
        " its prompt has another length)"
    )


def test_all_say_the_same(results: list[ConditionResult]) -> None:
    frame = build_curve(results)
    figure = draw_budget_curve(frame, "set", "demo")
    (choice,) = choose(results, Wanted(most_bytes=1e9))
    said = {
        "picture": " ".join(text.get_text() for axes in figure.axes for text in axes.texts),
        "table": render_table(frame),
        "report": " ".join(warning_sentences(frame, {})),
        "findings": findings(frame)[0],
        "nearest": " ".join(choice.notes),
        "run": description("m2", frame, frame),
    }
    for where, text in said.items():
        assert WHY in words(text), where
        assert "not run" not in text and "was not asked" not in text, where


def test_a_control_that_was_not_run_is_no_footnote(results: list[ConditionResult]) -> None:
    frame = build_curve(results[:1])
    assert uncounted_sentences(frame) == []
    assert "no pairing gain" not in render_table(frame)


def test_some_conditions_are_named(condition: Make, results: list[ConditionResult]) -> None:
    more = [condition("A" * 10, codec="int8"), lent(condition, "B" * 10, 0, codec="int8")]
    frame: pd.DataFrame = build_curve([*results, *more])
    assert uncounted_sentences(frame) == [f"no pairing gain of bf16: {WHY}"]


def test_a_gain_of_some_questions_says_of_how_many(
    condition: Make, results: list[ConditionResult]
) -> None:
    some = [results[0], lent(condition, "AB" * 5, 3, codec="bf16")]
    frame = build_curve(some)
    part = "gain is of 7 of 10 questions, whose donors have prompts of the same length"
    assert uncounted_sentences(frame) == [f"the pairing {part}"]
    (choice,) = choose(some, Wanted(most_bytes=1e9))
    figure = draw_budget_curve(frame, "set", "demo")
    said = {
        "picture": " ".join(text.get_text() for text in figure.texts),
        "table": render_table(frame),
        "report": " ".join(warning_sentences(frame, {})),
        "nearest": " ".join(choice.notes),
        "run": description("m2", frame, frame),
    }
    for where, text in said.items():
        assert part in words(text), where
    whole = build_curve([results[0], lent(condition, "AB" * 5, 0, codec="bf16")])
    assert uncounted_sentences(whole) == []
