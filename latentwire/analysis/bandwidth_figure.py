"""Time until the receiver has what the sharer had to say, against the bandwidth of the link."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from latentwire.analysis.break_even_bandwidth import (
    START_TITLES,
    STARTS,
    Route,
    counted,
    fastest,
    read_csv,
    table_routes,
)
from latentwire.analysis.codec_styles import codec_styles
from latentwire.analysis.formatting import human_bits_per_s, percent
from latentwire.analysis.picture_width import COLUMN_INCHES, Width
from latentwire.analysis.pictures import (
    DPI,
    Drawing,
    drawings_of,
    label,
    labelled,
    legend_columns,
    pair_label,
    save_each,
    styled,
)
from latentwire.analysis.plot_baselines import BASELINE_STYLES
from latentwire.errors import LatentWireError

LOWEST, HIGHEST = 1e3, 1e11  # bit/s: from a bad radio link to a fast network card
TICKS = 1e3, 1e5, 1e7, 1e9, 1e11
LABEL_CHARACTERS, TITLE_CHARACTERS, LEGEND_CHARACTERS = 24, 44, 62  # of a line, in a column
OVER = 0.35  # opacity of what is never called first
SHOWN = ("bf16", "int8", "int4", "int2")  # of the caches; beside them those that are ever first
LINKS_PICTURE = "links_"  # how the names of its pictures begin
TEXT_LINES = ("-", (0, (5, 1.5)), (0, (3, 1.5, 1, 1.5)), (0, (1, 1.5)))


@styled
def draw_links(table: pd.DataFrame, dataset: str, pair: str, width: Width = Width.PAGE) -> Figure:
    """Two panels, one a start (see `break_even_bandwidth`), of one pair and dataset of a
    `break_even_bandwidth.link_table`.

    A black line is recomputation, those of one colour are texts, the others caches by codec. The
    broad grey band is whoever answers first, of the ways that were evaluated on all questions and
    are better than the receiver alone; the others are pale. Accuracies are those of complete
    conditions; others are not named.
    """
    rows = labelled(table[(table["pair"] == pair) & (table["dataset"] == dataset)])
    found = {start: table_routes(rows[rows["start"] == start]) for start in STARTS}
    sound = {start: counted(rows[rows["start"] == start]) for start in STARTS}
    size = width.choose((7.2, 4.6), (COLUMN_INCHES, 6.4))
    figure = Figure(figsize=size, layout="constrained", dpi=DPI)
    panels = figure.subplots(*width.choose((1, len(STARTS)), (len(STARTS), 1)), sharey=True)
    shown = _shown(found, sound)
    for axes, start in zip(panels, STARTS, strict=True):
        _draw(axes, found[start], sound[start], shown)
        axes.set_title(START_TITLES[start], fontsize=9)
        axes.set_xlabel("bandwidth (log scale)", fontsize=8.5)
    for axes in width.choose(panels[:1], panels):
        height = "ms until the receiver can answer (log scale)"
        axes.set_ylabel(width.wrapped(height, LABEL_CHARACTERS), fontsize=8.5)
    title = (
        f"{pair_label(pair)}, {label(dataset)}: which way is first;"
        f" {rows['device'].iloc[0]}, batch 1\nin brackets: share answered rightly,"
        " of ways with which all questions were answered"
    )
    figure.suptitle(width.wrapped(title, TITLE_CHARACTERS), fontsize=9.5)
    handles = _legend(found[STARTS[0]], sound[STARTS[0]], shown)
    names = [str(handle.get_label()) for handle in handles]
    columns = width.choose(3, legend_columns(names, 3, LEGEND_CHARACTERS))
    look: dict[str, Any] = {"loc": "outside lower center", "fontsize": 7, "frameon": False}
    figure.legend(handles=handles, ncols=columns, **look)
    return figure


def _shown(
    found: Mapping[str, Mapping[Route, float]], sound: Mapping[str, Sequence[Route]]
) -> list[str]:
    """The codecs that are drawn."""
    leading = {way.label for each in sound.values() for _, _, way in fastest(each)}
    there = [way.label for way in found[STARTS[0]] if way.name == "cache"]
    return [label for label in there if label in SHOWN or label in leading]


def _draw(
    axes: Axes, found: Mapping[Route, float], sound: Sequence[Route], shown: Sequence[str]
) -> None:
    bandwidths = np.geomspace(LOWEST, HIGHEST, 400)
    if sound:
        soonest = [min(way.time_ms(b) for way in sound) for b in bandwidths]
        axes.plot(bandwidths, soonest, color="0.82", linewidth=6, solid_capstyle="butt", zorder=1)
    for way in _drawn(found, shown):
        look = _style(way, found, shown) | {"alpha": 1.0 if way in sound else OVER}
        axes.plot(bandwidths, [way.time_ms(b) for b in bandwidths], **look)
    heights = [way.time_ms(HIGHEST) for way in _drawn(found, shown)]
    axes.set_ylim(min(heights) / 1.6, 20 * max(heights))
    axes.set_xlim(LOWEST, HIGHEST)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(TICKS)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda value, _: human_bits_per_s(value))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.tick_params(labelsize=7)
    axes.grid(color="0.93", linewidth=0.6)
    axes.set_axisbelow(True)


def _drawn(found: Mapping[Route, float], shown: Sequence[str]) -> list[Route]:
    return [way for way in found if way.name != "cache" or way.label in shown]


def _style(way: Route, found: Iterable[Route], shown: Sequence[str]) -> dict[str, Any]:
    if way.name == "recomputation":
        return {"color": "black", "linewidth": 1.3, "linestyle": (0, (6, 2)), "zorder": 3}
    if way.name == "text":
        place = [other.label for other in found if other.name == "text"].index(way.label)
        line, colour = TEXT_LINES[place % len(TEXT_LINES)], BASELINE_STYLES["utf8"][0]
        return {"color": colour, "linewidth": 1.1, "linestyle": line, "zorder": 3}
    colour, marker = codec_styles(shown)[way.label]
    return {
        "color": colour, "linewidth": 1.1, "marker": marker, "markersize": 4, "zorder": 3,
        "markevery": (10 * list(shown).index(way.label) % 50, 50),
    }  # fmt: skip


def _legend(
    found: Mapping[Route, float], sound: Sequence[Route], shown: Sequence[str]
) -> list[Line2D]:
    first = "first, of those better than the receiver alone"
    handles = [Line2D([], [], color="0.82", linewidth=6, label=first)]
    for way in _drawn(found, shown):
        name = f"cache in {way.label}" if way.name == "cache" else way.label
        right = "" if math.isnan(found[way]) else f" ({percent(found[way])} %)"
        style = {k: v for k, v in _style(way, found, shown).items() if k != "markevery"}
        style["alpha"] = 1.0 if way in sound else OVER
        handles.append(Line2D([], [], label=name + right, **style))
    return handles


def link_drawings(table: pd.DataFrame) -> dict[str, Drawing]:
    """Each pair's and dataset's figure that is to be drawn, by its file's name."""
    return {} if table.empty else drawings_of(draw_links, table, LINKS_PICTURE)


def write_link_figures(table: pd.DataFrame, folder: Path, width: Width = Width.PAGE) -> list[Path]:
    """Write each pair's and dataset's figure as links_DATASET.png, .svg and .pdf; paths."""
    return save_each(partial(draw_links, width=width), table, folder, LINKS_PICTURE)


def link_figures_from_csv(path: Path, folder: Path, width: Width = Width.PAGE) -> list[Path]:
    """`write_link_figures` from a file that m4 wrote; nothing else is read."""
    table = read_csv(path)
    if table.empty:
        raise LatentWireError(f"{path} has no row to draw: run m1, then m4 again")
    return write_link_figures(table, folder, width)
