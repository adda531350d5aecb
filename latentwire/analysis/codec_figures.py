"""The picture of M1: what each codec does to K and V, layer by layer."""

import pandas as pd
from matplotlib.figure import Figure

MARKERS = "osD^v<>Pp*X"
# How a codec's scales are shared stands in its name's end, and here in the line.
LINES = {"_layer": "--", "_token": ":", "_group": "-."}


def draw_layer_errors(frame: pd.DataFrame, dataset: str, pair: str) -> Figure:
    """Relative error against sharer layer, K on the left and V on the right, one line a codec.

    `frame` has the columns codec, kind (key or value), layer and relative_error of one dataset.
    A quantizer has one colour whatever shares a scale: by head (solid), layer (dashed), token
    (dotted) or group of channels (dash-dotted). Codecs that change nothing (zero error) cannot
    stand on the logarithmic axis and are named.
    """
    figure = Figure(figsize=(6.5, 3.8), layout="constrained", dpi=200)
    panels = figure.subplots(1, 2, sharey=True)
    families = list(dict.fromkeys(_family(name) for name in frame["codec"]))
    exact = set()
    for axes, (kind, title) in zip(panels, (("key", "keys"), ("value", "values")), strict=True):
        part = frame[frame["kind"] == kind]
        for codec in frame["codec"].unique():
            family = families.index(_family(codec))
            line = part[part["codec"] == codec].sort_values("layer")
            if not (line["relative_error"] > 0).all():
                exact.add(codec)
                continue
            axes.plot(
                line["layer"],
                line["relative_error"],
                marker=MARKERS[family % len(MARKERS)],
                markersize=4,
                linewidth=1,
                color=f"C{family % 10}",
                linestyle=LINES.get(codec.removeprefix(_family(codec)), "-"),
                label=codec,
            )
        axes.set_yscale("log")
        axes.set_xlabel("sharer layer")
        axes.set_title(f"{title} that are sent", fontsize=9)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(visible=True, which="major", linewidth=0.4, alpha=0.5)
    panels[0].set_ylabel("relative error  ‖x − x'‖ / ‖x‖")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=6.5, frameon=False)
    note = f"; exact: {', '.join(sorted(exact))}" if exact else ""
    figure.suptitle(f"{pair}, {dataset}{note}", fontsize=9)
    return figure


def _family(codec: str) -> str:
    """The codec's name without what shares a scale."""
    for suffix in LINES:
        codec = codec.removesuffix(suffix)
    return codec
