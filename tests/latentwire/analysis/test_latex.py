import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentwire.analysis.curve import ConditionResult, build_curve, with_hashes
from latentwire.analysis.latex import escape, latex_table

Make = Callable[..., ConditionResult]
COMMAND = re.compile(
    r"\\textbackslash\{\}|\\text(asciicircum|asciitilde|asciigrave|quotesingle|less|greater|bar)\{\}"
    r"|\{\\ttfamily\\char34\}|\\[{}$&#%_]|-\{\}|\{[\[*]\}"
)
HOSTILE = (
    "".join(map(chr, range(32, 127)))
    + "--- ``x'' éÜßÐµ中\N{GREEK SMALL LETTER ALPHA}\U0001f600"
    + "".join(map(chr, range(0xA0, 0x180)))
)


@given(st.text(st.sampled_from("\\{}$&#%_^~<>|\"-`'aé中") | st.characters()))
def test_nothing_that_tex_would_act_on_is_left(text: str) -> None:
    rest = COMMAND.sub("", escape(text))
    assert not set(rest) & set("\\{}$&#%_^~<>|\"-`'")
    assert all(ord(character) < 0x100 and character.isprintable() for character in rest)


@given(st.text(alphabet=st.characters(codec="ascii", categories=["L", "N", "Zs"])))
def test_plain_words_stay(text: str) -> None:
    assert escape(text) == text


def test_a_row_has_n_value_and_interval(condition: Make) -> None:
    frame = build_curve(
        [
            condition("AAAB" * 100, codec="int4_group", keep_ratio=0.5, total=500),
            condition("ABCD" * 10, system="receiver", total=500),
        ]
    )
    text = latex_table(with_hashes(frame, {("demo", "local"): "abcdef0123456789"}, {}))
    assert (
        r"int4\_group & 0.5 front & 400$^{*}$ & 1.2 kB & $75.0$$^{\times}$ &"
        r" {\scriptsize $[70.5, 79.0]$} & -- & -- \\"
    ) in text
    assert r"receiver alone & -- & 40$^{*}$ & 0 B & $25.0$ &" in text
    assert "Fuser abcdef0123." in text
    assert r"one letter for at least 70 \% of the questions" in text


def test_each_pair_dataset_and_source_is_a_table_of_its_own(condition: Make) -> None:
    results = [condition("AB", dataset=name) for name in ("one", "two")]
    text = latex_table(build_curve([*results, condition("AB", dataset="one", source="published")]))
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 3
    assert len(set(re.findall(r"\\label\{(.*?)\}", text))) == 3
    assert text.count("published answers") == 1


def test_pdflatex_compiles_it_whatever_the_names(condition: Make, tmp_path: Path) -> None:
    if not shutil.which("pdflatex"):
        reason = "pdflatex is not installed (Debian: texlive-latex-recommended)"
        (pytest.fail if os.environ.get("LATENTWIRE_REQUIRE_LATEX") else pytest.skip)(reason)
    results = [
        condition("AAAB" * 5, pair=HOSTILE, dataset=HOSTILE, codec=f"a{place}{HOSTILE}")
        for place in range(2)
    ]
    results.append(condition("ABAB", total=10))
    (tmp_path / "table.tex").write_text(latex_table(build_curve(results)), encoding="utf-8")
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}"
        "\\input{table.tex}\\end{document}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 1000
