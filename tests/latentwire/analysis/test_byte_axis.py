"""The axis of bytes where messages stand far left of all caches."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentwire.analysis.budget_figure import draw_budget_curve
from latentwire.analysis.byte_axis import LABEL, MESSAGES, byte_axis
from latentwire.analysis.curve import build_curve
from latentwire.analysis.plot_baselines import BASELINE_STYLES

sizes = st.lists(st.floats(1, 1e9), min_size=1, max_size=5)


@given(sizes, sizes)
def test_places_rise_come_back_and_leave_caches_most_of_the_width(
    caches: list[float], messages: list[float]
) -> None:
    scale = byte_axis(caches, messages)
    points = np.geomspace(scale.low, scale.high, 50)
    places = scale.place(points)
    assert (np.diff(places) > 0).all()
    np.testing.assert_allclose(scale.bytes_at(places), points, rtol=1e-9)
    assert scale.low < min(caches + messages) and max(caches + messages) < scale.high
    left = scale.place(np.array([scale.cut])) - places[0]
    assert left <= MESSAGES * scale.decades * (1 + 1e-9)
    assert scale.cut < min(caches)
    ticks = scale.place(np.array(scale.ticks()))
    squeezed = ticks[ticks < 0]
    assert (np.diff(squeezed) >= LABEL * scale.decades * (1 - 1e-9)).all()


def test_caches_alone_have_a_plain_axis() -> None:
    scale = byte_axis([1e3, 1e5], [])
    assert scale.squeeze == 1 and scale.cut == scale.low
    assert byte_axis([1e3, 1e6], [900.0]).squeeze == 1  # a message beside them changes nothing


def test_messages_have_crosses_and_marks_of_the_control(condition: Callable[..., Any]) -> None:
    text: dict[str, Any] = {"system": "text", "codec": "utf8", "message_tokens": 8}
    frame = build_curve(
        [
            *(condition("ABCD" * 5, codec=codec, wire_bytes=40_000) for codec in ("bf16", "int8")),
            condition("A" * 20, **text, wire_bytes=5),
            condition("ABBB" * 5, **text, wire_bytes=5, control="deranged"),
        ]
    )
    upper, lower = draw_budget_curve(frame, "set", "demo").axes
    crosses = [line for line in upper.lines if line.get_marker() == "x"]
    assert [line.get_ydata()[0] for line in crosses] == pytest.approx([100, 25])  # own, deranged
    small = [line for line in upper.lines if line.get_color() == BASELINE_STYLES["utf8"][0]]
    assert any(line.get_ydata()[0] == pytest.approx(25) for line in small)
    assert upper.get_xscale() == lower.get_xscale() == "function"
