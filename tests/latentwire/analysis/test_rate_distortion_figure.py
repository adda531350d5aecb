from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from latentwire.analysis.curve import ConditionResult, build_curve
from latentwire.analysis.rate_distortion_figure import (
    SINGLE,
    STAGES,
    STYLES,
    draw_rate_accuracy,
    draw_rate_distortion,
    family,
)
from latentwire.channel.registry import EXAMPLES, NAMES


def test_every_codec_has_a_family_with_a_style() -> None:
    assert {family(name) for name in (*NAMES, *EXAMPLES)} == set(STYLES)
    assert family("int4") == family("int2") == "int"
    assert family("int4_group") == "int_group"
    assert family("rotate2.5") == "rotate"
    assert family("nf4") == family("bf16") == SINGLE
    assert family("int4/last2:bf16") == family("bf16+zstd") == family("tokens:int8:int4") == STAGES


def test_a_line_joins_a_familys_codecs_by_their_bits() -> None:
    frame = pd.DataFrame(
        [("int4", 4.0, 0.2), ("int2", 2.0, 0.5), ("fp32", 32.0, 0.0), ("nf4", 4.5, 0.1)],
        columns=["codec", "bits_per_element", "key_error_mean"],
    ).assign(value_error_mean=lambda f: f["key_error_mean"], kl_nats_mean=0.01)
    figure = draw_rate_distortion(frame, "set", "pair")
    keys = figure.axes[0]
    lines = {line.get_label(): line for line in keys.lines}
    assert list(lines["int"].get_xdata()) == [2.0, 4.0]
    assert list(lines["int"].get_ydata()) == [0.5, 0.2]
    assert list(lines[SINGLE].get_xdata()) == [4.5]  # fp32 loses nothing: it has no place
    assert [axes.get_xscale() for axes in figure.axes] == ["log"] * 3


def test_accuracy_stands_beside_pairing_gain(condition: Callable[..., ConditionResult]) -> None:
    results = [
        condition("AAAB", system="receiver"),
        condition("AAAA", codec="int8"),
        condition("ABAB", codec="int8", control="deranged"),
        condition("AABB", codec="int4"),
        condition("AAAA", codec="int4", keep_ratio=0.5),
    ]
    with_elements = [
        ConditionResult(
            **{
                **vars(one),
                "records": tuple(
                    type(r)(**{**vars(r), "elements": 1000 if r.wire_bytes else 0})
                    for r in one.records
                ),
            }
        )
        for one in results
    ]
    figure = draw_rate_accuracy(build_curve(with_elements), "set", "demo")
    left, right = figure.axes
    accuracy = next(line for line in left.lines if line.get_label() == "int")
    assert list(accuracy.get_ydata()) == [50.0, 100.0] or list(accuracy.get_ydata()) == [
        100.0,
        50.0,
    ]
    gain = next(line for line in right.lines if line.get_label() == "int")
    assert list(gain.get_ydata()) == [50.0]
    assert "receiver alone \N{MULTIPLICATION SIGN}" in {text.get_text() for text in left.texts}
    assert "n = 4" in str(figure.get_suptitle())
    assert "others that M1 measured" in str(figure.get_suptitle())
    for axes, column in ((left, "accuracy"), (right, "gain")):
        (crossed,) = [line for line in axes.lines if line.get_marker() == "x"]
        # int8 answers A to all; int4 with the whole cache to half of them.
        assert list(crossed.get_ydata()) == [100.0 if column == "accuracy" else 50.0]
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert "one letter for at least 70 % of the questions" in legend


def test_names_of_models_alone_stand_clear_of_the_codec_of_most_bits(
    condition: Callable[..., ConditionResult],
) -> None:
    results = [
        condition("AB" * 10, system="receiver"),
        condition("A" * 20, system="sharer"),
        *(condition("A" * 19 + "B", codec=codec) for codec in ("bf16", "int4")),
    ]
    parts = [
        ConditionResult(
            **{**vars(one), "records": tuple(replace(r, elements=1000) for r in one.records)}
        )
        for one in results
    ]
    figure = draw_rate_accuracy(build_curve(parts), "set", "demo")
    left = figure.axes[0]
    sides = {text.get_text().split()[0]: text.get_ha() for text in left.texts}
    assert sides == {"sharer": "left", "receiver": "right"}
    figure.canvas.draw()
    frame = left.get_window_extent()
    assert all(text.get_window_extent().y1 < frame.y1 for text in left.texts)
