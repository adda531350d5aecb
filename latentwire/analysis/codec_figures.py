"""The picture of M1: what each codec does to K and V, layer by layer."""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from latentwire.analysis.pictures import gridded, label, labelled, pair_label, styled
from latentwire.analysis.rate_distortion_figure import families_of, family

# Within a family, from many bits to few. Okabe and Ito's colours, which the colour-blind can tell.
COLOURS = ("#000000", "#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9")
MARKERS = "osD^v<>"
COLUMNS = 5


@styled
def draw_layer_errors(frame: pd.DataFrame, dataset: str, pair: str) -> Figure:
    """Relative error against sharer layer, a panel a family of codecs: K solid, V dotted.

    `frame` has the columns codec, kind (key or value), layer and relative_error of one dataset,
    codecs in order of their bits. Codecs that change nothing in some layer cannot stand on the
    logarithmic axis and are named.
    """
    frame = labelled(frame)
    by_codec = frame.groupby("codec")["relative_error"]
    exact = sorted(by_codec.min()[by_codec.min() <= 0].index)
    drawn = frame[~frame["codec"].isin(exact)]
    found = families_of(drawn["codec"])
    columns = min(COLUMNS, max(1, len(found)))
    rows = max(1, math.ceil(len(found) / columns))
    figure = Figure(figsize=(1.7 * columns + 0.7, 2.3 * rows + 0.5), layout="constrained", dpi=200)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, name in zip(panels.flat, found, strict=False):
        _draw_family(axes, drawn[drawn["codec"].map(family) == name])
        axes.set_title(name, fontsize=8)
    for axes in list(panels.flat)[len(found) :]:
        axes.set_visible(False)
    figure.supxlabel("sharer layer", fontsize=8)
    figure.supylabel("relative error  ‖x − x'‖ / ‖x‖", fontsize=8)
    note = f"; exact: {', '.join(exact)}" if exact else ""
    title = f"{pair_label(pair)}, {label(dataset)}: keys solid, values dotted{note}"
    figure.suptitle(title, fontsize=9)
    return figure


def _draw_family(axes: Axes, frame: pd.DataFrame) -> None:
    for place, codec in enumerate(frame["codec"].unique()):
        for kind, line in (("key", "-"), ("value", ":")):
            part = frame[(frame["codec"] == codec) & (frame["kind"] == kind)].sort_values("layer")
            look: dict[str, Any] = {"markersize": 3, "linewidth": 0.9, "linestyle": line}
            look |= {
                "color": COLOURS[place % len(COLOURS)],
                "marker": MARKERS[place % len(MARKERS)],
            }
            name = codec if kind == "key" else None
            axes.plot(part["layer"], part["relative_error"], label=name, **look)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    gridded(axes, 7)
    axes.legend(fontsize=5, frameon=True, framealpha=0.7, borderpad=0.2, handlelength=1.5)
