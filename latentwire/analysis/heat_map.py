"""Bits against length: what each codec answers at each keep ratio, as a map of numbers."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from latentwire.analysis.codec_styles import CODEC_STYLES
from latentwire.analysis.completeness import gain_is_complete, n_sentences
from latentwire.analysis.frames import metric_of, records, under_budget
from latentwire.analysis.letter_distribution import DEGENERATE_NOTE
from latentwire.analysis.order_styles import MOST_ORDERS
from latentwire.analysis.picture_width import Width
from latentwire.analysis.pictures import DPI, PALE, label, labelled, pair_label, styled
from latentwire.analysis.provenance import hashes_note
from latentwire.spec.axes import AXES, CACHES

# Even in lightness, so that it reads the same in grey and to the colour-blind.
COLOURS = colormaps["cividis"]
CELL_WIDTH, CELL_HEIGHT = 0.62, 0.42  # inches
TITLE_CHARACTERS, NOTE_CHARACTERS = 40, 72  # of a line, in a column
WHOLE_INTERVALS = 5  # cells side by side in a column that hold an interval in one line
QUANTITIES = {"score": "{} (%)", "pairing_gain": "pairing gain (points)"}

Cells = dict[tuple[str, float], dict[str, Any]]  # (codec, keep ratio) -> row
Line = tuple[str, dict[float, dict[str, Any]]]  # of a panel: its name; keep ratio -> row


@dataclass(frozen=True)
class Look:
    """What the cells of a picture look like."""

    width: Width
    ratios: int  # side by side
    complete: bool  # all cells: none has a line of its own for n

    def broken(self, interval: str) -> str:
        """An interval as it fits in a cell of a column."""
        return interval.replace(" ", "\n") if self.ratios > WHOLE_INTERVALS else interval

    @property
    def cell_height(self) -> float:
        """Inches."""
        lines = 1 + (self.ratios > WHOLE_INTERVALS) + (not self.complete)
        return self.width.choose(CELL_HEIGHT, 0.19 + 0.1 * lines)


def has_grid(frame: pd.DataFrame) -> bool:
    """Whether some codec of a curve's C2C rows was run at several keep ratios, without a budget and
    of orders that a page has room for."""
    rows = frame[frame["system"].isin(CACHES) & ~under_budget(frame)]
    if rows.loc[rows["keep_ratio"] < 1, "order"].nunique() > MOST_ORDERS:
        return False
    return bool((rows.groupby("codec")["keep_ratio"].nunique() > 1).any())


@styled
def draw_heat_map(
    frame: pd.DataFrame, dataset: str, pair: str, width: Width = Width.PAGE
) -> Figure:
    """The score, and pairing gain where the control was run, of codecs (down, by bits) at keep
    ratios (across), with 95 % intervals; panels side by side for each order, which in a column of
    a paper are the lines of one.

    `frame` is a budget curve of one pair, dataset and source for which `has_grid` holds. Drawn
    are the codecs with several keep ratios and the study's plain ones; whole caches stand in all
    columns. A cell that was not run is hatched, one that is not complete pale and with its n; the
    colours go by the complete ones. Crossed (x): nearly always one letter.
    """
    rows = labelled(frame[frame["system"].isin(CACHES) & ~under_budget(frame)])
    swept = rows.groupby("codec")["keep_ratio"].nunique()
    kept = rows[rows["codec"].isin([*swept[swept > 1].index, *CODEC_STYLES])]
    codecs = list(dict.fromkeys(kept["codec"]))  # the table goes from many bits to few
    ratios = sorted(kept["keep_ratio"].unique())
    shorter = kept.loc[kept["keep_ratio"] < 1, "order"].unique()
    orders = sorted(shorter, key=AXES["order"].sort_key)
    quantities = [item for item in QUANTITIES.items() if kept[item[0]].notna().any()]
    done = {"score": kept["complete"], "pairing_gain": gain_is_complete(kept)}
    kept = kept.assign(**{f"{name}_complete": complete for name, complete in done.items()})

    look = Look(width, len(ratios), bool(kept["complete"].all()))
    groups = _groups(kept, codecs, orders, width)
    wide = 0.9 + len(groups) * (CELL_WIDTH * len(ratios) + 0.25)
    most = max(len(lines) for _, lines in groups)
    high = 1.25 + len(quantities) * (look.cell_height * most + 0.55)
    size = width.inches(max(wide, 4.6)), high
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(quantities), len(groups), squeeze=False)
    for (column, title), row in zip(quantities, panels, strict=True):
        known = kept[kept[column].notna()]
        values = 100 * (known[known[f"{column}_complete"]] if done[column].any() else known)[column]
        limits = float(values.min()), float(values.max())
        for (order, lines), axes in zip(groups, row, strict=True):
            _draw_cells(axes, lines, ratios, column, limits, look)
            axes.set_title(f"{title.format(metric_of(kept))}{order}", fontsize=8)
    for axes in panels[-1]:
        axes.set_xlabel("share of the prompt's tokens sent", fontsize=7.5)
    title = f"{label(dataset)}  \N{MIDDLE DOT}  {pair_label(pair)}"
    figure.suptitle(width.wrapped(title, TITLE_CHARACTERS), fontsize=9, weight="bold")
    notes = _notes(kept, width.choose(int(22 * wide), NOTE_CHARACTERS))
    # An empty legend entry is laid out by matplotlib; a free text would not be.
    figure.supxlabel(width.wrapped(notes, NOTE_CHARACTERS), fontsize=6, color="0.3")
    return figure


def _notes(rows: pd.DataFrame, characters: int) -> str:
    """What n is, what stands in the cells, and of which fuser and questions."""
    n, *unfinished = n_sentences(rows, "cell")
    notes = [f"{n}; brackets: 95 % intervals; hatched: not run"]
    notes += [line for note in unfinished for line in textwrap.wrap(note, characters)]
    if rows["degenerate"].any():
        notes.append(f"\N{MULTIPLICATION SIGN}: the answer is {DEGENERATE_NOTE}")
    notes += [note for note in (hashes_note(rows),) if note]
    return "\n".join(notes)


def _groups(
    rows: pd.DataFrame, codecs: Sequence[str], orders: Sequence[str], width: Width
) -> list[tuple[str, list[Line]]]:
    """What stands in each panel of a quantity, with the end of its title: the codecs, by order; in
    a column all orders, of codecs that were run at several ratios, the others once."""
    cells = {order: _cells(rows, order) for order in orders}
    if width is Width.PAGE or len(orders) == 1:
        return [
            (f", {order} kept", [(codec, _of(found, codec)) for codec in codecs])
            for order, found in cells.items()
        ]
    lines: list[Line] = []
    for codec in codecs:
        swept = {o: _of(found, codec) for o, found in cells.items() if len(_of(found, codec)) > 1}
        lines += [(f"{codec}\n{order}", found) for order, found in swept.items()]
        if not swept:
            lines.append((codec, _of(cells[orders[0]], codec)))
    return [("", lines)]


def _cells(rows: pd.DataFrame, order: str) -> Cells:
    """The best measured row of each cell; the whole cache belongs to all orders."""
    fitting = rows[(rows["order"] == order) | (rows["keep_ratio"] == 1)]
    found: Cells = {}
    for row in records(fitting.sort_values("examples", kind="stable")):
        found[str(row["codec"]), float(row["keep_ratio"])] = row
    return found


def _of(cells: Cells, codec: str) -> dict[float, dict[str, Any]]:
    """A codec's cells, by keep ratio."""
    return {ratio: row for (name, ratio), row in cells.items() if name == codec}


def _draw_cell(
    axes: Axes, place: tuple[int, int], row: dict[str, Any], column: str, share: float, shape: Look
) -> None:
    """A cell that was run: its number, its interval, and its n where it is not complete."""
    (x, y), complete = place, bool(row[f"{column}_complete"])
    colour = COLOURS(share)
    dark = complete and 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] <= 0.45
    alpha = None if complete else PALE
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", alpha=alpha))
    sign = "\N{MULTIPLICATION SIGN}" if row["degenerate"] else ""
    low, high = (f"{100 * float(row[f'{column}_{end}']):.0f}" for end in ("low", "high"))
    look: dict[str, Any] = {"ha": "center", "va": "center", "color": "white" if dark else "black"}
    value, interval = f"{100 * float(row[column]):.1f}{sign}", f"[{low}, {high}]"
    n = f"n = {row['examples'] if column == 'score' else row['pairing_examples']}"
    if shape.width is Width.COLUMN:
        lines = [shape.broken(interval)] + ([] if complete else [n])
        axes.text(x + 0.5, y + 0.05, value, fontsize=7, **look | {"va": "top"})
        look |= {"va": "bottom", "linespacing": 1.0}
        axes.text(x + 0.5, y + 0.95, "\n".join(lines), fontsize=6, **look)
        return
    axes.text(x + 0.5, y + 0.36, value, fontsize=7, **look)
    if complete:
        axes.text(x + 0.5, y + 0.74, interval, fontsize=5, **look)
        return
    axes.text(x + 0.5, y + 0.66, interval, fontsize=5, **look)
    axes.text(x + 0.5, y + 0.88, n, fontsize=5, **look)


def _draw_cells(
    axes: Axes,
    lines: Sequence[Line],
    ratios: Sequence[float],
    column: str,
    limits: tuple[float, float],
    shape: Look,
) -> None:
    low, high = limits
    for y, (_, cells) in enumerate(lines):
        for x, ratio in enumerate(ratios):
            row = cells.get(ratio)
            value = math.nan if row is None else 100 * float(row[column])
            if row is None or math.isnan(value):
                box = Rectangle((x, y), 1, 1, facecolor="0.96", edgecolor="0.8", hatch="///")
                axes.add_patch(box)
                continue
            share = (value - low) / (high - low) if high > low else 0.5
            _draw_cell(axes, (x, y), row, column, share, shape)
    axes.set_xlim(0, len(ratios))
    axes.set_ylim(len(lines), 0)
    axes.set_xticks([x + 0.5 for x in range(len(ratios))], [f"{ratio:g}" for ratio in ratios])
    axes.set_yticks([y + 0.5 for y in range(len(lines))], [name for name, _ in lines])
    axes.tick_params(labelsize=7, length=0)
    if any("\n" in name for name, _ in lines):
        axes.tick_params(axis="y", labelsize=6)
    for side in axes.spines.values():
        side.set_visible(False)
