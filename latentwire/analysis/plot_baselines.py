"""What competes with a cache on the axis of bytes: texts, a letter, option logits."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from latentwire.analysis.plot_points import MeasuredPoint, Quantity, measured_rows
from latentwire.spec.axes import ALONE, CACHES

# Colour and marker by `baseline_key`; hollow, so that no codec's mark looks like one.
BASELINE_STYLES = {
    "utf8": ("#7A0177", "o"),
    "utf8+zstd": ("#7A0177", "s"),
    "lm": ("#7A0177", "^"),
    "summary": ("#8C510A", "o"),
    "summary, zstd": ("#8C510A", "s"),
    "summary, lm": ("#8C510A", "^"),
    "letter": ("#7A0177", "D"),
    "logits": ("#7A0177", "P"),
}
NAMES = {
    "utf8": "text",
    "utf8+zstd": "text, zstd",
    "lm": "text, LM-coded",
    "summary": "summary",
    "summary, zstd": "summary, zstd",
    "summary, lm": "summary, LM-coded",
    "letter": "answer letter",
    "logits": "option logits",
}
_SUMMARIES = {"utf8": "summary", "utf8+zstd": "summary, zstd", "lm": "summary, lm"}


@dataclass(frozen=True, kw_only=True)
class BaselinePoint(MeasuredPoint):
    """One such row of the table."""

    key: str
    tokens: int  # most of a text, else 0


def baseline_key(row: Mapping[str, Any]) -> str:
    """What tells the kinds of rivals apart: a text's codec, else the system; a summary's both."""
    if row["system"] == "summary":
        return _SUMMARIES[str(row["codec"])]
    return str(row["codec"] if row["system"] == "text" else row["system"])


def read_baselines(frame: pd.DataFrame) -> list[BaselinePoint]:
    """The rivals that have an answer and a byte, texts by their tokens."""
    return [
        BaselinePoint(
            **fields,
            key=baseline_key(row),
            tokens=0 if pd.isna(row["message_tokens"]) else int(row["message_tokens"]),
        )
        for row, fields in measured_rows(frame[~frame["system"].isin(CACHES + ALONE)])
    ]


def _draw_marks(
    axes: Axes, baselines: Sequence[BaselinePoint], quantity: Quantity, name: str | None
) -> None:
    """Rivals of one kind, all complete (joined by a line) or all incomplete (pale, apart)."""
    if not baselines:
        return
    joined = baselines[0].is_complete(quantity) and len(baselines) > 1
    colour, marker = BASELINE_STYLES[baselines[0].key]
    values, lows, highs = zip(*(getattr(baseline, quantity) for baseline in baselines), strict=True)
    axes.errorbar(
        [baseline.wire_bytes for baseline in baselines],
        values,
        yerr=np.abs([np.subtract(lows, values), np.subtract(highs, values)]),
        fmt=marker, color=colour, markerfacecolor="white", markersize=4.5,
        linestyle="-" if joined else "none", linewidth=0.9, elinewidth=0.8, capsize=1.5,
        alpha=baselines[0].alpha(quantity), zorder=3.5, label=name,
    )  # fmt: skip
    for baseline in (each for each in baselines if each.degenerate):
        draw_cross(axes, baseline.wire_bytes, getattr(baseline, quantity).value)


def _draw_deranged(axes: Axes, baselines: Sequence[BaselinePoint]) -> None:
    """Small marks of the rivals' scores with another question's message."""
    for baseline in (each for each in baselines if not math.isnan(each.deranged)):
        colour, marker = BASELINE_STYLES[baseline.key]
        look: dict[str, Any] = {"color": colour, "marker": marker, "markerfacecolor": "white"}
        look |= {"markersize": 3.0, "markeredgewidth": 0.7, "linestyle": "none", "zorder": 5}
        axes.plot(baseline.wire_bytes, baseline.deranged, alpha=baseline.alpha("gain"), **look)
        if baseline.deranged_degenerate:
            draw_cross(axes, baseline.wire_bytes, baseline.deranged)


def draw_cross(axes: Axes, x: float, y: float) -> None:
    """Cross out a point whose condition answers nearly always with one letter."""
    look: dict[str, Any] = {"marker": "x", "markersize": 8, "markeredgewidth": 0.9}
    axes.plot(x, y, color="0", linestyle="none", zorder=6, **look)


def draw_baselines(upper: Axes, lower: Axes | None, baselines: Sequence[BaselinePoint]) -> None:
    """The score in the upper panel, named for a legend; pairing gain in the lower, if any."""
    by_key: dict[str, list[BaselinePoint]] = defaultdict(list)
    for baseline in sorted(baselines, key=lambda baseline: (baseline.wire_bytes, baseline.tokens)):
        by_key[baseline.key].append(baseline)
    panels: tuple[tuple[Axes | None, Quantity], ...] = ((upper, "score"), (lower, "gain"))
    for key in (key for key in BASELINE_STYLES if key in by_key):
        for axes, quantity in panels:
            shown = [r for r in by_key[key] if not math.isnan(getattr(r, quantity).value)]
            if axes is None or not shown:
                continue
            named = any(baseline.is_complete(quantity) for baseline in shown)  # in the legend
            for complete in (True, False):
                name = NAMES[key] if axes is upper and complete == named else None
                part = [one for one in shown if one.is_complete(quantity) == complete]
                _draw_marks(axes, part, quantity, name)
        _draw_deranged(upper, by_key[key])
