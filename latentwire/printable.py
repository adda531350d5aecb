"""Text of others on its way to a terminal or a log: what would act there is shown instead.

Names of pairs, data sets and experiments, claims and answers are data. A terminal acts on escape
sequences in them, a control character overwrites the line before, and one that turns the
direction of writing shows letters in another order than they stand.
"""

import logging
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO, cast

# Controls (escape among them), lone surrogates, and the separators that end a line.
_ACTING = ("Cc", "Cs", "Zl", "Zp")
_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def printable(text: str, keep: str = "\n\t") -> str:
    """The text with every character that acts on a terminal shown as its escape: `\\x1b`.

    Characters of `keep` stay.
    """
    if text.isprintable():
        return text
    return "".join(
        _escape(character) if character not in keep and _acts(character) else character
        for character in text
    )


def one_line(text: str) -> str:
    """`printable` without line breaks and tabs: for a name in the middle of something."""
    return printable(text, keep="")


class PrintableOutput:
    """A text stream that writes what `printable` makes of a text; else it is the stream given."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(printable(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def printable_output() -> Iterator[None]:
    """In the block, what is printed to standard output goes through `printable`."""
    with redirect_stdout(cast(TextIO, PrintableOutput(sys.stdout))):
        yield


class PrintableFormatter(logging.Formatter):
    """Log lines in which the names of others do nothing."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _acts(character: str) -> bool:
    return character in _TURNING or unicodedata.category(character) in _ACTING


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
