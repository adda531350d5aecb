"""Standard output, and errors of a command line, that do to a terminal nothing but show text.

Names of pairs, data sets and experiments, claims and answers are data. A terminal acts on escape
sequences in them, a control character overwrites the line before, and one that turns the direction
of writing shows letters in another order than they stand.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, NoReturn, TextIO, cast

from c2c.errors import printable, shortened


def printable_lines(text: str) -> str:
    """`printable`, with the line ends and tabs that lay a text out."""
    return printable(text, keep="\n\t")


class PrintableOutput:
    """A text stream that writes what `printable_lines` makes of a text; else the stream given."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(printable_lines(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def printable_output() -> Iterator[None]:
    """In the block, what is printed to standard output goes through `printable_lines`."""
    with redirect_stdout(cast(TextIO, PrintableOutput(sys.stdout))):
        yield


class PlainParser(argparse.ArgumentParser):
    """An argument parser that quotes what was typed as text, and not at any length."""

    def error(self, message: str) -> NoReturn:
        super().error(shortened(printable(message), 500))
