"""Two curves of one question set: points gained at equal bytes, bytes needed at equal score.

Both come with an interval over questions. Each resample draws questions (those of a passage
together) and makes both curves anew from them, bytes and scores, so that what makes a question long
or hard is in both.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentwire.analysis.bjontegaard import (
    FEWEST_POINTS,
    Curve,
    bytes_difference,
    curve,
    efficient,
    overlap,
    score_difference,
)
from latentwire.analysis.bootstrap import SEED, draws, percentile_interval
from latentwire.analysis.curve import ConditionResult, outcomes
from latentwire.analysis.measured_condition import TELLING, MeasuredCondition, measured_conditions
from latentwire.analysis.stats import Interval, clusters
from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record
from latentwire.spec.condition_filter import ConditionFilter
from latentwire.tasks.registry import task_of_records

RESAMPLES = 2_000  # each costs four interpolations, half a millisecond
NOTHING = float("nan")
_Family = tuple[str, str]  # pair and dataset


@dataclass(frozen=True)
class Measure:
    """A mean difference, second - first, with its 95 % interval; NaN where it cannot be said."""

    value: float
    low: float
    high: float
    over: Interval  # the bytes, or scores, that both curves have
    reason: str  # why there is no value, or no interval, in a sentence; "" where there is


@dataclass(frozen=True)
class CurveComparison:
    """The second curve against the first. Scores and differences are shares."""

    pairs: tuple[str, str]
    dataset: str
    metric: str
    questions: int
    points: tuple[Sequence[MeasuredCondition], Sequence[MeasuredCondition]]  # by rising bytes
    at_equal_bytes: Measure  # of scores
    at_equal_score: Measure  # of bytes, a share of the first's: -0.25 is a quarter less
    notes: tuple[str, ...]


def compare_curves(
    results: Iterable[ConditionResult],
    first: ConditionFilter,
    second: ConditionFilter,
    *,
    best: bool = False,
    resamples: int = RESAMPLES,
) -> tuple[list[CurveComparison], list[str]]:
    """Compare what two filters take, on each question set that has both; of one pair, unless a
    filter names it.

    Only complete conditions count. With `best`, a curve is the best of its conditions at no more
    bytes, whatever they are. Gives the comparisons, and a sentence for each question set where
    there is none; raises LatentWireError where there is none at all.
    """
    conditions = measured_conditions(results)
    sides = [_families(conditions, each) for each in (first, second)]
    found = []
    refused: dict[str, list[str]] = defaultdict(list)
    for pairs, dataset in _together(sides[0], sides[1], first.names_pair or second.names_pair):
        try:
            notes: list[str] = []
            points = (
                _points(sides[0][pairs[0], dataset], first, best, notes),
                _points(sides[1][pairs[1], dataset], second, best, notes),
            )
            found.append(_compared(pairs, dataset, points, best, resamples, notes))
        except LatentWireError as error:
            refused[str(error)].append(f"{dataset}, {pairs[0]}")
    sentences = [f"{'; '.join(families)}: {reason}" for reason, families in refused.items()]
    if not found:
        raise LatentWireError(*(sentences or [_nothing(sides, first, second)]))
    return found, sentences


def _together(
    first: Iterable[_Family], second: Iterable[_Family], several_pairs: bool
) -> Iterator[tuple[tuple[str, str], str]]:
    """The pairs and the question set of what is compared."""
    for (pair, dataset), (other, other_dataset) in product(first, second):
        if dataset == other_dataset and (pair == other or several_pairs):
            yield (pair, other), dataset


def _nothing(sides: Sequence[Mapping[_Family, Any]], *filters: ConditionFilter) -> str:
    empty = [each.text for side, each in zip(sides, filters, strict=True) if not side]
    if empty:
        return (
            f"no finished condition is {' or '.join(empty)} (system=c2c and the question's own"
            " message, unless they are named): budget_curve.csv of m4 has all that there are"
        )
    return "the two curves have no question set of one pair in common: name pair= in both"


def _families(
    conditions: Iterable[MeasuredCondition], wanted: ConditionFilter
) -> dict[_Family, list[MeasuredCondition]]:
    """The conditions that are wanted, by pair and dataset."""
    found: dict[_Family, list[MeasuredCondition]] = defaultdict(list)
    for one in conditions:
        if wanted.takes(one.part, one.part.pair):
            found[one.part.pair, one.part.dataset].append(one)
    return found


def _points(
    members: Sequence[MeasuredCondition], wanted: ConditionFilter, best: bool, notes: list[str]
) -> list[MeasuredCondition]:
    """The points of one curve, by rising bytes. Raises LatentWireError where they make none."""
    partial = [
        f"{one.name} ({len(one.records)} of {one.part.examples_total})"
        for one in members
        if not one.is_complete
    ]
    if partial:
        notes.append(f"{wanted.text}: left out as incomplete: {', '.join(sorted(partial))}.")
    points = [one for one in members if one.is_complete and one.wire_bytes]
    points.sort(key=lambda point: point.wire_bytes)
    if len({point.wire_bytes for point in points}) < FEWEST_POINTS:
        there = f"only {points[0].name}" if len(points) == 1 else f"{len(points)} conditions"
        left = f" ({notes[-1].rstrip('.')})" if partial else ""
        raise LatentWireError(
            f"a curve needs two complete conditions of different bytes, and {wanted.text} has"
            f" {there}: name fewer axes, or run more{left}"
        )
    if not best:
        _require_one_curve([point.part for point in points], wanted.text)
    return points


def _require_one_curve(points: Sequence[ConditionResult], text: str) -> None:
    """Raise LatentWireError where no axis tells every point from all others: codecs times keep
    ratios are a plane, and a line through it would go to and fro."""
    counts = {name: len({getattr(point, name) for point in points}) for name in TELLING}
    if len(points) not in counts.values():
        differing = " and ".join(name for name, count in counts.items() if count > 1)
        raise LatentWireError(
            f"{text}: {len(points)} conditions that differ in {differing} are no single curve: name"
            " all of these but one, or compare the best of each with --best"
        )


def _compared(
    pairs: tuple[str, str],
    dataset: str,
    points: tuple[Sequence[MeasuredCondition], Sequence[MeasuredCondition]],
    best: bool,
    resamples: int,
    notes: Sequence[str],
) -> CurveComparison:
    common = set.intersection(*(set(point.records) for side in points for point in side))
    if not common:
        raise LatentWireError("the two curves have no question in common")
    totals = _Totals.of([*points[0], *points[1]], common)
    ends = len(points[0])

    def curves(right: NDArray[np.float64], sent: NDArray[np.float64]) -> list[Curve]:
        made = [curve(sent[part], right[part]) for part in (np.s_[:ends], np.s_[ends:])]
        return [efficient(one) for one in made] if best else made

    own = curves(*totals.observed())
    drawn = [curves(*means) for means in totals.resampled(ends, resamples)]
    rising = [efficient(one) for one in own]
    metric = task_of_records(dataset).metric
    bytes_over = overlap(*(one.wire_bytes for one in own))
    score_over = overlap(*(one.score for one in rising))
    if min(len(one.score) for one in rising) < FEWEST_POINTS:
        reason = f"One curve has its best {metric} at its fewest bytes"
    else:
        reason = f"The curves share no {metric}"
    return CurveComparison(
        pairs,
        dataset,
        metric,
        len(common),
        points,
        _measure(score_difference, own, drawn, bytes_over, "The curves share no bytes"),
        _measure(bytes_difference, own, drawn, score_over, reason),
        tuple(notes),
    )


def _measure(
    difference: Callable[[Curve, Curve], float],
    own: Sequence[Curve],
    drawn: Sequence[Sequence[Curve]],
    over: Interval,
    reason: str,
) -> Measure:
    """A difference with its interval, which holds it. A resample in which it cannot be said may
    have been anything: it counts as beyond either end, and where there are too many of these, there
    is no interval."""
    value = difference(own[0], own[1])
    if np.isnan(value):
        return Measure(value, NOTHING, NOTHING, over, f"{reason}.")
    found = np.array([difference(one, other) for one, other in drawn])
    unknown = np.isnan(found)
    low = percentile_interval(np.sort(np.where(unknown, -np.inf, found))).low
    high = percentile_interval(np.sort(np.where(unknown, np.inf, found))).high
    if np.isinf([low, high]).any():
        share = f"No interval: in {100 * unknown.mean():.0f} % of the resamples there is no overlap"
        return Measure(value, NOTHING, NOTHING, over, f"{share}.")
    return Measure(value, min(low, value), max(high, value), over, "")


@dataclass(frozen=True)
class _Totals:
    """Sums over each cluster of questions: of scores, of bytes, and of what they are means of."""

    right: NDArray[np.float64]  # [clusters, points]
    sent: NDArray[np.float64]  # [clusters, points]
    told: NDArray[np.float64]  # [clusters, points]: questions that could be answered
    asked: NDArray[np.float64]  # [clusters, 1]

    @classmethod
    def of(cls, points: Sequence[MeasuredCondition], common: Iterable[str]) -> "_Totals":
        every = [{name: point.records[name] for name in common} for point in points]
        members = clusters(outcomes(every[0]))

        def sums(worth: Callable[[Record], float]) -> NDArray[np.float64]:
            return np.array(
                [[sum(worth(records[name]) for name in names) for records in every]
                 for names in members],
                float,
            )  # fmt: skip

        return cls(
            sums(lambda record: record.value),
            sums(lambda record: record.wire_bytes if record.unanswered is None else 0),
            sums(lambda record: record.unanswered is None),
            np.array([[len(names)] for names in members], float),
        )

    def observed(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean scores and mean bytes of the points."""
        return self.right.sum(0) / self.asked.sum(0), self.sent.sum(0) / self.told.sum(0)

    def resampled(
        self, ends: int, resamples: int
    ) -> Iterable[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """The same of resamples. To the questions two are added, of which one curve (the first
        `ends` points) or the other gets one wrong throughout: equal answers leave a width (see
        `bootstrap.ResampledMean`)."""
        points = self.right.shape[1]
        first = np.arange(points) < ends
        nothing = np.zeros((2, points))
        right = np.concatenate([self.right, [first, ~first]])
        sent, told = (np.concatenate([each, nothing]) for each in (self.sent, self.told))
        asked = np.concatenate([self.asked, np.ones((2, 1))])
        for counts in draws(len(right), resamples, SEED):
            drawn = counts.astype(float)
            with np.errstate(invalid="ignore"):  # a resample without an answered question
                means = (drawn @ right) / (drawn @ asked), (drawn @ sent) / (drawn @ told)
            yield from zip(*means, strict=True)
