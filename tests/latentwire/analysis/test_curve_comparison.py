"""Two curves of answers: estimates by hand, intervals by another bootstrap, and what is refused."""

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from latentwire.analysis.bjontegaard import bytes_difference, curve, score_difference
from latentwire.analysis.curve import ConditionResult
from latentwire.analysis.curve_comparison import CurveComparison, compare_curves
from latentwire.analysis.curve_comparison_report import as_json, render
from latentwire.errors import LatentWireError
from latentwire.spec.condition_filter import condition_filter

Make = Callable[..., ConditionResult]
KEPT = {0.1: 100, 0.3: 300, 0.6: 600, 1.0: 1000}  # bytes


def letters(right: int, questions: int = 60, seed: int = 0) -> str:
    return "".join(
        np.random.default_rng(seed).permutation(list("A" * right + "B" * (questions - right)))
    )


def sweep(
    condition: Make, order: str, right: tuple[int, ...], **changes: object
) -> list[ConditionResult]:
    return [
        condition(
            letters(count, seed=place),
            keep_ratio=ratio,
            order="front" if ratio == 1 else order,
            wire_bytes=sent,
            **changes,
        )
        for place, ((ratio, sent), count) in enumerate(zip(KEPT.items(), right, strict=False))
    ]


def front_and_back(condition: Make) -> list[ConditionResult]:
    return [
        *sweep(condition, "front", (20, 24, 36, 45)),
        *sweep(condition, "back", (30, 40, 38)),
    ]


def compared(
    results: list[ConditionResult], first: str, second: str, **options: bool
) -> CurveComparison:
    filters = condition_filter(first), condition_filter(second)
    (found,), refused = compare_curves(results, *filters, resamples=400, **options)  # type: ignore[arg-type]
    assert not refused
    return found


def by_hand(results: list[ConditionResult], order: str) -> tuple[list[float], list[float]]:
    points = [
        (np.mean([r.wire_bytes for r in part.records]), np.mean([r.correct for r in part.records]))
        for part in results
        if part.keep_ratio == 1 or part.order == order
    ]
    sent, right = zip(*sorted(points), strict=True)
    return list(sent), list(right)


def test_the_estimates_are_those_of_the_two_curves(condition: Make) -> None:
    results = front_and_back(condition)
    found = compared(results, "codec=int8,order=front", "codec=int8,order=back")
    front, back = (curve(*map(np.array, by_hand(results, order))) for order in ("front", "back"))
    assert found.at_equal_bytes.value == pytest.approx(score_difference(front, back))
    assert found.at_equal_score.value == pytest.approx(bytes_difference(front, back))
    assert found.at_equal_bytes.value > 0 > found.at_equal_score.value
    assert found.at_equal_bytes.over == (pytest.approx(129.5), pytest.approx(1029.5))
    assert found.at_equal_score.over == (0.5, 0.75)
    assert [len(side) for side in found.points] == [4, 4] and found.questions == 60


def test_intervals_are_of_resampled_questions(condition: Make) -> None:
    """Against a bootstrap that copies whole questions, one resample at a time."""
    results = front_and_back(condition)
    found = compared(results, "codec=int8,order=front", "codec=int8,order=back")
    generator, drawn = np.random.default_rng(5), []
    for _ in range(400):
        chosen = generator.integers(62, size=62)
        sides = []
        for side, order in enumerate(("front", "back")):
            parts = [part for part in results if part.keep_ratio == 1 or part.order == order]
            right = [[r.correct for r in part.records] + [side == 0, side == 1] for part in parts]
            sent = [[r.wire_bytes for r in part.records] + [0, 0] for part in parts]
            asked = sum(number < 60 for number in chosen)
            sides.append(
                curve(
                    np.array([np.array(row)[chosen].sum() / asked for row in sent]),
                    np.array([np.array(row)[chosen].mean() for row in right]),
                )
            )
        drawn.append((score_difference(*sides), bytes_difference(*sides)))
    for measure, values in zip(
        (found.at_equal_bytes, found.at_equal_score), np.array(drawn).T, strict=True
    ):
        assert np.isnan(values).mean() < 0.02
        low, high = np.nanquantile(values, [0.025, 0.975])
        reach = 0.2 * (high - low)  # of two bootstraps of 400
        assert measure.low == pytest.approx(low, abs=reach)
        assert measure.high == pytest.approx(high, abs=reach)
        assert measure.low < measure.value < measure.high


def test_a_curve_against_itself_has_an_interval_around_nothing(condition: Make) -> None:
    found = compared(front_and_back(condition), *["codec=int8,order=back"] * 2)
    for measure in (found.at_equal_bytes, found.at_equal_score):
        assert measure.value == 0 and measure.low < 0 < measure.high


def test_questions_of_one_passage_are_drawn_together(condition: Make) -> None:
    """Ten passages of six questions, each all right or all wrong, say less than sixty questions."""
    alone, shared = [], []
    for result in front_and_back(condition):
        records = sorted(result.records, key=lambda record: not record.correct)
        renamed = [
            replace(record, example_id=f"q{place:02}") for place, record in enumerate(records)
        ]
        alone.append(replace(result, records=tuple(renamed)))
        shared.append(
            replace(
                result,
                records=tuple(
                    replace(record, cluster=str(place // 6)) for place, record in enumerate(renamed)
                ),
            )
        )
    one, other = (
        compared(results, "codec=int8,order=front", "codec=int8,order=back").at_equal_bytes
        for results in (alone, shared)
    )
    assert one.value == pytest.approx(other.value)
    assert other.high - other.low > 1.5 * (one.high - one.low)


def test_the_best_of_a_plane_at_no_more_bytes(condition: Make) -> None:
    results = [
        *front_and_back(condition),
        condition(letters(41), codec="int4", wire_bytes=200),
        condition(letters(50), codec="bf16", wire_bytes=4000),
    ]
    with pytest.raises(LatentWireError) as raised:
        compared(results, "order=back", "codec=int8,order=front")
    assert "order=back: 6 conditions that differ in codec and keep_ratio" in str(raised.value)
    found = compared(results, "codec=int8,order=front", "order=back", best=True)
    best = curve(np.array([129.5, 229.5, 1029.5, 4029.5]), np.array([30, 41, 45, 50]) / 60)
    front = curve(*map(np.array, by_hand(results[:7], "front")))
    assert found.at_equal_bytes.value == pytest.approx(score_difference(front, best))


def test_gain_of_the_own_message_along_a_curve(condition: Make) -> None:
    results = front_and_back(condition)
    results += sweep(condition, "front", (15, 15, 15, 15), control="deranged", donors="A" * 60)
    found = compared(results, "codec=int8,order=front,control=deranged", "codec=int8,order=front")
    assert found.at_equal_bytes.value > 0.1 and found.at_equal_bytes.low > 0
    assert math.isnan(found.at_equal_score.value)
    assert found.at_equal_score.reason == "One curve has its best accuracy at its fewest bytes."


def test_curves_of_two_pairs_meet_where_both_are_named(condition: Make) -> None:
    results = front_and_back(condition)
    others = [replace(part, pair="other") for part in front_and_back(condition)]
    filters = (
        condition_filter("pair=demo,codec=int8,order=front"),
        condition_filter("pair=other,codec=int8,order=back"),
    )
    (found,), _ = compare_curves([*results, *others], *filters, resamples=20)
    assert found.pairs == ("demo", "other")
    plain = condition_filter("codec=int8,order=front"), condition_filter("codec=int8,order=back")
    both, _ = compare_curves([*results, *others], *plain, resamples=20)
    assert [one.pairs for one in both] == [("demo", "demo"), ("other", "other")]


def test_incomplete_conditions_are_left_out_and_named(condition: Make) -> None:
    results = front_and_back(condition)
    trial = condition(letters(10, 10), keep_ratio=0.05, order="back", wire_bytes=50, total=60)
    filters = condition_filter("codec=int8,order=front"), condition_filter("codec=int8,order=back")
    found, refused = compare_curves([*results, trial], *filters, resamples=20)
    assert len(found[0].points[1]) == 4
    printed = render(found, refused, filters)
    assert "codec=int8,order=back: left out as incomplete: int8 0.05 back (10 of 60)." in printed


def test_what_cannot_be_compared_says_why(condition: Make) -> None:
    results = front_and_back(condition)
    few = [condition(letters(30), codec="bf16", wire_bytes=9000)]
    far = [
        condition(letters(58), codec=codec, wire_bytes=sent)
        for codec, sent in (("klt1", 5000), ("klt2", 9000))
    ]
    for first, words in (
        ("codec=bf16", "needs two complete conditions of different bytes, and codec=bf16 has only"),
        ("codec=fp8*", "no finished condition is codec=fp8*"),
    ):
        with pytest.raises(LatentWireError, match="^.*" + words.replace("*", r"\*")):
            compared([*results, *few], first, "codec=int8,order=back")
    filters = condition_filter("codec=int8,order=back"), condition_filter("codec=klt*")
    found, refused = compare_curves([*results, *far], *filters, resamples=20)
    printed = render(found, refused, filters)
    assert "The curves share no bytes." in printed
    assert "One curve has its best accuracy at its fewest bytes." in printed
    (told,) = json.loads(json.dumps(as_json(found, filters), allow_nan=False))
    assert told["score_difference"] == {
        **dict.fromkeys(("value", "low", "high", "from", "to")),
        "reason": "The curves share no bytes.",
    }


def test_where_few_resamples_overlap_there_is_no_interval(condition: Make) -> None:
    """The first curve's best is hardly better than the second's worst."""
    results = [
        *sweep(condition, "front", (10, 15, 20)),
        *sweep(condition, "back", (19, 30, 40)),
    ]
    found = compared(results, "order=front", "order=back").at_equal_score
    assert -1 < found.value < 0 and math.isnan(found.low) and math.isnan(found.high)
    assert found.reason.startswith("No interval: in ")


def test_text_and_json_say_the_same(condition: Make) -> None:
    filters = condition_filter("codec=int8,order=front"), condition_filter("codec=int8,order=back")
    found, refused = compare_curves(front_and_back(condition), *filters, resamples=50)
    lines = render(found, refused, filters).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == "set, demo, 60 questions, accuracy"
    assert lines[2].startswith("  B  codec=int8,order=back: 4 points, 130 B to 1.03 kB, 50.0 to 75")
    (told,) = json.loads(json.dumps(as_json(found, filters), allow_nan=False))
    value = told["score_difference"]["value"]
    assert f"  B's points at equal bytes       {100 * value:+.1f} [" in lines[3]
    assert told["bytes_difference"]["value"] == found[0].at_equal_score.value
    assert told["second"]["points"][0] == {
        "condition": "int8 0.1 back", "wire_bytes_mean": 129.5, "score": 0.5
    }  # fmt: skip


def resent(part: ConditionResult, times: Callable[[int], int]) -> ConditionResult:
    """The same answers with `times(index)` times the bytes, as of the order `back`."""
    records = (replace(r, wire_bytes=r.wire_bytes * times(r.index)) for r in part.records)
    return replace(part, order="back", records=tuple(records))


def test_bytes_are_those_of_the_resampled_questions(condition: Make) -> None:
    """Twice the bytes on average: of every question, or all in a few long messages."""
    front = sweep(condition, "front", (20, 24, 36))
    even, uneven = (
        compared([*front, *(resent(part, times) for part in front)], "order=front", "order=back")
        for times in (lambda _: 2, lambda index: 31 if index % 30 == 15 else 1)
    )
    assert even.at_equal_score.value == pytest.approx(1)
    assert uneven.at_equal_score.value == pytest.approx(1, abs=0.1)
    widths = [one.at_equal_score.high - one.at_equal_score.low for one in (even, uneven)]
    assert widths[1] > 1.5 * widths[0]


def test_what_was_not_answered_is_wrong_and_has_no_bytes(condition: Make) -> None:
    front = sweep(condition, "front", (20, 24, 36))
    back = [
        replace(
            part,
            order="back",
            records=tuple(
                replace(r, unanswered="too long", wire_bytes=7) if r.index > 50 else r
                for r in part.records
            ),
        )
        for part in front
    ]
    found = compared([*front, *back], "order=front", "order=back")
    # Of the questions 0 to 50; the others count as they were graded.
    assert found.at_equal_bytes.over == (pytest.approx(129.5), pytest.approx(625))
    assert [point.wire_bytes for point in found.points[1]] == [125, 325, 625]
    assert found.questions == 60


def test_scores_are_those_of_the_task(condition: Make) -> None:
    """F1: half right answers count for half, and passages are drawn whole."""
    results = [
        replace(
            part,
            dataset="xquad",
            records=tuple(
                replace(r, score=0.5 * r.correct, cluster=str(r.index // 3)) for r in part.records
            ),
        )
        for part in front_and_back(condition)
    ]
    filters = condition_filter("order=front"), condition_filter("order=back")
    found, refused = compare_curves(results, *filters, resamples=50)
    lines = render(found, refused, filters).splitlines()
    assert lines[0] == "xquad, demo, 60 questions, F1" and "16.7 to 37.5 %" in lines[1]
    assert lines[4].startswith("  B's bytes at equal F1           -")
    plain = compared(front_and_back(condition), "order=front", "order=back")
    assert found[0].at_equal_bytes.value == pytest.approx(plain.at_equal_bytes.value / 2)
