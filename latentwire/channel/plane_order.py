"""In which order the planes of a cache's tensors go: what lowers the error most, for its bytes.

Within a tensor, plane p of a row whose cells are finer by k powers of two belongs to *level* p + k,
so that all cells of a level are about as wide: rows that vary little wait until the others' cells
are as fine as theirs (reverse water-filling, Cover and Thomas, 10.3.3). A level of a tensor is a
*unit*. Units go by the squared error that they take away, as a part of what the tensor varies, for
a byte: every tensor counts the same, whatever its size. Source: the ordering of EBCOT (Taubman,
2000), whose truncation points are here the ends of levels.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from latentwire.channel.nested_quantizer import BITS

Array = np.ndarray


class Unit(NamedTuple):
    """One level of one tensor."""

    tensor: int  # its place among those sent
    level: int
    numbers: int  # that it holds a bit of


@dataclass
class Reached:
    """How much of each tensor is there."""

    levels: list[int]  # of each tensor: the first level that is not there as a whole
    extra: list[int]  # numbers that have a bit of that level


def level_sizes(octaves: Array, tokens: int) -> Array:
    """How many numbers each level of a tensor has a bit of, given its rows' octaves [R]."""
    return np.convolve(np.bincount(octaves, minlength=1), np.ones(BITS, np.int64)) * tokens


def next_unit(tensor: int, sizes: Array, level: int) -> Unit | None:
    """The first level from `level` on that has any numbers."""
    (found,) = np.nonzero(sizes[level:])
    return Unit(tensor, level + int(found[0]), int(sizes[level + found[0]])) if len(found) else None


def gains(errors: Array, reach: Array, octaves: Array) -> Array:
    """The part of a tensor's squared error that each level takes away.

    `errors` [R, 9] are of each row after 0 to 8 planes, in units of its reach [R] squared.
    """
    weights = reach.astype(np.float64)[:, None] ** 2 * (errors[:, :-1] - errors[:, 1:])
    levels = octaves[:, None] + np.arange(BITS)
    found = np.bincount(levels.ravel(), weights.ravel(), minlength=BITS)
    return found / (math.fsum(found) or 1.0)  # 0 where no row is coded


def order(sizes: list[Array], tensor_gains: list[Array], label_bytes: int) -> list[Unit]:
    """All units of tensors with those level sizes and gains, best first, each tensor's levels
    ascending; a unit has a label before its bits."""
    units, worths = [], []
    for tensor, (numbers, own) in enumerate(zip(sizes, tensor_gains, strict=True)):
        (levels,) = np.nonzero(numbers)
        costs = label_bytes + -(-numbers[levels] // 8)
        units += [Unit(tensor, int(level), int(numbers[level])) for level in levels]
        worths.append(_worths(own[levels], costs))
    if not units:
        return []
    # Stable: of equals, the first tensor's.
    return [units[place] for place in np.argsort(-np.concatenate(worths), kind="stable")]


def _worths(gain: Array, cost: Array) -> Array:
    """Gain for a byte of each level, as good as the best stretch of levels that begins with it, and
    no better than of those before: a level that helps little alone may open one that helps much."""
    stretches = [
        np.max(np.cumsum(gain[place:]) / np.cumsum(cost[place:])) for place in range(len(gain))
    ]
    return np.minimum.accumulate(np.array(stretches))


def reached(units: list[Unit], tensors: int, stream_bytes: int, label_bytes: int) -> Reached:
    """What the first bytes of the stream of `units` bring."""
    found = Reached([0] * tensors, [0] * tensors)
    left = stream_bytes
    for unit in units:
        left -= label_bytes
        if left <= 0:
            break
        found.levels[unit.tensor] = unit.level
        if 8 * left < unit.numbers:
            found.extra[unit.tensor] = 8 * left
            break
        found.levels[unit.tensor] = unit.level + 1
        left -= -(-unit.numbers // 8)
    return found


def stream_bytes(units: list[Unit], label_bytes: int) -> int:
    """Bytes of all units."""
    return sum(label_bytes + -(-unit.numbers // 8) for unit in units)
