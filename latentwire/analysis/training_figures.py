"""The picture of a training: what it learned, and what its message was worth."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from latentwire.analysis.pictures import gridded, pair_label, styled

SMOOTHED_OVER = 20  # steps
ROOM = 1.08  # of an axis, to what is drawn
LEAST_PERCENT = 5.0  # that an axis of accuracies reaches


@styled
def draw_training(
    steps: Sequence[dict[str, float]], judged: Sequence[dict[str, Any]], pair: str
) -> Figure:
    """Loss by step; accuracy on validation questions, own message and another's; open gates,
    where there are gates.

    `steps` have step, loss and perhaps open_gates; `judged` step, accuracy and accuracy_deranged
    (shares).
    """
    frame = pd.DataFrame(steps)
    count = 3 if "open_gates" in frame else 2
    figure = Figure(figsize=(3.0 * count, 2.8), layout="constrained", dpi=200)
    loss, accuracy, *gates = figure.subplots(1, count)
    loss.plot(frame["step"], frame["loss"], color="#56B4E9", linewidth=0.6, alpha=0.7)
    smooth = frame["loss"].rolling(SMOOTHED_OVER, min_periods=1).mean()
    loss.plot(frame["step"], smooth, color="#0072B2", linewidth=1.4)
    loss.set_ylabel("loss (mean over 20 steps dark)", fontsize=8)
    points = pd.DataFrame(judged).sort_values("step") if judged else None
    if points is not None:
        for column, colour, name in (
            ("accuracy", "#009E73", "own message"),
            ("accuracy_deranged", "#D55E00", "another's"),
        ):
            y = 100 * points[column]
            accuracy.plot(points["step"], y, color=colour, marker="o", markersize=3, label=name)
        accuracy.legend(fontsize=7)
    accuracy.set_ylabel("validation accuracy (%)", fontsize=8)
    for axes in gates:
        axes.plot(frame["step"], frame["open_gates"], color="#CC79A7", linewidth=1.2)
        axes.set_ylabel("open gates", fontsize=8)
    for axes in (loss, accuracy, *gates):
        axes.set_xlabel("step", fontsize=8)
        # From zero, with room above; where nothing is above zero, as far as one.
        most = max(LEAST_PERCENT if axes is accuracy else 0.0, ROOM * axes.dataLim.y1)
        axes.set_ylim(0, most if 0 < most < math.inf else 1)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
        gridded(axes, 7)
    figure.suptitle(f"training the interface of {pair_label(pair)}", fontsize=9)
    return figure
