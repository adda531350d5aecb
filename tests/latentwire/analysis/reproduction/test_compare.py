"""A study's own answers reproduce it; answers of other questions do not."""

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportions_ztest

from latentwire.analysis.published import read_published
from latentwire.analysis.reproduction.compare import Answers, Reproduction, compare
from latentwire.analysis.reproduction.figures import (
    LATENTWIRE_2026_02,
    CacheSize,
    Figure,
    Point,
    Study,
    load_study,
)
from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record
from latentwire.milestones.reproduce import by_point

SIZE = CacheSize(layers=2, kv_heads=1, head_dim=4)
FULL: Point = ("set", "int8", 1.0, "front")
HALF: Point = ("set", "int8", 0.5, "back")
FEW = 200  # resamples: the verdicts do not go by the bootstrap


def answers(correct: int, of: int) -> dict[int, Record]:
    return {
        i: Record(f"q{i}", i, "A", "A" if i < correct else "B", i < correct, 10, 2, 99, "")
        for i in range(of)
    }


def study(full: float, half: float, questions: int = 400) -> Study:
    figures = (
        Figure("set", questions, "int8", 1.0, "front", full),
        Figure("set", questions, "int8", 0.5, "back", half),
    )
    return Study("a study", "a pair", SIZE, SIZE, figures)


def judged(own: Mapping[Point, Answers], *others: object) -> Reproduction:
    return compare(study(0.5, 0.4), own, *others, resamples=FEW)  # type: ignore[arg-type]


def test_the_same_accuracies_are_reproduced() -> None:
    found = judged({FULL: answers(200, 400), HALF: answers(162, 400)})
    assert found.verdict == "reproduced" and found.p == 1
    full, half = found.rows
    assert full.difference == 0 and half.difference == pytest.approx(0.005)
    assert half.interval.low < 0.005 < half.interval.high
    assert found.mean_difference == pytest.approx(0.0025)


def test_one_condition_that_differs_is_enough() -> None:
    found = judged({FULL: answers(200, 400), HALF: answers(100, 400)})
    assert [row.verdict for row in found.rows] == ["reproduced", "differs"]
    assert found.verdict == "differs"
    # Another test of two shares, near the one that is used.
    _, p = proportions_ztest([100, 160], [400, 400])
    assert found.rows[1].p == pytest.approx(p, rel=0.1)


@pytest.mark.parametrize(
    "own",
    [
        {FULL: answers(200, 400)},  # one was not run
        {FULL: answers(200, 400), HALF: answers(80, 200)},  # one is not complete
        {FULL: answers(200, 400), HALF: answers(172, 400)},  # three points, by chance or not
    ],
)
def test_what_cannot_be_told_is_undecided(own: Mapping[Point, Answers]) -> None:
    assert judged(own).verdict == "undecided"


def test_nothing_run_is_said() -> None:
    found = judged({("set", "int4", 1.0, "front"): answers(1, 2)})
    assert found.verdict == "not run" and {row.verdict for row in found.rows} == {"not run"}


def test_equal_accuracies_of_other_questions_differ_answer_by_answer() -> None:
    other = {i: replace(r, index=i) for i, r in answers(200, 400).items()}
    turned = {i: replace(other[399 - i], index=i) for i in other}
    own = {FULL: answers(200, 400), HALF: answers(160, 400)}
    found = judged(own, {FULL: turned, HALF: answers(160, 400)})
    assert found.rows[0].agreement == 0 and found.rows[0].difference == 0
    fewer = {i: replace(r, predicted="A", correct=True) for i, r in answers(200, 400).items()}
    found = judged(own, {FULL: fewer, HALF: answers(160, 400)})
    assert found.paired and found.rows[0].verdict == "differs"
    assert found.rows[0].p == pytest.approx(binomtest(0, 200, 0.5).pvalue)


def test_a_shift_of_all_conditions_is_seen_in_their_mean() -> None:
    conditions = [("int8", 1.0, "front"), *(("int8", r / 100, "back") for r in range(10, 95, 5))]
    figures = tuple(Figure("set", 400, *each, 0.5) for each in conditions)
    whole = Study("a study", "a pair", SIZE, SIZE, figures)
    # In each condition three other questions are lost: nowhere significant, together it is.
    there = {figure.point: answers(200, 400) for figure in figures}
    own = {
        point: {
            i: replace(r, predicted="B", correct=False) if i // 3 == place else r
            for i, r in there[point].items()
        }
        for place, point in enumerate(there)
    }
    found = compare(whole, own, there, resamples=FEW)
    assert min(row.p_holm for row in found.rows) == 1
    assert found.mean_difference == pytest.approx(-3 / 400)
    assert found.verdict == "differs" and found.mean_interval.high < 0


def test_other_question_sets_are_refused() -> None:
    with pytest.raises(LatentWireError, match="401 answers, and 400 questions were published"):
        judged({FULL: answers(1, 401)})
    keyed = {i: replace(r, answer="C") for i, r in answers(3, 400).items()}
    with pytest.raises(LatentWireError, match="question 0 of set has the key A here and C"):
        judged({FULL: answers(3, 400)}, {FULL: keyed})
    with pytest.raises(LatentWireError, match="the published answers lack the condition"):
        judged({FULL: answers(3, 400)}, {HALF: answers(3, 400)})


@pytest.fixture(scope="module")
def published(shared_dir: Path) -> dict[Point, Answers]:
    return by_point(item.result for item in read_published(shared_dir / "reference"))


@pytest.mark.parametrize("paired", [True, False])
def test_the_published_answers_reproduce_the_study(
    published: dict[Point, Answers], paired: bool
) -> None:
    real = load_study(LATENTWIRE_2026_02)
    assert {figure.point for figure in real.figures} == set(published)
    found = compare(real, published, published if paired else None, resamples=FEW)
    assert found.verdict == "reproduced"
    for row in found.rows:
        assert abs(row.difference) <= 0.0005 + 1e-9
        assert row.agreement == (1 if paired else None)


@pytest.mark.parametrize("paired", [True, False])
def test_a_shuffled_condition_does_not_reproduce_it(
    published: dict[Point, Answers], paired: bool
) -> None:
    real = load_study(LATENTWIRE_2026_02)
    for number, key in enumerate(published):
        records = list(published[key].values())
        letters = [record.predicted for record in records]
        random.Random(number).shuffle(letters)
        shuffled = {
            record.index: replace(record, predicted=letter, correct=letter == record.answer)
            for record, letter in zip(records, letters, strict=True)
        }
        own = {**published, key: shuffled}
        found = compare(real, own, published if paired else None, resamples=2)
        assert found.verdict == "differs", key
        (row,) = [row for row in found.rows if row.verdict == "differs"]
        assert row.figure.point == key
