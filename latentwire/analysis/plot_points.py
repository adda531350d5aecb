"""The points of a budget curve as a picture shows them: where each stands, which form a line."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from latentwire.analysis.completeness import gain_is_complete
from latentwire.analysis.pictures import PALE
from latentwire.spec.axes import AXES, CACHES

FARTHEST = 0.03  # decades that a dot may be drawn from its place: 7 %


@dataclass(frozen=True)
class PlotPoint:
    """One C2C row of the table, in the units of the picture."""

    codec: str
    keep_ratio: float
    order: str | None
    wire_bytes: float
    accuracy: float  # per cent, and so on
    accuracy_low: float
    accuracy_high: float
    deranged: float
    gain: float
    gain_low: float
    gain_high: float
    complete: bool
    gain_complete: bool
    x: float  # where it is drawn: wire_bytes, or a little beside
    degenerate: bool = False  # answers nearly always with one letter
    deranged_degenerate: bool = False

    @property
    def preference(self) -> tuple[bool, bool]:
        """Orders two measurements of one condition: complete ones first, then those with gain."""
        return self.complete, not math.isnan(self.gain)

    @property
    def alpha(self) -> float:
        """Opacity of its accuracy: what is not complete is pale."""
        return 1.0 if self.complete else PALE

    @property
    def gain_alpha(self) -> float:
        """Opacity of its control, and of the gain over it."""
        return 1.0 if self.gain_complete else PALE


def read_points(frame: pd.DataFrame) -> list[PlotPoint]:
    """The table's C2C points that have an answer and a byte: a log axis has no zero."""
    rows = frame[frame["system"].isin(CACHES) & (frame["wire_bytes_mean"] > 0)]
    dots: dict[tuple[str, float, str | None], PlotPoint] = {}
    rows = rows.assign(gain_complete=gain_is_complete(rows))
    for row in rows.to_dict(orient="records"):
        order = None if pd.isna(row["order"]) else str(row["order"])
        dot = PlotPoint(
            codec=str(row["codec"]),
            keep_ratio=float(row["keep_ratio"]),
            order=order,
            wire_bytes=float(row["wire_bytes_mean"]),
            accuracy=100 * float(row["accuracy"]),
            accuracy_low=100 * float(row["accuracy_low"]),
            accuracy_high=100 * float(row["accuracy_high"]),
            deranged=100 * float(row["deranged_accuracy"]),
            gain=100 * float(row["pairing_gain"]),
            gain_low=100 * float(row["pairing_gain_low"]),
            gain_high=100 * float(row["pairing_gain_high"]),
            complete=bool(row["complete"]),
            gain_complete=bool(row["gain_complete"]),
            x=float(row["wire_bytes_mean"]),
            degenerate=bool(row["degenerate"]),
            deranged_degenerate=bool(row["deranged_degenerate"]),
        )
        # All orders are one condition when all of the cache is kept: one dot, the best measured
        # one where several were run.
        key = (dot.codec, dot.keep_ratio, None if dot.keep_ratio == 1 else order)
        if key not in dots or dot.preference > dots[key].preference:
            dots[key] = dot
    return list(dots.values())


def dodge(dots: Sequence[PlotPoint], decades: float, codecs: Sequence[str]) -> list[PlotPoint]:
    """Set dots of nearly equal bytes side by side, a marker's width apart around their middle.

    Dots of equal bytes go in the order of the codecs and then of the orders, so that it is the
    same all along the axis and a codec's two lines do not cross for this reason.
    """
    step = 0.013 * decades
    clusters: list[list[PlotPoint]] = []
    for dot in sorted(dots, key=lambda dot: dot.wire_bytes):
        if clusters and math.log10(dot.wire_bytes / clusters[-1][0].wire_bytes) < step:
            clusters[-1].append(dot)
        else:
            clusters.append([dot])
    apart: list[list[PlotPoint]] = []
    for cluster in clusters:
        cluster.sort(key=lambda dot: (codecs.index(dot.codec), AXES["order"].sort_key(dot.order)))
        apart.append(cluster)
        # Spread out, two clusters may reach into each other; they then share one middle.
        while len(apart) > 1 and _middle(apart[-1]) - _middle(apart[-2]) < step * (
            (len(apart[-1]) + len(apart[-2])) / 2
        ):
            apart[-2:] = [apart[-2] + apart[-1]]
    moved = [
        (dot, _middle(cluster) + step * (place - (len(cluster) - 1) / 2))
        for cluster in apart
        for place, dot in enumerate(cluster)
    ]
    return [replace(dot, x=10 ** _near(math.log10(dot.wire_bytes), place)) for dot, place in moved]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places, by rising cost, of the (cost, value) points that no other beats.

    A point is beaten by one that costs no more and is worth no less; of equal points the first
    stays. A value of NaN stands for no point.
    """
    front: list[int] = []
    there = [place for place, (_, value) in enumerate(points) if not math.isnan(value)]
    # NaN would compare as neither before nor after, and leave the rest unsorted.
    for place in sorted(there, key=lambda place: (points[place][0], -points[place][1])):
        if not front or points[place][1] > points[front[-1]][1]:
            front.append(place)
    return front


def _near(own: float, wanted: float) -> float:
    """The place wanted, but never far from a dot's own: overlapping is better than misplaced."""
    return min(max(wanted, own - FARTHEST), own + FARTHEST)


def _middle(cluster: Sequence[PlotPoint]) -> float:
    return sum(math.log10(dot.wire_bytes) for dot in cluster) / len(cluster)


def read_sweeps(dots: Sequence[PlotPoint]) -> dict[tuple[str, str], list[PlotPoint]]:
    """(codec, order) -> its dots by rising bytes, the full cache among them; two at least."""
    members: dict[tuple[str, str], list[PlotPoint]] = defaultdict(list)
    known = sorted({dot.order for dot in dots if dot.keep_ratio < 1}, key=AXES["order"].sort_key)
    for dot in sorted(dots, key=lambda dot: dot.wire_bytes):
        for order in known if dot.keep_ratio == 1 else [dot.order]:
            if order is not None:
                members[dot.codec, order].append(dot)
    return {key: sweep for key, sweep in members.items() if len(sweep) > 1}
