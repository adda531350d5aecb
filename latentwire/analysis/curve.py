"""The budget curve: one row a point, made from the records of its conditions.

docs/columns.md says what each column means; COLUMNS is the same list with its types.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from latentwire.analysis.files import replacing
from latentwire.analysis.stats import (
    RESAMPLES,
    SEED,
    paired_bootstrap_interval,
    paired_outcomes,
    wilson_interval,
)
from latentwire.errors import LatentWireError
from latentwire.evaluation.record import Record

# Column -> pandas type, in the order of the file. The types with a capital and "string" hold
# missing values beside whole numbers and text, so a file read back equals the frame written.
COLUMNS: dict[str, str] = {
    "pair": "string",
    "dataset": "string",
    "source": "string",
    "system": "string",
    "codec": "string",
    "calibration": "string",
    "kv_bits": "float64",
    "keep_ratio": "float64",
    "order": "string",
    "examples": "int64",
    "examples_total": "int64",
    "complete": "bool",
    "correct": "int64",
    "accuracy": "float64",
    "accuracy_low": "float64",
    "accuracy_high": "float64",
    "wire_bytes_mean": "float64",
    "wire_bytes_min": "Int64",
    "wire_bytes_max": "Int64",
    "bits_per_element": "float64",
    "deranged_accuracy": "float64",
    "pairing_examples": "int64",
    "pairing_gain": "float64",
    "pairing_gain_low": "float64",
    "pairing_gain_high": "float64",
    "zero_accuracy": "float64",
    "unparsed_share": "float64",
    "follows_donor_share": "float64",
    "top_letter": "string",
    "top_letter_share": "float64",
}

SYSTEMS = ("receiver", "sharer", "c2c")
SOURCES = ("local", "published")
ORDERS = ("front", "back", None)
CONTROLS = ("matched", "deranged", "zero")
NO_CODEC = "none"  # what a system alone, with nothing on the wire, has for codec and control


@dataclass(frozen=True)
class ConditionResult:
    """What one condition, or a part of its examples, yielded."""

    pair: str
    dataset: str
    system: str  # one of SYSTEMS
    codec: str  # NO_CODEC for the receiver or the sharer alone
    kv_bits: float | None  # None where it differs by layer
    keep_ratio: float | None
    order: str | None  # one of ORDERS
    control: str  # one of CONTROLS; "none" for the receiver or the sharer alone
    source: str  # one of SOURCES
    examples_total: int  # scored questions of the dataset
    records: tuple[Record, ...]
    seconds: float  # time that computing the records took
    calibration: str | None = None  # sha256 of what a calibrated codec was fitted with

    def __post_init__(self) -> None:
        alone = self.system != "c2c"
        for name, value, allowed in (
            ("system", self.system, SYSTEMS),
            ("source", self.source, SOURCES),
            ("order", self.order, ORDERS),
            ("control", self.control, ("none",) if alone else CONTROLS),
        ):
            if value not in allowed:
                raise LatentWireError(
                    f"{self.system} on {self.dataset}: {name} is {value!r}, not one of {allowed}."
                )
        if (self.codec == NO_CODEC) != alone:
            raise LatentWireError(
                f"{self.system} on {self.dataset}: codec {self.codec!r} does not go with it."
            )
        if not alone and self.keep_ratio is None:
            raise LatentWireError(f"c2c on {self.dataset}: its keep_ratio is missing.")


@dataclass(frozen=True)
class _Point:
    """What identifies a row; its controls are columns of the row."""

    pair: str
    dataset: str
    source: str
    system: str
    codec: str
    calibration: str | None
    keep_ratio: float | None
    order: str | None

    def __str__(self) -> str:
        parts = [self.pair, self.dataset, self.source, self.system]
        if self.system == "c2c":
            parts += [self.codec, f"keep_ratio {self.keep_ratio}", f"order {self.order}"]
        return ", ".join(parts)


def build_curve(
    results: Iterable[ConditionResult], *, resamples: int = RESAMPLES, seed: int = SEED
) -> pd.DataFrame:
    """Join results into the tidy table of COLUMNS, one row a point, in a fixed order.

    Results of one point may come in parts and overlap (chunk runs): an example counts once.
    The controls `deranged` and `zero` become columns of the point they belong to. Rows are
    sorted by pair, dataset and source; then receiver, sharer and C2C; then from many bits,
    long caches and `front` to few, short and `back`.

    Args:
        results: conditions or parts of them, in any order.
        resamples: of the pairing gain's bootstrap.
        seed: of the same.

    Raises:
        LatentWireError: one example has two outcomes, parts of a point disagree on kv_bits or
            examples_total, or a point has more examples than its dataset.
    """
    points: dict[_Point, list[ConditionResult]] = defaultdict(list)
    for result in results:
        point = _Point(
            result.pair,
            result.dataset,
            result.source,
            result.system,
            result.codec,
            result.calibration,
            result.keep_ratio,
            result.order,
        )
        points[point].append(result)
    rows = [_row(point, parts, resamples, seed) for point, parts in points.items()]
    rows.sort(key=_sort_key)
    return _typed(pd.DataFrame(rows, columns=list(COLUMNS)))


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write the table as CSV (UTF-8, empty for missing), replacing `path` in one step."""
    with replacing(path) as temporary:
        _typed(frame).to_csv(temporary, index=False)


def read_csv(path: Path) -> pd.DataFrame:
    """Read what `write_csv` wrote, equal to the last bit.

    Raises:
        LatentWireError: the file cannot be read or is not such a table; names the line.
    """
    rows = []
    number = 1
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            if next(reader, []) != list(COLUMNS):
                raise ValueError(f"the columns are not {', '.join(COLUMNS)}")
            for fields in reader:
                number = reader.line_num
                cells = zip(COLUMNS.items(), fields, strict=True)
                rows.append({name: _parsed(name, kind, text) for (name, kind), text in cells})
    except OSError as error:
        raise LatentWireError(f"{path}: cannot be read: {error.strerror}.") from None
    except (ValueError, csv.Error) as error:
        raise LatentWireError(f"{path}, line {number}: not a budget curve: {error}.") from None
    return _typed(pd.DataFrame(rows, columns=list(COLUMNS)))


def _parsed(name: str, kind: str, text: str) -> str | int | float | bool | None:
    """One cell. Python's own float reads back exactly what was written; pandas' may not."""
    if not text and kind in ("int64", "bool"):
        raise ValueError(f"{name} is empty")
    if not text:
        return float("nan") if kind == "float64" else None
    if kind == "bool":
        if text not in ("True", "False"):
            raise ValueError(f"{name} is {text!r}, not True or False")
        return text == "True"
    if kind == "string":
        return text
    return float(text) if kind == "float64" else int(text)


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    kinds: Mapping[str, Any] = COLUMNS
    return frame[list(COLUMNS)].astype(dict(kinds))


def _row(
    point: _Point, parts: Sequence[ConditionResult], resamples: int, seed: int
) -> dict[str, Any]:
    total = _agreed(point, "examples_total", {part.examples_total for part in parts})
    own = _merged(point, parts, "matched" if point.system == "c2c" else "none")
    deranged = _merged(point, parts, "deranged")
    zero = _merged(point, parts, "zero")
    if len(own) > total:
        raise LatentWireError(f"{point}: {len(own)} examples, but its dataset has {total}.")

    correct = sum(record.correct for record in own.values())
    interval = wilson_interval(correct, len(own))
    pairing = paired_outcomes(_outcomes(own), _outcomes(deranged))
    gain = paired_bootstrap_interval(pairing, resamples=resamples, seed=seed)
    sent = [record.wire_bytes for record in own.values()]
    letters = Counter(record.predicted for record in own.values() if record.predicted is not None)
    # The first of the alphabet among equally frequent letters, so that rows do not depend on
    # the order of the records.
    top_letter = min(letters, key=lambda letter: (-letters[letter], letter), default=None)
    donors = [record for record in deranged.values() if record.donor_answer is not None]
    return {
        "pair": point.pair,
        "dataset": point.dataset,
        "source": point.source,
        "system": point.system,
        "codec": point.codec,
        "calibration": point.calibration,
        "kv_bits": _agreed(point, "kv_bits", {part.kv_bits for part in parts}),
        "keep_ratio": point.keep_ratio,
        "order": point.order,
        "examples": len(own),
        "examples_total": total,
        "complete": len(own) == total,
        "correct": correct,
        "accuracy": _accuracy(own),
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
        "wire_bytes_mean": _ratio(sum(sent), len(sent)),
        "wire_bytes_min": min(sent, default=None),
        "wire_bytes_max": max(sent, default=None),
        "bits_per_element": _ratio(8 * sum(sent), sum(record.elements for record in own.values())),
        "deranged_accuracy": _accuracy(deranged),
        "pairing_examples": pairing.examples,
        "pairing_gain": pairing.difference,
        "pairing_gain_low": gain.low,
        "pairing_gain_high": gain.high,
        "zero_accuracy": _accuracy(zero),
        "unparsed_share": _ratio(len(own) - letters.total(), len(own)),
        "follows_donor_share": _ratio(
            sum(record.predicted == record.donor_answer for record in donors), len(donors)
        ),
        "top_letter": top_letter,
        "top_letter_share": _ratio(letters[top_letter], len(own)) if top_letter else float("nan"),
    }


def _merged(point: _Point, parts: Iterable[ConditionResult], control: str) -> dict[str, Record]:
    """Example id -> record, over the parts of one control; an example counts once."""
    merged: dict[str, Record] = {}
    for part in parts:
        if part.control != control:
            continue
        for record in part.records:
            known = merged.setdefault(record.example_id, record)
            # The generated text may differ in ways that no number of the table depends on.
            if _counted(known) != _counted(record):
                raise LatentWireError(
                    f"{point}, control {control}: example {record.example_id} has two outcomes, "
                    f"{_counted(known)} and {_counted(record)}; delete one of the two runs."
                )
    return merged


def _counted(record: Record) -> tuple[object, ...]:
    return (
        record.answer,
        record.predicted,
        record.correct,
        record.wire_bytes,
        record.donor_id,
        record.donor_answer,
    )


def _agreed(point: _Point, name: str, values: set[Any]) -> Any:
    if len(values) > 1:
        raise LatentWireError(f"{point}: its runs disagree on {name}: {sorted(values, key=str)}.")
    return next(iter(values))


def _outcomes(records: Mapping[str, Record]) -> dict[str, bool]:
    return {example_id: record.correct for example_id, record in records.items()}


def _accuracy(records: Mapping[str, Record]) -> float:
    return _ratio(sum(record.correct for record in records.values()), len(records))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _sort_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    bits, ratio = row["kv_bits"], row["keep_ratio"]
    return (
        row["pair"],
        row["dataset"],
        row["source"],
        SYSTEMS.index(row["system"]),
        -bits if bits is not None else 0,
        row["codec"],
        row["calibration"] or "",
        -ratio if ratio is not None else 0.0,
        ORDERS.index(row["order"]),
    )
