"""Which tokens, as a picture: each way to choose them, against the bytes really sent."""

import math
import textwrap
from collections.abc import Sequence
from statistics import median
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from latentwire.analysis.byte_axis import byte_ticks
from latentwire.analysis.completeness import n_sentences
from latentwire.analysis.formatting import human_bytes
from latentwire.analysis.frames import metric_of, under_budget
from latentwire.analysis.order_styles import colour_and_marker, line_styles, order_words
from latentwire.analysis.picture_width import COLUMN_INCHES, Width
from latentwire.analysis.pictures import (
    DPI,
    gridded,
    label,
    labelled,
    legend_columns,
    pair_label,
    styled,
)
from latentwire.analysis.plot_points import PlotPoint, Quantity, read_points, read_sweeps
from latentwire.analysis.reproduction.published_accuracies import (
    bundled_study,
    point,
)
from latentwire.spec.axes import AXES, CACHES, is_oracle

FEWEST_ORDERS = 3  # fewer stand in the budget curve well
PANEL_WIDTH, PANEL_HEIGHT, LEAST_WIDTH = 3.0, 2.5, 4.6  # inches
WHOLE: dict[str, Any] = {"color": "black", "marker": "*", "markersize": 9, "linestyle": "none"}
COLUMN_HEIGHT = 1.9  # inches, of a row of panels in a column
TITLE_CHARACTERS, LEGEND_CHARACTERS = 38, 52  # of a line, likewise
CROWDING = 2.2  # of its axes of bytes


def has_selections(frame: pd.DataFrame) -> bool:
    """Whether a curve's rows are of several ways to choose tokens, or of an oracle."""
    return bool(selected_orders(frame))


def selected_orders(frame: pd.DataFrame) -> set[str]:
    """Those ways that the picture shows; none where there is none."""
    rows = frame[frame["system"].isin(CACHES) & (frame["keep_ratio"] < 1) & ~under_budget(frame)]
    found = {str(order) for order in rows["order"].dropna() if order}
    return found if len(found) >= FEWEST_ORDERS or any(map(is_oracle, found)) else set()


@styled
def draw_selections(
    frame: pd.DataFrame, dataset: str, pair: str, width: Width = Width.PAGE
) -> Figure:
    """Score (above) and pairing gain of every order, a column of panels for each codec that was run
    at several keep ratios; in a paper's column a row of panels for each.

    A colour and marker an order, and a line through its keep ratios up to the whole cache (black);
    oracles, which no sender can be, are dashed. Conditions under a budget are not drawn. One bar a
    panel says how wide intervals are. Of the pair of the published study its accuracies are hollow
    grey markers, at the bytes that the same choice takes here. `frame` is a budget curve for which
    `has_selections` holds.
    """
    here = (frame["dataset"] == dataset) & (frame["pair"] == pair)
    rows = labelled(frame[here & ~under_budget(frame)])
    dots = [dot for dot in read_points(rows) if dot.keep_ratio > 0]
    swept = {codec for codec, _ in read_sweeps(dots)}
    codecs = list(dict.fromkeys(dot.codec for dot in dots if dot.codec in swept))
    drawn = sorted({d.order for d in dots if d.order and d.keep_ratio < 1}, key=_sort_key)
    size = width.choose(
        (max(LEAST_WIDTH, 0.6 + PANEL_WIDTH * len(codecs)), 1.6 + 2 * PANEL_HEIGHT),
        (COLUMN_INCHES, 2.2 + COLUMN_HEIGHT * len(codecs)),
    )
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = _panels(figure, len(codecs), width)
    published = _published(pair, dataset)
    hollow = 0
    for column, codec in enumerate(codecs):
        own = [dot for dot in dots if dot.codec == codec]
        _draw(panels[0, column], own, "score")
        _draw(panels[1, column], own, "gain")
        hollow += _draw_published(panels[0, column], own, dataset, published)
    _label(panels, codecs, metric_of(rows), width)
    title = f"{label(dataset)}  \N{MIDDLE DOT}  {pair_label(pair)}"
    _draw_legend(figure, title, drawn, bool(hollow))
    shown = rows[rows["system"].isin(CACHES) & rows["codec"].isin(codecs)]
    words = textwrap.wrap(_caption(shown, drawn), int(19 * size[0]))
    figure.supxlabel("\n".join(words), x=0.012, ha="left", fontsize=6.8, color="0.3")
    return figure


_sort_key = AXES["order"].sort_key


def _panels(figure: Figure, codecs: int, width: Width) -> Any:
    """The panels of scores, and those of gains, by codec: a column each or, where the picture is
    narrow, a row."""
    if width is Width.PAGE:
        return figure.subplots(2, codecs, sharex="col", sharey="row", squeeze=False)
    return figure.subplots(codecs, 2, sharex="row", sharey="col", squeeze=False).T


def _label(panels: Any, codecs: Sequence[str], metric: str, width: Width) -> None:
    """Name the panels and what stands along them, once something is drawn in them."""
    quantities = f"{metric} (%)", "pairing gain (points)"
    if width is Width.COLUMN:
        for line, quantity in zip(panels, quantities, strict=True):
            for axes, codec in zip(line, codecs, strict=True):
                axes.set_title(f"{label(codec)}\n{quantity}", fontsize=8)
                _label_bytes(axes, "bytes (log scale)", CROWDING)
        return
    for axes, codec in zip(panels[0], codecs, strict=True):
        axes.set_title(label(codec), fontsize=9)
    for axes, quantity in zip(panels[:, 0], quantities, strict=True):
        axes.set_ylabel(quantity, fontsize=8.5)
    for axes in panels[1]:
        _label_bytes(axes, "bytes sent per question (mean, log scale)", 1.0)


def _draw(axes: Axes, dots: Sequence[PlotPoint], quantity: Quantity) -> None:
    sweeps = read_sweeps(dots)
    lines = line_styles({order for _, order in sweeps})
    for (_, order), sweep in sweeps.items():
        colour, marker = colour_and_marker(order)
        shown = [dot for dot in sweep if not math.isnan(getattr(dot, quantity).value)]
        axes.plot(
            [dot.wire_bytes for dot in shown],
            [getattr(dot, quantity).value for dot in shown],
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.3 if is_oracle(order) else 0.9,
            linestyle=lines[order] if is_oracle(order) else "-",
            alpha=min((dot.alpha(quantity) for dot in shown), default=1.0),
        )
    axes.set_xscale("log")
    gridded(axes, 7)
    bands = [getattr(dot, quantity) for dot in dots]
    known = [(band.high - band.low) / 2 for band in bands if not math.isnan(band.value)]
    for dot in (dot for dot in dots if dot.keep_ratio == 1):
        axes.plot(dot.wire_bytes, getattr(dot, quantity).value, **WHOLE)
    if known:  # in the middle of the panel's height, at its left edge
        look: dict[str, Any] = {"color": "0.4", "elinewidth": 0.9, "capsize": 2}
        low, high = axes.get_ylim()
        place = axes.get_xlim()[0]
        axes.errorbar(place, (low + high) / 2, median(known), fmt="none", **look)
    if quantity == "gain":
        axes.axhline(0, color="0.25", linewidth=0.8, zorder=1)


def _published(pair: str, dataset: str) -> dict[tuple[str, str, float, str], float]:
    """The study's accuracies by what names a condition, if it had this pair."""
    study = bundled_study()
    figures = (*study.figures, *study.selected) if study.pair == pair else ()
    return {each.point: each.accuracy for each in figures if each.dataset == dataset}


def _draw_published(
    axes: Axes,
    dots: Sequence[PlotPoint],
    dataset: str,
    published: dict[tuple[str, str, float, str], float],
) -> int:
    """Draw those of these dots' conditions; how many."""
    count = 0
    for dot in dots:
        name = point(dataset, dot.codec, dot.keep_ratio, dot.order or "front")
        if name in published:
            _, marker = colour_and_marker(dot.order or "front")
            look: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": "0.55"}
            look |= {"marker": "o" if marker == "x" else marker, "markersize": 7}
            axes.plot(dot.wire_bytes, 100 * published[name], linestyle="none", **look)
            count += 1
    return count


def _label_bytes(axes: Axes, words: str, crowding: float) -> None:
    axes.xaxis.set_major_locator(FixedLocator(byte_ticks(*axes.get_xlim(), crowding)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human_bytes(value)))
    axes.set_xlabel(words, fontsize=8)


def _draw_legend(figure: Figure, title: str, drawn: Sequence[str], published: bool) -> None:
    """Title, and which order is which, above the panels."""
    lines = line_styles(drawn)
    handles = []
    for order in drawn:
        colour, marker = colour_and_marker(order)
        look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4}
        line = lines[order] if is_oracle(order) else "-"
        handles.append(Line2D([], [], linestyle=line, label=order_words(order), **look))
    handles.append(Line2D([], [], label="whole cache", **WHOLE))
    if published:
        look = {"markerfacecolor": "none", "markeredgecolor": "0.55", "linestyle": "none"}
        handles.append(Line2D([], [], marker="o", markersize=7, label="published", **look))
    names = [str(handle.get_label()) for handle in handles]
    wide = figure.get_figwidth() / COLUMN_INCHES
    figure.legend(
        handles=handles,
        fontsize=7.5,
        frameon=False,
        title=textwrap.fill(title, int(TITLE_CHARACTERS * wide)),
        title_fontproperties={"weight": "bold", "size": 9.5},
        alignment="left",
        loc="outside upper left",
        ncols=legend_columns(names, len(names), int(LEGEND_CHARACTERS * wide)),
        handlelength=3.5,
    )


def _caption(rows: pd.DataFrame, drawn: Sequence[str]) -> str:
    shown = rows[(rows["examples"] > 0) & ~under_budget(rows)]
    n, *unfinished = n_sentences(shown, "point")
    sentences = [f"{n}. Bar at the left: the median half-width of the 95 % intervals, both ways."]
    sentences += [f"{sentence}." for sentence in unfinished]
    if any(map(is_oracle, drawn)):
        sentences.append("Dashed: oracles, which choose by the receiver's cache; no sender can.")
    return " ".join(sentences)
