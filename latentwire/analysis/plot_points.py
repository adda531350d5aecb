"""The points of a budget curve as a picture shows them: where each stands, which form a line."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeVar

import pandas as pd

from latentwire.analysis.completeness import gain_is_complete
from latentwire.analysis.frames import records
from latentwire.analysis.pictures import PALE
from latentwire.spec.axes import AXES, CACHES
from latentwire.spec.names import budget_label

MARKER_WIDTH, MARKER_HEIGHT = 0.013, 0.03  # of an axis
STEP, FARTHEST = 0.9, 0.99  # of a marker's width: between two dots, and from a dot's place

Quantity = Literal["score", "gain"]
T = TypeVar("T")


class Band(NamedTuple):
    """A value and its interval, in per cent or percentage points; NaN where none was measured."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class MeasuredPoint:
    """One row of the table that sends bytes, in the units of the picture."""

    wire_bytes: float
    score: Band
    gain: Band
    complete: bool
    gain_complete: bool
    deranged: float = math.nan  # mean score of the control, per cent
    degenerate: bool = False  # answers nearly always with one letter
    deranged_degenerate: bool = False

    def is_complete(self, quantity: Quantity) -> bool:
        """Whether its score, or its control and the gain over it, is of all questions."""
        return self.complete if quantity == "score" else self.gain_complete

    def alpha(self, quantity: Quantity) -> float:
        """Opacity of the same: what is not complete is pale."""
        return 1.0 if self.is_complete(quantity) else PALE


def measured_rows(frame: pd.DataFrame) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The rows that send bytes (a log axis has no zero), each with the fields of its
    MeasuredPoint."""
    rows = frame[frame["wire_bytes_mean"] > 0]
    rows = rows.assign(gain_complete=gain_is_complete(rows))
    return [(row, _fields(row)) for row in records(rows)]


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "wire_bytes": float(row["wire_bytes_mean"]),
        "score": _band(row, "score"),
        "gain": _band(row, "pairing_gain"),
        "complete": bool(row["complete"]),
        "gain_complete": bool(row["gain_complete"]),
        "deranged": 100 * float(row["deranged_score"]),
        "degenerate": bool(row["degenerate"]),
        "deranged_degenerate": bool(row["deranged_degenerate"]),
    }


def _band(row: Mapping[str, Any], name: str) -> Band:
    return Band(*(100 * float(row[f"{name}{end}"]) for end in ("", "_low", "_high")))


@dataclass(frozen=True, kw_only=True)
class PlotPoint(MeasuredPoint):
    """One C2C row of the table."""

    codec: str
    keep_ratio: float
    order: str | None
    x: float  # where it is drawn: wire_bytes, or a little beside
    budget: str = ""  # in words; "" without one

    @property
    def whole(self) -> bool:
        """Whether all of the cache was sent."""
        return self.keep_ratio == 1 and not self.budget

    @property
    def preference(self) -> tuple[bool, bool]:
        """Orders two measurements of one condition: complete ones first, then those with gain."""
        return self.complete, not math.isnan(self.gain.value)


def read_points(frame: pd.DataFrame) -> list[PlotPoint]:
    """The table's C2C points that have an answer and a byte."""
    dots: dict[tuple[str, float, str | None, str], PlotPoint] = {}
    for row, fields in measured_rows(frame[frame["system"].isin(CACHES)]):
        dot = PlotPoint(
            **fields,
            codec=str(row["codec"]),
            keep_ratio=float(row["keep_ratio"]),
            order=None if pd.isna(row["order"]) else str(row["order"]),
            budget=budget_label(row),
            x=fields["wire_bytes"],
        )
        # All orders are one condition when all of the cache is kept: one dot, the best measured
        # one where several were run.
        key = (dot.codec, dot.keep_ratio, None if dot.whole else dot.order, dot.budget)
        if key not in dots or dot.preference > dots[key].preference:
            dots[key] = dot
    return list(dots.values())


def dodge(dots: Sequence[PlotPoint], decades: float, codecs: Sequence[str]) -> list[PlotPoint]:
    """Set dots that would hide each other side by side, around their middle and by less than a
    marker's width; all others stay at their bytes.

    Those hide each other that are less than a marker apart in bytes, and in height in either
    panel. They go in the order of the codecs and then of the orders, so that it is the same all
    along the axis and a codec's two lines do not cross for this reason.
    """
    width = MARKER_WIDTH * decades
    moved = []
    for cluster in _hiding(dots, width):
        cluster.sort(key=lambda dot: (codecs.index(dot.codec), AXES["order"].sort_key(dot.order)))
        middle = sum(math.log10(dot.wire_bytes) for dot in cluster) / len(cluster)
        step = STEP * width * min(1.0, 2 / max(1, len(cluster) - 1))
        for place, dot in enumerate(cluster):
            wanted = middle + step * (place - (len(cluster) - 1) / 2)
            moved.append(replace(dot, x=10 ** _near(math.log10(dot.wire_bytes), wanted, width)))
    return moved


def _hiding(dots: Sequence[PlotPoint], width: float) -> list[list[PlotPoint]]:
    """The dots by rising bytes, those that hide each other together."""
    tall = {
        quantity: MARKER_HEIGHT * (max(heights) - min(heights)) if heights else 0.0
        for quantity in ("score", "gain")
        for heights in [_heights(dots, quantity)]
    }

    def hides(one: PlotPoint, other: PlotPoint) -> bool:
        apart = abs(math.log10(one.wire_bytes / other.wire_bytes))
        return apart < width and any(
            abs(getattr(one, name).value - getattr(other, name).value) <= most
            for name, most in tall.items()
        )

    clusters: list[list[PlotPoint]] = []
    for dot in sorted(dots, key=lambda dot: dot.wire_bytes):
        near = [each for each in clusters if any(hides(dot, other) for other in each)]
        clusters = [each for each in clusters if each not in near]
        clusters.append([*(other for each in near for other in each), dot])
    return clusters


def _heights(dots: Sequence[PlotPoint], quantity: str) -> list[float]:
    """What a panel reaches from and to, with intervals."""
    ends = (value for dot in dots for value in getattr(dot, quantity))
    return [value for value in ends if not math.isnan(value)]


def spread(
    groups: Iterable[Sequence[T]], at: Callable[[T], float], least: float
) -> list[tuple[T, float]]:
    """Every item with a place: those of a group around its middle, `least` between two. `at` says
    where an item would be, and groups rise. Groups that reach into each other share one middle."""

    def middle(group: Sequence[T]) -> float:
        return sum(map(at, group)) / len(group)

    apart: list[list[T]] = []
    for group in groups:
        apart.append(list(group))
        while len(apart) > 1 and middle(apart[-1]) - middle(apart[-2]) < least * (
            (len(apart[-1]) + len(apart[-2])) / 2
        ):
            apart[-2:] = [apart[-2] + apart[-1]]
    return [
        (item, middle(group) + least * (place - (len(group) - 1) / 2))
        for group in apart
        for place, item in enumerate(group)
    ]


def _near(own: float, wanted: float, width: float) -> float:
    """The place wanted, but less than a marker's width from a dot's own: overlapping is better than
    misplaced."""
    return min(max(wanted, own - FARTHEST * width), own + FARTHEST * width)


def read_sweeps(dots: Sequence[PlotPoint]) -> dict[tuple[str, str], list[PlotPoint]]:
    """(codec, order) -> its dots by rising bytes, the full cache among them; two at least."""
    members: dict[tuple[str, str], list[PlotPoint]] = defaultdict(list)
    known = sorted({dot.order for dot in dots if not dot.whole}, key=AXES["order"].sort_key)
    for dot in sorted(dots, key=lambda dot: dot.wire_bytes):
        for order in known if dot.whole else [dot.order]:
            if order is not None:
                members[dot.codec, order].append(dot)
    return {key: sweep for key, sweep in members.items() if len(sweep) > 1}
