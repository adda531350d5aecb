"""What competes with a cache on the axis of bytes: texts, a letter, option logits."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

ALONE = ("receiver", "sharer", "calibrated")  # systems that send nothing
# Colour and marker by `rival_key`; hollow, so that no codec's mark looks like one.
RIVAL_STYLES = {
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
class Rival:
    """One such row of the table, in the units of the picture; NaN where nothing was measured."""

    key: str
    tokens: int  # most of a text, else 0
    wire_bytes: float
    accuracy: tuple[float, float, float]  # low, value, high in per cent
    gain: tuple[float, float, float]
    complete: bool


def row_name(row: Mapping[str, Any]) -> str:
    """A row that is no cache, in words."""
    system = str(row["system"])
    if system == "text":
        packed = ", zstd" if row["codec"] == "utf8+zstd" else ""
        return f"text {row['message_tokens']} tokens{packed}"
    if system == "calibrated":
        return "receiver calibrated"
    return f"{system} alone" if system in ALONE else system


def rival_key(row: Mapping[str, Any]) -> str:
    """What tells the kinds of rivals apart: a text's codec, else the system."""
    return str(row["codec"] if row["system"] == "text" else row["system"])


def read_rivals(frame: pd.DataFrame) -> list[Rival]:
    """The rivals that have an answer and a byte, texts by their tokens."""
    rows = frame[~frame["system"].isin(["c2c", *ALONE]) & (frame["wire_bytes_mean"] > 0)]

    def three(row: Mapping[str, Any], name: str) -> tuple[float, float, float]:
        low, value, high = (100 * float(row[f"{name}{end}"]) for end in ("_low", "", "_high"))
        return low, value, high

    return [
        Rival(
            key=rival_key(row),
            tokens=0 if pd.isna(row["message_tokens"]) else int(row["message_tokens"]),
            wire_bytes=float(row["wire_bytes_mean"]),
            accuracy=three(row, "accuracy"),
            gain=three(row, "pairing_gain"),
            complete=bool(row["complete"]),
        )
        for row in ({str(k): v for k, v in row.items()} for row in rows.to_dict("records"))
    ]


def draw_rivals(upper: Axes, lower: Axes | None, rivals: Sequence[Rival]) -> None:
    """Accuracy in the upper panel, with a legend of its own; pairing gain in the lower, if any."""
    by_key: dict[str, list[Rival]] = defaultdict(list)
    for rival in sorted(rivals, key=lambda rival: (rival.wire_bytes, rival.tokens)):
        by_key[rival.key].append(rival)
    for key in (key for key in RIVAL_STYLES if key in by_key):
        colour, marker = RIVAL_STYLES[key]
        for axes, column in ((upper, "accuracy"), (lower, "gain")):
            shown = [r for r in by_key[key] if not math.isnan(getattr(r, column)[1])]
            if axes is None or not shown:
                continue
            x, y = [r.wire_bytes for r in shown], [getattr(r, column)[1] for r in shown]
            ends = [[abs(getattr(r, column)[side] - getattr(r, column)[1]) for r in shown]
                    for side in (0, 2)]  # fmt: skip
            axes.errorbar(
                *(x, y),
                yerr=ends,
                fmt=marker,
                linestyle="-" if len(shown) > 1 else "none",
                color=colour,
                markerfacecolor="white",
                markersize=4.5,
                linewidth=0.9,
                elinewidth=0.8,
                capsize=1.5,
                alpha=1.0 if all(r.complete for r in shown) else 0.4,
                zorder=4,
                label=NAMES[key] if axes is upper else None,
            )
    if by_key:
        upper.legend(fontsize=6.5, frameon=True, framealpha=0.85, edgecolor="0.85", loc="best")
