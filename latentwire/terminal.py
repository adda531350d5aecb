"""How a process speaks, whatever reads it: set up once, where each process starts."""

import argparse
import io
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from latentwire.printable import printable_lines
from latentwire.redaction import without_secrets

EVERY_S = 30.0  # that nothing is told, at most, where no bars are shown
VERBOSITY = "LATENTWIRE_VERBOSITY"  # environment, so that workers know it: see `add_verbosity`
QUIET, VERBOSE = "quiet", "verbose"
_told_s = time.monotonic()  # when something was told


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Options that say how much is told; `set_verbosity` obeys them."""
    either = parser.add_mutually_exclusive_group()
    for letter, name, told in (
        ("-v", VERBOSE, "show what is logged"),
        ("-q", QUIET, "print results and errors only"),
    ):
        either.add_argument(
            *(letter, f"--{name}"), dest="verbosity", action="store_const", const=name, help=told
        )


def set_verbosity(options: argparse.Namespace) -> None:
    """Have this process and those that it starts tell as much as was asked for."""
    if options.verbosity:
        os.environ[VERBOSITY] = options.verbosity


def is_quiet() -> bool:
    """Whether results alone are wanted."""
    return os.environ.get(VERBOSITY) == QUIET


def shows_bars() -> bool:
    """Whether bars show how far work is: on a terminal."""
    return sys.stderr.isatty() and not is_quiet()


def shown_log() -> logging.Handler:
    """Shows on standard error what is logged, as much as was asked for."""
    levels = {QUIET: logging.ERROR, VERBOSE: logging.INFO}
    shown = logging.StreamHandler()
    shown.setLevel(levels.get(os.environ.get(VERBOSITY, ""), logging.WARNING))
    shown.setFormatter(_ShownLines())
    return shown


def tell(text: str) -> None:
    """Print what goes on, which is no result."""
    global _told_s
    _told_s = time.monotonic()
    if not is_quiet():
        print(f"{text}\n", end="", flush=True)  # at once: a thread may tell something too


@contextmanager
def never_silent(name: str) -> Iterator[None]:
    """Where no bars are shown, a line as often as nothing was told for EVERY_S, such as
    `m6: at work for 90 s`: that the work in the block goes on can be seen in a file too."""
    if shows_bars() or is_quiet():
        yield
        return
    ended = threading.Event()
    threading.Thread(target=_break_silence, args=(name, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _break_silence(name: str, ended: threading.Event) -> None:
    began_s = time.monotonic()
    while not ended.wait(max(_told_s, began_s) + EVERY_S - time.monotonic()):
        if time.monotonic() - _told_s < EVERY_S:
            continue
        try:
            tell(f"{name}: at work for {time.monotonic() - began_s:.0f} s")
        except (OSError, ValueError):  # nobody reads it any more, which the work itself finds out
            return


class _ShownLines(logging.Formatter):
    """What is logged, as it is shown: of a warning it is said that it is one."""

    def format(self, record: logging.LogRecord) -> str:
        amiss = record.levelno >= logging.WARNING
        return PlainLines("warning: %(message)s" if amiss else "%(message)s").format(record)


def prepare_output() -> None:
    """From now on, text that the terminal's encoding lacks is written as escapes rather than ending
    the program, output that nobody reads goes nowhere, and no secret is in what is logged or in a
    traceback."""
    _fill_closed()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.setLogRecordFactory(_CleanRecord)
    sys.excepthook = _show_without_secrets


class PlainLines(logging.Formatter):
    """Log lines that do to a terminal nothing but show text."""

    def format(self, record: logging.LogRecord) -> str:
        text = without_secrets(super().format(record))  # with its traceback, if it has one
        return printable_lines(text)


class _CleanRecord(logging.LogRecord):
    """A message without secrets, whichever library logs it."""

    def getMessage(self) -> str:
        return without_secrets(super().getMessage())


def _fill_closed() -> None:
    """Give a standard stream that is closed a file: the next one that is opened, perhaps the
    tracking store, would be taken for it and written to."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def _show_without_secrets(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> Any:
    sys.stderr.write(without_secrets("".join(traceback.format_exception(kind, error, trace))))
