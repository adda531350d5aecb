"""Nasty names through every writer of a curve: each comes out as text, and in a file of its own."""

import json
import os
import shutil
import subprocess
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from nasty_names import NASTY

from latentwire.analysis.break_even_bytes import COLUMNS as CROSSINGS
from latentwire.analysis.break_even_bytes import sentences
from latentwire.analysis.budget_figure import draw_budget_curve
from latentwire.analysis.codec_figures import draw_layer_errors
from latentwire.analysis.curve import ConditionResult, build_curve, read_csv, write_csv
from latentwire.analysis.curve_files import drawings, write_figures
from latentwire.analysis.latex import latex_table
from latentwire.analysis.pictures import save_png, save_svg
from latentwire.analysis.rate_distortion_figure import draw_rate_distortion
from latentwire.analysis.report.page import render
from latentwire.analysis.run_description import description, headline
from latentwire.analysis.table import render_table

Make = Callable[..., ConditionResult]


@pytest.fixture(scope="module")
def frame(condition: Make) -> pd.DataFrame:
    """Every nasty name as that of a pair, the first few as data set and codec too."""
    results = [condition("AABC", pair=name) for name in NASTY]
    results += [
        condition("AABC", pair="demo", dataset=name, codec=name, kv_bits=None) for name in NASTY[:8]
    ]
    return build_curve(results)


def test_a_csv_gives_the_names_back(frame: pd.DataFrame, tmp_path: Path) -> None:
    write_csv(frame, tmp_path / "curve.csv")
    read = read_csv(tmp_path / "curve.csv")
    pd.testing.assert_frame_equal(read, frame)
    assert set(read["pair"]) == {*NASTY, "demo"}


def test_tables_for_the_terminal_show_them(frame: pd.DataFrame) -> None:
    shown = render_table(frame)
    assert "mine[/v2]" in shown and "[bold]mine[/bold]" in shown and ":smile:" in shown
    assert r"\x1b]0;title\x07" in shown
    assert not set(shown) & set("\x1b\x07\r\u2028\u202e")


def test_latex_compiles(frame: pd.DataFrame, tmp_path: Path) -> None:
    if not shutil.which("pdflatex"):
        reason = "pdflatex is not installed (Debian: texlive-latex-recommended)"
        (pytest.fail if os.environ.get("LATENTWIRE_REQUIRE_LATEX") else pytest.skip)(reason)
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\extrafloats{100}\\begin{document}\n"
        + latex_table(frame).replace(r"\end{table}", "\\end{table}\\clearpage")
        + "\\end{document}\n",
        encoding="utf-8",
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


def test_a_runs_description_makes_no_markup(frame: pd.DataFrame) -> None:
    crossed = pd.DataFrame(
        [(name, name, "local", "text", 0, *[float("nan")] * 4) for name in NASTY],
        columns=list(CROSSINGS),
    )
    text = description("m4", frame, frame.iloc[:8], said=sentences(crossed)[:12])
    shown = MarkdownIt("commonmark").enable("table").render(text)
    for tag in ("<a ", "<img", "<script", "<code", "javascript:alert(1)</a>"):
        assert tag not in shown
    assert len(headline(frame)) >= len(NASTY)  # no two share their metrics


def test_the_report_holds_them_as_data(frame: pd.DataFrame) -> None:
    page = render({"names": list(NASTY)})
    assert page.count("<script") == page.count("</script>") == 2
    text = page.split('id="data">')[1].split("</script>")[0]
    assert json.loads(text) == {"names": list(NASTY)} and "\u2028" not in text


def test_each_pair_has_pictures_of_its_own_in_the_folder(condition: Make, tmp_path: Path) -> None:
    pairs = [NASTY[0], "../../outside", "Mine", "mine", "n" * 300]
    frame = build_curve([condition("AABC", pair=name) for name in pairs])
    paths = write_figures(frame, tmp_path / "out", drawings(frame))
    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert len({name.casefold() for name in names}) == len(names) == len(paths) == 16
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    for path in paths:
        if path.suffix == ".svg":
            ET.parse(path)


@pytest.mark.parametrize("name", [r"$\frac{1}{0$", "\x1b\x00--> _x", "$" + "n" * 300])
def test_pictures_show_names_as_they_are(condition: Make, tmp_path: Path, name: str) -> None:
    codec = name[:60]  # those of a file are never longer than the registry's
    frame = build_curve([condition("AABC", dataset=name, pair=name, codec=codec)])
    errors = pd.DataFrame(
        {"codec": codec, "kind": "key", "layer": [0, 1], "relative_error": [0.1, 0.2]}
    )
    rates = pd.DataFrame(
        {"codec": [codec], "bits_per_element": [4.0]}
        | {column: [0.1] for column in ("key_error_mean", "value_error_mean", "kl_nats_mean")}
    )
    figures = [
        draw_budget_curve(frame, name, name),
        draw_layer_errors(errors, name, name),
        draw_rate_distortion(rates, name, name),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in figures:
            save_svg(figure, tmp_path / "one.svg")
            ET.parse(tmp_path / "one.svg")
        save_png(figures[0], tmp_path / "one.png")
