"""Bits against length: what each codec answers at each keep ratio, as a map of numbers."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from latentwire.analysis.answers import DEGENERATE_NOTE
from latentwire.analysis.figures import CODEC_STYLES, DPI
from latentwire.analysis.provenance import hashes_note

# Even in lightness, so that it reads the same in grey and to the colour-blind.
COLOURS = colormaps["cividis"]
CELL_WIDTH, CELL_HEIGHT = 0.62, 0.42  # inches
QUANTITIES = (("accuracy", "accuracy (%)"), ("pairing_gain", "pairing gain (points)"))
DIRECTIONS = ("front", "back")

Cells = dict[tuple[str, float], dict[str, Any]]  # (codec, keep ratio) -> row


def has_grid(frame: pd.DataFrame) -> bool:
    """Whether some codec of a curve's C2C rows was run at several keep ratios."""
    rows = frame[frame["system"] == "c2c"]
    return bool((rows.groupby("codec")["keep_ratio"].nunique() > 1).any())


def draw_heat_map(frame: pd.DataFrame, dataset: str, pair: str) -> Figure:
    """Accuracy, and pairing gain where the control was run, of codecs (down, by bits) at keep
    ratios (across), with 95 % intervals; a column of panels for each end that is kept.

    `frame` is a budget curve of one pair, dataset and source for which `has_grid` holds. Drawn
    are the codecs with several keep ratios and the study's plain ones; whole caches stand in both
    columns. A cell that was not run is hatched. Crossed (x): nearly always one letter.
    """
    rows = frame[frame["system"] == "c2c"]
    swept = rows.groupby("codec")["keep_ratio"].nunique()
    kept = rows[rows["codec"].isin([*swept[swept > 1].index, *CODEC_STYLES])]
    codecs = list(dict.fromkeys(kept["codec"]))  # the table goes from many bits to few
    ratios = sorted(kept["keep_ratio"].unique())
    shorter = set(kept.loc[kept["keep_ratio"] < 1, "order"])
    orders = [order for order in DIRECTIONS if order in shorter]
    quantities = [item for item in QUANTITIES if kept[item[0]].notna().any()]

    width = 0.9 + len(orders) * (CELL_WIDTH * len(ratios) + 0.25)
    height = 1.25 + len(quantities) * (CELL_HEIGHT * len(codecs) + 0.55)
    figure = Figure(figsize=(max(width, 4.6), height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(quantities), len(orders), squeeze=False)
    for (column, title), line in zip(quantities, panels, strict=True):
        values = 100 * kept[column].dropna()
        low, high = float(values.min()), float(values.max())
        for order, axes in zip(orders, line, strict=True):
            cells = _cells(kept, order)
            _draw_cells(axes, cells, codecs, ratios, column, (low, high))
            axes.set_title(f"{title}, {order} kept", fontsize=8)
    for axes in panels[-1]:
        axes.set_xlabel("share of the prompt's tokens sent", fontsize=7.5)
    n = kept["examples"]
    count = f"{n.max()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
    figure.suptitle(f"{dataset}  \N{MIDDLE DOT}  {pair}", fontsize=9, weight="bold")
    notes = [f"n = {count} questions a cell; brackets: 95 % intervals; hatched: not run"]
    if kept["degenerate"].any():
        notes.append(f"\N{MULTIPLICATION SIGN}: the answer is {DEGENERATE_NOTE}")
    notes += [note for note in (hashes_note(kept),) if note]
    # An empty legend entry is laid out by matplotlib; a free text would not be.
    figure.supxlabel("\n".join(notes), fontsize=6, color="0.3")
    return figure


def _cells(rows: pd.DataFrame, order: str) -> Cells:
    """The best measured row of each cell; the whole cache belongs to both orders."""
    fitting = rows[(rows["order"] == order) | (rows["keep_ratio"] == 1)]
    found: Cells = {}
    for row in fitting.sort_values("examples", kind="stable").to_dict(orient="records"):
        found[str(row["codec"]), float(row["keep_ratio"])] = {str(k): v for k, v in row.items()}
    return found


def _draw_cells(
    axes: Axes,
    cells: Cells,
    codecs: Sequence[str],
    ratios: Sequence[float],
    column: str,
    limits: tuple[float, float],
) -> None:
    low, high = limits
    for y, codec in enumerate(codecs):
        for x, ratio in enumerate(ratios):
            row = cells.get((codec, ratio))
            value = math.nan if row is None else 100 * float(row[column])
            if row is None or math.isnan(value):
                box = Rectangle((x, y), 1, 1, facecolor="0.96", edgecolor="0.8", hatch="///")
                axes.add_patch(box)
                continue
            colour = COLOURS((value - low) / (high - low) if high > low else 0.5)
            ink = "black" if 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] > 0.45 else "white"
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white"))
            sign = "\N{MULTIPLICATION SIGN}" if row["degenerate"] else ""
            spread = [f"{100 * float(row[f'{column}_{end}']):.0f}" for end in ("low", "high")]
            middle = x + 0.5
            look: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
            axes.text(middle, y + 0.36, f"{value:.1f}{sign}", fontsize=7, **look)
            axes.text(middle, y + 0.74, f"[{spread[0]}, {spread[1]}]", fontsize=5, **look)
    axes.set_xlim(0, len(ratios))
    axes.set_ylim(len(codecs), 0)
    axes.set_xticks([x + 0.5 for x in range(len(ratios))], [f"{ratio:g}" for ratio in ratios])
    axes.set_yticks([y + 0.5 for y in range(len(codecs))], list(codecs))
    axes.tick_params(labelsize=7, length=0)
    for side in axes.spines.values():
        side.set_visible(False)
