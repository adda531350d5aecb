import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch

from latentwire.analysis.budget_figure import draw_budget_curve
from latentwire.analysis.budget_points import _of_few_orders
from latentwire.analysis.curve import ConditionResult, build_curve, with_hashes
from latentwire.analysis.order_styles import MOST_ORDERS
from latentwire.analysis.pictures import save_png, save_svg
from latentwire.analysis.plot_points import read_points
from latentwire.errors import LatentWireError

Make = Callable[..., ConditionResult]
SIZES = {"bf16": 160_000, "int8": 80_000, "int4": 40_000}


def grid(
    condition: Make, *, deranged: bool = True, n: int = 40, total: int = 40
) -> list[ConditionResult]:
    """Baselines, three codecs in full, and an int8 sweep of both orders."""
    results = [
        condition("AB" * (n // 2), system="receiver", total=total),
        condition("AAAB" * (n // 4), system="sharer", total=total),
    ]
    points = [(codec, 1.0, "front") for codec in SIZES]
    points += [("int8", ratio, order) for ratio in (0.5, 0.1) for order in ("front", "back")]
    for codec, ratio, order in points:
        letters = "AAAAAAAB" if order == "back" or ratio == 1 else "AABB"
        where = {"codec": codec, "keep_ratio": ratio, "order": order, "total": total}
        size = int(SIZES[codec] * ratio)
        results.append(condition((letters * n)[:n], wire_bytes=size, **where))
        if deranged:
            results.append(
                condition(("ABCD" * n)[:n], control="deranged", wire_bytes=size, **where)
            )
    return results


def draw(results: list[ConditionResult]) -> Figure:
    return draw_budget_curve(build_curve(results), "set", "demo")


def panels(figure: Figure) -> tuple[Axes, Axes]:
    upper, lower = figure.axes
    return upper, lower


def filled(axes: Axes) -> list[Line2D]:
    """The measured points: markers that have an interval."""
    return [container[0] for container in axes.containers]


def hollow(axes: Axes) -> list[Line2D]:
    return [
        line
        for line in axes.lines
        if line.get_marker() not in ("None", "_", ".", "")
        and line.get_markerfacecolor() in ("white", "none")
    ]


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in texts(figure))


def texts(figure: Figure) -> Iterator[object]:
    yield from figure.texts
    for axes in figure.axes:
        yield from axes.texts
    for legend in [*figure.legends, *(a for x in figure.axes for a in x.findobj(Legend))]:
        yield from [legend.get_title(), *legend.get_texts()]


def test_points_stand_at_their_bytes_and_values(condition: Make) -> None:
    results = grid(condition)
    frame = build_curve(results)
    upper, lower = panels(draw(results))
    rows = frame[frame["system"] == "c2c"]
    for axes, name in ((upper, "accuracy"), (lower, "pairing_gain")):
        drawn = sorted(
            (float(dot.get_xdata()[0]), float(dot.get_ydata()[0])) for dot in filled(axes)
        )
        expected = sorted(zip(rows["wire_bytes_mean"], 100 * rows[name], strict=True))
        assert len(drawn) == len(expected) == 7
        np.testing.assert_allclose(
            sorted(y for _, y in drawn), sorted(y for _, y in expected), rtol=1e-12
        )
        # Points of equal bytes are set beside one another, by a few per cent.
        np.testing.assert_allclose([x for x, _ in drawn], [x for x, _ in expected], rtol=0.05)
    assert upper.get_xscale() == "log"
    assert upper.get_xlim() == lower.get_xlim()


def test_intervals_are_those_of_the_table(condition: Make) -> None:
    results = [
        condition("AAAB" * 10, codec="bf16"),
        condition("ABBB" * 10, codec="bf16", control="deranged"),
    ]
    row = build_curve(results).iloc[0]
    upper, lower = panels(draw(results))
    for axes, name in ((upper, "accuracy"), (lower, "pairing_gain")):
        (bars,) = axes.containers[0][2]
        ends = bars.get_segments()[0][:, 1]
        np.testing.assert_allclose(ends, [100 * row[f"{name}_low"], 100 * row[f"{name}_high"]])


def test_sweeps_are_solid_and_dashed_and_meet_at_the_full_cache(condition: Make) -> None:
    upper, _ = panels(draw(grid(condition)))
    sweeps = [line for line in upper.lines if len(line.get_xdata()) == 3]
    assert len(sweeps) == 2
    front, back = sorted(sweeps, key=lambda line: float(line.get_ydata()[0]))
    assert (front.is_dashed(), back.is_dashed()) == (False, True)
    ends = [(line.get_xdata()[-1], line.get_ydata()[-1]) for line in sweeps]
    assert ends[0] == ends[1]


def test_controls_and_published_points_are_hollow(condition: Make) -> None:
    own = grid(condition)
    assert len(hollow(panels(draw(own))[0])) == 7
    assert hollow(panels(draw(grid(condition, deranged=False)))[0]) == []
    published = [condition("AB" * 20, source="published", wire_bytes=70_000)]
    (mark,) = hollow(panels(draw(grid(condition, deranged=False) + published))[0])
    assert (float(mark.get_ydata()[0]), mark.get_markeredgecolor()) == (50.0, "0.55")
    assert "published" in words(draw(own + published))
    assert "published" not in words(draw(own))


def crosses(axes: Axes) -> list[tuple[float, float]]:
    return [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in axes.lines
        if line.get_marker() == "x"
    ]


def test_conditions_that_answer_with_one_letter_are_crossed_out(condition: Make) -> None:
    keys = "ABCDABCDAB"
    mixed, one_letter = keys[:5] + "ABABA", "A" * 7 + "BCD"

    def figure(matched: str, deranged: str, published: str = "") -> Figure:
        results = [
            condition(matched, answers=keys),
            condition(deranged, answers=keys, control="deranged"),
        ]
        if published:
            results.append(condition(published, answers=keys, source="published"))
        return draw(results)

    for drawn, upper_crosses, lower_crosses in (
        (figure(mixed, mixed), 0, 0),
        (figure(one_letter, mixed), 1, 1),
        (figure(mixed, one_letter), 1, 0),
        (figure(one_letter, one_letter), 2, 1),
        (figure(mixed, mixed, one_letter), 1, 0),
    ):
        upper, lower = panels(drawn)
        assert (len(crosses(upper)), len(crosses(lower))) == (upper_crosses, lower_crosses)
        assert ("the answer is one letter" in words(drawn).replace("\n", " ")) is (
            upper_crosses > 0
        )
    (place,) = crosses(panels(figure(mixed, one_letter))[0])
    right = sum(letter == key for letter, key in zip(one_letter, keys, strict=True))
    assert place[1] == pytest.approx(10 * right)


def test_the_caption_says_what_the_keys_alone_give(condition: Make) -> None:
    figure = draw([condition("ABAB", answers="AAAB")])
    assert "The commonest key is that of 75.0 % of these questions." in words(figure)


def test_published_points_alone_are_the_curve(condition: Make) -> None:
    results = [condition("AB" * 20, source="published")]
    figure = draw(results)
    assert len(filled(panels(figure)[0])) == 1
    assert "published answers" in words(figure)


def test_references_are_level_lines_with_names(condition: Make) -> None:
    figure = draw(grid(condition))
    upper, _ = panels(figure)
    assert "receiver\n50.0 %" in words(figure)
    assert "sharer \N{MULTIPLICATION SIGN}\n75.0 %" in words(figure)  # it answers A, mostly
    levels = {
        float(line.get_ydata()[0]) for line in upper.lines if list(line.get_xdata()) == [0, 1]
    }
    assert levels == {50.0, 75.0}


def test_a_model_alone_that_answered_nothing_is_not_shown(condition: Make) -> None:
    calibrated = condition("AB" * 20, system="calibrated")
    silent = [replace(record, unanswered="no options") for record in calibrated.records]
    texts = []
    for number in (40, 39):
        records = (*silent[:number], *calibrated.records[number:])
        texts.append(words(draw([*grid(condition), replace(calibrated, records=records)])))
    for said in ("calibrated", "Calibrated:"):
        assert [said in text for text in texts] == [False, True]


def test_a_control_is_a_ring_below_what_it_may_equal(condition: Make) -> None:
    upper, _ = panels(draw(grid(condition)))
    rings, own = hollow(upper), filled(upper)
    assert len(rings) == len(own) == 7
    assert {ring.get_markerfacecolor() for ring in rings} == {"none"}
    assert max(ring.get_zorder() for ring in rings) < min(dot.get_zorder() for dot in own)
    larger = min(ring.get_markersize() for ring in rings) / min(d.get_markersize() for d in own)
    assert larger > 1.2


def test_a_missing_control_is_said(condition: Make) -> None:
    assert "deranged control was not run" in words(draw(grid(condition, deranged=False)))
    assert "was not run" not in words(draw(grid(condition)))


def test_the_caption_says_n_and_what_is_incomplete(condition: Make) -> None:
    whole = words(draw(grid(condition)))
    assert "n = 40 questions" in whole
    assert "demo" in whole
    assert "INCOMPLETE" not in whole
    part = words(draw(grid(condition, total=200))).replace("\n", " ")
    assert "n = 40 of 200 questions" in part
    assert "INCOMPLETE: 9 of 9 points" in part
    assert {dot.get_alpha() for dot in filled(panels(draw(grid(condition)))[0])} == {1}
    mixed = [condition("AB" * 20, total=60), condition("AB" * 30, codec="int4", total=60)]
    figure = draw(mixed)
    told = words(figure).replace("\n", " ")
    assert "n = 60 questions a point" in told and "(int8: n = 40)" in told
    # The int8 point is pale, the int4 point is not.
    assert sorted(dot.get_alpha() < 1 for dot in filled(panels(figure)[0])) == [False, True]


def test_every_selectors_lines_can_be_told_apart(condition: Make) -> None:
    others = [condition("AB" * 20, keep_ratio=0.5, order=order) for order in ("b", "a")]
    figure = draw([*grid(condition), *others])
    legend = [text.get_text() for text in texts(figure)]  # type: ignore[attr-defined]
    names = [f"{order} kept" for order in ("front", "back", "a", "b")]
    assert [text for text in legend if text in names] == names


def test_the_full_cache_is_one_point_whatever_its_order(condition: Make) -> None:
    part = condition("AB" * 10, order="front", total=40)
    whole = condition("AAAB" * 10, order="back", total=40)
    (dot,) = filled(panels(draw([part, whole]))[0])
    assert float(dot.get_ydata()[0]) == 75.0


@pytest.mark.parametrize("deranged", [True, False])
def test_texts_are_on_the_page_and_do_not_overlap(condition: Make, deranged: bool) -> None:
    results = grid(condition, deranged=deranged, total=200)
    # Receiver and sharer at nearly the same accuracy.
    results[1] = condition("AB" * 19 + "AA", system="sharer", total=200)
    figure = draw(results)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    figure.draw(renderer)
    page = figure.bbox
    boxes = [text.get_window_extent(renderer) for text in texts(figure)]  # type: ignore[attr-defined]
    for axes in figure.axes:
        boxes += [axes.yaxis.label.get_window_extent(renderer)] if axes.get_ylabel() else []
    boxes.append(figure.axes[1].xaxis.label.get_window_extent(renderer))
    for place, box in enumerate(boxes):
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def test_ticks_are_round_and_readable(condition: Make) -> None:
    figure = draw(grid(condition))
    _, lower = panels(figure)
    figure.canvas.draw()
    labels = [label.get_text() for label in lower.get_xticklabels()]
    assert labels == ["10 kB", "20 kB", "50 kB", "100 kB", "200 kB"]


def test_one_point_is_enough_and_none_is_refused(condition: Make) -> None:
    low, high = panels(draw([condition("AB")]))[0].get_xlim()
    assert low < 1000 < high
    with pytest.raises(LatentWireError, match="no point of demo on set"):
        draw([condition("AB", system="receiver")])


def test_png_is_paper_sized_and_the_same_each_time(condition: Make, tmp_path: Path) -> None:
    results = grid(condition)
    path = tmp_path / "curve.png"
    save_png(draw(results), path)
    first = path.read_bytes()
    assert imread(BytesIO(first)).shape[:2] == (1100, 1300)
    save_png(draw(results), path)
    assert path.read_bytes() == first
    # No figure is left in pyplot's list.
    assert pyplot.get_fignums() == []


def test_local_baselines_do_not_hide_published_points(condition: Make) -> None:
    results = [condition("AB", system="receiver"), condition("AB", source="published")]
    assert "published answers" in words(draw(results))


def steps(axes: Axes) -> list[tuple[list[float], list[float]]]:
    """Edges and heights of the Pareto steps."""
    found = [patch.get_data() for patch in axes.patches if isinstance(patch, StepPatch)]
    return [([float(x) for x in step.edges], [float(y) for y in step.values]) for step in found]


def test_the_front_joins_what_no_other_point_beats(condition: Make) -> None:
    keys = "ABCD" * 10
    wrong = str.maketrans("ABCD", "BCDA")

    def right(share: int) -> str:
        """Answers of which `share` in ten are right; no letter prevails."""
        return "".join(
            key if place % 10 < share else key.translate(wrong) for place, key in enumerate(keys)
        )

    points = {("int4", 1.0): (5, 1000), ("int8", 1.0): (4, 2000), ("bf16", 1.0): (8, 4000)}
    results = [
        condition(right(share), answers=keys, codec=codec, keep_ratio=ratio, wire_bytes=size)
        for (codec, ratio), (share, size) in points.items()
    ]
    results.append(condition("A" * 40, answers="A" * 40, codec="int2", wire_bytes=500))
    upper, lower = panels(draw(results))
    ((edges, heights),) = steps(upper)
    assert heights == [50, 80]  # not int8, which int4 beats, nor int2, which says one letter
    assert edges == pytest.approx([1019.5, 4019.5, upper.get_xlim()[1]], rel=0.01)
    assert steps(lower) == []
    assert "Pareto" in words(draw(results))
    assert "Pareto" not in words(draw(results[-1:]))


def test_svg_is_the_same_each_time_and_asks_for_nothing(condition: Make, tmp_path: Path) -> None:
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    save_svg(draw(grid(condition)), first)
    save_svg(draw(grid(condition)), second)
    text = first.read_text()
    assert text == second.read_text()
    assert text.count("<path") > 20 and "<text" in text  # text is text
    assert not re.search(r"""(href|src)=["'](?!#)""", text)


def test_the_caption_names_fuser_and_questions(condition: Make) -> None:
    frame = build_curve(grid(condition))
    frame = with_hashes(frame, {("demo", "local"): "1" * 64}, {("demo", "set", "local"): "2" * 64})
    text = words(draw_budget_curve(frame, "set", "demo")).replace("\n", " ")
    assert "Fuser 1111111111, questions 2222222222." in text
    assert "Fuser" not in words(draw(grid(condition)))


def test_within_budgets_no_more_orders_are_drawn_than_lines_tell_apart(condition: Make) -> None:
    """All of the cache within a budget is some order's, and no whole cache."""
    orders = ["front", "back", "vnorm", "knorm", "snapkv", "middle"]
    told = [
        condition("ABAB", codec="int8", order=order, budget_bytes=most, wire_bytes=most - 9)
        for order in orders
        for most in (700, 900)
    ]
    told.append(condition("ABAB", codec="int8", wire_bytes=8_000))
    kept, left_out = _of_few_orders(read_points(build_curve(told)))
    assert len({dot.order for dot in kept if not dot.whole}) == MOST_ORDERS
    assert len(left_out) == len(orders) - MOST_ORDERS
    assert any(dot.whole for dot in kept)
    caption = words(draw_budget_curve(build_curve(told), "set", "demo")).replace("\n", " ")
    assert "2 more ways under budgets: see the table." in caption  # no other picture has them
    assert "own picture" not in caption


@pytest.mark.parametrize(("orders", "told"), [(1, "One more way"), (2, "2 more ways")])
def test_what_another_picture_has_is_said(condition: Make, orders: int, told: str) -> None:
    names = ["front", "back", "vnorm", "knorm", "snapkv", "middle"][: MOST_ORDERS + orders]
    results = [
        condition("ABAB", codec="int8", order=order, keep_ratio=kept, wire_bytes=int(8_000 * kept))
        for order in names
        for kept in (0.25, 0.5)
    ]
    results.append(condition("ABAB", codec="int8", wire_bytes=8_000))
    caption = words(draw_budget_curve(build_curve(results), "set", "demo")).replace("\n", " ")
    assert f"{told} to choose tokens: see" in caption and "table" not in caption
