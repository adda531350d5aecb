"""The numbers that docs/statistics.md names, computed again."""

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, binomtest, entropy

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


def test_questions_that_a_point_can_be_counted_on_with() -> None:
    """500 do where no question differs, and not where one in 500 does; 1150 where one in 100."""

    def needed(questions: int, differing: int) -> int:
        half = differing // 2
        pair = PairedOutcomes(questions - differing, half, differing - half, 0)
        found = required_sample_size(pair, "non_inferior", 0.01)
        assert found is not None
        return found

    assert needed(500, 0) <= 500 < needed(500, 1)
    assert needed(1000, 10) <= 1150 < needed(1000, 12)
    assert says("500 questions a point can only be counted on (80 % power) where next to none")
    assert says("1150 can do with about 1 % that do")


def test_bits_that_independent_answers_seem_to_tell() -> None:
    """Mean mutual information of letters drawn apart, against the formula that the page gives."""
    formula = (4 - 1) * (4 - 1) / (2 * 1150 * math.log(2))
    assert says(f"(rows - 1)(columns - 1) / 2n ln 2 bits, {formula:.3f} for 1150 questions")
    chance = np.random.default_rng(5)
    told = []
    for _ in range(300):
        table = np.zeros((4, 4))
        np.add.at(table, tuple(chance.integers(4, size=(2, 1150))), 1)
        told.append(mutual_information(table) / math.log(2))
    assert np.mean(told) == pytest.approx(formula, rel=0.1)


def mutual_information(table: np.ndarray) -> float:
    """In nats, of counts: sums of entropies."""
    margins = entropy(table.sum(0)) + entropy(table.sum(1))
    return float(margins - entropy(table.ravel()))


def test_what_it_says_of_the_published_letters(shared_dir: Path) -> None:
    """From the study's own file, by pandas alone."""
    rows = pd.read_csv(shared_dir / "reference" / "published_per_question.csv", dtype=str)
    rows["predicted"] = rows["predicted"].fillna("")
    named = ["milestone", "scheme", "cache_proportion", "order_mode"]
    letters = rows.pivot(index=["dataset", "question_index"], columns=named, values="predicted")
    right = rows["predicted"] == rows["answer"]
    share = right.groupby([rows["dataset"], *(rows[name] for name in named)]).mean()
    whole = [name for name in letters if name[1:3] == ("int8", "1.0")]
    assert len(whole) == 3 and (letters[whole].nunique(axis=1) == 1).all() and len(letters) == 1650
    assert says("0 of 1650 answers differ")
    bf16 = next(name for name in letters if name[1] == "bf16")
    int4 = next(name for name in letters if name[1] == "int4")
    other = {
        (dataset, pair): (each[pair[0]] != each[pair[1]]).mean()
        for dataset, each in letters.groupby("dataset")
        for pair in combinations((bf16, whole[0], int4), 2)
    }
    first = [100 * other[name, (bf16, whole[0])] for name in ("arc_c", "openbookqa")]
    assert says(
        f"{first[0]:.1f} % of its letters on ARC-Challenge and {first[1]:.1f} % on OpenBook"
    )
    agreed = [100 * (1 - max(other.values())), 100 * (1 - min(other.values()))]
    assert says(f"agree on {agreed[0]:.1f} to {agreed[1]:.1f} % of the questions")
    tenth = ("M3", "int8", "0.1", "back")
    arc = letters.loc["arc_c"]
    accuracies = [100 * share["arc_c"][name] for name in (bf16, tenth)]
    keys = rows[rows["dataset"] == "arc_c"].groupby("question_index")["answer"].first()
    one, two = ((arc[name] == keys) for name in (bf16, tenth))
    p = binomtest(int((one & ~two).sum()), int((one != two).sum())).pvalue
    moved = 100 * (arc[bf16] != arc[tenth]).mean()
    assert says(f"({accuracies[0]:.1f} and {accuracies[1]:.1f} %, p = {p:.2f}), and {moved:.0f} %")


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
    pieces = frame[frame["degenerate"]]
    assert {*pieces["order"]} == {"front"}
    assert (pieces["keep_ratio"].min(), pieces["keep_ratio"].max()) == (0.1, 0.5)
    assert says("pieces from the cache's front: a tenth to a half of it")
