"""Scores against budgets in bytes: the best cache, the best text, what else competes."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latentwire.analysis.equal_bytes import ALONE
from latentwire.analysis.formatting import human_bytes
from latentwire.analysis.pictures import DPI, gridded, label, labelled, styled

LINES = {  # by how rows are found: colour, marker, name
    "best_cache": ("#08519C", "o", "best cache"),
    "best_text": ("#7A0177", "s", "best text"),
    "layers": ("#41AB5D", "v", "whole layers, 16 bits"),
    "layers quantized": ("#41AB5D", "^", "whole layers, quantized"),
    "letter": ("#B15928", "D", "answer letter"),
    "logits": ("#B15928", "P", "option logits"),
}


@styled
def draw_equal_bytes(table: pd.DataFrame, dataset: str, pair: str) -> Figure:
    """The scores of one pair and dataset of an `equal_bytes_table`, with 95 % intervals; hollow:
    with another question's message. The dashed line is the receiver alone."""
    rows = labelled(table[(table["pair"] == pair) & (table["dataset"] == dataset)])
    figure = Figure(figsize=(6.4, 4.2), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    for name, (colour, marker, title) in LINES.items():
        found = rows[rows[name]] if name in rows else rows[rows["kind"] == name]
        found = found[found["over_budget"] == 0].sort_values("budget_bytes")
        if name in ("letter", "logits"):  # the same at every budget that holds them
            found = found.head(1)
        if not found.empty:
            _draw(axes, found, colour, marker, title)
    (alone,) = rows.loc[rows["kind"] == ALONE, "score"]
    axes.axhline(100 * alone, color="0.35", linewidth=0.9, linestyle=(0, (5, 2)), label=ALONE)
    budgets = sorted(rows.loc[rows["budget_bytes"] > 0, "budget_bytes"].unique())
    axes.set_xscale("log")
    axes.set_xticks(budgets, [human_bytes(budget) for budget in budgets])
    axes.minorticks_off()
    gridded(axes, 7)
    axes.set_xlabel("most bytes of a message (log scale)", fontsize=8.5)
    axes.set_ylabel("score (%)", fontsize=8.5)
    note = f"n = {int(rows['examples'].max())}; bars: 95 % intervals; chosen on other questions"
    axes.set_title(f"{label(dataset)}, {label(pair)}: at equal bytes\n{note}", fontsize=8.5)
    axes.plot([], [], "o", color="0.4", markerfacecolor="white", label="another question's message")
    figure.legend(loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    return figure


def _draw(axes: Axes, found: pd.DataFrame, colour: str, marker: str, title: str) -> None:
    budgets, scores = found["budget_bytes"].to_numpy(float), 100 * found["score"].to_numpy(float)
    ends = [100 * found[f"score_{end}"].to_numpy(float) for end in ("low", "high")]
    axes.errorbar(
        budgets, scores, yerr=np.abs([ends[0] - scores, ends[1] - scores]), fmt=marker,
        color=colour, markersize=4.5, linestyle="-", linewidth=1, elinewidth=0.8, capsize=1.5,
        label=title, zorder=3,
    )  # fmt: skip
    axes.plot(
        budgets, 100 * found["deranged_score"].to_numpy(float), marker, color=colour,
        markerfacecolor="white", markersize=4.5, linestyle=":", linewidth=0.8, zorder=2,
    )  # fmt: skip
