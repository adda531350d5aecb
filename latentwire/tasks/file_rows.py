"""The rows of a file that somebody else wrote: JSON lines, JSON, CSV or Parquet, each gzip too.

A line that cannot be read is a row as well: the ValueError that says why. Its place counts rows
from 1, as editors count lines.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from latentwire.errors import LatentWireError, first_line
from latentwire.strict_json import parse_json
from latentwire.tasks.rows import Row, kind_of
from latentwire.user_files import NotTextError, decoded, read_bytes

MOST_BYTES = 2**28  # of a file, unpacked: what a question set takes is a hundredth of it
MOST_ROWS = 1_000_000
GZIP = ".gz"


def is_rows_file(path: Path) -> bool:
    """Whether a file's name says that it holds rows."""
    return _unpacked(path).suffix.lower() in READERS


def stem(path: Path) -> str:
    """The name of a file without what says its form."""
    return _unpacked(path).stem


def read_rows(path: Path) -> list[Row]:
    """All rows in order.

    Raises LatentWireError, naming the file, where it cannot be read as what its name says, holds no
    row, or is larger than a question set can be.
    """
    read = READERS.get(_unpacked(path).suffix.lower())
    if read is None:
        raise LatentWireError(f"{path}: its name must end in {ENDINGS}, or one of them and {GZIP}")
    data = read_bytes(path, MOST_BYTES + 1)
    if path.suffix.lower() == GZIP:
        data = _without_gzip(path, data)
    if len(data) > MOST_BYTES:
        raise LatentWireError(
            f"{path}: it holds more than {MOST_BYTES >> 20} MiB, take fewer questions"
        )
    try:
        rows = [(f"{path}, row {number}", row) for number, row in enumerate(read(data), start=1)]
    except NotTextError as error:
        raise LatentWireError(f"{path}: {error} in line {error.line}: save it as UTF-8") from None
    except ValueError as error:
        raise LatentWireError(f"{path}: {error}") from None
    if not rows:
        raise LatentWireError(f"{path}: it holds no rows")
    if len(rows) > MOST_ROWS:
        raise LatentWireError(f"{path}: it holds more than {MOST_ROWS:,} rows")
    return rows


def _unpacked(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() == GZIP else path


def _without_gzip(path: Path, data: bytes) -> bytes:
    """The content; no more of it is unpacked than is taken."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            return file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise LatentWireError(f"{path}: not gzip ({first_line(error)})") from None


def _json(data: bytes) -> Iterator[object]:
    """A JSON list of rows, or a JSON value a line: which of them, the first character says."""
    text = decoded(data)
    if not text.lstrip().startswith("["):
        return map(_parsed, text.rstrip(" \t\r\n").split("\n") if text.strip() else [])
    try:
        values = parse_json(text)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
    return iter(values)


def _parsed(line: str) -> object:
    try:
        return parse_json(line)
    except ValueError as error:
        return ValueError(f"not JSON ({error})")


def _csv(data: bytes) -> Iterator[object]:
    """Rows under a first line of names; every value is text."""
    lines = csv.reader(io.StringIO(decoded(data), newline=""), strict=True)
    try:
        names = next(lines, [])
        if len(set(names)) < len(names):
            raise ValueError("a name stands twice in its first line")
        for values in lines:
            if not values:
                continue
            if len(values) == len(names):
                yield dict(zip(names, values, strict=True))
            else:
                yield ValueError(f"it has {len(values)} values, and there are {len(names)} names")
    except csv.Error as error:
        raise ValueError(f"not CSV ({error}, near line {lines.line_num})") from None


def _parquet(data: bytes) -> Iterator[object]:
    import pyarrow as pa  # it takes a while, and comes with `datasets`
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(data))
        about = file.metadata
        unpacked = sum(about.row_group(n).total_byte_size for n in range(about.num_row_groups))
        if unpacked > MOST_BYTES or about.num_rows > MOST_ROWS:
            raise ValueError(f"it holds more than {MOST_BYTES >> 20} MiB or {MOST_ROWS:,} rows")
        rows: list[Any] = file.read().to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"not Parquet ({first_line(error)})") from None
    return iter(rows)


READERS: dict[str, Callable[[bytes], Iterator[object]]] = {
    ".jsonl": _json,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
ENDINGS = ", ".join(READERS)


def as_mapping(row: object) -> dict[str, Any]:
    """A row's fields. Raises ValueError for one that has none, or that could not be read."""
    if isinstance(row, ValueError):
        raise row
    if not isinstance(row, dict):
        raise ValueError(f"expected an object with named fields, got {kind_of(row)}")
    return row
