"""Tables as CSV files: a spreadsheet opens them and runs nothing, and they read back the same."""

import csv
import math
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import pandas as pd

from latentwire.analysis.atomic_write import write_text
from latentwire.errors import LatentWireError
from latentwire.user_files import csv_lines

Cell = str | int | float | bool | None
# What makes a spreadsheet take text for a formula; an apostrophe before it makes it text again.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_ROUNDING = 1e-9
_MOST_COUNTED = 2**53  # beyond, a number of questions or tokens is no such thing


def csv_text(frame: pd.DataFrame) -> str:
    """The table as CSV, missing values empty. Text that a spreadsheet would run as a formula gets
    an apostrophe in front, which `read_rows` takes away again; numbers stay as they are."""
    text = [name for name, kind in frame.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    safe = frame.assign(**{str(name): frame[name].map(_escaped) for name in text})
    # A lone carriage return would end the row, and is not quoted of itself.
    returns = any(safe[name].astype(str).str.contains("\r", regex=False).any() for name in text)
    return safe.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write `csv_text` (UTF-8), replacing `path` in one step."""
    # Its line ends are its own: no other may be made of them.
    write_text(path, csv_text(frame), newline="")


def read_rows(
    path: Path,
    what: str,
    kinds: Mapping[str, str],
    required: Collection[str],
    check: Callable[[Mapping[str, Cell]], None],
) -> pd.DataFrame:
    """The columns of a CSV file that `kinds` (column -> pandas type) knows, as Python values.

    A byte order mark is passed over, and so are columns that nobody here knows.

    Args:
        path: the file.
        what: the table that it should be, for the sentence that says it is not.
        kinds: "string", "bool", "int64", or "Int64" and "float64", which may be empty.
        required: columns that must be there.
        check: raises ValueError for a row that is not to be.

    Raises:
        LatentWireError: the file cannot be read or is not such a table; names the line.
    """
    rows: list[dict[str, Cell]] = []
    number = 1
    try:
        reader = csv.reader(csv_lines(path), strict=True)
        head = _checked_head(next(reader, []), required)
        for fields in reader:
            number = reader.line_num
            if not fields:
                continue  # an empty line at the end
            if len(fields) != len(head):
                raise ValueError(f"{len(fields)} cells under {len(head)} columns")
            cells = zip(head, fields, strict=True)
            row = {name: _parsed(name, kinds[name], t) for name, t in cells if name in kinds}
            check(row)
            rows.append(row)
    except (ValueError, csv.Error) as error:
        raise LatentWireError(f"{path}, line {number}: not {what}: {error}.") from None
    return pd.DataFrame(rows, columns=[name for name in head if name in kinds])


def require_between(row: Mapping[str, Cell], limits: Mapping[str, tuple[float, float]]) -> None:
    """Raise ValueError where a number is not within its column's limits; what is missing is."""
    for name, (low, high) in limits.items():
        value = row.get(name)
        # A computed end may lie a rounding error outside.
        if is_number(value) and not low - _ROUNDING <= value <= high + _ROUNDING:
            raise ValueError(f"{name} is {value:g}, not from {low:g} to {high:g}")


def is_number(value: Cell) -> TypeGuard[int | float]:
    """Whether a cell of numbers is filled in."""
    return isinstance(value, (int, float)) and not math.isnan(value)


def _checked_head(head: list[str], required: Collection[str]) -> list[str]:
    missing = [name for name in required if name not in head]
    if missing:
        raise ValueError(f"it has no column {', '.join(missing)}")
    if len(set(head)) != len(head):
        raise ValueError("it has a column twice")
    return head


def _escaped(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _parsed(name: str, kind: str, text: str) -> Cell:
    """One cell. Python's own float reads back exactly what was written; pandas' may not."""
    if not text and kind in ("int64", "bool"):
        raise ValueError(f"{name} is empty")
    if not text:
        return float("nan") if kind == "float64" else None
    if kind == "string":
        return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
    if kind == "bool":
        if text.lower() not in ("true", "false"):  # spreadsheets write TRUE
            raise ValueError(f"{name} is {text!r}, not True or False")
        return text.lower() == "true"
    try:
        value = float(text) if kind == "float64" else int(text)
    except ValueError:
        number = "a number" if kind == "float64" else "a whole number"
        raise ValueError(f"{name} is {text[:40]!r}, not {number}") from None
    if kind != "float64" and not 0 <= value <= _MOST_COUNTED:
        raise ValueError(f"{name} is {text[:40]}, which is no count")
    return value
