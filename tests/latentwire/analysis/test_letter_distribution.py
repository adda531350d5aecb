"""How answers spread over letters, and what the keys alone would score."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.letter_distribution import (
    at_limit,
    endless,
    in_format_share,
    letter_prior_accuracy,
    spread,
)
from latentwire.analysis.published import read_published
from latentwire.analysis.table import render_table
from latentwire.tasks.arc_c import TASK

Make = Callable[..., ConditionResult]


def test_shares_are_of_all_questions(condition: Make) -> None:
    answers = spread(condition("AABC--ABBA").records)
    assert answers.shares == {"A": 0.4, "B": 0.3, "C": 0.1, "D": 0}
    assert (answers.unparsed_share, answers.output_tokens_mean) == (0.2, 5)
    assert (answers.top_letter, answers.top_letter_share) == ("A", 0.4)


@pytest.mark.parametrize(
    ("letters", "degenerate"),
    [("BBBBBBBACD", True), ("BBBBBBAACD", False), ("BBBBBBB---", True), ("-" * 10, False)],
)
def test_one_letter_seven_times_of_ten_is_degenerate(
    condition: Make, letters: str, degenerate: bool
) -> None:
    assert spread(condition(letters).records).degenerate is degenerate


def test_letters_beyond_d_are_counted_apart(condition: Make) -> None:
    answers = spread(condition("AEE-").records)
    assert (answers.shares["A"], answers.other_share, answers.unparsed_share) == (0.25, 0.5, 0.25)
    assert (answers.top_letter, answers.degenerate) == ("E", False)


@pytest.mark.parametrize(
    ("output", "right"),
    [
        ("The correct answer is B", True),
        ("  The correct answer is B\n", True),
        ("The correct answer is E", True),
        ("Answer:", False),  # which the published rule reads as A
        ("B", False),
        ("The correct answer is B.", False),
        ("The correct answer is b", False),
        ("the correct answer is B", False),
        ("The correct answer is Berlin", False),
        ("The correct answer is B because the correct answer is B", False),
        ("The correct answer is A/B/C/D", False),
        ("", False),
    ],
)
def test_the_asked_format_is_met_to_the_character(
    condition: Make, output: str, right: bool
) -> None:
    first, second = condition("AB").records
    records = [replace(first, output=output), replace(second, output="The correct answer is C")]
    assert in_format_share(records, TASK) == (1 if right else 0.5)


def test_only_texts_that_a_model_wrote_have_a_format(condition: Make) -> None:
    (written,) = condition("A").records
    silent = replace(written, generated_tokens=0, predicted=None, output="", correct=False)
    decided = replace(written, generated_tokens=0, output="A")  # a letter, log-probabilities
    lost = replace(silent, unanswered="too long")
    right = replace(written, output="The correct answer is A")
    assert math.isnan(in_format_share([], TASK)) and math.isnan(
        in_format_share([decided, lost], TASK)
    )
    assert in_format_share([right, decided, lost], TASK) == 1
    assert in_format_share([right, silent, decided, lost], TASK) == 0.5
    published = replace(written, output="")  # of published answers the letters are known
    assert math.isnan(in_format_share([published, replace(published, predicted=None)], TASK))


def test_of_nothing_nothing_is_known(condition: Make) -> None:
    answers = spread([])
    assert math.isnan(answers.unparsed_share) and math.isnan(answers.shares["A"])
    assert (answers.top_letter, answers.degenerate) == (None, False)
    assert math.isnan(letter_prior_accuracy([]))
    assert math.isnan(letter_prior_accuracy(condition("A").records))


def test_each_half_is_answered_with_the_others_commonest_key(condition: Make) -> None:
    # At even places A A B C, so D's half is answered A: 1 of 4. At odd places D A D D, so the
    # first half is answered D: 0 of 4.
    records = condition("C" * 8, answers="ADAABDCD").records
    assert letter_prior_accuracy(records) == 1 / 8
    assert letter_prior_accuracy(reversed(records)) == 1 / 8
    # Rows that are not scored leave gaps; what counts is the order.
    gaps = [replace(record, index=3 * record.index + 1) for record in records]
    assert letter_prior_accuracy(gaps) == 1 / 8
    # Among equally frequent keys the first of the alphabet: each half is answered A.
    assert letter_prior_accuracy(condition("C" * 4, answers="ABBA").records) == 0.5


def test_published_answers_counted_again(shared_dir: Path) -> None:
    reference = shared_dir / "reference"
    table = pd.read_csv(reference / "published_per_question.csv")
    flagged = 0
    for item in read_published(reference):
        result = item.result
        rows = table[
            (table["milestone"] == item.milestone)
            & (table["scheme"] == result.codec)
            & (table["cache_proportion"] == result.keep_ratio)
            & (table["order_mode"] == result.order)
            & (table["dataset"] == result.dataset)
        ].sort_values("question_index")
        answers = spread(result.records)
        shares = rows["predicted"].value_counts() / len(rows)
        assert answers.top_letter == shares.index[0]
        assert answers.top_letter_share == pytest.approx(shares.iloc[0])
        assert answers.unparsed_share == pytest.approx(rows["predicted"].isna().mean())
        assert answers.output_tokens_mean == pytest.approx(rows["generated_tokens"].mean())
        flagged += answers.degenerate
        even, odd = rows["answer"].iloc[::2], rows["answer"].iloc[1::2]
        right = (even == odd.mode()[0]).sum() + (odd == even.mode()[0]).sum()
        assert letter_prior_accuracy(result.records) == right / len(rows)
    # A short piece of the cache's front makes the receiver answer A, whatever is asked.
    assert flagged == 5


def test_answers_that_run_to_the_limit_are_said(condition: Make) -> None:
    records = list(condition("A" * 10).records)
    records[1:] = [replace(record, generated_tokens=64) for record in records[1:]]
    assert at_limit(records, TASK) == 9
    sentence = endless(9, 10, TASK)
    assert sentence is not None
    assert sentence.startswith("9 of 10 answers ran to the limit of 64 tokens")
    assert endless(8, 10, TASK) is endless(0, 0, TASK) is None
    # And by the terminal's table, which the description of a run shows too.
    part = replace(condition("A" * 10, system="sharer"), records=tuple(records))
    text = " ".join(render_table(build_curve([part])).split())
    assert "set, sharer alone: 9 of 10 answers ran to the limit of 64 tokens" in text
    assert "limit" not in render_table(build_curve([condition("A" * 10, system="sharer")]))
