"""Texts, letters and logits in words and in the picture."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from latentwire.analysis.budget_figure import draw_budget_curve
from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.pictures import save_png
from latentwire.analysis.plot_baselines import BASELINE_STYLES, draw_baselines, read_baselines
from latentwire.analysis.plot_points import spread
from latentwire.spec.names import row_name

Make = Callable[..., ConditionResult]


def some(condition: Make) -> list[ConditionResult]:
    return [
        condition("ABAA", codec="bf16", wire_bytes=50_000),
        condition("ABBA", system="receiver"),
        condition("ABBB", system="calibrated"),
        condition("ABAA", system="text", codec="utf8", message_tokens=128, wire_bytes=400),
        condition("ABAA", system="text", codec="utf8", message_tokens=8, wire_bytes=30),
        condition("ABAB", system="text", codec="utf8+zstd", message_tokens=8, wire_bytes=0),
        condition("BBBB", system="logits", wire_bytes=8),
        condition("BBBB", system="logits", wire_bytes=8, control="deranged", donors="ABCD"),
    ]


def test_rows_have_names() -> None:
    text = {"system": "text", "message_tokens": 8}
    assert row_name({**text, "codec": "utf8"}) == "text 8 tokens"
    assert row_name({**text, "codec": "utf8+zstd"}) == "text 8 tokens, zstd"
    assert row_name({"system": "sharer"}) == "sharer alone"
    assert row_name({"system": "calibrated"}) == "receiver calibrated"
    assert row_name({"system": "logits"}) == "logits"


def test_rivals_are_those_that_send_something(condition: Make) -> None:
    found = read_baselines(build_curve(some(condition)))
    assert [(r.key, r.tokens, r.wire_bytes) for r in found] == [
        ("logits", 0, 9.5),
        ("utf8", 8, 31.5),
        ("utf8+zstd", 8, 1.5),
        ("utf8", 128, 401.5),
    ]
    assert found[1].score.value == 75 and math.isnan(found[1].gain.value)
    assert found[0].gain.value == 0


def test_texts_are_joined_and_gains_drawn_where_measured(condition: Make) -> None:
    baselines = read_baselines(build_curve(some(condition)))
    upper, lower = Figure().subplots(2)
    draw_baselines(upper, lower, baselines)
    drawn = {str(c.get_label()): c for c in upper.containers}
    assert set(drawn) == {"text", "text, zstd", "option logits"}
    line = drawn["text"].lines[0]
    assert line.get_xdata().tolist() == [31.5, 401.5] and line.get_linestyle() == "-"
    assert [c.lines[0].get_xdata().tolist() for c in lower.containers] == [[9.5]]
    assert len(set(BASELINE_STYLES.values())) == len(BASELINE_STYLES)


def test_the_budget_curve_holds_them(condition: Make, tmp_path: Path) -> None:
    figure = draw_budget_curve(build_curve(some(condition)), "set", "demo")
    upper = figure.axes[0]
    low, high = upper.get_xlim()
    assert low < 1.5 and high > 50_000
    labels = [text.get_text() for text in upper.get_legend().get_texts()]
    assert labels == ["text", "text, zstd", "option logits"]
    assert any(text.get_text().startswith("calibrated") for text in upper.texts)
    save_png(figure, tmp_path / "curve.png")


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([], []),
        ([5.0], [5.0]),
        ([1.0, 9.0], [1.0, 9.0]),
        ([4.0, 5.0], [3.5, 5.5]),
        ([4.0, 4.0, 4.0], [2.0, 4.0, 6.0]),
        ([0.0, 0.5, 9.0], [-0.75, 1.25, 9.0]),
    ],
)
def test_labels_are_pushed_apart(heights: list[float], expected: list[float]) -> None:
    apart = spread([[height] for height in heights], float, 2.0)
    assert apart == list(zip(heights, expected, strict=True))
