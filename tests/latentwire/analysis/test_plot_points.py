import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.plot_points import (
    MARKER_WIDTH,
    Band,
    PlotPoint,
    dodge,
    read_points,
    read_sweeps,
)

Make = Callable[..., ConditionResult]


def dot(
    wire_bytes: float,
    codec: str = "int8",
    keep_ratio: float = 0.5,
    order: str = "front",
    score: float = 50.0,
) -> PlotPoint:
    half = Band(score, score, score)
    return PlotPoint(
        codec=codec,
        keep_ratio=keep_ratio,
        order=order,
        wire_bytes=wire_bytes,
        complete=True,
        gain_complete=True,
        x=wire_bytes,
        score=half,
        deranged=50.0,
        gain=half,
    )


def test_dots_are_c2c_rows_in_per_cent_with_bytes(condition: Make) -> None:
    frame = build_curve(
        [
            condition("AB", system="receiver"),
            condition("AB", codec="bf16", control="deranged"),
            condition("AAAB"),
            condition("ABBB", control="deranged"),
        ]
    )
    (only,) = read_points(frame)
    assert (only.codec, only.score.value, only.deranged, only.gain.value) == ("int8", 75, 25, 50)
    assert only.x == only.wire_bytes == 1001.5


def test_the_better_measured_of_two_equal_conditions_is_taken(condition: Make) -> None:
    front = [condition("AAAA", order="front")]
    back = [condition("AABB", order="back"), condition("BBBB", order="back", control="deranged")]
    assert [dot.score.value for dot in read_points(build_curve(front + back))] == [50]
    part = condition("AABB", order="back", total=9)
    whole = condition("AAAA", order="front", total=4)
    assert [dot.score.value for dot in read_points(build_curve([part, whole]))] == [100]
    shorter = [condition("AB", keep_ratio=0.5, order=order) for order in ("front", "back")]
    assert len(read_points(build_curve(shorter))) == 2


def test_dots_far_apart_stay_where_they_are() -> None:
    dots = [dot(1e4), dot(2e4), dot(1e5)]
    assert [moved.x for moved in dodge(dots, 2, ["int8"])] == pytest.approx([1e4, 2e4, 1e5])


def test_dots_that_hide_nothing_stay_at_their_bytes() -> None:
    low, high = dot(1000, score=20), dot(1010, "int4", score=80)
    assert [one.x for one in dodge([low, high], 2, ["int8", "int4"])] == pytest.approx([1000, 1010])
    gain = Band(0.0, 0.0, 0.0)  # one height in the panel below
    for one in dodge([replace(d, gain=gain) for d in (low, high)], 2, ["int8", "int4"]):
        assert 0 < abs(math.log10(one.x / one.wire_bytes)) < 2 * MARKER_WIDTH


def test_equal_bytes_are_set_apart_by_codec_then_order() -> None:
    dots = [dot(1000, order="back"), dot(1001, "int4", 1.0), dot(1002, order="front")]
    moved = dodge(dots, 2, ["int8", "int4"])
    assert [(one.codec, one.order) for one in sorted(moved, key=lambda one: one.x)] == [
        ("int8", "front"),
        ("int8", "back"),
        ("int4", "front"),
    ]
    assert math.prod(one.x for one in moved) == pytest.approx(1000 * 1001 * 1002)
    assert [one.wire_bytes for one in moved] == [1002, 1000, 1001]


def test_no_two_dots_end_up_closer_than_a_marker() -> None:
    dots = [dot(1000 * 1.004**k, f"codec{k}") for k in range(3)] + [dot(1e4, "codec0")]
    codecs = [f"codec{k}" for k in range(3)]
    places = sorted(math.log10(one.x) for one in dodge(dots, 2, codecs))
    gaps = [right - left for left, right in itertools.pairwise(places)]
    assert min(gaps) >= 0.89 * 2 * MARKER_WIDTH


def test_sweeps_share_the_full_cache() -> None:
    full, front, back = dot(100, keep_ratio=1), dot(10), dot(10, order="back")
    single = dot(70, "int4", 1.0)
    assert read_sweeps([full, back, front, single]) == {
        ("int8", "front"): [front, full],
        ("int8", "back"): [back, full],
    }


def test_many_dots_overlap_rather_than_leave_their_place() -> None:
    """Thirty codecs of nearly equal bytes would fill half the axis side by side: none is as far as
    its own width from its place."""
    names = [f"c{number}" for number in range(30)]
    dots = [dot(1e4 * 1.01**number, name) for number, name in enumerate(names)]
    for one in dodge(dots, 2, names):
        assert abs(math.log10(one.x / one.wire_bytes)) < 2 * MARKER_WIDTH
