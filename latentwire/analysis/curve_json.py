"""Each line of a budget curve as a JSON file of its own, in the form of CompressAI's results.

`{"name", "description", "results": {quantity: [a number a point]}}`, as the files that come with
CompressAI (github.com/InterDigitalInc/CompressAI, results/) have it. Its plots read `bpp`, bits a
pixel, and what is named beside it; here that is bits a prompt: eight times the mean bytes.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from latentwire.analysis.atomic_write import write_text
from latentwire.analysis.frames import FAMILY, records
from latentwire.analysis.safe_names import file_names
from latentwire.channel.codec_names import family
from latentwire.spec.axes import (
    AXES,
    BUDGETS,
    CACHES,
    PLACE_AXES,
    applying,
    is_missing,
    is_whole,
    or_none,
)
from latentwire.spec.names import condition_name

BEGINNING = "curve_"  # of the files' names
# Columns of the budget curve that are quantities of a point.
_QUANTITIES = (
    *("wire_bytes_mean", "accuracy", "accuracy_low", "accuracy_high"),
    *("score", "score_low", "score_high"),
    *("pairing_gain", "pairing_gain_low", "pairing_gain_high"),
    *("bits_per_element", "examples"),
)
_DIGITS = 8  # of a calibration's hash, in names
_Row = dict[str, Any]


class Line(NamedTuple):
    """Conditions that one axis alone tells apart."""

    family: tuple[str, str, str]  # pair, dataset and source
    axis: str
    fixed: tuple[str, ...]  # the words of the other axes
    rows: list[_Row]  # two at least, by rising bytes


def lines(frame: pd.DataFrame) -> list[Line]:
    """The lines of a budget curve: keep ratios or budgets of one codec and order, lengths of a
    text, codecs of one family. The whole cache belongs to every order; what is not complete belongs
    to none."""
    found: dict[tuple[Any, ...], list[_Row]] = defaultdict(list)
    for row in records(frame[frame["complete"] & (frame["wire_bytes_mean"] > 0)]):
        for axis in (name for name in applying(row["system"]) if name in PLACE_AXES):
            for fixed in _fixed(row, axis, frame):
                found[tuple(row[name] for name in FAMILY), axis, fixed].append(row)
    return [
        Line(place, axis, _words(fixed), sorted(rows, key=lambda row: row["wire_bytes_mean"]))
        for (place, axis, fixed), rows in found.items()
        if len(rows) > 1
    ]


def write_lines(frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Write each line as strict JSON; missing numbers are null. Paths.

    Files are named by question set, what is the same along the line and, where there are several,
    the pair; those of published answers end so.
    """
    keyed = {_key(line, frame["pair"].nunique() > 1): line for line in lines(frame)}
    paths = []
    for key, name in file_names(keyed).items():
        paths.append(folder / f"{BEGINNING}{name}.json")
        text = json.dumps(compressai(keyed[key]), indent=1, allow_nan=False)
        write_text(paths[-1], f"{text}\n")
    return paths


def compressai(line: Line) -> dict[str, Any]:
    """A line in CompressAI's form. Accuracies and scores are shares from 0 to 1."""
    pair, dataset, source = line.family
    results: dict[str, list[Any]] = {
        "bpp": [8 * row["wire_bytes_mean"] for row in line.rows],
        **{name: [or_none(row[name]) for row in line.rows] for name in _QUANTITIES},
        "condition": [condition_name(row) for row in line.rows],
    }
    return {
        "name": " ".join(line.fixed),
        "description": (
            f"{dataset}, {pair}, {source}; a point a {line.axis}; score: {line.rows[0]['metric']};"
            " bpp: bits a prompt, 8 x the mean bytes of what was sent"
        ),
        "results": results,
    }


def _key(line: Line, several_pairs: bool) -> tuple[str, ...]:
    pair, dataset, source = line.family
    return (
        dataset,
        *([pair] if several_pairs else []),
        *line.fixed,
        *([source] if source != "local" else []),
    )


def _fixed(row: _Row, axis: str, frame: pd.DataFrame) -> Iterator[tuple[tuple[str, Any], ...]]:
    """What a row has in common with the others of its line along an axis; none where there is no
    such line, several where it is on several."""
    values = {name: or_none(row[name]) for name in PLACE_AXES}
    if axis == "codec" and row["system"] in CACHES:
        values["codec"] = family(row["codec"])
        yield tuple(values.items())
    elif AXES[axis].column != "string" and not is_missing(row[axis]):
        del values[axis]
        orders = [values["order"]]
        if is_whole(row):
            orders = sorted(set(frame.loc[frame["keep_ratio"] < 1, "order"].dropna()))
        for order in orders:
            yield tuple({**values, "order": order}.items())


def _words(fixed: tuple[tuple[str, Any], ...]) -> tuple[str, ...]:
    """Of what is fixed, what a name needs."""
    values = dict(fixed)
    whole = values.get("keep_ratio") == 1 and all(values.get(name, 0) is None for name in BUDGETS)
    left_out = {"keep_ratio", "order"} if whole else set()
    if values["system"] in CACHES:
        left_out.add("system")
    if values["calibration"]:
        values["calibration"] = values["calibration"][:_DIGITS]
    return tuple(
        f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in values.items()
        if value is not None and name not in left_out
    )
