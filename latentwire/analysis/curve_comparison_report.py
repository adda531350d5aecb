"""Compared curves as text for the terminal, at most 100 columns wide, and as JSON values."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from latentwire.analysis.curve_comparison import NOTHING, CurveComparison, Measure
from latentwire.analysis.formatting import human_bytes, interval, percent
from latentwire.analysis.measured_condition import MeasuredCondition
from latentwire.spec.condition_filter import ConditionFilter

WIDTH = 100
_FEW = 4  # points; with fewer, most of a curve is straight


def render(
    found: Sequence[CurveComparison],
    refused: Sequence[str],
    filters: tuple[ConditionFilter, ConditionFilter],
) -> str:
    """What each comparison says, and what could not be compared."""
    lines = []
    for one in found:
        lines += [*_lines(one, filters), ""]
    lines += [line for sentence in refused for line in textwrap.wrap(sentence, WIDTH)]
    return "\n".join(lines).rstrip() + "\n"


def as_json(
    found: Sequence[CurveComparison], filters: tuple[ConditionFilter, ConditionFilter]
) -> list[dict[str, Any]]:
    """The same as values of strict JSON: shares from 0 to 1, bytes, null for what is not said."""
    return [
        {
            "dataset": one.dataset,
            "pair": list(one.pairs),
            "metric": one.metric,
            "questions": one.questions,
            "first": {"conditions": filters[0].text, "points": _points(one.points[0])},
            "second": {"conditions": filters[1].text, "points": _points(one.points[1])},
            "score_difference": _measure(one.at_equal_bytes),
            "bytes_difference": _measure(one.at_equal_score),
            "notes": list(one.notes),
        }
        for one in found
    ]


def _points(points: Sequence[MeasuredCondition]) -> list[dict[str, Any]]:
    return [
        {"condition": point.name, "wire_bytes_mean": point.wire_bytes, "score": point.score}
        for point in points
    ]


def _measure(one: Measure) -> dict[str, Any]:
    numbers = {"value": one.value, "low": one.low, "high": one.high}
    said = not math.isnan(one.value)
    numbers |= {"from": one.over.low if said else NOTHING, "to": one.over.high if said else NOTHING}
    plain = {name: None if math.isnan(value) else value for name, value in numbers.items()}
    return {**plain, "reason": one.reason or None}


def _lines(one: CurveComparison, filters: tuple[ConditionFilter, ConditionFilter]) -> Iterator[str]:
    pair = " and ".join(dict.fromkeys(one.pairs))
    yield f"{one.dataset}, {pair}, {one.questions} questions, {one.metric}"
    for name, each, points in zip("AB", filters, one.points, strict=True):
        sent = [human_bytes(point.wire_bytes) for point in (points[0], points[-1])]
        scores = [percent(pick(point.score for point in points)) for pick in (min, max)]
        yield (
            f"  {name}  {each.text}: {len(points)} points, {' to '.join(sent)},"
            f" {' to '.join(scores)} %"
        )
    points_over = " to ".join(map(human_bytes, one.at_equal_bytes.over))
    scores_over = " to ".join(map(percent, one.at_equal_score.over))
    for what, measure, unit, over in (
        ("B's points at equal bytes", one.at_equal_bytes, "", points_over),
        (f"B's bytes at equal {one.metric}", one.at_equal_score, " %", f"{scores_over} %"),
    ):
        yield f"  {what:<32}{_said(measure, unit, over)}"
    yield from (f"  {line}" for note in _notes(one) for line in textwrap.wrap(note, WIDTH - 2))


def _said(measure: Measure, unit: str, over: str) -> str:
    if math.isnan(measure.value):
        return "-"
    known = not math.isnan(measure.low)
    ends = f" {interval(measure.low, measure.high, signed=True)}" if known else ""
    return f"{percent(measure.value, signed=True)}{unit}{ends} over {over}"


def _notes(one: CurveComparison) -> Iterator[str]:
    yield from filter(None, (one.at_equal_bytes.reason, one.at_equal_score.reason))
    if min(map(len, one.points)) < _FEW:
        yield "A curve of fewer than four points is nearly straight between them."
    yield from one.notes
