"""The rows of regimes.csv, one a cell, and what they say in words."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from latentwire.analysis import csv_files
from latentwire.analysis.break_even_bandwidth import STARTS
from latentwire.analysis.curve import mean_score
from latentwire.analysis.formatting import (
    human_bits_per_s,
    human_bytes,
    human_ms,
    interval,
    percent,
)
from latentwire.analysis.frames import records as rows_of
from latentwire.analysis.measured_condition import MeasuredCondition
from latentwire.analysis.regimes import CONTENDERS, Contender, difference, judged
from latentwire.analysis.regimes_times import Ways, time_ms, why_unknown
from latentwire.evaluation.record import Record
from latentwire.spec.names import short_name

Links = Mapping[str, Ways]  # by start
# With another question's message, an entry a donor of each seed: by pair, question set and place
Gains = Mapping[tuple[str, str, tuple[Any, ...]], Sequence[Mapping[str, Record]]]

TABLE = "regimes.csv"
_OF_EACH = ("condition", "bytes", "score", "ms")
KINDS = (*CONTENDERS, "recomputation")
NOT_MEASURED = "not measured"
COLUMNS = (
    *("pair", "dataset", "setting", "budget_bytes", "start", "link_bit_per_s", "questions"),
    *("winner", "tied", "soonest", "untimed"),
    *(f"{kind}_{name}" for kind in KINDS for name in _OF_EACH),
    *("cache_against_text", "cache_against_text_low", "cache_against_text_high"),
    *("winner_against_recomputation", "winner_against_recomputation_low"),
    "winner_against_recomputation_high",
    *("cache_gain_donors", "cache_gain_min", "cache_gain_max"),
)


_TEXTS = (
    *("pair", "dataset", "setting", "start", "winner", "tied", "soonest", "untimed"),
    *(f"{kind}_condition" for kind in KINDS),
)


def cell_rows(
    place: tuple[str, str],
    budget_bytes: int,
    found: Sequence[Contender],
    whole: Sequence[MeasuredCondition],
    links: Links,
    gains: Gains,
    values: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """The cells of a pair, question set and budget: a row a start and link speed. `whole` is the
    cache in 16 bits, if that is finished: what recomputation gives. None without a message."""
    by_kind = {each.kind: each for each in found}
    if not by_kind.keys() - {"nothing"}:
        return []
    verdict = judged(found)
    again = whole[0].records if whole else {}
    questions = verdict.winner.records
    row: dict[str, Any] = {
        "pair": place[0],
        "dataset": place[1],
        "setting": "private" if any(r.cluster for r in questions.values()) else "shared",
        "budget_bytes": budget_bytes,
        "questions": len(questions),
        "winner": verdict.winner.kind,
        "tied": ", ".join(each.kind for each in verdict.tied),
        "recomputation_condition": "whole cache, 16 bits" if again else None,
        "recomputation_score": mean_score(again),
    }
    for kind, each in by_kind.items():
        told = {"condition": each.name, "bytes": each.wire_bytes, "score": each.score}
        row |= {f"{kind}_{name}": value for name, value in told.items()}
    cache, text = (by_kind[k].records if k in by_kind else {} for k in ("cache", "text"))
    row |= difference(cache, text).columns("cache_against_text")
    row |= difference(questions, again).columns("winner_against_recomputation")
    row |= gain_spread(place, by_kind.get("cache"), gains)
    speeds = [1e6 * mbit for mbit in values["link_mbit_per_s"]]
    return [
        row | {"start": start, "link_bit_per_s": speed} | _timed(by_kind, verdict.tied, ways, speed)
        for start, ways in links.items()
        for speed in speeds
    ]


def _timed(
    by_kind: Mapping[str, Contender], tied: Sequence[Contender], ways: Ways, bit_per_s: float
) -> dict[str, Any]:
    """Times of each contender, and who of those that score alike is there first: said only where
    all of them were timed."""
    times = {kind: time_ms(each, ways, bit_per_s) for kind, each in by_kind.items()}
    again = ways.get("recomputation")
    row: dict[str, Any] = {f"{kind}_ms": ms for kind, ms in times.items()}
    if again:
        row |= {"recomputation_ms": again.time_ms(bit_per_s), "recomputation_bytes": again.bytes}
    known = {each.kind: times[each.kind] for each in tied}
    if any(map(math.isnan, known.values())):
        why = dict.fromkeys(why for each in tied for why in why_unknown(each, ways))
        return row | {"soonest": NOT_MEASURED, "untimed": "; ".join(why)}
    sizes = {each.kind: each.wire_bytes for each in tied}
    return row | {"soonest": min(known, key=lambda kind: (known[kind], sizes[kind]))}


def gain_spread(place: tuple[str, str], cache: Contender | None, gains: Gains) -> dict[str, Any]:
    """How the pairing gain of a cell's cache differs over the donors of all seeds: how many there
    are, the least gain and the largest. Nothing where two conditions share the questions, or none
    was run."""
    if cache is None or len(cache.conditions) != 1:
        return {"cache_gain_donors": 0}
    (one,) = cache.conditions
    found = [
        difference(one.records, lent).value for lent in gains.get((*place, one.part.place), ())
    ]
    found = [gain for gain in found if not math.isnan(gain)]
    if not found:
        return {"cache_gain_donors": 0}
    ends = {"cache_gain_min": min(found), "cache_gain_max": max(found)}
    return {"cache_gain_donors": len(found), **ends}


def regime_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows as a table of COLUMNS."""
    return pd.DataFrame(list(rows), columns=list(COLUMNS))


def read_csv(path: Path) -> pd.DataFrame:
    """The table that was written as TABLE. Raises LatentWireError for any other file."""
    kinds = dict.fromkeys(COLUMNS, "float64") | dict.fromkeys(_TEXTS, "string")
    required = ("pair", "dataset", "budget_bytes", "start", "link_bit_per_s", "winner", "soonest")
    table = csv_files.read_rows(path, f"a {TABLE}", kinds, required, _check)
    return table.reindex(columns=list(COLUMNS))


def _check(row: Mapping[str, csv_files.Cell]) -> None:
    """Raise ValueError for a row that no picture can show."""
    for name, allowed in (
        ("start", STARTS),
        ("winner", CONTENDERS),
        ("soonest", (*CONTENDERS, NOT_MEASURED)),
    ):
        if row[name] not in allowed:
            raise ValueError(f"{name} is {row[name]!r}, not one of {', '.join(allowed)}")
    for name in ("budget_bytes", "link_bit_per_s"):
        if not csv_files.is_number(row[name]):
            raise ValueError(f"{name} is empty")


def sentences(table: pd.DataFrame) -> list[str]:
    """What each row says; then why times are not known, once a pair, question set and reason."""
    return [*map(_sentence, rows_of(table)), *_untimed(table)]


def _untimed(table: pd.DataFrame) -> list[str]:
    untimed: dict[str, None] = {}
    for row in rows_of(table[table["soonest"] == NOT_MEASURED]):
        for why in str(row["untimed"]).split("; "):
            untimed[f"{row['dataset']}, {row['pair']}: not all times are known: {why}."] = None
    return [*untimed]


def overview(table: pd.DataFrame) -> list[str]:
    """The same in fewer words: neighbouring budgets, links and starts of which the same is said, as
    one."""
    told = []
    for (dataset, pair), rows in table.groupby(["dataset", "pair"], sort=False):
        cells = rows.groupby(["start", "link_bit_per_s"], sort=False).ngroups
        by_budget: dict[float, dict[str, list[str]]] = {}
        for row in rows_of(rows):
            said = by_budget.setdefault(row["budget_bytes"], {})
            said.setdefault(_said(row), []).append(_cell(row))
        for said, budgets in groupby(sorted(by_budget), key=lambda each: by_budget[each]):
            first, *others = map(human_bytes, budgets)
            within = f"{first} to {others[-1]}" if others else first
            for each, places in said.items():
                where = "on every link" if len(places) == cells else "; ".join(places)
                setting = rows["setting"].iloc[0]
                told.append(f"{dataset}, {pair} ({setting}), within {within}, {where}: {each}")
    return [*told, *_untimed(table)]


def _sentence(row: Mapping[str, Any]) -> str:
    budget = human_bytes(row["budget_bytes"])
    where = f"{row['dataset']}, {row['pair']} ({row['setting']}), within {budget}, {_cell(row)}"
    return f"{where}: {_said(row)}"


def _cell(row: Mapping[str, Any]) -> str:
    since = "from the question on" if row["start"] == "question" else "once the cache stands"
    return f"{human_bits_per_s(row['link_bit_per_s'])}, {since}"


def _said(row: Mapping[str, Any]) -> str:
    winner = row["winner"]
    condition = short_name(row[f"{winner}_condition"])
    named = f"{winner} ({condition}, {human_bytes(row[f'{winner}_bytes'])})"
    others = [kind for kind in row["tied"].split(", ") if kind != winner]
    alike = f", by fewer bytes than {' and '.join(others)}, which score alike" if others else ""
    ahead = ""
    if not math.isnan(row["cache_against_text"]):
        points, *ends = (row[f"cache_against_text{end}"] for end in ("", "_low", "_high"))
        ahead = f"; cache less text: {percent(points, signed=True)} points"
        ahead += f" {interval(*ends, signed=True)}"
    first = row["soonest"]
    time = (
        ""
        if first == NOT_MEASURED
        else f"; of these {first} is there first, after {human_ms(row[f'{first}_ms'])}"
    )
    return f"{named} wins with {percent(row[f'{winner}_score'])} %{alike}{ahead}{time}."
