"""Published figures stand beside what was measured here, of the study's own pair alone."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from latentwire.analysis.budget_figure import draw_budget_curve
from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.plot_points import read_points
from latentwire.analysis.published import PAIR
from latentwire.analysis.study_points import note, study_points

Make = Callable[..., ConditionResult]
LETTERS = "AAAB" * 10


def points(results: list[ConditionResult], pair: str) -> dict[tuple[str, str], tuple[float, float]]:
    frame = build_curve(results)
    found = study_points(frame, read_points(frame), "arc_c", pair)
    return {(dot.codec, dot.budget): (dot.wire_bytes, dot.score.value) for dot in found}


def measured(condition: Make, codec: str, wire_bytes: int, **more: object) -> ConditionResult:
    where = {"pair": PAIR, "dataset": "arc_c", "codec": codec, "wire_bytes": wire_bytes}
    return condition(LETTERS, **where, **more)


def within(condition: Make, ratio: float, whole: int) -> ConditionResult:
    """A packet that is one byte short of its share of `whole` bytes."""
    most = int(ratio * whole)
    found = measured(condition, "tokens:int8", most - 1, order="back", budget_ratio=ratio)
    records = (replace(r, wire_bytes=most - 1, budget_bytes=most) for r in found.records)
    return replace(found, records=tuple(records))


def test_protected_layers_stand_at_the_bytes_that_they_take_here(condition: Make) -> None:
    results = [
        measured(condition, "int8/last4:bf16", 90_000),
        measured(condition, "int8/last2:bf16", 80_000),
        measured(condition, "int4/last2:bf16", 50_000),
    ]
    frame = build_curve(results)
    bytes_of = frame.set_index("codec")["wire_bytes_mean"]
    told = points(results, PAIR)
    assert told == {
        ("int8/last4:bf16", ""): (bytes_of["int8/last4:bf16"], pytest.approx(55.3)),
        ("int8/last2:bf16", ""): (bytes_of["int8/last2:bf16"], pytest.approx(55.0)),
    }
    assert points(results, "demo") == {}


def test_budgets_stand_at_what_they_allow(condition: Make) -> None:
    """Of 128 kB in 16 bits the study's 1/8 is all in 8 bits, and 1/32 is 8 times its name."""
    results = [within(condition, 1 / 16, 128_000), within(condition, 1 / 4, 128_000)]
    told = points(results, PAIR)
    assert {budget for _, budget in told} == {"1/32", "1/16", "1/8", "1/4"}
    assert told["int8", "1/8"] == (pytest.approx(64_000), pytest.approx(54.9))
    assert told["int8", "1/32"] == (pytest.approx(8 / 64 * 128_000), pytest.approx(54.8))


def test_the_curve_shows_them_hollow_and_says_what_they_are(condition: Make) -> None:
    budgets = [within(condition, 1 / 16, 128_000), within(condition, 1 / 4, 128_000)]
    for results, said in (
        (budgets, True),
        ([measured(condition, "int8/last8:bf16", 9_000)], False),
    ):
        frame = build_curve(results)
        figure = draw_budget_curve(frame, "arc_c", PAIR)
        marks = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "none"]
        heights = sorted(float(line.get_ydata()[0]) for line in marks)
        assert heights == pytest.approx([54.8, 54.9, 55.0, 57.0] if said else [55.2])
        caption = " ".join(text.get_text() for text in figure.texts)
        caption += " ".join(figure.get_supxlabel().split())
        assert (note() in caption) == said
        low, high = figure.axes[0].get_xlim()
        assert all(low < float(line.get_xdata()[0]) < high for line in marks)
