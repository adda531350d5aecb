"""At equal bytes: what was chosen for each budget, and what it scored, beside each other.

What fills a budget best is chosen on development questions; here stands what it scores on the test
set. The best cache, text and message of a budget are chosen by development scores too, so that
nothing is the best because of the questions that it is judged by.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import pandas as pd

from latentwire.analysis.bootstrap import score_interval
from latentwire.analysis.curve import mean_score, outcomes
from latentwire.analysis.donors import DonorAnswers
from latentwire.analysis.estimates import of_difference
from latentwire.analysis.formatting import human_bytes, interval, percent
from latentwire.analysis.frames import records as rows_of
from latentwire.analysis.letter_distribution import ratio
from latentwire.analysis.paired_scores import compare, compare_with_donors
from latentwire.analysis.pareto import pareto_front
from latentwire.analysis.unanswered import answered
from latentwire.evaluation.record import Record
from latentwire.spec.axes import CACHES, TEXTS
from latentwire.spec.condition import Condition
from latentwire.spec.names import condition_name

ALONE = "receiver alone"  # the kind of the row of no budget
_ENDS = ("", "_low", "_high")
COLUMNS = (
    *("pair", "dataset", "budget_bytes", "kind", "condition"),
    *("development_set", "development_score", "known_bytes", "examples"),
    *("wire_bytes_mean", "wire_bytes_max", "unused_bytes_mean", "sent_nothing_share", "cut_share"),
    *("score", "score_low", "score_high", "donors", "deranged_score"),
    *(f"{name}{end}" for name in ("pairing_gain", "against_message") for end in _ENDS),
    *("best_cache", "best_text", "best_message", "on_front", "over_budget"),
)


@dataclass(frozen=True)
class Tried:
    """A way to fill a budget, and what it did on development questions."""

    condition: Condition
    score: float
    wire_bytes_mean: float
    wire_bytes_max: float


@dataclass(frozen=True)
class Chosen:
    """The best way of a kind to fill a budget, with its score on development questions."""

    budget_bytes: int
    kind: str
    condition: Condition
    development_score: float
    development_set: str  # whose questions it was chosen by
    known_bytes: int = 0
    """What both ends must have beforehand: the codec's part of the calibration."""

    @property
    def sends_cache(self) -> bool:
        return self.condition.system in CACHES


Answered = tuple[Mapping[str, Record], DonorAnswers]  # with own, and with other messages
Records = Mapping[Condition, Answered]


def best_tried(ways: Sequence[Tried], budget_bytes: int) -> Tried | None:
    """The way of the highest score that never sent more than the budget; among equals the one of
    fewer bytes, then the first. None where all sent more."""
    within = [way for way in ways if way.wire_bytes_max <= budget_bytes]
    return min(within, key=lambda way: (-way.score, way.wire_bytes_mean), default=None)


def equal_bytes_table(
    pair: str, dataset: str, chosen: Sequence[Chosen], records: Records, alone: Mapping[str, Record]
) -> pd.DataFrame:
    """The rows of COLUMNS of one question set: the receiver alone, then each budget's kinds.

    `over_budget` counts messages longer than their budget, which only letters and logits could
    have; a way that has any is none of the best, and not on the front.
    """
    rows = [_alone(pair, dataset, alone)]
    for budget in dict.fromkeys(each.budget_bytes for each in chosen):
        here = [each for each in chosen if each.budget_bytes == budget]
        fitting = [each for each in here if not _over(each, records)]
        best = _best(fitting, records)
        for each in here:
            message = best.get("best_message")
            reference = records[message.condition][0] if message else {}
            compared = {} if each is message else reference
            row = _row(*records[each.condition], compared, budget) | {
                **{name: best.get(name) is each for name in _KINDS},
                "over_budget": _over(each, records),
            }
            named = vars(each.condition.point)
            rows.append(
                {"pair": pair, "dataset": dataset, "budget_bytes": budget, "kind": each.kind}
                | {"condition": condition_name(named)}
                | {"development_set": each.development_set}
                | {"development_score": each.development_score, "known_bytes": each.known_bytes}
                | row
            )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    places = [
        (row["wire_bytes_mean"], math.nan if row["over_budget"] else row["score"])
        for row in rows_of(table)
    ]
    front = set(pareto_front(places))
    return table.assign(on_front=[place in front for place in range(len(table))])


_KINDS = {
    "best_cache": lambda each: each.sends_cache,
    "best_text": lambda each: each.condition.system in TEXTS,
    "best_message": lambda each: not each.sends_cache,
}


def _best(chosen: Sequence[Chosen], records: Records) -> dict[str, Chosen]:
    """Of the caches, texts and messages of a budget those of the highest development score; among
    equals the one that sends fewer bytes."""

    def rank(each: Chosen) -> tuple[float, float]:
        return -each.development_score, _mean_bytes(records[each.condition][0])

    of = {name: [each for each in chosen if belongs(each)] for name, belongs in _KINDS.items()}
    return {name: min(found, key=rank) for name, found in of.items() if found}


def _over(each: Chosen, records: Records) -> int:
    """How many of its messages, own or another question's, are longer than the budget."""
    own, lent = records[each.condition]
    every = (*own.values(), *lent.every)
    return sum(record.wire_bytes > each.budget_bytes for record in every)


def _mean_bytes(records: Mapping[str, Record]) -> float:
    sent = [record.wire_bytes for record in answered(records).values()]
    return mean(sent) if sent else math.nan


def _alone(pair: str, dataset: str, alone: Mapping[str, Record]) -> dict[str, object]:
    row = _row(alone, DonorAnswers(()), {}, 0)
    named = {"pair": pair, "dataset": dataset, "budget_bytes": 0, "kind": ALONE, "condition": ALONE}
    return row | named | dict.fromkeys(_KINDS, False) | {"over_budget": 0, "known_bytes": 0}


def _row(
    own: Mapping[str, Record], lent: DonorAnswers, message: Mapping[str, Record], budget_bytes: int
) -> dict[str, object]:
    """What the answers with the own message, another's, and the best message give."""
    scores, sent = outcomes(own), answered(own)
    sizes = [record.wire_bytes for record in sent.values()]
    gain = of_difference(compare_with_donors(scores, [outcomes(each) for each in lent.answered]))
    against = of_difference(compare(scores, outcomes(message)))
    low, high = score_interval(scores)
    return {
        "examples": len(own),
        "wire_bytes_mean": _mean_bytes(own),
        "wire_bytes_max": max(sizes, default=0),
        "unused_bytes_mean": budget_bytes - _mean_bytes(own),
        "sent_nothing_share": mean(not size for size in sizes) if sizes else math.nan,
        "cut_share": mean(bool(r.cut_characters) for r in sent.values()) if sent else math.nan,
        "score": mean_score(own),
        "score_low": low,
        "score_high": high,
        "donors": len(lent.by_donor),
        "deranged_score": ratio(sum(record.value for record in lent.every), len(lent.every)),
        **gain.columns("pairing_gain"),
        **against.columns("against_message"),
    }


def sentences(table: pd.DataFrame) -> list[str]:
    """The headline of each question set and budget: the best cache, and the best of any message."""
    said = []
    for row in rows_of(table[table["best_cache"]]):
        same = (table["dataset"] == row["dataset"]) & (table["budget_bytes"] == row["budget_bytes"])
        rivals = rows_of(table[same & table["best_message"]])
        where = f"{row['dataset']}, {row['pair']}, within {row['budget_bytes']:,} bytes"
        ahead = ""
        if rivals:
            ends = ", ".join(
                f"{100 * row[f'against_message_{end}']:+.1f}" for end in ("low", "high")
            )
            ahead = (
                f"; best of any message: {_told(rivals[0])}; the cache is"
                f" {100 * row['against_message']:+.1f} points against it [{ends}]"
            )
        said.append(f"{where}: best cache: {_told(row)}{ahead}.")
    return said


def _told(row: Mapping[str, Any]) -> str:
    nothing = row["sent_nothing_share"]
    empty = f", nothing fits for {100 * nothing:.0f} %" if nothing else ""
    known = f", {human_bytes(row['known_bytes'])} known beforehand" if row["known_bytes"] else ""
    return (
        f"{row['condition']} ({row['wire_bytes_mean']:,.0f} bytes{empty}{known})"
        f" {percent(row['score'])} % {interval(row['score_low'], row['score_high'])}"
    )
