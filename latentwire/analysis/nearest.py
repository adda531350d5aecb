"""Which condition to use: the best score at no more bytes, or the fewest bytes at no less score."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from latentwire.analysis.curve import ConditionResult, build_curve, outcomes
from latentwire.analysis.formatting import human_bytes, percent
from latentwire.analysis.frames import records
from latentwire.analysis.measured_condition import MeasuredCondition, measured_conditions
from latentwire.analysis.noninferiority import difference_interval
from latentwire.analysis.paired_scores import compare
from latentwire.analysis.pairing_told import NOT_RUN, part_counted, why_no_gain
from latentwire.analysis.stats import Interval
from latentwire.analysis.unanswered import answered
from latentwire.controls.registry import DERANGED, MATCHED
from latentwire.spec.axes import NONE
from latentwire.spec.condition_filter import ConditionFilter
from latentwire.tasks.registry import task_of_records

CACHES = ConditionFilter("any cache", {})
ASKED = (MATCHED, DERANGED, NONE)  # controls whose answers tell something here
_INSTEAD = ("receiver", "sharer")  # no message: nothing that one could use


@dataclass(frozen=True)
class Wanted:
    """What is asked: at most so many bytes a question (mean), at least so high a score (a share).

    With a score, the fewest bytes are sought; without, the best score.
    """

    most_bytes: float = math.inf
    least_score: float = 0.0
    among: ConditionFilter = CACHES

    def fits(self, one: MeasuredCondition) -> bool:
        return one.wire_bytes <= self.most_bytes and one.score >= self.least_score

    def worth(self, one: MeasuredCondition) -> tuple[float, float]:
        """What the one to use has most of. Equal scores go to fewer bytes, equal bytes to the
        better score."""
        cheap = -one.wire_bytes
        return (cheap, one.score) if self.least_score else (one.score, cheap)

    def __str__(self) -> str:
        limits = []
        if self.least_score:
            limits.append(f"at least {percent(self.least_score)} %")
        if self.most_bytes < math.inf:
            limits.append(f"at most {human_bytes(self.most_bytes)}")
        return " and ".join(limits)


@dataclass(frozen=True)
class OverReceiver:
    """The receiver alone, and what the chosen condition adds to its score. Shares."""

    score: float
    difference: float
    interval: Interval


@dataclass(frozen=True)
class Choice:
    """The condition to use on one question set; none, and why, where nothing fits."""

    pair: str
    dataset: str
    metric: str
    row: dict[str, Any] | None  # of the budget curve
    over_receiver: OverReceiver | None  # where both were measured on all questions
    notes: tuple[str, ...]


def choose(results: Iterable[ConditionResult], wanted: Wanted) -> list[Choice]:
    """The condition for each pair and question set, in the order of the results. Only complete
    conditions are chosen, or compared with."""
    families: dict[tuple[str, str], list[ConditionResult]] = defaultdict(list)
    for part in results:
        families[part.pair, part.dataset].append(part)
    return [_chosen(parts, wanted) for parts in families.values()]


def _chosen(parts: Sequence[ConditionResult], wanted: Wanted) -> Choice:
    own = [part for part in parts if part.control in (MATCHED, NONE)]
    there = measured_conditions(own)
    asked = [one for one in there if wanted.among.takes(one.part, one.part.pair)]
    whole = [one for one in asked if one.is_complete and not one.is_mute]
    notes = [*_left_out(asked)]
    metric = task_of_records(parts[0].dataset).metric
    fitting = [one for one in whole if wanted.fits(one)]
    if not fitting:
        notes.insert(0, _nothing_fits(whole, wanted))
        return Choice(parts[0].pair, parts[0].dataset, metric, None, None, tuple(notes))
    best = max(fitting, key=wanted.worth)
    (row,) = records(build_curve([part for part in parts if part.place == best.part.place]))
    others = [one for one in there if one.is_complete and one not in asked]
    over = _over_receiver(best, others)
    notes = [*_weak(best, row, over, others, wanted), *notes]
    return Choice(parts[0].pair, parts[0].dataset, metric, row, over, tuple(notes))


def _left_out(asked: Sequence[MeasuredCondition]) -> Iterator[str]:
    count = sum(not one.is_complete for one in asked)
    if count:
        yield f"{count} of {len(asked)} conditions left out: not all questions were asked."
    if mute := sum(one.is_complete and one.is_mute for one in asked):
        yield f"{mute} of {len(asked)} conditions left out: no question could be answered."


def _nothing_fits(whole: Sequence[MeasuredCondition], wanted: Wanted) -> str:
    if not whole:
        return f"Nothing to choose from: no complete condition is {wanted.among.text}."
    best = max(whole, key=lambda one: (one.score, -one.wire_bytes))
    small = min(whole, key=lambda one: (one.wire_bytes, -one.score))
    return f"None of {len(whole)} has {wanted}: best is {_said(best)}, smallest {_said(small)}."


def _said(one: MeasuredCondition) -> str:
    return f"{one.name} ({human_bytes(one.wire_bytes)}, {percent(one.score)} %)"


def _over_receiver(
    best: MeasuredCondition, others: Sequence[MeasuredCondition]
) -> OverReceiver | None:
    receiver = next((one for one in others if one.part.system == "receiver"), None)
    if receiver is None:
        return None
    # What is compared with gets no blame for questions that it could not answer.
    paired = compare(outcomes(best.records), outcomes(answered(receiver.records)))
    return OverReceiver(receiver.score, paired.difference, difference_interval(paired))


def _weak(
    best: MeasuredCondition,
    row: dict[str, Any],
    over: OverReceiver | None,
    others: Sequence[MeasuredCondition],
    wanted: Wanted,
) -> Iterator[str]:
    """What speaks against the condition, in sentences."""
    if row["score_low"] < wanted.least_score:
        yield f"Its interval reaches below {percent(wanted.least_score)} %."
    if over and over.interval.low <= 0:
        yield "It is not shown to be better than the receiver alone, which needs no byte."
    if row["degenerate"]:
        yield f"It answers {row['top_letter']} to {percent(row['top_letter_share'])} % of all."
    if why := why_no_gain(row):
        unasked = "was not asked: run the control deranged"
        yield (
            f"Whether its content matters {unasked if why == NOT_RUN else f'is not known: {why}'}."
        )
    if part := part_counted(row):
        yield f"{part[0].upper()}{part[1:]}."
    if not why and row["pairing_gain_low"] <= 0:
        yield "It is not shown that its content matters: another question's message may do as well."
    rivals = [
        one
        for one in others
        if one.part.system not in _INSTEAD
        and one.wire_bytes <= best.wire_bytes
        and one.score >= best.score
    ]
    if rivals:
        yield f"No better than {_said(max(rivals, key=wanted.worth))}."
