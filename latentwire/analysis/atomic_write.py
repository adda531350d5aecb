"""Writing a result file so that a reader sees the old one or the new one, never half of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; put it in `path`'s place when the block succeeds.

    Missing folders are made. When the block raises, the temporary file is removed and whatever
    was at `path` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending is kept, since writers such as matplotlib's take the file format from it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, newline: str | None = None) -> None:
    """Write a text file (UTF-8), replacing `path` in one step; `newline` as of `open`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline=newline)
