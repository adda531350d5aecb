"""Paths and files that users name: read whatever their editor or shell makes of them, or refused in
one sentence."""

import codecs
import errno
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from c2c.errors import printable, shortened
from c2c.files import read_file
from latentwire.errors import LatentWireError

# The longest first: the mark of UTF-16 begins that of UTF-32.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP)  # nothing can ever be there


def user_path(text: str, within: Path = Path()) -> Path:
    """The path that a user has written, with `~` for a home folder; it need not exist. A relative
    one is taken from `within`.

    Raises LatentWireError for a text that can be no path: empty, of no such user, with a NUL
    character or bytes that are not UTF-8, too long, or through symbolic links that lead to each
    other.
    """
    shown = shortened(printable(text), 100)
    if not text:
        raise LatentWireError("a path is empty: name a file or a folder")
    if "\0" in text:
        raise LatentWireError(f"the path {shown} holds a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise LatentWireError(f"the path {shown} is not UTF-8 (if it is, set LC_ALL=C.UTF-8)")
    try:
        path = within / Path(text).expanduser()
    except RuntimeError:
        user = shown.partition("/")[0]
        raise LatentWireError(
            f"the path {shown} begins with the home folder of a user that there is not:"
            f" write it in full, or ./{user} for a folder of that name"
        ) from None
    try:
        path.stat()
    except OSError as error:
        if error.errno in _NO_PATH:
            raise LatentWireError(f"the path {shown} cannot be used: {error.strerror}") from None
    return path


def path_of(variable: str) -> Path | None:
    """The path that an environment variable holds; None where it is not set, or empty.

    Raises LatentWireError, naming the variable, as `user_path` does.
    """
    text = os.environ.get(variable)
    try:
        return user_path(text) if text else None
    except LatentWireError as error:
        raise LatentWireError(f"{variable}: {error}; mend or unset it") from None


def output_folder(text: str) -> Path:
    """A folder to write to: it is there or can be made, and takes files; else LatentWireError."""
    path = user_path(text)
    place = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
    if not place.is_dir():
        raise LatentWireError(f"{place} is not a folder: name another place to write to")
    if reason := why_not_writable(path):
        raise LatentWireError(f"{path} cannot be written ({reason}): name another place")
    return path


def nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    # Those of `os.path` take any name: a user that there is not, one that is too long.
    resolved = Path(os.path.expanduser(path)).absolute()  # noqa: PTH111
    places = (resolved, *resolved.parents)
    return next(place for place in places if os.path.exists(place))  # noqa: PTH110


def why_not_writable(folder: Path) -> str | None:
    """Why no file can be made in a folder, or the folder itself be made; None where they can.

    A file is made and removed: permission bits say nothing of quotas and read-only mounts.
    """
    place = nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return f"{place}: {error.strerror or error}"


def read_bytes(path: Path, most_bytes: int | None = None) -> bytes:
    """A file's content; LatentWireError, naming it, for what cannot be read or is no file."""
    try:
        return read_file(path, most_bytes)
    except OSError as error:
        raise LatentWireError(f"{path}: cannot be read ({error.strerror or error})") from None


def csv_lines(path: Path) -> Iterator[str]:
    """The lines of a CSV file with their ends, for `csv.reader`. Raises as `read_text`."""
    return iter(io.StringIO(read_text(path), newline=""))


class NotTextError(ValueError):
    """Bytes that are no text: why, and in which line (from 1)."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def read_text(path: Path, most_bytes: int | None = None) -> str:
    """A file's text, as `decoded` has it.

    Raises LatentWireError, naming the file and the line, for what cannot be read or is no text.
    """
    try:
        return decoded(read_bytes(path, most_bytes))
    except NotTextError as error:
        raise LatentWireError(f"{path}: {error} in line {error.line}: save it as UTF-8") from None


def decoded(data: bytes) -> str:
    """The text in a file's content: UTF-8, or what the mark at its beginning says (UTF-8, UTF-16,
    UTF-32). The mark is left out; line ends stay as they are. Raises NotTextError."""
    mark, encoding = next(
        ((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8")
    )
    data = data[len(mark) :]
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(encoding)
        in_line = before[before.rfind("\n") + 1 :].encode(encoding)
        name = encoding.removesuffix("-le").removesuffix("-be").upper()
        raise NotTextError(
            before.count("\n") + 1, f"not {name} at byte {len(in_line) + 1}"
        ) from None
    if (place := text.find("\0")) >= 0:
        raise NotTextError(text.count("\n", 0, place) + 1, "holds a NUL character")
    return text
