"""The picture of ways to choose tokens: oracles are dashed and called oracles."""

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from latentwire.analysis.budget_figure import draw_budget_curve
from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.curve_files import drawings, write_figures
from latentwire.analysis.heat_map import has_grid
from latentwire.analysis.published import PAIR
from latentwire.analysis.selection_figure import draw_selections, has_selections
from latentwire.channel.oracles.registry import ORACLES, orders

Make = Callable[..., ConditionResult]


def grid(condition: Make, names: list[str], **more: object) -> list[ConditionResult]:
    results = []
    for place, name in enumerate(names):
        for ratio in (1.0, 0.5, 0.25):
            right = 20 - 2 * place if ratio < 1 else 36
            for control in ("matched", "deranged"):
                letters = ("A" * right + "BCD" * 14)[:40] if control == "matched" else "ABCD" * 10
                where = {"keep_ratio": ratio, "order": "front" if ratio == 1 else name}
                size = int(80_000 * ratio)
                if ratio < 1 or not place:
                    where |= {"wire_bytes": size, "control": control, **more}
                    results.append(condition(letters, **where))
    return results


def legend(figure: Figure) -> dict[str, Line2D]:
    (found,) = figure.legends
    lines = [line for line in found.get_lines() if isinstance(line, Line2D)]
    return dict(zip((text.get_text() for text in found.get_texts()), lines, strict=True))


@pytest.mark.parametrize("oracle", ORACLES)
def test_oracles_are_dashed_and_the_legend_says_oracle(condition: Make, oracle: str) -> None:
    frame = build_curve(grid(condition, ["front", "vnorm", oracle]))
    figure = draw_selections(frame, "set", "demo")
    named = legend(figure)
    assert set(named) == {"front", "vnorm", f"oracle: {oracle[7:]}", "whole cache"}
    assert {name for name, line in named.items() if line.is_dashed()} == {f"oracle: {oracle[7:]}"}
    for axes in figure.axes:
        sweeps = [line for line in axes.lines if len(line.get_xdata()) == 3]
        assert [line.is_dashed() for line in sweeps] == [False, False, True]
    curve = draw_budget_curve(frame, "set", "demo")
    words = [text.get_text() for text in curve.axes[0].artists[0].get_texts()]  # type: ignore[attr-defined]
    assert f"oracle: {oracle[7:]} kept" in words


@pytest.mark.parametrize("pair", ["demo", "a receiver of some length <- a sharer of some length"])
def test_the_legend_stands_above_and_takes_no_width(condition: Make, pair: str) -> None:
    names = ["front", "vnorm", "knorm", "snapkv_by_layer"]
    frame = build_curve(grid(condition, names, pair=pair))
    figure = draw_selections(frame, "set", pair)
    figure.canvas.draw()
    (key,) = figure.legends
    box, (upper, lower) = key.get_window_extent(), figure.axes
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    assert box.y0 > upper.get_window_extent().y1
    assert min(axes.get_position().width for axes in (upper, lower)) > 0.75
    assert pair.split()[0] in key.get_title().get_text()


def test_the_whole_cache_looks_like_no_order_and_points_are_those_drawn(condition: Make) -> None:
    rivals = [
        condition("AB" * 20, system="receiver", total=40),
        condition("AB" * 7, codec="int4", total=40),  # whole, of no sweep: not drawn
    ]
    figure = draw_selections(
        build_curve([*grid(condition, ["front", "vnorm"]), *rivals]), "set", "demo"
    )
    markers = [line.get_marker() for line in legend(figure).values()]
    assert len(set(markers)) == len(markers)
    caption = " ".join(text.get_text() for text in figure.texts)
    assert "INCOMPLETE" not in caption and "questions a point" in caption


def test_every_point_stands_at_its_bytes_and_score(condition: Make) -> None:
    frame = build_curve(grid(condition, ["back", "knorm", "snapkv"]))
    score, gain = draw_selections(frame, "set", "demo").axes
    rows = frame[frame["order"] == "knorm"].sort_values("wire_bytes_mean")
    whole = frame[frame["keep_ratio"] == 1]
    for axes, column in ((score, "score"), (gain, "pairing_gain")):
        wanted = [*(100 * rows[column]), 100 * whole[column].iloc[0]]
        sweeps = [list(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) == 3]
        assert any(sweep == pytest.approx(wanted) for sweep in sweeps)


def test_published_accuracies_are_hollow_on_their_own_pair_alone(condition: Make) -> None:
    def hollow(pair: str) -> list[float]:
        names = ["vnorm_by_layer", "oracle_delta", "random"]
        results = grid(condition, names, dataset="openbookqa", pair=pair)
        axes = draw_selections(build_curve(results), "openbookqa", pair).axes[0]
        marks = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
        return sorted(float(line.get_ydata()[0]) for line in marks)

    assert hollow("demo") == []
    assert hollow(PAIR) == pytest.approx([47.0, 49.8, 50.8, 52.8, 54.0])


def test_many_orders_have_a_picture_of_their_own(condition: Make, tmp_path: Path) -> None:
    few = build_curve(grid(condition, ["front", "back"]))
    assert not has_selections(few) and has_grid(few)
    many = build_curve(grid(condition, list(orders())[:9]))
    assert has_selections(many) and not has_grid(many)
    written = {path.name for path in write_figures(many, tmp_path, drawings(many))}
    assert "selections_set.png" in written
    assert not any(name.startswith("bits_length") for name in written)
    figure = draw_budget_curve(many, "set", "demo")
    caption = " ".join(text.get_text() for text in figure.texts)
    assert "5 more ways to choose tokens" in " ".join(caption.split())


def test_long_names_leave_the_curve_its_width(condition: Make) -> None:
    names = ["front", "back", "expected_attention_by_layer", "knorm_by_layer", "vnorm_by_layer"]
    long = "tokens:int8:int4:int3:int2"
    budget = {"codec": long, "keep_ratio": 1.0, "order": "back", "wire_bytes": 5_000}
    within = condition("A" * 30 + "B" * 10, **budget, budget_ratio=1 / 16)
    figure = draw_budget_curve(build_curve([*grid(condition, names), within]), "set", "demo")
    figure.draw_without_rendering()
    upper = figure.axes[0]
    assert upper.get_position().width > 0.6
    width = figure.bbox.width
    for found in [*figure.legends, *upper.artists]:
        assert found.get_window_extent().x1 <= width
    shown = [text.get_text() for text in upper.texts]
    assert "int8 kept" in shown and f"{long} kept" not in shown  # it has no keep ratios to name


def test_what_a_budget_chose_is_not_drawn(condition: Make) -> None:
    names = ["front", "vnorm", "knorm"]
    within = {"codec": "kivi2", "keep_ratio": 1.0, "order": "back"}
    budgets = [
        condition("A" * 30 + "B" * 10, **within, wire_bytes=most - 9, budget_bytes=most)
        for most in (3_000, 6_000)
    ]
    figure = draw_selections(build_curve([*grid(condition, names), *budgets]), "set", "demo")
    assert [axes.get_title() for axes in figure.axes[:1]] == ["int8"] and len(figure.axes) == 2
