"""Errors that are the user's to mend, shown as one sentence and never as a traceback."""

import errno
import reprlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from c2c.errors import one_line, printable, shortened
from latentwire.redaction import without_secrets

_QUOTED_CHARACTERS = 80  # of one text in a value
_QUOTED_WHOLE = 300  # of a value

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_LITTLE_BYTES = 2**20
_NO_RIGHT = (errno.EROFS, errno.EACCES, errno.EPERM)


class LatentWireError(Exception):
    """Bad input or a missing piece; its text says what is wrong and what to do, in one sentence (a
    line each, where several are given).

    What a sentence quotes comes from files and from other programs: see `as_sentence`.
    """

    def __init__(self, *sentences: str) -> None:
        super().__init__(*(as_sentence(sentence) for sentence in sentences))

    def __str__(self) -> str:
        return "\n".join(self.args)


class Unanswerable(LatentWireError):
    """A question that cannot be answered under a condition, because of what question, condition and
    models are: it is recorded as that, and the study goes on. Never a fault of the machine."""


class NotCached(LatentWireError):
    """Something is not on this machine yet, and was not to be downloaded."""


def quoted(value: object) -> str:
    """A value as sentences quote it: as Python writes it, and short however large it is."""
    try:
        return shortened(printable(_REPR.repr(value)), _QUOTED_WHOLE)
    except (ValueError, RecursionError):  # Python writes no number of more than 4,300 digits
        return "(too long to be shown)"


def as_sentence(text: str) -> str:
    """A text as one line that is harmless to show: no control characters, no secrets, no pages."""
    return one_line(without_secrets(str(text)))


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _QUOTED_CHARACTERS


def first_line(error: BaseException) -> str:
    """What an error of a library says, without the pages that may follow; its name if nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def first_of(names: Sequence[str], most: int) -> str:
    """Some names in a sentence: of many the first, and how many more there are. Names that hold a
    comma are separated by semicolons."""
    mark = "; " if any("," in name for name in names) else ", "
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return mark.join(names[:most]) + more


def unwritable(error: BaseException) -> str | None:
    """What to do where an error comes from a full disk or from files that are not ours to write;
    None for any other error."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in (*_NO_ROOM, *_NO_RIGHT):
            what = f"{cause.filename or _in_full_folders()}: {cause.strerror}"
            return _no_room(what) if cause.errno in _NO_ROOM else _no_right(what)
        if isinstance(cause, sqlite3.OperationalError):
            if "disk is full" in str(cause):
                return _no_room(f"the tracking store's database: {cause}")
            if "readonly" in str(cause) or "unable to open" in str(cause):
                return _no_right(f"the tracking store's database: {cause}")
    return None


def uncached(error: BaseException, variable: str, folder: object) -> str | None:
    """What to do where a download does not fit into a cache, or may not be written there; None for
    any other error. `variable` moves the cache."""
    numbers = {cause.errno for cause in _causes(error) if isinstance(cause, OSError)}
    if not numbers.isdisjoint(_NO_ROOM):
        return (
            f"no room in the cache {folder}: make room, or set {variable} to a larger disk, and"
            " start again; what is whole is kept"
        )
    if not numbers.isdisjoint(_NO_RIGHT):
        return f"no right to write to the cache {folder}: set {variable} to a folder of yours"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what caused it, back to the first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _in_full_folders() -> str:
    """A file that the system does not name, by the folders of ours in which nothing fits."""
    places = (Path(), Path("mlruns"), Path(tempfile.gettempdir()))
    full = [
        str(place.absolute())
        for place in places
        if place.exists() and shutil.disk_usage(place).free < _LITTLE_BYTES
    ]
    return f"a file in {' or '.join(full)}" if full else "a file"


def _no_room(what: str) -> str:
    return f"no room for {what}; make room and start again, finished chunks are kept"


def _no_right(what: str) -> str:
    return (
        f"no right to use {what}; start in a folder that you may write to, or name others:"
        " MLFLOW_TRACKING_URI for the store, LATENTWIRE_OUTBOX for results on their way to it"
    )
