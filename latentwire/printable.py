"""Standard output, and errors of a command line, that do to a terminal nothing but show text.

Names of pairs, data sets and experiments, claims and answers are data. A terminal acts on escape
sequences in them, a control character overwrites the line before, and one that turns the direction
of writing shows letters in another order than they stand.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, NoReturn, TextIO, cast

from c2c.errors import printable, shortened
from latentwire.suggestion import did_you_mean


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
    """An argument parser that quotes what was typed as text, and not at any length; says what may
    have been meant; and takes an option's words joined by _ as well as by -."""

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """Refuse what is unknown here, where this parser's usage and options are at hand."""
        given = sys.argv[1:] if args is None else args
        options, unknown = super().parse_known_args(_dashed(given), namespace)
        if unknown:
            known = [name for name in self._option_string_actions if name.startswith("--")]
            meant = did_you_mean(unknown[0].partition("=")[0], known)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return options, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += did_you_mean(str(value), map(str, action.choices or ()))
            raise

    def error(self, message: str) -> NoReturn:
        super().error(shortened(printable(message), 500))


def _dashed(arguments: Sequence[str]) -> list[str]:
    """The arguments; names of options, up to the first --, with - for _."""
    names = list(arguments).index("--") if "--" in arguments else len(arguments)
    return [
        name.replace("_", "-") + equals + value
        if place < names and name.startswith("--")
        else argument
        for place, argument in enumerate(arguments)
        for name, equals, value in [argument.partition("=")]
    ]
