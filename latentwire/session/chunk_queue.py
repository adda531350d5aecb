"""The work of a grid: which pieces are missing, who is computing them, and how they are done."""

import logging
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from mlflow.exceptions import MlflowException

from latentwire.evaluation.record import Record
from latentwire.evaluation.worker_pool import split_span
from latentwire.spec.axes import BASELINES
from latentwire.spec.condition import Condition
from latentwire.spec.setting import Setting
from latentwire.tracking.finished_chunks import (
    Span,
    chunk_name,
    finished_of_chunk,
    finished_spans,
    is_cheap,
    missing_spans,
)
from latentwire.tracking.leases import Leases
from latentwire.tracking.retries import fail_fast
from latentwire.tracking.store import Store

log = logging.getLogger("latentwire")


@dataclass(frozen=True)
class WorkItem:
    """Conditions that lack the same examples of a dataset: evaluated together."""

    setting: Setting
    span: Span
    conditions: tuple[Condition, ...]

    @cached_property
    def key(self) -> str:
        """What a claim to these examples under these conditions is called. Four digits name a
        condition: where two have the same, a process waits for another without need."""
        prints = map(self.setting.condition_fingerprint, self.conditions)
        named = "+".join(sorted(fingerprint[:4] for fingerprint in prints))
        kind = f"{self.setting.identity()[:24]}:{self.setting.dataset}"
        return f"{kind}#{named}:{chunk_name(*self.span)}"

    @property
    def answers(self) -> int:
        """How many it is made of."""
        return (self.span[1] - self.span[0]) * len(self.conditions)

    def cut(self, count: int) -> "list[WorkItem]":
        """Its examples in at most `count` parts, as equal as can be."""
        return [replace(self, span=span) for span in split_span(self.span, count)]


@dataclass(frozen=True)
class WorkResult:
    """What evaluating a unit gave, and how long it took."""

    records: dict[Condition, list[Record]]  # one of each example, in dataset order
    seconds: float

    def cut(self, whole: Span, part: Span) -> "WorkResult":
        """What evaluating a part of the span gave."""
        begin, end = part[0] - whole[0], part[1] - whole[0]
        records = {condition: found[begin:end] for condition, found in self.records.items()}
        return WorkResult(records, self.seconds * (end - begin) / (whole[1] - whole[0]))


def shared_out(unit: WorkItem, others: Sequence[WorkItem], workers: int) -> list[WorkItem]:
    """A unit in parts of which none is more than a worker's share of what is left, of which others
    are the rest: no worker waits long for another, and what is not cut apart has its donors'
    messages at hand."""
    left = unit.answers + sum(other.answers for other in others)
    return unit.cut(-(-unit.answers * workers // left))


def merge_results(parts: Sequence[WorkResult]) -> WorkResult:
    """What a unit gave from what its parts gave, in their order."""
    records = {
        condition: [record for part in parts for record in part.records[condition]]
        for condition in parts[0].records
    }
    return WorkResult(records, sum(part.seconds for part in parts))


@dataclass
class Queue:
    """Hands out units that are missing and that no other process has in hand.

    A claim is held until the unit's results are in the store: `mark_submitted` says which file
    carries them.
    """

    store: Store
    leases: Leases
    units: list[WorkItem]
    unreadable: Collection[str] = ()  # ids of finished runs that do not count
    _away: bool = False  # the store, when it was last asked
    _otherwise: bool = False  # another process was seen to cut the same examples otherwise
    _sent: dict[str, Path] = field(default_factory=dict)

    def take(self) -> WorkItem | None:
        """A unit to be evaluated now; None while there are none, or others have what is left.

        While the store does not answer, a unit that is not claimed: work goes on.
        """
        if not self.units:
            return None
        if self.store.is_reachable():
            try:
                with fail_fast():
                    unit = self._claimed()
                self._away = False
                return unit
            except MlflowException as error:
                if not self.store.is_unavailable(error):
                    raise
        if not self._away:
            log.warning("the tracking store does not answer; results wait in the outbox")
        self._away = True
        # At random: other processes, which cannot be asked either, have the same units.
        return self.units.pop(random.randrange(len(self.units)))

    def keeps(self, unit: WorkItem) -> bool:
        """Whether nobody else can have evaluated a unit meanwhile."""
        return self.leases.keeps(unit.key)

    def still_wanted(self, unit: WorkItem) -> list[WorkItem]:
        """What of an evaluated unit is to be stored: the whole, or, where the claim was lost on the
        way, what nobody else has finished since."""
        if self.keeps(unit) or not self.store.is_reachable():
            return [unit]
        try:
            with fail_fast():
                return self._missing_of(unit)
        except MlflowException as error:
            if not self.store.is_unavailable(error):
                raise
            return [unit]

    def mark_submitted(self, unit: WorkItem, letters: Path | None) -> None:
        """The results of a unit are on their way, in a file that is gone when they have arrived;
        None where nothing of it was to be stored."""
        if letters is None:
            self.leases.release([unit.key])
        else:
            self._sent[unit.key] = letters

    def _claimed(self) -> WorkItem | None:
        self._release_what_arrived()
        while (unit := self.leases.take_any(self.units, lambda unit: unit.key)) is not None:
            self._otherwise |= any(self.leases.seen.cuts(each.key) for each in self.units)
            missing = self._missing_of(unit)
            at = self.units.index(unit)
            self.units[at : at + 1] = missing
            if missing == [unit]:
                return self.units.pop(at)
            self.leases.release([unit.key])  # what it still lacks has claims of its own
        return None

    def _release_what_arrived(self) -> None:
        arrived = [key for key, path in self._sent.items() if not path.exists()]
        for key in arrived:
            del self._sent[key]
        self.leases.release(arrived)

    def _missing_of(self, unit: WorkItem) -> list[WorkItem]:
        """What of a unit nobody has finished since the plan was made: itself, pieces, or nothing.

        Where it costs many requests, chunks of another size are only looked for once somebody was
        seen to make them.
        """
        setting, names = unit.setting, {}
        for condition in unit.conditions:
            names[condition] = setting.condition_fingerprint(condition)
        if self._otherwise or is_cheap(self.store):
            found = finished_spans(self.store, list(names.values()), self.unreadable)
        else:
            chunk = chunk_name(*unit.span)
            there = finished_of_chunk(self.store, setting.identity(), chunk, self.unreadable)
            found = {name: [unit.span] for name in there}
        return work_items(
            [
                (setting, condition, missing_spans([unit.span], found.get(name, [])))
                for condition, name in names.items()
            ]
        )


def work_items(missing: Sequence[tuple[Setting, Condition, Sequence[Span]]]) -> list[WorkItem]:
    """Units for the spans that conditions lack: those that send caches, then what competes with
    them, which has nothing in common with these; each in dataset order."""
    together: dict[tuple[bool, Setting, Span], list[Condition]] = {}
    for setting, condition, spans in missing:
        for span in spans:
            competes = condition.system in BASELINES
            together.setdefault((competes, setting, span), []).append(condition)
    return [
        WorkItem(setting, span, tuple(conditions))
        for (_, setting, span), conditions in sorted(
            together.items(), key=lambda item: (item[0][0], item[0][1].dataset, item[0][2])
        )
    ]
