"""Where does what win? Cells of pair, question set, budget and link, from conditions in the store.

Contenders of a cell are nothing (the receiver alone), an answer (letter or logits), a text, and a
cache, each the best within the budget. No question takes part in choosing what it is scored by:
questions are split in two halves (those of a passage together), and each half is scored by what was
best on the other (cross-fitting). The winner scores most; those whose difference from it is within
chance (95 % interval of paired differences) tie with it, and of these the one of fewest bytes wins.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from latentwire.analysis.curve import mean_score, outcomes
from latentwire.analysis.estimates import Estimate, of_difference
from latentwire.analysis.measured_condition import MeasuredCondition
from latentwire.analysis.paired_scores import compare
from latentwire.evaluation.record import Record
from latentwire.spec.axes import CACHES, SYSTEMS, TEXTS

NOTHING = "nothing"
CONTENDERS: dict[str, Callable[[str], bool]] = {  # which systems are of each
    NOTHING: lambda system: system == "receiver",
    "answer": lambda system: SYSTEMS[system].sends == "answer",
    "text": lambda system: system in TEXTS,
    "cache": lambda system: system in CACHES,
}


@dataclass(frozen=True)
class Contender:
    """The best of a kind within a budget, cross-fitted: of each half of the questions another
    condition may have been the best."""

    kind: str
    conditions: tuple[MeasuredCondition, ...]  # one, or that of each half
    records: Mapping[str, Record]

    @property
    def name(self) -> str:
        return " / ".join(dict.fromkeys(one.name for one in self.conditions))

    @property
    def score(self) -> float:
        return mean_score(self.records)

    @property
    def wire_bytes(self) -> float:
        return mean(record.wire_bytes for record in self.records.values())


@dataclass(frozen=True)
class Verdict:
    """Who wins a cell, and who ties with the highest score, the winner among them."""

    winner: Contender
    tied: tuple[Contender, ...]


def half_of(record: Record) -> int:
    """In which half a question is: by a hash of its passage, or of its own id."""
    return hashlib.sha256((record.cluster or record.example_id).encode()).digest()[0] & 1


def contenders(conditions: Sequence[MeasuredCondition], budget_bytes: int) -> list[Contender]:
    """The best of each kind within a budget, of complete conditions of one pair and question set.

    A condition is within the budget where none of its messages is longer; one that never sends a
    byte, for nothing fitted, is no contender beside "nothing". Kinds without any such condition, or
    where a half has no question, are left out.
    """
    longest = [max((r.wire_bytes for r in one.records.values()), default=0) for one in conditions]
    found = []
    for kind, belongs in CONTENDERS.items():
        least = 0 if kind == NOTHING else 1
        members = [
            one
            for one, most in zip(conditions, longest, strict=True)
            if belongs(one.part.system) and least <= most <= budget_bytes
        ]
        chosen = [_best(members, 1 - half) for half in (0, 1)]
        if None not in chosen:
            both = tuple(one for one in chosen if one is not None)
            records = {
                name: record
                for half, one in enumerate(both)
                for name, record in one.records.items()
                if half_of(record) == half
            }
            if records:
                same = both[0] is both[1]
                found.append(Contender(kind, both[:1] if same else both, records))
    return found


def _best(members: Sequence[MeasuredCondition], half: int) -> MeasuredCondition | None:
    """The highest mean score on one half; of equals fewer bytes, then the first by name."""

    def rank(one: MeasuredCondition) -> tuple[float, float, str]:
        scored = [record for record in one.records.values() if half_of(record) == half]
        if not scored:
            return math.inf, 0.0, ""
        size = mean(record.wire_bytes for record in scored)
        return -mean(record.value for record in scored), size, one.name

    best = min(members, key=rank, default=None)
    return best if best is not None and rank(best)[0] < math.inf else None


def difference(first: Mapping[str, Record], second: Mapping[str, Record]) -> Estimate:
    """Score of the first less the second's, on questions that both have."""
    return of_difference(compare(outcomes(first), outcomes(second)))


def judged(found: Sequence[Contender]) -> Verdict:
    """Who wins; of equal bytes the higher score."""
    leader = max(found, key=lambda each: (each.score, -each.wire_bytes))
    tied = [
        each
        for each in found
        if each is leader or difference(leader.records, each.records).low <= 0
    ]
    winner = min(tied, key=lambda each: (each.wire_bytes, -each.score))
    return Verdict(winner, tuple(tied))
