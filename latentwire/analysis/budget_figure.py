"""The budget curve as a picture: accuracy and pairing gain against the bytes really sent."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.transforms import blended_transform_factory

from latentwire.analysis.break_even_bytes import text_sentence
from latentwire.analysis.budget_points import BudgetPoints, read_budget_points
from latentwire.analysis.byte_axis import ByteAxis, byte_axis, draw_byte_axis
from latentwire.analysis.commonest_key import commonest_key
from latentwire.analysis.completeness import lent_sentences, n_sentences
from latentwire.analysis.frames import is_resampled, metric_of, records
from latentwire.analysis.letter_distribution import DEGENERATE_NOTE
from latentwire.analysis.order_styles import line_styles, order_words
from latentwire.analysis.pairing_told import no_gain_at_all, uncounted_sentences
from latentwire.analysis.pareto import pareto_front
from latentwire.analysis.picture_width import Width
from latentwire.analysis.pictures import DPI, PALE, label, legend_columns, pair_label, styled
from latentwire.analysis.plot_baselines import BASELINE_STYLES, draw_baselines, draw_cross
from latentwire.analysis.plot_points import PlotPoint, Quantity, dodge, read_sweeps, spread
from latentwire.analysis.provenance import hashes_note
from latentwire.analysis.study_points import note
from latentwire.spec.axes import ALONE

WIDTH, HEIGHT = 6.5, 5.5  # inches: a two-column paper's full width
LINE_INCHES = 0.12  # of a caption, for which a column's picture is higher
GREY = "0.45"
WHY_CHARACTERS = 100, 48  # of a line that stands in a panel's place, likewise
CAPTION_CHARACTERS = 130, 64  # of its size, across a page and a column
EDGE = 0.012  # of the page's width: where title and caption begin

# In points: a triangle or a diamond needs more to look as large as a square.
MARKER_SIZES = {"o": 5.2, "s": 4.9, "^": 6.2, "v": 6.2, "D": 4.7, "<": 6.2, ">": 6.2}
OTHER_SIZE = 6.0
CONTROL_SCALE, PUBLISHED_SCALE = 1.3, 1.75  # of a hollow marker, to a filled one
BARS: dict[str, Any] = {"elinewidth": 0.8, "capsize": 1.8, "capthick": 0.8}
DEGENERATE_SIGN = " \N{MULTIPLICATION SIGN}"  # the cross, in words
RATIO_POINTS = 8.6  # between the rows of keep ratios
TITLE_CHARACTERS = 38  # across a column
CROWDING = 2.3  # of a column's axis: how many times shorter than a page's
LEGEND_CODECS = 7  # on a line of the legend
KINDS = 5  # of lines and hollow markers, likewise
LINE_CHARACTERS = 116, 60  # of a legend, likewise
FRONT_COLOUR, FRONT_WIDTH = "0.85", 4.5
Styles = Mapping[str, tuple[str, str]]  # codec -> colour and marker


@styled
def draw_budget_curve(
    frame: pd.DataFrame, dataset: str, pair: str, width: Width = Width.PAGE
) -> Figure:
    """Draw one dataset's budget curve of one pair.

    Above, accuracy (or what the task's metric is) with intervals: a colour and marker a codec,
    solid lines through a codec's `front` keep ratios, short dashes through its `back` ones, dots
    for others and long dashes for oracles, all meeting at the full cache; hollow markers for the
    deranged control; receiver and sharer alone as level lines with their intervals on the right
    edge. Conditions that answer nearly always with one letter are
    crossed out. Below, the pairing gain. Left of the caches the
    axis may be squeezed (see `byte_axis`). Points that would hide each other
    are drawn side by side, less than a mark's width from their place. A broad grey step in either
    panel joins the caches that no other beats, in bytes and in height (crossed out and incomplete
    ones do not count). Texts, the letter and logits are hollow marks of one colour. What is not
    complete is pale (see `completeness`).

    Where the table holds local rows, its published rows of the same pair and dataset, and what
    else was published (`study_points`), are laid over them as hollow grey markers of the codec's
    shape; otherwise published rows are the curve.

    `frame` is the table of `curve.build_curve`; LatentWireError where it has no C2C point of that
    pair and dataset.
    """
    points = read_budget_points(frame, dataset, pair)
    baselines, styles = points.baselines, points.styles
    caches = [dot.wire_bytes for dot in [*points.dots, *points.overlay]]
    sent = [baseline.wire_bytes for baseline in baselines]
    scale = byte_axis(caches, sent, width.choose(1.0, CROWDING))
    points = replace(points, dots=dodge(points.dots, scale.decades * scale.crowding, list(styles)))
    dots, gains = points.dots, points.gains
    caption = textwrap.wrap(_caption(points, scale), width.choose(*CAPTION_CHARACTERS))
    height = width.choose(HEIGHT, HEIGHT + LINE_INCHES * len(caption))
    figure = Figure(figsize=(width.inches(WIDTH), height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = _panels(figure, gains=bool(gains))
    _draw_front(upper, dots, "score", scale.high)
    _draw_front(lower, gains, "gain", scale.high)
    _draw_score(upper, dots, points.overlay, styles, points.metric)
    _draw_references(upper, points.rows, width)
    _draw_gain(lower, gains, styles, points.rows, width)
    draw_baselines(upper, lower if gains else None, baselines)
    if baselines and width is Width.PAGE:
        upper.legend(fontsize=6.5, frameon=True, framealpha=0.85, edgecolor="0.85", loc="best")
    for axes in (upper, lower):
        _draw_crossing(axes, points.rows["beats_text_bytes"], scale.low, scale.high)
    draw_byte_axis(lower, [upper], scale)
    said = [label(dataset), pair_label(pair), *["published answers"] * points.is_published]
    _draw_legends(figure, "  \N{MIDDLE DOT}  ".join(said), points, width)
    figure.supxlabel("\n".join(caption), x=EDGE, ha="left", fontsize=6.8, color="0.3")
    _draw_keep_ratios(figure, dots, styles)
    return figure


def _mark(colour: str, marker: str, scale: float = 1.0, **look: Any) -> dict[str, Any]:
    """How a point of a colour and marker is drawn."""
    size = scale * MARKER_SIZES.get(marker, OTHER_SIZE)
    return {"color": colour, "marker": marker, "markersize": size, "linestyle": "none", **look}


def _hollow(colour: str, marker: str, scale: float) -> dict[str, Any]:
    return _mark(colour, marker, scale, markerfacecolor="none", markeredgewidth=0.9)


def _panels(figure: Figure, *, gains: bool) -> tuple[Axes, Axes]:
    """The two panels, one above the other; the lower is a line of text where no gain is known."""
    heights = (0.62, 0.38) if gains else (0.88, 0.12)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=heights)
    for axes in (upper, lower):
        axes.tick_params(labelsize=7.5, length=3)
        axes.grid(axis="both", color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.align_ylabels([upper, lower])
    return upper, lower


def _draw_series(axes: Axes, dots: Sequence[PlotPoint], styles: Styles, quantity: Quantity) -> None:
    """Markers with intervals, and lines through the sweeps."""
    sweeps = read_sweeps(dots)
    lines = line_styles({order for _, order in sweeps})
    for (codec, order), sweep in sweeps.items():
        axes.plot(
            [dot.x for dot in sweep],
            [getattr(dot, quantity).value for dot in sweep],
            color=styles[codec][0],
            linestyle=lines[order],
            linewidth=1.1,
            alpha=min(dot.alpha(quantity) for dot in sweep),
            zorder=2,
        )
    for dot in dots:
        middle, low, high = getattr(dot, quantity)
        look = _mark(*styles[dot.codec], markeredgewidth=0.6, markeredgecolor="white", **BARS)
        reach = [[max(middle - low, 0.0)], [max(high - middle, 0.0)]]
        axes.errorbar(dot.x, middle, reach, alpha=dot.alpha(quantity), zorder=4, **look)
        if dot.degenerate:
            draw_cross(axes, dot.x, middle)


def _draw_front(axes: Axes, dots: Sequence[PlotPoint], quantity: Quantity, right: float) -> None:
    """A broad grey step through the complete points that are worth most for their bytes."""
    sound = [
        (dot, getattr(dot, quantity).value)
        for dot in dots
        if dot.is_complete(quantity) and not dot.degenerate
    ]
    front = pareto_front([(dot.wire_bytes, value) for dot, value in sound])
    # Dots set side by side may have changed places.
    places = sorted((sound[place][0].x, sound[place][1]) for place in front)
    if not places:
        return
    heights = np.maximum.accumulate([height for _, height in places])
    edges = [*(x for x, _ in places), right]
    look: dict[str, Any] = {"edgecolor": FRONT_COLOUR, "linewidth": FRONT_WIDTH, "zorder": 0.9}
    axes.stairs(heights, edges, baseline=None, **look)


def _draw_crossing(axes: Axes, beats_text: "pd.Series[float]", low: float, high: float) -> None:
    """A thin line where caches begin to beat text, if they do."""
    for wire_bytes in beats_text.dropna().unique()[:1]:
        if low <= wire_bytes <= high:
            axes.axvline(wire_bytes, color=BASELINE_STYLES["utf8"][0], linewidth=0.6, zorder=0)


def _draw_score(
    axes: Axes, dots: Sequence[PlotPoint], overlay: Sequence[PlotPoint], styles: Styles, metric: str
) -> None:
    _draw_series(axes, dots, styles, "score")
    for dot in (dot for dot in dots if not math.isnan(dot.deranged)):
        # Below and larger: where the control scores the same as the matched cache, both stay
        # visible, as a marker with a ring.
        look = _hollow(*styles[dot.codec], CONTROL_SCALE)
        axes.plot(dot.x, dot.deranged, alpha=dot.alpha("gain"), zorder=3, **look)
        if dot.deranged_degenerate:
            draw_cross(axes, dot.x, dot.deranged)
    for dot in overlay:
        look = _hollow("0.55", styles[dot.codec][1], PUBLISHED_SCALE)
        axes.plot(dot.wire_bytes, dot.score.value, alpha=dot.alpha("score"), zorder=3, **look)
        if dot.degenerate:
            draw_cross(axes, dot.wire_bytes, dot.score.value)
    axes.set_ylabel(f"{metric} (%)", fontsize=8.5)
    axes.margins(y=0.07)


def _answering_alone(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of systems that send nothing, of which a question was answered."""
    return frame[frame["system"].isin(ALONE) & (frame["examples"] > frame["unanswered"])]


def _draw_references(axes: Axes, frame: pd.DataFrame, width: Width) -> None:
    """The systems that send nothing: a level line, its interval and its name on the right edge."""
    references = sorted(records(_answering_alone(frame)), key=lambda row: row["score"])
    edge = axes.get_yaxis_transform()
    for place, row in enumerate(references):
        score, low, high = (100 * float(row[f"score{end}"]) for end in ("", "_low", "_high"))
        look: dict[str, Any] = {"color": GREY, "alpha": 1.0 if row["complete"] else PALE}
        line = {"receiver": ":", "sharer": "-."}.get(row["system"], (0, (1, 4)))
        axes.axhline(score, linewidth=0.9, linestyle=line, zorder=1, **look)
        look |= {"transform": edge, "clip_on": False}
        x = 1.012 + 0.014 * place
        axes.plot([x, x], [low, high], linewidth=0.8, marker="_", markersize=3.5, **look)
        axes.plot(x, score, ".", markersize=4, **look)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    heights = [[100 * float(row["score"])] for row in references]
    look = {"transform": edge, "va": "center", "fontsize": 7.3, "linespacing": 0.95}
    for row, (score, height) in zip(
        references, spread(heights, float, width.choose(0.09, 0.14) * (high - low)), strict=True
    ):
        sign = DEGENERATE_SIGN if row["degenerate"] else ""
        n = "" if row["complete"] else f", n {row['examples']}"
        axes.text(1.05, height, f"{row['system']}{sign}\n{score:.1f} %{n}", color="0.25", **look)


def _draw_keep_ratios(figure: Figure, dots: Sequence[PlotPoint], styles: Styles) -> None:
    """Under the upper panel, a row or more a swept codec: the keep ratio that each place on the
    axis is."""
    axes = figure.axes[0]
    sweeps = read_sweeps(dots)
    found = {codec: _places(dots, codec) for codec in styles if any(codec == k[0] for k in sweeps)}
    swept = {codec: places for codec, places in found.items() if len(places) > 1}
    rows, names = [], []
    for codec, places in swept.items():
        look: dict[str, Any] = {"fontsize": 6.5, "color": styles[codec][0], "va": "center"}
        look |= {"textcoords": "offset points", "annotation_clip": False}
        place: tuple[Any, ...] = (0, 0), (-5, 0), "axes fraction"
        names.append(axes.annotate(f"{codec} kept", *place, ha="right", **look))
        under = ("data", "axes fraction")
        rows.append(
            [
                axes.annotate(f"{ratio:g}", (x, 0), (0, -7), under, ha="center", **look)
                for ratio, x in sorted(places.items(), reverse=True)
            ]
        )
    if rows:  # only what is laid out tells which labels meet
        figure.draw_without_rendering()
    y = -7.0
    for name, labels in zip(names, rows, strict=True):
        name.xyann = (-5, y)
        y -= _stacked(labels, y)


def _places(dots: Sequence[PlotPoint], codec: str) -> dict[float, float]:
    """Bytes by keep ratio."""
    kept = (dot for dot in dots if dot.codec == codec and not dot.budget)
    return {dot.keep_ratio: dot.wire_bytes for dot in kept}


def _stacked(labels: Sequence[Annotation], top: float) -> float:
    """Set labels of one codec, from the right, into as few rows below each other as hold them with
    a character's room between two; the height of the rows, in points."""
    free: list[float] = []  # the left end of each row's last label, in pixels
    for text in labels:
        box = text.get_window_extent()
        row = next((row for row, left in enumerate(free) if box.x1 <= left), len(free))
        free[row:] = [box.x0 - box.width / len(text.get_text()), *free[row + 1 :]]
        text.xyann = (0, top - RATIO_POINTS * row)
    return RATIO_POINTS * len(free)


def _draw_gain(
    axes: Axes, dots: Sequence[PlotPoint], styles: Styles, rows: pd.DataFrame, width: Width
) -> None:
    if not dots:
        look: dict[str, Any] = {"fontsize": 7.5, "style": "italic", "color": GREY}
        look |= {"transform": axes.transAxes, "ha": "center", "va": "center"}
        why = textwrap.wrap(no_gain_at_all(rows), width.choose(*WHY_CHARACTERS))
        axes.text(0.5, 0.5, "\n".join(why), **look)
        axes.set_yticks([])
        return
    axes.axhline(0, color="0.25", linewidth=0.8, zorder=1)
    _draw_series(axes, dots, styles, "gain")
    axes.set_ylabel("pairing gain (points)", fontsize=8.5)
    axes.margins(y=0.1)


def _draw_legends(figure: Figure, title: str, points: BudgetPoints, width: Width) -> None:
    """Title, codecs, and what lines and hollow markers mean; only what is drawn."""
    room, styles = width.choose(*LINE_CHARACTERS), points.styles
    codecs = [Line2D([], [], **_mark(*style), label=codec) for codec, style in styles.items()]
    look: dict[str, Any] = {"fontsize": 7.8, "frameon": False, "borderpad": 0, "columnspacing": 1.6}
    figure.legend(
        handles=codecs,
        title=width.wrapped(title, TITLE_CHARACTERS),
        title_fontproperties={"weight": "bold", "size": 9.5},
        alignment="left",
        loc="outside upper left",
        ncols=legend_columns(list(styles), LEGEND_CODECS, room),
        handlelength=1.0,
        **look,
    )
    upper = figure.axes[0]
    kinds = _kinds(points, width)
    if width is Width.COLUMN:  # in its panel there is no room for a legend
        kinds += upper.get_legend_handles_labels()[0]
    if not kinds:
        return
    beside = blended_transform_factory(figure.transFigure, upper.transAxes)
    look |= {"bbox_to_anchor": (EDGE, 1.02), "bbox_transform": beside, "borderaxespad": 0}
    names = [str(kind.get_label()) for kind in kinds]
    columns = legend_columns(names, KINDS, room)
    # Beside the panel's own legend. What is not clipped, the layout makes room for.
    second = Legend(upper, kinds, names, loc="lower left", ncols=columns, **look)
    upper.add_artist(second).set_clip_on(False)


def _kinds(points: BudgetPoints, width: Width) -> list[Any]:
    """Samples of the lines and hollow markers that are drawn."""
    orders = {order for _, order in read_sweeps(points.dots)}
    look: dict[str, Any] = {"color": GREY, "linewidth": 1.1}
    kinds = [
        Line2D([], [], linestyle=line, label=f"{order_words(order)} kept", **look)
        for order, line in line_styles(orders).items()
    ]
    if not all(math.isnan(dot.deranged) for dot in points.dots):
        look = _hollow("0.2", "s", CONTROL_SCALE)
        kinds.append(Line2D([], [], **look, label="deranged control"))
    if any(dot.complete and not dot.degenerate for dot in points.dots):
        best = "best cache for its bytes" + width.choose(" (Pareto)", "")
        kinds.append(Line2D([], [], color=FRONT_COLOUR, linewidth=FRONT_WIDTH, label=best))
    if points.overlay:
        kinds.append(Line2D([], [], **_hollow("0.55", "s", PUBLISHED_SCALE), label="published"))
    return kinds


def _bars(rows: pd.DataFrame, gains: bool) -> str:
    """Which intervals the bars are."""
    if is_resampled(rows):
        return f"{metric_of(rows)}: bootstrap"
    return "accuracy: Wilson; pairing gain: Tango" if gains else "accuracy: Wilson"


def _caption(points: BudgetPoints, scale: ByteAxis) -> str:
    """What n is, what the bars are, what is not finished and what is not drawn."""
    shown, gains = points.rows[points.rows["examples"] > 0], bool(points.gains)
    n, *unfinished = n_sentences(shown, "point")
    sentences = [f"{n}. Bars: 95 % intervals ({_bars(shown, gains)})."]
    sentences += [f"{sentence}." for sentence in unfinished]
    if gains:
        sentences += lent_sentences(shown)
        sentences += [f"{said[0].upper()}{said[1:]}." for said in uncounted_sentences(shown)]
    if _answering_alone(shown)["system"].eq("calibrated").any():
        sentences.append("Calibrated: the receiver without its letter prior.")
    if any(not np.isclose(dot.x, dot.wire_bytes) for dot in points.dots):
        sentences.append("Points that would hide each other stand side by side.")
    if scale.squeeze < 1:
        sentences.append("Left of the two strokes the axis is squeezed.")
    degenerate = bool(shown[["degenerate", "deranged_degenerate"]].any(axis=None))
    if degenerate or any(dot.degenerate for dot in points.overlay):
        sentences.append(f"Crossed out (\N{MULTIPLICATION SIGN}): the answer is {DEGENERATE_NOTE}.")
    if prior := commonest_key(shown):
        sentences.append(f"{prior[0].upper()}{prior[1:]}.")
    if points.codecs_left_out:
        more = f"{points.codecs_left_out} more codecs"
        sentences.append(f"{more}: see the picture of codecs against bits.")
    if points.orders_left_out == 1:
        sentences.append("One more way to choose tokens: see its own picture.")
    elif points.orders_left_out:
        more = f"{points.orders_left_out} more ways to choose tokens"
        sentences.append(f"{more}: see their own picture.")
    if points.orders_untold:
        ways = "way" if points.orders_untold == 1 else "ways"
        sentences.append(f"{points.orders_untold} more {ways} under budgets: see the table.")
    if any(dot.budget for dot in points.overlay):
        sentences.append(f"{note()}.")
    sentences += filter(None, [text_sentence(shown)])
    if hashes := hashes_note(shown):
        sentences.append(f"{hashes[0].upper()}{hashes[1:]}.")
    return " ".join(sentences)
