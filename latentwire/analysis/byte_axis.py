"""The axis of bytes: logarithmic, and drawn closer together where only messages stand.

A letter is one byte and a cache a million. On one scale all caches would share the last quarter of
a picture; so the stretch left of them is squeezed, and two strokes on the axis say where.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from latentwire.analysis.formatting import human_bytes

MESSAGES = 0.24  # of the width, at most, for what stands left of all caches
LABEL = 0.085  # of the width: what a label such as `100 kB` takes
STROKES = ((-0.7, -1.0), (0.1, 1.0)), ((-0.1, -1.0), (0.7, 1.0))


@dataclass(frozen=True)
class ByteAxis:
    """Where byte counts stand."""

    low: float
    high: float
    cut: float  # from here on decades have their whole width; `low` where nothing is squeezed
    squeeze: float = 1.0  # of a decade's width, left of the cut
    crowding: float = 1.0  # how many times shorter than on a page

    @property
    def decades(self) -> float:
        """The width, in decades of those that have their whole width."""
        low, high = self.place(np.array([self.low, self.high]))
        return float(high - low)

    def place(self, wire_bytes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Decades from the cut, rising with the bytes."""
        away = np.log10(np.maximum(wire_bytes, 1e-9) / self.cut)
        return np.where(away < 0, away * self.squeeze, away)

    def bytes_at(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """What stands at a place."""
        return self.cut * 10 ** np.where(place < 0, place / self.squeeze, place)

    def ticks(self) -> list[float]:
        """Round byte counts; left of the cut powers of ten, none close to it."""
        whole = byte_ticks(self.cut, self.high, self.crowding)
        if self.squeeze == 1:
            return whole
        powers = 10.0 ** np.arange(math.ceil(math.log10(self.low)), math.log10(self.cut))
        room = LABEL * self.crowding * self.decades
        left: list[float] = []
        for tick, place in zip(powers.tolist(), self.place(powers).tolist(), strict=True):
            before = self.place(np.array(left[-1:]))
            if place < -room / 2 and (before <= place - room).all():
                left.append(tick)
        return [*left, *whole]


def byte_axis(
    caches: Sequence[float], messages: Sequence[float], crowding: float = 1.0
) -> ByteAxis:
    """The axis for caches and messages of so many bytes: 8 % of room on each side, and half a
    decade at least."""
    low, high = _limits([*caches, *messages])
    cut, _ = _limits(caches)
    above, below = math.log10(high / cut), math.log10(cut / low) if cut > low else 0.0
    most = above * MESSAGES / (1 - MESSAGES)
    if below <= most:
        return ByteAxis(low, high, low, crowding=crowding)
    return ByteAxis(low, high, cut, most / below, crowding)


def draw_byte_axis(axes: Axes, others: Sequence[Axes], scale: ByteAxis) -> None:
    """Scale, ticks and label of the lowest of some panels that share the axis."""
    if scale.squeeze == 1:
        axes.set_xscale("log")
    else:
        axes.set_xscale("function", functions=(scale.place, scale.bytes_at))
    axes.set_xlim(scale.low, scale.high)
    axes.xaxis.set_major_locator(FixedLocator(scale.ticks()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human_bytes(value)))
    axes.set_xlabel("bytes sent per question (mean, log scale)", fontsize=8.5)
    if scale.squeeze == 1:
        return
    for panel in (axes, *others):
        panel.axvline(scale.cut, color="0.8", linewidth=0.6, linestyle=(0, (2, 3)), zorder=0)
        look: dict[str, Any] = {"color": "0", "markersize": 7, "markeredgewidth": 0.9}
        look |= {"transform": panel.get_xaxis_transform(), "clip_on": False, "zorder": 7}
        for stroke in STROKES:
            panel.plot(scale.cut, 0, marker=stroke, **look)


def byte_ticks(low: float, high: float, crowding: float = 1.0) -> list[float]:
    """Round byte counts between the ends: 1, 2, 5 of each decade, or fewer on a long axis or on one
    that is `crowding` times shorter than on a page."""
    decades = math.log10(high / low) * crowding
    steps: tuple[float, ...] = (1,)
    for most, finer in ((4, (1, 3)), (3, (1, 2, 5)), (0.7, (1, 1.5, 2, 3, 5, 7))):
        if decades < most:
            steps = finer
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**exponent for exponent in exponents for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis of some values."""
    low, high = math.log10(min(values)), math.log10(max(values))
    room = max(0.08 * (high - low), (0.5 - (high - low)) / 2)
    return 10 ** (low - room), 10 ** (high + room)
