"""What the report shows of M14: a map of cells a pair and question set, and its sentences."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from latentwire.analysis.break_even_bandwidth import START_TITLES
from latentwire.analysis.formatting import human_bits_per_s
from latentwire.analysis.frames import records
from latentwire.analysis.regimes_figure import first_of
from latentwire.analysis.regimes_table import sentences


def regimes_data(table: pd.DataFrame, note: str) -> Iterator[dict[str, Any]]:
    """A map a pair and question set: `budgets` in bytes, and `lines`, one a start and link speed,
    each with a cell a budget (None where there is none). `note` says which run found it."""
    for (pair, dataset), rows in table.groupby(["pair", "dataset"], sort=False):
        budgets = sorted(rows["budget_bytes"].unique().tolist())
        lines = []
        for key, cells in rows.groupby(["start", "link_bit_per_s"], sort=True):
            start, speed = str(key[0]), float(str(key[1]))
            by_budget = {row["budget_bytes"]: _cell(row) for row in records(cells)}
            lines.append(
                {
                    "link": f"{START_TITLES[start]}, {human_bits_per_s(speed)}",
                    "cells": [by_budget.get(budget) for budget in budgets],
                }
            )
        yield {
            "pair": pair,
            "dataset": dataset,
            "note": note,
            "budgets": budgets,
            "lines": lines,
            "said": sentences(rows),
        }


def _cell(row: dict[str, Any]) -> dict[str, Any]:
    """Who is there first of those that score alike; or, where not all were timed, who of them
    sends the fewest bytes."""
    kind, timed = first_of(row)
    return {
        "kind": kind,
        "condition": row[f"{kind}_condition"],
        "score": float(row[f"{kind}_score"]),
        "ms": float(row[f"{kind}_ms"]) if timed else None,
    }
