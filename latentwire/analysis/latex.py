"""The budget curve as LaTeX tables for a paper: booktabs, with n and intervals."""

import unicodedata
from typing import Any

import pandas as pd

from latentwire.analysis.commonest_key import commonest_key
from latentwire.analysis.formatting import human_bytes, percent
from latentwire.analysis.frames import families, is_resampled, metric_of, published_note, records
from latentwire.analysis.letter_distribution import DEGENERATE_NOTE
from latentwire.analysis.provenance import hashes_note
from latentwire.spec.axes import CACHES, has_budget, is_whole
from latentwire.spec.names import budget_label, row_name

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\ttfamily\char34}",  # \textquotedbl would need the T1 encoding
    "-": r"-{}",  # two in a row would become a dash
    "[": "{[}",  # behind the end of a row these two would be an argument of it
    "*": "{*}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
}
_NEEDS_T1 = "ÐðÞþ"
_HEADER = r"""\begin{tabular}{@{}llrrllll@{}}
\toprule
 & kept & $n$ & bytes & METRIC (\%) & 95\,\% & gain (points) & 95\,\% \\
\midrule"""


def escape(text: str) -> str:
    """Text that pdflatex sets as it stands, in any of its encodings; letters beyond Latin-1 are
    written as their code points, which loses nothing and compiles everywhere."""
    return "".join(_escaped(character) for character in text)


def latex_table(frame: pd.DataFrame) -> str:
    """A file of `table` environments, one for each pair, dataset and source of a budget curve.

    It needs \\usepackage{booktabs} in the preamble. Accuracies are per cent, gains percentage
    points, bytes the mean a question; a dash is: not measured, or does not apply.
    """
    lines = ["% Needs \\usepackage{booktabs}."]
    for number, family in enumerate(families(frame), start=1):
        lines += _table(*family, number)
    return "\n".join(lines) + "\n"


def _table(pair: str, dataset: str, source: str, rows: pd.DataFrame, number: int) -> list[str]:
    return [
        "",
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{2pt}",
        rf"\caption{{{_caption(pair, dataset, source, rows)}}}",
        rf"\label{{tab:latentwire-{number}}}",
        _HEADER.replace("METRIC", escape(metric_of(rows))),
        *(" & ".join(_cells(row)) + r" \\" for row in records(rows)),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def _caption(pair: str, dataset: str, source: str, rows: pd.DataFrame) -> str:
    drawn = "accuracy (Wilson intervals) and pairing gain (Tango intervals)"
    if is_resampled(rows):
        drawn = f"{escape(metric_of(rows))} and pairing gain (bootstrap intervals)"
    parts = [
        f"{escape(dataset)}, {escape(pair)}{published_note(source)}: {drawn} against the mean bytes"
        " sent for a question."
    ]
    if rows[["degenerate", "deranged_degenerate"]].any(axis=None):
        parts.append(rf"$\times$: the answer is {escape(DEGENERATE_NOTE)}.")
    if not rows["complete"].all():
        parts.append(rf"$^{{*}}$ incomplete: not all of {rows['examples_total'].max()} questions.")
    if prior := commonest_key(rows):
        parts.append(f"{prior[0].upper()}{prior[1:]}.".replace(" %", r"\,\%"))
    if hashes := hashes_note(rows):
        parts.append(f"{escape(hashes[0].upper() + hashes[1:])}.")
    return " ".join(parts)


def _cells(row: dict[str, Any]) -> list[str]:
    on_wire = row["system"] in CACHES
    kept = "--"
    if on_wire:
        order = "" if is_whole(row) or pd.isna(row["order"]) else f" {row['order']}"
        kept = f"{row['keep_ratio']:g}{escape(order)}"
        if has_budget(row):
            kept += f" {escape(budget_label(row))}"
    mark = r"$^{\times}$" if row["degenerate"] else ""
    return [
        escape(str(row["codec"] if on_wire else row_name(row))),
        kept,
        f"{row['examples']}" + ("" if row["complete"] else "$^{*}$"),
        "--" if pd.isna(row["wire_bytes_mean"]) else human_bytes(row["wire_bytes_mean"]),
        _number(row["score"], signed=False) + mark,
        _interval(row, "score", signed=False),
        _number(row["pairing_gain"], signed=True),
        _interval(row, "pairing_gain", signed=True),
    ]


def _number(share: float, *, signed: bool) -> str:
    return "--" if pd.isna(share) else f"${percent(share, signed=signed)}$"


def _interval(row: dict[str, Any], name: str, *, signed: bool) -> str:
    if pd.isna(row[name]):
        return "--"
    low, high = (percent(row[f"{name}_{end}"], signed=signed) for end in ("low", "high"))
    return rf"{{\scriptsize $[{low}, {high}]$}}"


def _escaped(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii():
        return character if character.isprintable() else " "
    is_letter = unicodedata.category(character) in ("Lu", "Ll")
    if is_letter and ord(character) < 0x100 and character not in _NEEDS_T1 + "µ":
        return character
    return f"U+{ord(character):04X}"
