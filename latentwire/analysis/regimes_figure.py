"""Regimes as pictures: what scores how much within which budget, and who wins over which link."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from latentwire.analysis.break_even_bandwidth import START_TITLES, STARTS
from latentwire.analysis.formatting import human_bits_per_s, human_bytes, percent
from latentwire.analysis.frames import records
from latentwire.analysis.pictures import DPI, gridded, label, labelled, styled
from latentwire.analysis.regimes_table import KINDS, NOT_MEASURED

COLOURS = {
    "nothing": "0.75",
    "answer": "#B15928",
    "text": "#C994C7",
    "cache": "#6BAED6",
    "recomputation": "0.2",
}
MARKERS = {"nothing": "_", "answer": "D", "text": "s", "cache": "o", "recomputation": "x"}
WIDE = 9  # budgets that leave a cell room for its words in the usual size


@styled
def draw_maps(table: pd.DataFrame, dataset: str, pair: str) -> Figure:
    """The frontiers of one pair and question set (score within each budget, by kind), and a map a
    start: budgets across, link speeds up. A cell names who is there first of those that score
    alike; hatched: not all were timed, and it names the one of fewest bytes."""
    rows = labelled(table[(table["pair"] == pair) & (table["dataset"] == dataset)])
    figure = Figure(figsize=(7.2, 5.2), layout="constrained", dpi=DPI)
    upper, *maps = figure.subplot_mosaic([["a", "a"], ["b", "c"]]).values()
    _frontiers(upper, rows)
    for axes, start in zip(maps, STARTS, strict=True):
        _map(axes, rows[rows["start"] == start])
        axes.set_title(START_TITLES[start], fontsize=8)
    maps[0].set_xlabel("hatched: not all that tie were timed; the fewest bytes", fontsize=6)
    setting, n = rows["setting"].iloc[0], int(rows["questions"].max())
    figure.suptitle(
        f"{label(dataset)} ({setting}), {label(pair)}: where what wins (n = {n})", fontsize=9.5
    )
    return figure


def _frontiers(axes: Axes, rows: pd.DataFrame) -> None:
    cells = rows.drop_duplicates("budget_bytes").sort_values("budget_bytes")
    for kind in KINDS:
        found = cells.dropna(subset=f"{kind}_score")
        if not found.empty:
            scores = 100 * found[f"{kind}_score"].astype(float)
            line = "--" if kind in ("nothing", "recomputation") else "-"
            axes.plot(
                found["budget_bytes"], scores, MARKERS[kind], color=COLOURS[kind], linestyle=line,
                markersize=4.5, linewidth=1.1, label=kind,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(cells["budget_bytes"], [human_bytes(b) for b in cells["budget_bytes"]])
    axes.minorticks_off()
    gridded(axes, 7)
    axes.set_ylabel("score (%)", fontsize=8)
    axes.legend(fontsize=6.5, frameon=True, framealpha=0.85, loc="best")


def _map(axes: Axes, rows: pd.DataFrame) -> None:
    budgets = sorted(rows["budget_bytes"].unique())
    speeds = sorted(rows["link_bit_per_s"].unique())
    for row in records(rows):
        x, y = budgets.index(row["budget_bytes"]), speeds.index(row["link_bit_per_s"])
        kind, timed = first_of(row)
        hatch = None if timed else "///"
        axes.add_patch(
            Rectangle((x, y), 1, 1, facecolor=COLOURS[kind], edgecolor="white", hatch=hatch)
        )
        score = row[f"{kind}_score"]
        told = "" if math.isnan(score) else f"\n{percent(score)}"
        size = 5 if len(budgets) <= WIDE else 4
        # On its own ground, so that no stroke of a hatch crosses a letter.
        ground = {"facecolor": COLOURS[kind], "edgecolor": "none", "pad": 0.8}
        axes.text(
            x + 0.5, y + 0.5, kind + told, ha="center", va="center", fontsize=size, bbox=ground
        )
    axes.set_xlim(0, len(budgets))
    axes.set_ylim(0, len(speeds))
    axes.set_xticks(
        [x + 0.5 for x in range(len(budgets))], [human_bytes(b) for b in budgets], rotation=45
    )
    axes.set_yticks([y + 0.5 for y in range(len(speeds))], [human_bits_per_s(s) for s in speeds])
    axes.tick_params(labelsize=6, length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def first_of(row: Mapping[str, Any]) -> tuple[str, bool]:
    """Whom a map's cell names, and whether by time: the soonest of those that score alike; where
    not all of them were timed, the one of fewest bytes."""
    timed = row["soonest"] != NOT_MEASURED
    return str(row["soonest"] if timed else row["winner"]), timed
