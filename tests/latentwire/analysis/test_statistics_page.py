"""The numbers that docs/statistics.md names, computed again."""

from pathlib import Path

import pytest
from scipy.stats import binom

from latentwire.analysis.curve import build_curve
from latentwire.analysis.noninferiority import (
    about,
    difference_interval,
    required_sample_size,
)
from latentwire.analysis.paired_scores import compare
from latentwire.analysis.published import read_published
from latentwire.analysis.reproduction.agreement import RUN_TO_RUN_SHARE
from latentwire.analysis.stats import PairedOutcomes, Score

PAGE = " ".join(
    (Path(__file__).parents[3] / "docs" / "statistics.md").read_text(encoding="utf-8").split()
)


def says(sentence: str) -> bool:
    return sentence in PAGE


def alike(questions: int) -> PairedOutcomes:
    return PairedOutcomes(questions, 0, 0, 0)


def test_equal_answers_leave_what_it_says() -> None:
    ends = [100 * difference_interval(alike(n)).high for n in (1150, 50)]
    assert says(
        f"equal answers to 1150 questions leave -{ends[0]:.1f} to +{ends[0]:.1f} points, to 50"
        f" questions -{ends[1]:.1f} to +{ends[1]:.1f}"
    )
    scores = {f"q{n}": Score(0.5) for n in range(1190)}
    low, high = difference_interval(compare(scores, scores))
    assert says("equal answers to 1190 questions leave -0.25 to +0.25 points")
    assert (low, high) == pytest.approx((-0.0025, 0.0025), abs=5e-4)


def test_questions_that_are_needed() -> None:
    few, none = (
        required_sample_size(each, "non_inferior", 0.01)
        for each in (PairedOutcomes(470, 10, 10, 10), alike(500))
    )
    assert few and says(f"4 % discordance needs about {about(few)} questions")
    assert says(f"still needs {none}.")


def test_what_holm_leaves_of_the_published_conditions() -> None:
    """66 tests: three of each of 22 conditions."""
    fewest = [
        next(k for k in range(n) if 66 * binom.sf(k - 1, n, RUN_TO_RUN_SHARE) < 0.05)
        for n in (1150, 500)
    ]
    assert says(
        f"a condition of 1150 questions differs from {fewest[0]} other letters on, one of 500 from"
        f" {fewest[1]} on"
    )


def test_what_it_says_of_the_published_answers(shared_dir: Path) -> None:
    frame = build_curve(each.result for each in read_published(shared_dir / "reference"))
    whole = frame[(frame["codec"] == "int8") & (frame["keep_ratio"] == 1)]
    # Run in M2, and in M3 for both orders: one row, so it counts once in Holm's correction.
    assert sorted(whole["dataset"]) == ["arc_c", "openbookqa"]
    for dataset, n, count, verdict in (
        ("arc_c", 1150, 7, "supported"),
        ("openbookqa", 500, 6, "undecided"),
    ):
        row = whole.set_index("dataset").loc[dataset]
        assert (row["bf16_examples"], row["bf16_differing"]) == (n, count)
        assert says(f"{count} of {n} questions (" if n == 1150 else f"{count} of {n} (")
        assert row["non_inferior"] == verdict
    needed = whole.set_index("dataset").loc["openbookqa", "questions_needed"]
    assert says(f"about {about(int(needed))} would do")
    flagged = int(frame["degenerate"].sum())
    words = {4: "four", 5: "five", 6: "six"}
    assert says(f"published answers {words[flagged]} conditions are flagged")
