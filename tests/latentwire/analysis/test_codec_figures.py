import pandas as pd

from latentwire.analysis.codec_figures import draw_layer_errors
from latentwire.channel.registry import EXAMPLES, NAMES


def rows(codec: str, errors: list[float]) -> list[dict[str, object]]:
    return [
        {"codec": codec, "kind": kind, "layer": layer, "relative_error": error}
        for kind in ("key", "value")
        for layer, error in enumerate(errors)
    ]


def test_every_codec_is_drawn_in_its_familys_panel_or_named() -> None:
    frame = pd.DataFrame(
        rows("int4", [0.2, 0.1])
        + rows("int2", [0.4, 0.3])
        + rows("int4_layer", [0.3, 0.2])
        + rows("fp32", [0.0, 0.0])
    )
    figure = draw_layer_errors(frame, "demo_facts", "demo")
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_visible()}
    assert set(panels) == {"int", "int_layer"}
    lines = [line for line in panels["int"].lines if line.get_label() in ("int4", "int2")]
    assert [list(line.get_ydata()) for line in lines] == [[0.2, 0.1], [0.4, 0.3]]
    assert len(panels["int"].lines) == 4  # keys and values
    assert str(figure.get_suptitle()).endswith("exact: fp32")


def test_all_codecs_have_room() -> None:
    frame = pd.DataFrame([row for name in (*NAMES, *EXAMPLES) for row in rows(name, [0.2, 0.1])])
    figure = draw_layer_errors(frame, "demo_facts", "demo")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert sum(len(axes.lines) for axes in shown) == 2 * len((*NAMES, *EXAMPLES))
    assert max(len(axes.lines) for axes in shown) <= 16  # seven codecs and no more than eight
