"""Which points no other beats."""

import math
from collections.abc import Sequence


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
