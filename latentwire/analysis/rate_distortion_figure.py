"""Codecs on one axis: what is lost, or what is still answered, against all-in bits a number."""

import textwrap
from collections.abc import Iterable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latentwire.analysis.completeness import counts, gain_is_complete, n_sentences
from latentwire.analysis.frames import metric_of, whole_caches
from latentwire.analysis.letter_distribution import DEGENERATE_NOTE
from latentwire.analysis.picture_width import COLUMN_INCHES, Width
from latentwire.analysis.pictures import (
    PALE,
    gridded,
    label,
    labelled,
    legend_columns,
    pair_label,
    styled,
)
from latentwire.analysis.provenance import hashes_note
from latentwire.channel import codec_names

SINGLE = "floating point"  # 4-, 8- and 16-bit formats, each of which is its own codec
STAGES = "lossless stage, schedule"
PLAIN = ("bf16", "fp16", "fp32", "nf4", "mxfp4", "fp8_e4m3", "fp8_e5m2")
# Colour (Okabe and Ito's, for the colour-blind) and marker (for print in grey) of each family.
STYLES = {
    "int": ("#000000", "o"),
    "int_layer": ("#777777", "s"),
    "int_token": ("#56B4E9", "D"),
    "int_group": ("#0072B2", "^"),
    "kivi": ("#E69F00", "v"),
    "rotate": ("#CC79A7", "<"),
    "turbo": ("#D55E00", ">"),
    "kvtc": ("#009E73", "P"),
    "klt": ("#882255", "p"),  # Tol's wine: Okabe and Ito's last is too pale for lines
    "planes": ("#332288", "d"),  # Tol's indigo
    "planes_klt": ("#999933", "H"),  # his olive
    SINGLE: ("#000000", "*"),
    STAGES: ("#777777", "h"),
}
LOSSES = {
    "key_error_mean": "keys ‖x − x'‖ / ‖x‖",
    "value_error_mean": "values ‖x − x'‖ / ‖x‖",
    "kl_nats_mean": "next token, KL (nats)",
}
ALONE: dict[str, Any] = {"color": "#999999", "linewidth": 0.8, "linestyle": ":", "zorder": 0}
TITLE_CHARACTERS = 110, 46  # of a line, across a page and a column
CLEAR = 2.6  # points, from a line to its name: what a mark on the line takes
ROOM = 0.1  # of a panel's height, above what is drawn
WHICH = "codecs with which questions were answered; others that M1 measured: in its run's pictures"
LEGEND_CHARACTERS = 62  # across a column
OTHER_STYLE = ("#999999", "X")


def family(codec: str) -> str:
    """Codecs that differ in their bits only: `int4_group` is of `int_group`."""
    if "+" in codec or codec_names.is_mixed(codec):
        return STAGES
    if codec in PLAIN:
        return SINGLE
    return codec_names.family(codec)


@styled
def draw_rate_distortion(frame: pd.DataFrame, dataset: str, pair: str) -> Figure:
    """Relative error of K and of V, and KL of the next token, each against bits a number.

    `frame` has the columns codec, bits_per_element, key_error_mean, value_error_mean and
    kl_nats_mean of one dataset. A line joins a family's codecs. What loses nothing cannot stand on
    a logarithmic axis and is left out.
    """
    frame = labelled(frame)
    figure = Figure(figsize=(7.2, 4.6), layout="constrained", dpi=200)
    panels = figure.subplots(1, 3)
    for axes, (column, title) in zip(panels, LOSSES.items(), strict=True):
        _draw_families(axes, frame[frame[column] > 0], column)
        axes.set_yscale("log")
        axes.set_title(title, fontsize=9)
    _finish(figure, list(panels), f"{pair_label(pair)}, {label(dataset)}: what codecs lose")
    return figure


@styled
def draw_rate_accuracy(
    frame: pd.DataFrame, dataset: str, pair: str, width: Width = Width.PAGE
) -> Figure:
    """Accuracy and pairing gain of whole caches against bits a number, one dot a codec.

    `frame` is a budget curve of one dataset and source (see `curve.COLUMNS`); rows of other keep
    ratios than 1 are left out. Bars are 95 % intervals; grey lines are receiver and sharer alone.
    Conditions that answer nearly always with one letter are crossed out; what is not complete is
    pale and joined by no line.
    """
    frame = labelled(frame)
    whole = whole_caches(frame)
    whole = whole[whole["bits_per_element"].notna()]
    size = width.choose((7.2, 4.6), (COLUMN_INCHES, 6.4))
    figure = Figure(figsize=size, layout="constrained", dpi=200)
    left, right = figure.subplots(*width.choose((1, 2), (2, 1)))
    _draw_percent(left, whole, "score", whole["complete"])
    gains = whole[whole["pairing_gain"].notna()]
    _draw_percent(right, gains, "pairing_gain", gain_is_complete(gains))
    alone = [frame[frame["system"] == system] for system in ("receiver", "sharer")]
    lowest = min((rows for rows in alone if len(rows)), key=_lowest, default=None)
    # The higher one's name is at the left, where codecs of few bits score less, and has room above;
    # in a column the lower one's is under its line.
    for rows in alone:
        side = width.choose("bottom", "top" if rows is lowest else "bottom")
        _draw_alone(left, rows, side, "right" if rows is lowest else "left")
    low, high = left.get_ylim()
    left.set_ylim(low, high + ROOM * (high - low))
    right.axhline(0, **ALONE)
    left.set_title(f"{metric_of(frame)} (%)", fontsize=9)
    right.set_title("pairing gain (points)", fontsize=9)
    _finish(figure, [left, right], _title(whole, dataset, pair, width), width)
    return figure


def _title(whole: pd.DataFrame, dataset: str, pair: str, width: Width) -> str:
    done = whole[whole["complete"]]
    n = counts(whole if done.empty else done)
    lines = [f"{pair_label(pair)}, {label(dataset)}: whole caches, n = {n}"]
    if len(whole):
        notes = [WHICH, *n_sentences(whole, "codec")[1:], hashes_note(whole)]
        room = width.choose(*TITLE_CHARACTERS)
        lines += [line for note in notes for line in textwrap.wrap(note, room)]
    return width.wrapped("\n".join(lines), TITLE_CHARACTERS[1])


def _lowest(rows: pd.DataFrame) -> float:
    return float(rows["score"].min())


def _draw_alone(axes: Axes, rows: pd.DataFrame, side: str, end: str) -> None:
    """A level line with its name, at an end and a side of it, for a model alone."""
    for row in rows.to_dict("records"):
        height, look = 100 * row["score"], {} if row["complete"] else {"alpha": PALE}
        sign = " \N{MULTIPLICATION SIGN}" if row["degenerate"] else ""
        sign += "" if row["complete"] else f", n = {row['examples']}"
        axes.axhline(height, **ALONE, **look)
        words: dict[str, Any] = {"ha": end, "va": side, "fontsize": 6.5, "color": "#666666"}
        place, x = ("axes fraction", "data"), 0.01 if end == "left" else 0.99
        words |= {"xytext": (0, CLEAR if side == "bottom" else -CLEAR)}
        words |= {"textcoords": "offset points"}
        axes.annotate(f"{row['system']} alone{sign}", (x, height), xycoords=place, **words)


def _draw_percent(
    axes: Axes, frame: pd.DataFrame, column: str, complete: "pd.Series[bool]"
) -> None:
    """A share in per cent with its interval; what is not complete after the rest, pale."""
    _draw_families(axes, frame[complete], column, percent=True)
    if not complete.all():
        _draw_families(axes, frame[~complete], column, percent=True, alpha=PALE)


def _draw_families(
    axes: Axes, frame: pd.DataFrame, column: str, *, percent: bool = False, alpha: float = 1.0
) -> None:
    scale = 100 if percent else 1
    for name in families_of(frame["codec"]):
        colour, marker = STYLES.get(name, OTHER_STYLE)
        part = frame[frame["codec"].map(family) == name].sort_values("bits_per_element")
        joined = alpha == 1 and name not in (SINGLE, STAGES)
        axes.plot(
            part["bits_per_element"],
            scale * part[column],
            color=colour,
            marker=marker,
            markersize=4.5,
            markerfacecolor="none" if name == STAGES else colour,
            linewidth=1 if joined else 0,
            alpha=alpha,
            label=name,
        )
        if percent:
            low, high = (100 * part[f"{column}_{end}"] for end in ("low", "high"))
            look: dict[str, Any] = {"color": colour, "linewidth": 0.5, "alpha": 0.6 * alpha}
            axes.vlines(part["bits_per_element"], low, high, **look)
    if percent and frame["degenerate"].any():
        crossed = frame[frame["degenerate"]]
        look = {"color": "0", "marker": "x", "markersize": 8, "linestyle": "none", "zorder": 6}
        bits = crossed["bits_per_element"]
        axes.plot(bits, scale * crossed[column], label=DEGENERATE_NOTE, **look)


def families_of(codecs: Iterable[str]) -> list[str]:
    """The families of some codecs, those that have a style first."""
    found = {family(codec) for codec in codecs}
    return [name for name in STYLES if name in found] + sorted(found - STYLES.keys())


def _finish(figure: Figure, panels: list[Axes], title: str, width: Width = Width.PAGE) -> None:
    for axes in panels:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, position: f"{value:g}")
        axes.set_xlabel("bits a number, all in")
        gridded(axes, 8)
    found: dict[str, Any] = {}
    for axes in panels:  # what is complete is drawn first, and is the family's sample
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    look: dict[str, Any] = {"loc": "outside lower center", "fontsize": 7, "frameon": False}
    columns = width.choose(5, legend_columns(list(found), 5, LEGEND_CHARACTERS))
    figure.legend(found.values(), found.keys(), ncols=columns, **look)
    figure.suptitle(title, fontsize=9)
