"""A study's own answers reproduce it; answers of other questions do not."""

import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm
from statsmodels.stats.contingency_tables import Table
from statsmodels.stats.proportion import proportions_ztest

from latentwire.analysis.published import read_published
from latentwire.analysis.reproduction.agreement import RUN_TO_RUN_SHARE, agreement
from latentwire.analysis.reproduction.compare import Answers, Reproduction, compare
from latentwire.analysis.reproduction.published_accuracies import (
    LATENTWIRE_2026_02,
    CacheSize,
    Point,
    PublishedAccuracy,
    PublishedStudy,
    load_study,
)
from latentwire.analysis.reproduction.report import as_frame, render
from latentwire.analysis.reproduction.sent import sent
from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record
from latentwire.milestones.agreement import by_point

SIZE = CacheSize(layers=2, kv_heads=1, head_dim=4)
FULL: Point = ("set", "int8", 1.0, "front")
HALF: Point = ("set", "int8", 0.5, "back")


def answers(correct: int, of: int) -> dict[int, Record]:
    return {
        i: Record(f"q{i}", i, "A", "A" if i < correct else "B", i < correct, 10, 2, 99, "")
        for i in range(of)
    }


def study(full: float, half: float, questions: int = 400) -> PublishedStudy:
    figures = (
        PublishedAccuracy("set", questions, "int8", 1.0, "front", full),
        PublishedAccuracy("set", questions, "int8", 0.5, "back", half),
    )
    return PublishedStudy("a study", "a pair", SIZE, SIZE, figures)


def judged(own: Mapping[Point, Answers], *others: object) -> Reproduction:
    return compare(study(0.5, 0.4), own, *others)  # type: ignore[arg-type]


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
    assert found.rows[1].p == pytest.approx(p, rel=0.2)
    # Agresti and Caffo's, written out.
    here, there = 101 / 402, 161 / 402
    deviation = math.sqrt((here * (1 - here) + there * (1 - there)) / 402)
    assert found.rows[1].p == pytest.approx(2 * norm.sf(abs(here - there) / deviation))
    ends = [here - there + sign * 1.959964 * deviation for sign in (-1, 1)]
    assert found.rows[1].interval == pytest.approx(ends, abs=1e-6)


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
    agreed = found.rows[0].agreement
    assert agreed is not None and agreed.share == 0 and found.rows[0].difference == 0
    assert found.rows[0].verdict == "differs"
    better = {i: replace(r, predicted="A", correct=True) for i, r in answers(200, 400).items()}
    found = judged(own | {FULL: better}, {FULL: own[FULL], HALF: answers(160, 400)})
    assert found.paired and found.rows[0].verdict == "differs"
    assert found.rows[0].p == pytest.approx(binomtest(0, 200, 0.5).pvalue)


def test_a_shift_of_all_conditions_is_seen_in_their_mean() -> None:
    conditions = [("int8", 1.0, "front"), *(("int8", r / 100, "back") for r in range(10, 95, 5))]
    figures = tuple(PublishedAccuracy("set", 400, *each, 0.5) for each in conditions)
    whole = PublishedStudy("a study", "a pair", SIZE, SIZE, figures)
    # In each condition three other questions are lost: nowhere significant, together it is.
    there = {figure.point: answers(200, 400) for figure in figures}
    own = {
        point: {
            i: replace(r, predicted="B", correct=False) if i // 3 == place else r
            for i, r in there[point].items()
        }
        for place, point in enumerate(there)
    }
    found = compare(whole, own, there)
    assert min(row.p_holm for row in found.rows) == 1
    assert found.mean_difference == pytest.approx(-3 / 400)
    assert found.verdict == "differs" and found.mean_interval.high < 0


def test_other_question_sets_are_refused() -> None:
    with pytest.raises(LatentWireError, match="401 answers, and 400 questions were published"):
        judged({FULL: answers(1, 401)})
    keyed = {i: replace(r, answer="C") for i, r in answers(200, 400).items()}
    with pytest.raises(LatentWireError, match="question 0 of set has the key A here and C"):
        judged({FULL: answers(3, 400)}, {FULL: keyed})
    with pytest.raises(LatentWireError, match="the published answers lack the condition"):
        judged({FULL: answers(3, 400)}, {HALF: answers(160, 400)})


def flipped(answers: Answers, share: float, seed: int) -> dict[int, Record]:
    """A share of the answers changed so that as many are right as before: half of them right ones
    that become wrong, half wrong ones that become right."""
    chance = random.Random(seed)
    changed = dict(answers)
    count = round(share * len(answers) / 2)
    for right in (True, False):
        places = [index for index, record in answers.items() if record.correct == right]
        for index in chance.sample(places, count):
            record = answers[index]
            others = [letter for letter in "ABCD" if letter != record.answer]
            letter = chance.choice(others) if right else record.answer
            changed[index] = replace(record, predicted=letter, correct=not right)
    return changed


def spread(correct: int, of: int, seed: int) -> dict[int, Record]:
    """Made answers: every key as often as the others, wrong letters likewise."""
    chance = random.Random(seed)
    found = {}
    for index in range(of):
        key = "ABCD"[index % 4]
        right = index < correct
        letter = key if right else chance.choice([each for each in "ABCD" if each != key])
        found[index] = Record(f"q{index}", index, key, letter, right, 10, 2, 99, "")
    return found


@pytest.fixture
def made() -> dict[Point, dict[int, Record]]:
    """Two conditions of the study of 0.5 and 0.4."""
    return {FULL: spread(200, 400, 1), HALF: spread(160, 400, 2)}


@pytest.mark.parametrize("share", [0.1, 0.3])
@pytest.mark.parametrize("which", [[FULL], [FULL, HALF]])
def test_answers_changed_either_way_alike_differ(
    made: dict[Point, Answers], share: float, which: list[Point]
) -> None:
    own = {**made, **{point: flipped(made[point], share, 3) for point in which}}
    found = judged(own, made)
    assert [row.difference for row in found.rows] == [0, 0] and found.mean_difference == 0
    assert found.verdict == "differs"
    for row in found.rows:
        changed = row.figure.point in which
        assert row.verdict == ("differs" if changed else "reproduced")
        assert row.agreement is not None
        assert row.agreement.differing == (400 * share if changed else 0)
    # Figures alone cannot know, and the words say so.
    alone = judged(own)
    assert alone.verdict == "reproduced"
    text = " ".join(render(alone, study(0.5, 0.4)).split())
    assert "a pair: accuracies reproduced, answers not compared 2 conditions" in text
    assert "Answers were not compared: of the study only its accuracies were at hand." in text
    assert "not compared" not in render(found, study(0.5, 0.4))


def test_answers_that_differ_at_the_run_to_run_rate_are_reproduced(
    made: dict[Point, Answers],
) -> None:
    for seed in range(10):
        own = {point: flipped(answers, RUN_TO_RUN_SHARE, seed) for point, answers in made.items()}
        assert judged(own, made).verdict == "reproduced"


def test_published_answers_that_are_not_the_studys_are_refused(
    made: dict[Point, dict[int, Record]],
) -> None:
    """Of another file, or with a row that is missing, nothing could be said; also where the own
    answers are the very same."""
    exchanged = {FULL: made[HALF], HALF: made[FULL]}
    short = {**made, FULL: {i: each for i, each in made[FULL].items() if i}}
    for published in (exchanged, short):
        with pytest.raises(LatentWireError, match=r"are not the study's: .* 50\.0 % of 400 were"):
            judged(published, published)


def test_two_answers_that_changed_places_are_within_the_run_to_run_rate(
    made: dict[Point, dict[int, Record]],
) -> None:
    first, last = made[FULL][0], made[FULL][399]
    own = {**made[FULL], 0: replace(first, predicted="D", correct=False)}
    own[399] = replace(last, predicted=last.answer, correct=True)
    found = judged({**made, FULL: own}, made)
    assert found.verdict == "reproduced"
    assert [row.agreement and row.agreement.differing for row in found.rows] == [2, 0]


def test_letters_that_are_said_more_often_differ() -> None:
    # Fewer answers differ than may, but all of them have lost their letter.
    there = spread(600, 1200, 1)
    lost = [index for index, record in there.items() if not record.correct][:30]
    own = {**there, **{index: replace(there[index], predicted=None) for index in lost}}
    one = PublishedStudy("a study", "a pair", SIZE, SIZE, study(0.5, 0.4, 1200).figures[:1])
    (row,) = compare(one, {FULL: own}, {FULL: there}).rows
    assert row.agreement is not None and row.agreement.p > 0.5 and row.p == 1
    assert row.letters_p_holm == pytest.approx(3 * row.agreement.letters_p)
    assert row.letters_p_holm < 1e-3 and row.verdict == "differs"


def test_agreement_is_tested_exactly_and_its_interval_is_the_tests() -> None:
    there = spread(50, 100, 4)
    for count in range(0, 40, 2):
        found = agreement(flipped(there, count / 100, 5), there)
        assert (found.questions, found.differing, found.share) == (100, count, 1 - count / 100)
        assert found.p == pytest.approx(binom.sf(count - 1, 100, RUN_TO_RUN_SHARE))
        assert (found.p < 0.05) == (found.high < 1 - RUN_TO_RUN_SHARE)
        assert found.share < found.high or found.high == 1
        if count:  # Clopper and Pearson: at the end, so many would be as rare as 5 %
            assert binom.sf(count - 1, 100, 1 - found.high) == pytest.approx(0.05)
    assert agreement(there, {}).p == 1 and math.isnan(agreement(there, {}).share)


def test_letters_are_tested_as_statsmodels_does() -> None:
    chance = random.Random(6)
    for number in range(6):
        there = spread(150, 600, number)
        own = {
            i: replace(r, predicted=chance.choice(["A", "A", "B", "C", "D", None]))
            if chance.random() < 0.05 * number
            else r
            for i, r in there.items()
        }
        counts = [Counter(r.predicted for r in each.values()) for each in (own, there)]
        said = [letter for letter in ("A", "B", "C", "D", None) if any(c[letter] for c in counts)]
        table = np.array([[each[letter] for letter in said] for each in counts])
        expected = Table(table, shift_zeros=False).test_nominal_association().pvalue
        assert agreement(own, there).letters_p == pytest.approx(expected)
    one = {index: replace(record, predicted="A") for index, record in there.items()}
    assert agreement(one, one).letters_p == 1


def test_the_mean_is_tested_with_two_questions_more(made: dict[Point, Answers]) -> None:
    """Of one condition, Bonett and Price's interval of paired shares, written out."""
    one = PublishedStudy("a study", "a pair", SIZE, SIZE, study(0.5, 0.4).figures[:1])
    other = {
        i: replace(r, predicted="A" if r.answer != "A" else "B", correct=False) if i < 7 else r
        for i, r in made[FULL].items()
    }
    found = compare(one, {FULL: other}, made)
    b, c, n = 1, 7 + 1, 400 + 2
    deviation = math.sqrt(b + c - (b - c) ** 2 / n) / n
    ends = [(b - c) / n + sign * 1.959964 * deviation for sign in (-1, 1)]
    assert found.mean_interval == pytest.approx(ends, abs=1e-8)
    p_mean = 2 * norm.sf(abs(b - c) / n / deviation)
    corrected = [row.p_holm for row in found.rows]
    assert found.p == pytest.approx(min(1, 2 * min(p_mean, *corrected)))


@pytest.mark.parametrize("correct", [0, 1, 5, 6])
def test_no_interval_is_without_width(correct: int) -> None:
    whole = study(correct / 6, correct / 6, 6)
    own = {point: answers(correct, 6) for point in (FULL, HALF)}
    for found in (compare(whole, own), compare(whole, own, own)):
        intervals = [found.mean_interval, *(row.interval for row in found.rows)]
        assert all(low < 0 < high for low, high in intervals)
        assert found.verdict == "reproduced"


def test_the_table_has_every_test(made: dict[Point, Answers]) -> None:
    own = {**made, FULL: flipped(made[FULL], 0.1, 3)}
    found = judged(own, made)
    frame = as_frame(found, study(0.5, 0.4))
    assert frame["agreement"].tolist() == [0.9, 1.0]
    assert frame.loc[0, "agreement_p_holm"] == pytest.approx(6 * frame.loc[0, "agreement_p"])
    tests = ("p", "agreement_p", "letters_p")
    assert (frame[[f"{name}_holm" for name in tests]].to_numpy() >= frame[[*tests]]).all(axis=None)
    columns = Path(__file__).parents[4] / "docs" / "statistics.md"
    for name in frame:
        assert f"`{name}`" in columns.read_text(encoding="utf-8"), name
    text = render(found, study(0.5, 0.4))
    assert max(map(len, text.splitlines())) <= 120 and "differs" in text and "\u2026" not in text


@pytest.fixture(scope="module")
def published(shared_dir: Path) -> dict[Point, Answers]:
    return by_point(item.result for item in read_published(shared_dir / "reference"))


@pytest.mark.parametrize("paired", [True, False])
def test_the_published_answers_reproduce_the_study(
    published: dict[Point, Answers], paired: bool
) -> None:
    real = load_study(LATENTWIRE_2026_02)
    assert {figure.point for figure in real.figures} == set(published)
    found = compare(real, published, published if paired else None)
    assert found.verdict == "reproduced"
    for row in found.rows:
        assert abs(row.difference) <= 0.0005 + 1e-9
        assert (row.agreement.share if row.agreement else None) == (1 if paired else None)


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
        found = compare(real, own, published if paired else None)
        assert found.verdict == "differs", key
        (row,) = [row for row in found.rows if row.verdict == "differs"]
        assert row.figure.point == key


Published = dict[Point, Answers]


def as_if(published: "Published", answers: Answers, point: Point) -> Answers:
    """Some answers, with packets of a condition's length."""
    return {
        index: replace(record, wire_bytes=other.wire_bytes, elements=other.elements)
        for index, record in answers.items()
        for other in (published[point][index],)
    }


def test_packets_tell_what_answers_cannot(published: "Published") -> None:
    """Whichever condition stands for another with its packets: also those of the whole cache."""
    real = load_study(LATENTWIRE_2026_02)
    figures = {figure.point: figure for figure in real.figures}
    for point, other in permutations(published, 2):
        if point[0] == other[0] and point[1:3] != other[1:3]:
            whole = published[point[0], "bf16", 1.0, "front"]
            assert not sent(figures[point], published[other], whole).as_named
    whole = {p: answers for p, answers in published.items() if p[2] == 1}
    for point, other in permutations(whole, 2):
        if point[0] == other[0]:
            found = compare(real, {**whole, point: whole[other]}, published)
            assert found.verdict == "differs"
            assert [row.figure.point for row in found.rows if row.verdict == "differs"] == [point]
    eight = ("arc_c", "int8", 1.0, "front")
    found = compare(real, {**published, eight: published["arc_c", "bf16", 1.0, "front"]})
    text = " ".join(render(found, real).split())
    assert "int8 1 front: its packets hold 16.0 bits a number and 100 % of them" in text
    for row in compare(real, published).rows:
        bits = {"bf16": 16, "int8": 8, "int4": 4}[row.figure.codec]
        assert row.sent.as_named and bits <= row.sent.bits_per_element < 1.1 * bits
        assert row.sent.kept_share == pytest.approx(row.figure.keep_ratio, rel=0.05)
        # So does each question alone, of which a share of tokens is rounded.
        whole = published[row.figure.dataset, "bf16", 1.0, "front"]
        assert all(sent(row.figure, {i: r}, whole).as_named for i, r in row.answers.items())


def test_records_without_elements_are_not_judged_by_packets() -> None:
    found = judged({FULL: answers(200, 400), HALF: answers(160, 400)})
    assert all(row.sent.as_named and math.isnan(row.sent.kept_share) for row in found.rows)


the_study = cache(load_study)  # hundreds of comparisons are with it


def alone(published: Published, point: Point, own: Answers) -> float:
    """The smallest p-value of one condition among all: Holm multiplies it by the number of tests.

    Only this condition is compared, which takes a twentieth of the time.
    """
    found = compare(the_study(LATENTWIRE_2026_02), {point: own}, published)
    (row,) = [row for row in found.rows if row.figure.point == point]
    assert row.agreement is not None
    return 3 * len(published) * min(row.p, row.agreement.p, row.agreement.letters_p)


def test_no_condition_stands_for_another(published: Published) -> None:
    """But the whole cache in 16, 8 and 4 bits, whose answers differ as those of two runs may."""
    seen, unseen = [], []
    for point, other in combinations(published, 2):
        if point[0] == other[0]:
            share = agreement(published[other], published[point]).share
            p_values = [
                alone(published, one, published[two])
                for one, two in ((point, other), (other, point))
            ]
            assert (p_values[0] < 0.05) == (p_values[1] < 0.05)
            if p_values[0] < 0.05:
                seen.append(share)
            else:
                unseen.append(share)
                assert (point[2], other[2]) == (1, 1)
    assert len(unseen) == 2 * 3 and min(unseen) == pytest.approx(0.968)
    assert len(seen) == 2 * 55 - 6 and max(seen) < 0.935


def test_a_keep_ratio_or_a_codec_that_is_ignored_is_found(published: Published) -> None:
    real = load_study(LATENTWIRE_2026_02)
    for dataset in ("arc_c", "openbookqa"):
        for order in ("front", "back"):
            for stand_in in ("bf16", "int8"):
                whole = published[dataset, stand_in, 1.0, "front"]
                assert alone(published, (dataset, "int8", 0.1, order), whole) < 0.05
    # The case that accuracies do not show, nor packets: they are what they should be.
    tenth = ("arc_c", "int8", 0.1, "back")
    own = {**published, tenth: as_if(published, published["arc_c", "bf16", 1.0, "front"], tenth)}
    assert compare(real, own).verdict == "reproduced"
    found = compare(real, own, published)
    (row,) = [row for row in found.rows if row.verdict == "differs"]
    assert found.verdict == "differs" and row.figure.point == tenth
    assert row.agreement is not None and row.agreement.share == pytest.approx(0.699, abs=5e-4)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_published_answers_that_are_flipped_differ(published: Published, share: float) -> None:
    real = load_study(LATENTWIRE_2026_02)
    every = {point: flipped(answers, share, 1) for point, answers in published.items()}
    found = compare(real, every, published)
    assert {row.verdict for row in found.rows} == {"differs"} and found.verdict == "differs"
    for point, changed in every.items():
        assert alone(published, point, changed) < 0.05


@pytest.mark.parametrize("share", [0.01, 0.02, RUN_TO_RUN_SHARE])
def test_published_answers_of_another_run_are_reproduced(
    published: Published, share: float
) -> None:
    real = load_study(LATENTWIRE_2026_02)
    for seed in range(2):
        own = {point: flipped(answers, share, seed) for point, answers in published.items()}
        assert compare(real, own, published).verdict == "reproduced"
