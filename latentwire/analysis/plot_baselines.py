"""What competes with a cache on the axis of bytes: texts, a letter, option logits."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from latentwire.analysis.completeness import gain_is_complete
from latentwire.analysis.pictures import PALE
from latentwire.spec.axes import ALONE, CACHES, TEXTS

# Colour and marker by `baseline_key`; hollow, so that no codec's mark looks like one.
BASELINE_STYLES = {
    "utf8": ("#7A0177", "o"),
    "utf8+zstd": ("#7A0177", "s"),
    "letter": ("#7A0177", "D"),
    "logits": ("#7A0177", "P"),
}
NAMES = {
    "utf8": "text",
    "utf8+zstd": "text, zstd",
    "letter": "answer letter",
    "logits": "option logits",
}


@dataclass(frozen=True)
class BaselinePoint:
    """One such row of the table, in the units of the picture; NaN where nothing was measured."""

    key: str
    tokens: int  # most of a text, else 0
    wire_bytes: float
    accuracy: tuple[float, float, float]  # low, value, high in per cent
    gain: tuple[float, float, float]
    complete: bool
    gain_complete: bool

    def is_complete(self, column: str) -> bool:
        """Whether its `column`, "accuracy" or "gain", is of all questions."""
        return self.complete if column == "accuracy" else self.gain_complete


def baseline_key(row: Mapping[str, Any]) -> str:
    """What tells the kinds of rivals apart: a text's codec, else the system."""
    return str(row["codec"] if row["system"] in TEXTS else row["system"])


def read_baselines(frame: pd.DataFrame) -> list[BaselinePoint]:
    """The rivals that have an answer and a byte, texts by their tokens."""
    rows = frame[~frame["system"].isin(CACHES + ALONE) & (frame["wire_bytes_mean"] > 0)]
    rows = rows.assign(gain_complete=gain_is_complete(rows))

    def three(row: Mapping[str, Any], name: str) -> tuple[float, float, float]:
        low, value, high = (100 * float(row[f"{name}{end}"]) for end in ("_low", "", "_high"))
        return low, value, high

    return [
        BaselinePoint(
            key=baseline_key(row),
            tokens=0 if pd.isna(row["message_tokens"]) else int(row["message_tokens"]),
            wire_bytes=float(row["wire_bytes_mean"]),
            accuracy=three(row, "accuracy"),
            gain=three(row, "pairing_gain"),
            complete=bool(row["complete"]),
            gain_complete=bool(row["gain_complete"]),
        )
        for row in ({str(k): v for k, v in row.items()} for row in rows.to_dict("records"))
    ]


def _draw_marks(
    axes: Axes, baselines: Sequence[BaselinePoint], column: str, name: str | None
) -> None:
    """Rivals of one kind, all complete (joined by a line) or all incomplete (pale, apart)."""
    if not baselines:
        return
    complete = baselines[0].is_complete(column)
    colour, marker = BASELINE_STYLES[baselines[0].key]
    lows, values, highs = zip(*(getattr(baseline, column) for baseline in baselines), strict=True)
    axes.errorbar(
        [baseline.wire_bytes for baseline in baselines],
        values,
        yerr=np.abs([np.subtract(lows, values), np.subtract(highs, values)]),
        fmt=marker,
        linestyle="-" if complete and len(baselines) > 1 else "none",
        color=colour,
        markerfacecolor="white",
        markersize=4.5,
        linewidth=0.9,
        elinewidth=0.8,
        capsize=1.5,
        alpha=1.0 if complete else PALE,
        zorder=4,
        label=name,
    )


def draw_baselines(upper: Axes, lower: Axes | None, baselines: Sequence[BaselinePoint]) -> None:
    """Accuracy in the upper panel, with a legend of its own; pairing gain in the lower, if any."""
    by_key: dict[str, list[BaselinePoint]] = defaultdict(list)
    for baseline in sorted(baselines, key=lambda baseline: (baseline.wire_bytes, baseline.tokens)):
        by_key[baseline.key].append(baseline)
    for key in (key for key in BASELINE_STYLES if key in by_key):
        for axes, column in ((upper, "accuracy"), (lower, "gain")):
            shown = [r for r in by_key[key] if not math.isnan(getattr(r, column)[1])]
            if axes is None or not shown:
                continue
            named = any(baseline.is_complete(column) for baseline in shown)  # in the legend
            for complete in (True, False):
                name = NAMES[key] if axes is upper and complete == named else None
                part = [baseline for baseline in shown if baseline.is_complete(column) == complete]
                _draw_marks(axes, part, column, name)
    if by_key:
        upper.legend(fontsize=6.5, frameon=True, framealpha=0.85, edgecolor="0.85", loc="best")
