"""Pictures of one column of a paper: whole, and large enough to read."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation, Text

from latentwire.analysis.bandwidth_figure import draw_links
from latentwire.analysis.break_even_bandwidth import STARTS, link_table
from latentwire.analysis.budget_figure import draw_budget_curve
from latentwire.analysis.csv_files import write_csv as write_links
from latentwire.analysis.curve import ConditionResult, build_curve, with_hashes, write_csv
from latentwire.analysis.heat_map import draw_heat_map, has_grid
from latentwire.analysis.picture_width import COLUMN_INCHES, Width
from latentwire.analysis.pictures import files_of
from latentwire.analysis.rate_distortion_figure import draw_rate_accuracy
from latentwire.analysis.selection_figure import draw_selections
from latentwire.cli import main
from latentwire.evaluation.latency_names import BUDGETS, text_names

Make = Callable[..., ConditionResult]
PAIR, N = "demo_graded", 200  # a demonstration: its title is the longest
SIZES = {"bf16": 160_000, "int8": 80_000, "int4": 40_000, "int3": 30_000, "int2": 20_000}
SMALLEST_POINTS = 6


@pytest.fixture(scope="module")
def study(condition: Make) -> Callable[[list[str]], pd.DataFrame]:
    """A study of texts and five codecs, two of them swept by the given orders; int2 a trial run."""

    def rows(orders: list[str]) -> pd.DataFrame:
        found: list[ConditionResult] = []

        def add(right: int, n: int = N, **where: object) -> None:
            letters = ("A" * right + "B" * N)[:N][-n:]
            keys = "A" * n
            told = condition(letters, answers=keys, total=N, pair=PAIR, **where)
            records = tuple(replace(record, elements=8000) for record in told.records)
            found.append(replace(told, records=records))

        add(60, system="receiver")
        add(62, system="sharer")
        for tokens, size in ((8, 30), (32, 120), (128, 480)):
            for codec in ("utf8", "utf8+zstd", "lm"):
                add(80, system="text", codec=codec, message_tokens=tokens, wire_bytes=size)
        for place, (codec, size) in enumerate(SIZES.items()):
            for ratio in (1.0, 0.75, 0.5, 0.25, 0.1) if codec in ("int8", "int4") else (1.0,):
                for order in orders if ratio < 1 else orders[:1]:
                    where: dict[str, Any] = {"codec": codec, "keep_ratio": ratio, "order": order}
                    where |= {"wire_bytes": int(size * ratio), "n": 20 if codec == "int2" else N}
                    right = int((130 - 8 * place) * (0.6 + 0.4 * ratio))
                    add(right, **where)
                    add(55, control="deranged", **where)
        hashes = {(PAIR, "local"): "1" * 64}, {(PAIR, "set", "local"): "2" * 64}
        return with_hashes(build_curve(found), *hashes)

    return rows


def links() -> pd.DataFrame:
    times = {"sharer_prefill_ms": 30.0, "receiver_prefill_ms": 25.0, "fuse_ms": 5.0}
    for budget in BUDGETS:
        write, reading, size = text_names(budget)
        times |= {write: 40.0 + 20 * budget, reading: 25.0, size: 5.0 * budget}
    place = {"pair": PAIR, "dataset": "set", "device": "NVIDIA H100 80GB HBM3"}
    codecs = [
        {**place, "codec": codec, "encode_ms_mean": 1.0, "decode_ms_mean": 1.0}
        | {"wire_bytes_mean": 100.0 * size}
        for codec, size in SIZES.items()
    ]
    known: dict[tuple[str, ...], float] = {(PAIR, "set", codec): 0.5 for codec in SIZES}
    return link_table(pd.DataFrame(codecs), pd.DataFrame([{**place, **times}]), known)


def texts(figure: Figure) -> Iterator[Text]:
    """What is written in a picture, apart from the ticks that stand outside of their axes."""
    for legend in figure.findobj(Legend):
        yield from [legend.get_title(), *legend.get_texts()]
    yield from [*figure.texts, *(t for axes in figure.axes for t in axes_texts(axes))]


def axes_texts(axes: Axes) -> Iterator[Text]:
    yield from [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if low <= tick.get_loc() <= high and tick.label1.get_visible():
                yield tick.label1


def check(figure: Figure) -> None:
    """Of a column's width, no text small, cut or on another."""
    figure.draw_without_rendering()
    assert figure.get_figwidth() == COLUMN_INCHES
    shown = [text for text in texts(figure) if text.get_text() and text.get_visible()]
    assert len(shown) > 20
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
    for text, (words, box) in zip(shown, boxes, strict=True):
        assert float(text.get_fontsize()) >= SMALLEST_POINTS, words
        inside = figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert inside and figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, words
    for (words, box), (others, other) in combinations(boxes, 2):
        # Lines of text have room above and below their letters.
        assert not box.padded(-1).overlaps(other.padded(-1)), (words, others)


def test_a_budget_curve(study: Callable[[list[str]], pd.DataFrame]) -> None:
    check(draw_budget_curve(study(["front", "back"]), "set", PAIR, Width.COLUMN))
    check(draw_budget_curve(study(["front", "vnorm", "knorm"]), "set", PAIR, Width.COLUMN))


def test_keep_ratios_of_one_row_have_room_between_them(condition: Make) -> None:
    """A character's, in the picture as it is laid out: some of these would have less before."""
    told = {"answers": "A" * N, "total": N, "pair": PAIR}
    swept = [condition("A" * 60 + "B" * 140, system="receiver", **told)]
    for ratio in (1.0, 0.76, 0.58, 0.44, 0.1):
        where: dict[str, Any] = {"keep_ratio": ratio, "wire_bytes": int(80_000 * ratio), **told}
        right = int(100 + 60 * ratio)
        swept.append(condition("A" * right + "B" * (N - right), **where))
        swept.append(condition("A" * 55 + "B" * (N - 55), control="deranged", **where))
    frame = build_curve(swept)
    figure = draw_budget_curve(frame, "set", PAIR, Width.COLUMN)
    figure.draw_without_rendering()
    rows: dict[float, list[Any]] = {}
    for text in figure.axes[0].texts:
        if text.get_text() in ("1", "0.76", "0.58", "0.44", "0.1"):
            assert isinstance(text, Annotation)
            rows.setdefault(text.xyann[1], []).append(text)
    assert sum(map(len, rows.values())) == 5
    for row in rows.values():
        for right, left in pairwise(row):
            box, edge = right.get_window_extent(), left.get_window_extent().x1
            assert edge <= box.x0 - box.width / len(right.get_text()) + 0.01, left.get_text()


def test_codecs_by_their_bits(study: Callable[[list[str]], pd.DataFrame]) -> None:
    check(draw_rate_accuracy(study(["front"]), "set", PAIR, Width.COLUMN))


def test_ways_to_choose_tokens(study: Callable[[list[str]], pd.DataFrame]) -> None:
    orders = ["front", "vnorm", "knorm", "snapkv", "oracle_delta", "oracle_of_another_version"]
    check(draw_selections(study(orders), "set", PAIR, Width.COLUMN))


@pytest.mark.parametrize("more", [False, True])
def test_bits_against_length(study: Callable[[list[str]], pd.DataFrame], more: bool) -> None:
    frame = study(["front", "back"])
    if more:  # so many that an interval takes two lines
        others = [frame[frame["keep_ratio"] == 0.1].assign(keep_ratio=0.01 * k) for k in (1, 2, 5)]
        frame = pd.concat([frame, *others], ignore_index=True)
    assert has_grid(frame)
    figure = draw_heat_map(frame, "set", PAIR, Width.COLUMN)
    check(figure)
    for axes in figure.axes:
        cells = [p.get_window_extent() for p in axes.patches if isinstance(p, Rectangle)]
        for text in axes.texts:
            box = text.get_window_extent()
            assert any(cell.x0 <= box.x0 and box.x1 <= cell.x1 for cell in cells), text


def test_which_way_is_first() -> None:
    figure = draw_links(links(), "set", PAIR, Width.COLUMN)
    said = " ".join(str(figure.get_suptitle()).split())
    assert said.endswith("share answered rightly, of ways with which all questions were answered")
    check(figure)
    assert len(figure.axes) == len(STARTS)


def test_the_command_draws_every_picture_as_wide_as_asked(
    study: Callable[[list[str]], pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inches: dict[str, float] = {}

    def note(figure: Figure, folder: Path, stem: str) -> list[Path]:
        inches[stem.removesuffix("_set")] = figure.get_figwidth()
        paths = files_of(stem, folder)
        for path in paths:
            path.write_bytes(b"")
        return paths

    for module in ("curve_files", "pictures"):
        monkeypatch.setattr(f"latentwire.analysis.{module}.save_figure", note)
    write_csv(study(["front", "back", "vnorm"]), tmp_path / "budget_curve.csv")
    write_links(links(), tmp_path / "links.csv")
    for width in Width:
        for name in ("budget_curve.csv", "links.csv"):
            told = ["figures", str(tmp_path / name), "--output-dir", str(tmp_path / "out")]
            assert main([*told, "--width", width]) == 0
        assert inches.keys() == {"budget_curve", "codec_rate", "bits_length", "selections", "links"}
        assert {each == COLUMN_INCHES for each in inches.values()} == {width is Width.COLUMN}
    with pytest.raises(SystemExit):
        main([*told, "--width", "poster"])
