from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from latentwire.analysis.curve import ConditionResult, build_curve, with_hashes
from latentwire.analysis.heat_map import draw_heat_map, has_grid
from latentwire.analysis.picture_width import Width

Make = Callable[..., ConditionResult]
LETTERS = {  # accuracy in per cent -> answers to keys that are all A
    80: "AAAABAAAAC",
    50: "AAAAABBCCD",
    30: "AAABBBBCCC",
}


def grid(condition: Make, *, deranged: bool = True) -> pd.DataFrame:
    results = []
    for codec, ratio, order, percent in (
        ("bf16", 1.0, "front", 80),
        ("int8", 1.0, "front", 50),
        ("int8", 0.5, "front", 30),
        ("int8", 0.5, "back", 50),
        ("rotate2", 1.0, "front", 50),
    ):
        where = {"codec": codec, "keep_ratio": ratio, "order": order}
        results.append(condition(LETTERS[percent] * 4, **where))
        if deranged:
            results.append(condition("ABCD" * 10, control="deranged", **where))
    return with_hashes(build_curve(results), {("demo", "local"): "cafe" * 16}, {})


def draw(frame: pd.DataFrame) -> Figure:
    return draw_heat_map(frame, "set", "demo")


def values(figure: Figure) -> list[list[str]]:
    """The large numbers of each panel, by rows."""
    return [
        [text.get_text() for text in axes.texts if not text.get_text().startswith("[")]
        for axes in figure.axes
    ]


def test_only_several_keep_ratios_make_a_grid(condition: Make) -> None:
    assert has_grid(grid(condition))
    assert not has_grid(build_curve([condition("AB"), condition("AB", codec="int4")]))
    assert not has_grid(build_curve([condition("AB", system="receiver")]))


def test_cells_hold_the_tables_numbers(condition: Make) -> None:
    figure = draw(grid(condition))
    front = figure.axes[0]
    assert [axes.get_title() for axes in figure.axes] == [
        *("accuracy (%), front kept", "accuracy (%), back kept"),
        *("pairing gain (points), front kept", "pairing gain (points), back kept"),
    ]
    # bf16 and the swept int8; rotate2 has no other length. 0.5 stands before 1.
    assert [label.get_text() for label in front.get_yticklabels()] == ["bf16", "int8"]
    assert [label.get_text() for label in front.get_xticklabels()] == ["0.5", "1"]
    assert values(figure)[:2] == [["80.0×", "30.0", "50.0"], ["80.0×", "50.0", "50.0"]]
    assert values(figure)[2:] == [["55.0×", "5.0", "25.0"], ["55.0×", "25.0", "25.0"]]
    for axes in figure.axes:
        hatched = [p for p in axes.patches if isinstance(p, Rectangle) and p.get_hatch()]
        assert [patch.get_xy() for patch in hatched] == [(0, 0)]  # bf16 at 0.5 was not run


def test_colours_rise_with_the_numbers_and_texts_stay_readable(condition: Make) -> None:
    axes = draw(grid(condition)).axes[0]
    cells = [patch for patch in axes.patches if not patch.get_hatch()]
    light = [float(np.dot(patch.get_facecolor()[:3], (0.3, 0.6, 0.1))) for patch in cells]
    assert light[1] < light[2] < light[0]  # 30, 50, 80 per cent
    inks = [text.get_color() for text in axes.texts if not text.get_text().startswith("[")]
    assert (inks[0], inks[1]) == ("black", "white")


def test_without_the_control_there_is_no_gain(condition: Make) -> None:
    figure = draw(grid(condition, deranged=False))
    assert [axes.get_title()[:8] for axes in figure.axes] == ["accuracy", "accuracy"]


def test_the_texts_name_n_pair_and_fuser_and_are_on_the_page(condition: Make) -> None:
    figure = draw(grid(condition))
    title, note = (getattr(figure, name).get_text() for name in ("_suptitle", "_supxlabel"))
    assert "set" in title and "demo" in title
    assert "n = 40 questions" in note and "fuser cafecafeca" in note
    figure.draw_without_rendering()
    for text in (figure._suptitle, figure._supxlabel):  # type: ignore[attr-defined]
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1


@pytest.mark.parametrize("order", ["front", "back", "scattered"])
def test_one_order_is_one_column(condition: Make, order: str) -> None:
    frame = build_curve([condition("AABB"), condition("ABBB", keep_ratio=0.5, order=order)])
    assert [axes.get_title() for axes in draw(frame).axes] == [f"accuracy (%), {order} kept"]


def test_a_column_has_the_orders_as_lines_of_one_panel(condition: Make) -> None:
    frame = grid(condition)
    page, column = draw(frame), draw_heat_map(frame, "set", "demo", Width.COLUMN)
    assert [axes.get_title() for axes in column.axes] == ["accuracy (%)", "pairing gain (points)"]
    for panel in column.axes:
        names = [label.get_text() for label in panel.get_yticklabels()]
        assert names == ["bf16", "int8\nfront", "int8\nback"]  # bf16 was never cut
    drawn = [value.partition("\n")[0] for value in values(column)[0]]
    front, back = values(page)[:2]
    assert drawn == [*front, *back[1:]]
    assert column.get_figheight() < 1.25 + 2 * 2 * 1.1  # four panels were 5.1 inches
    one = frame[frame["order"] == "front"]
    assert (
        draw_heat_map(one, "set", "demo", Width.COLUMN).axes[0].get_title().endswith("front kept")
    )
