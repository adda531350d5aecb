import pandas as pd

from latentwire.analysis.codec_figures import draw_layer_errors


def rows(codec: str, errors: list[float]) -> list[dict[str, object]]:
    return [
        {"codec": codec, "kind": kind, "layer": layer, "relative_error": error}
        for kind in ("key", "value")
        for layer, error in enumerate(errors)
    ]


def test_every_codec_is_drawn_or_named() -> None:
    frame = pd.DataFrame(
        rows("int4", [0.2, 0.1]) + rows("int4_layer", [0.3, 0.2]) + rows("fp32", [0.0, 0.0])
    )
    figure = draw_layer_errors(frame, "demo_facts", "demo")
    for axes in figure.axes:
        lines = {line.get_label(): line for line in axes.lines}
        assert set(lines) == {"int4", "int4_layer"}
        assert list(lines["int4"].get_ydata()) == [0.2, 0.1]
        assert lines["int4"].get_color() == lines["int4_layer"].get_color()
        assert lines["int4"].get_linestyle() != lines["int4_layer"].get_linestyle()
    assert figure.get_suptitle() == "demo, demo_facts; exact: fp32"
