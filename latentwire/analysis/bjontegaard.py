"""How far one curve of scores against bytes lies from another, on average (Bjontegaard's measure).

Two averages over what the curves share: of the score over the logarithm of bytes (points gained at
equal bytes), and of the logarithm of bytes over the score (bytes at equal score). G. Bjontegaard,
Calculation of average PSNR differences between RD-curves, VCEG-M33, 2001. Its cubic through four
points may run outside of what was measured; between points the curves here are monotone cubics
(PCHIP, as in the common test conditions of HEVC and VVC), of any number of points from two on.
(Akima's interpolation, which is in use too, is not monotone where the points are.)
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from latentwire.analysis.pareto import pareto_front
from latentwire.analysis.stats import Interval

FEWEST_POINTS = 2
_DIGITS = 12  # of scores: two that differ by rounding alone are one


class Curve(NamedTuple):
    """Points by rising bytes, each with bytes of its own."""

    wire_bytes: NDArray[np.float64]  # [P], above 0
    score: NDArray[np.float64]  # [P], 0 to 1


def curve(wire_bytes: NDArray[np.float64], score: NDArray[np.float64]) -> Curve:
    """Points in any order as a curve: without those of no bytes, and of several with equal bytes
    the best one."""
    there = wire_bytes > 0
    wire_bytes, score = wire_bytes[there], np.round(score[there], _DIGITS)
    order = np.lexsort((-score, wire_bytes))
    first = np.unique(wire_bytes[order], return_index=True)[1]
    return Curve(wire_bytes[order][first], score[order][first])


def efficient(points: Curve) -> Curve:
    """Those points of a curve that are better than every one of fewer bytes."""
    kept = pareto_front(list(zip(points.wire_bytes.tolist(), points.score.tolist(), strict=True)))
    return Curve(points.wire_bytes[kept], points.score[kept])


def score_difference(first: Curve, second: Curve) -> float:
    """Mean of second - first over the logarithm of the bytes that both have, a share: BD-PSNR with
    scores. Scores may fall where bytes rise. NaN where the curves share no bytes, or one has fewer
    than two points."""
    logs = [np.log(one.wire_bytes) for one in (first, second)]
    return _mean_difference(logs[0], first.score, logs[1], second.score)


def bytes_difference(first: Curve, second: Curve) -> float:
    """How many bytes more the second needs for the same score, a share of the first's: -0.25 is a
    quarter less (BD-rate). NaN as above, of the scores that both reach.

    Bytes as a function of the score need a curve that rises: only `efficient` points count, which
    is what a sender would choose from.
    """
    ends = [efficient(one) for one in (first, second)]
    logs = [np.log(one.wire_bytes) for one in ends]
    return float(np.expm1(_mean_difference(ends[0].score, logs[0], ends[1].score, logs[1])))


def overlap(first: NDArray[np.float64], second: NDArray[np.float64]) -> Interval:
    """From where to where both have points; the ends are the wrong way round where nowhere."""
    return Interval(max(first.min(), second.min()), min(first.max(), second.max()))


def _mean_difference(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    other_x: NDArray[np.float64],
    other_y: NDArray[np.float64],
) -> float:
    """Mean of other_y - y over the x that both have; x rises."""
    if min(len(x), len(other_x)) < FEWEST_POINTS:
        return float("nan")
    low, high = overlap(x, other_x)
    if not low < high:
        return float("nan")
    areas = [
        float(PchipInterpolator(*points).integrate(low, high))
        for points in ((x, y), (other_x, other_y))
    ]
    return (areas[1] - areas[0]) / (high - low)
