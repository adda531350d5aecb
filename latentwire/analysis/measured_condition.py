"""All answers of one condition, as one point of a curve."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from latentwire.analysis.curve import ConditionResult, mean_score, merged
from latentwire.analysis.unanswered import answered
from latentwire.evaluation.record import Record
from latentwire.spec.axes import AXES
from latentwire.spec.names import condition_name

TELLING = tuple(name for name, axis in AXES.items() if not axis.derived)


@dataclass(frozen=True)
class MeasuredCondition:
    """One condition on one question set, with its records by example id."""

    part: ConditionResult  # any part of it: what is the same in all
    records: Mapping[str, Record]

    @property
    def name(self) -> str:
        return condition_name(vars(self.part))

    @property
    def is_complete(self) -> bool:
        """Whether every scored question was asked."""
        return len(self.records) == self.part.examples_total

    @property
    def is_mute(self) -> bool:
        """Whether no question could be answered."""
        return not answered(self.records)

    @cached_property
    def wire_bytes(self) -> float:
        """Mean bytes of the questions that could be answered; 0 without any."""
        sent = [record.wire_bytes for record in answered(self.records).values()]
        return float(np.mean(sent)) if sent else 0.0

    @cached_property
    def score(self) -> float:
        """Mean score of all questions, 0 to 1."""
        return mean_score(self.records)


def measured_conditions(results: Iterable[ConditionResult]) -> list[MeasuredCondition]:
    """The conditions of some results, which may come in parts; in the order of the results."""
    parts: dict[tuple[Any, ...], list[ConditionResult]] = defaultdict(list)
    for part in results:
        parts[*part.family, *(getattr(part, name) for name in TELLING)].append(part)
    return [MeasuredCondition(many[0], merged(str(many[0]), many)) for many in parts.values()]
