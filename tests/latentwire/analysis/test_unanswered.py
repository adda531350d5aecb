"""Questions that could not be answered count as wrong, and are said wherever numbers stand."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from latentwire.analysis.break_even_bytes import break_even_table
from latentwire.analysis.chunk_metrics import chunk_metrics
from latentwire.analysis.claims.claim import Claim
from latentwire.analysis.claims.judge import judge
from latentwire.analysis.curve import ConditionResult, build_curve, read_csv, write_csv
from latentwire.analysis.curve_files import write_budget_curves
from latentwire.analysis.report.page_data import page_data
from latentwire.analysis.report.warnings import warning_sentences
from latentwire.analysis.run_description import description, headline
from latentwire.analysis.table import render_table
from latentwire.analysis.unanswered import commonest_reason, sentences
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.arc_c import TASK

Make = Callable[..., ConditionResult]
REASON = "a prompt of 600 tokens is longer than the 512 positions that the receiver was made for"


def without(result: ConditionResult, *rows: int, reason: str = REASON) -> ConditionResult:
    """The result where some questions could not be answered."""
    records = list(result.records)
    for row in rows:
        records[row] = replace(
            records[row],
            predicted=None,
            correct=False,
            output="",
            generated_tokens=0,
            wire_bytes=0,
            unanswered=reason,
        )
    return replace(result, records=tuple(records))


@pytest.fixture
def results(condition: Make) -> list[ConditionResult]:
    return [
        condition("AAAAB", system="receiver"),
        condition("AAAAA", codec="bf16"),
        without(condition("AAAAB"), 0, 1),
        without(condition("BBBBB", control="deranged", donors="B" * 5), 4),
        without(condition("AAAAA", system="logits"), *range(5), reason="no letters"),
    ]


def test_they_are_in_the_denominator_and_send_no_bytes(results: list[ConditionResult]) -> None:
    frame = build_curve(results).set_index(["system", "codec"])
    row = frame.loc["c2c", "int8"]
    assert (row["examples"], row["correct"], row["accuracy"]) == (5, 2, 0.4)
    assert (row["unanswered"], row["deranged_unanswered"], row["zero_unanswered"]) == (2, 1, 0)
    assert row["unanswered_reason"] == REASON
    assert (row["wire_bytes_min"], row["wire_bytes_mean"]) == (1002, 1003)
    assert row["complete"] and row["unparsed_share"] == 0.4
    assert row["deranged_accuracy"] == 0
    logits = frame.loc["logits", "none"]
    assert (logits["accuracy"], logits["unanswered"]) == (0, 5)
    assert math.isnan(logits["wire_bytes_mean"])


def test_what_a_condition_is_compared_with_is_not_blamed(condition: Make) -> None:
    own = condition("AAAAB")
    lost = without(condition("BBBBB", control="deranged", donors="B" * 5), 0, 4)
    row = build_curve([own, lost]).iloc[0]
    assert (row["pairing_examples"], row["pairing_gain"]) == (3, 1)
    row = build_curve([without(own, 0), lost]).iloc[0]
    assert (row["pairing_examples"], row["pairing_gain"]) == (3, 1)
    row = build_curve([without(own, 1), lost]).iloc[0]  # what it cannot answer itself it gets wrong
    assert (row["pairing_examples"], row["pairing_gain"]) == (3, pytest.approx(2 / 3))
    frame = build_curve([own, without(condition("BBBBB", codec="bf16"), 0, 1)])
    row = frame[frame["codec"] == "int8"].iloc[0]
    assert (row["bf16_examples"], row["bf16_difference"]) == (3, pytest.approx(2 / 3))


def test_a_claim_says_them_and_gains_nothing_by_them(condition: Make) -> None:
    first, second = Condition("c2c", Channel("int8"), "matched"), Condition("receiver")
    claim = Claim("It helps.", "set", "superior", 0.0, first, second)
    results = [condition("AAAAA"), without(condition("BBBBB", system="receiver"), 0, 1, 2)]
    (judgement,) = judge([claim], results)
    assert (judgement.outcomes.examples, judgement.outcomes.difference) == (2, 1)
    assert any("3 questions could not be answered" in sentence for sentence in judgement.notes)


def test_table_description_report_and_file_say_how_many_and_why(
    results: list[ConditionResult], tmp_path: Path
) -> None:
    frame = build_curve(results)
    said = "set, int8: 2 of 5 questions could not be answered (and 1 under deranged) and count"
    assert said in " ".join(render_table(frame).split())
    assert "set, logits: 5 of 5 questions could not be answered" in render_table(frame)
    assert said in description("m2", frame, frame) and REASON in description("m2", frame, frame)
    assert any(said in caution and REASON in caution for caution in warning_sentences(frame, {}))
    assert all(math.isfinite(value) for value in headline(frame).values())
    write_csv(frame, tmp_path / "curve.csv")
    assert list(read_csv(tmp_path / "curve.csv")["unanswered"]) == list(frame["unanswered"])
    page = page_data(frame, results, {}, [], [], [], "sqlite:///x", "today")
    assert f"[not answered: {REASON}]" in page["texts"]
    assert [point["unanswered"] for point in page["points"]] == list(frame["unanswered"])


def test_nothing_is_said_where_all_were_answered(condition: Make) -> None:
    assert "could not be answered" not in render_table(build_curve([condition("AB-")]))


def test_a_condition_that_answers_nothing_is_drawn_nowhere(
    results: list[ConditionResult], condition: Make, tmp_path: Path
) -> None:
    lost = without(condition("AAAAA", codec="int4"), *range(5))
    frame = build_curve([*results, lost])
    assert write_budget_curves(frame, tmp_path)
    found = break_even_table([*results, lost], resamples=10)
    assert not (found["bytes"] <= 0).any()


def test_a_chunks_metrics(condition: Make) -> None:
    records = without(condition("AAB-"), 1).records
    texts = ["The correct answer is A", "", "The correct answer is B", "Answer:"]
    records = tuple(replace(r, output=t) for r, t in zip(records, texts, strict=True))
    assert chunk_metrics(records, TASK) == {
        "examples": 4,
        "correct": 1,
        "accuracy": 0.25,
        "wire_bytes_mean": (1000 + 1002 + 1003) / 3,
        "unanswered": 1,
        "in_format_share": pytest.approx(2 / 3),
    }
    assert set(chunk_metrics(without(condition("A"), 0).records, TASK)) == {
        *("examples", "correct", "accuracy", "unanswered"),
    }


def test_the_commonest_reason_stands_for_all(condition: Make) -> None:
    records = without(without(condition("AAAA"), 0, 1, reason="b"), 2, reason="a").records
    assert commonest_reason(records) == "b"
    assert commonest_reason(condition("A").records) is None


def test_conditions_of_which_the_same_is_to_be_said_share_a_sentence(condition: Make) -> None:
    codecs = ("bf16", "int8", "int4", "int3", "int2")
    results = [without(condition("AAAAB", codec=codec), 0) for codec in codecs]
    said = list(sentences(build_curve([*results, condition("AAAAA", system="receiver")])))
    own = "1 of 5 questions could not be answered and count as wrong"
    assert said == [f"set, bf16, int8, int4 and 2 other conditions: {own}: {REASON}"]


def test_what_can_never_be_answered_is_no_point_of_the_curve(condition: Make) -> None:
    """As stores have it of versions that asked; nothing else of the curve is another."""

    def asked(system: str, dataset: str, passages: bool, *unanswered: int) -> ConditionResult:
        found = without(condition("ABA", system=system, dataset=dataset), *unanswered)
        records = [replace(record, cluster="x" if passages else None) for record in found.records]
        return replace(found, records=tuple(records))

    caches = [
        without(condition("ABAA", dataset=name), 0, 1, 2, 3) for name in ("gsm8k", "openbookqa")
    ]
    left_out = [
        asked(*each, 0, 1, 2)
        for each in (
            ("calibrated", "gsm8k", False),
            ("logits", "gsm8k", False),
            ("calibrated", "xquad", True),
            ("letter", "xquad", True),
            ("letter", "boolq", True),
            ("logits", "boolq", True),
        )
    ]
    kept = [
        asked("letter", "gsm8k", False, 0, 1, 2),
        asked("calibrated", "boolq", True, 0, 1, 2),
        asked("logits", "openbookqa", False, 0, 1, 2),
        asked("calibrated", "squad", True, 0, 1),  # one answer, however it came about
    ]
    frame = build_curve([*caches, *kept])
    assert len(frame) == len(caches) + len(kept)
    pd.testing.assert_frame_equal(build_curve([*left_out, *caches, *kept]), frame)
