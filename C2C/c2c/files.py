"""Opening a file that somebody names."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_file(path: Path) -> BinaryIO:
    """A regular file, to be read; who opens it closes it.

    Raises OSError, with a reason in `strerror`, for a file that cannot be read and for what is no
    file: a pipe would be waited for, and a device may have no end.
    """
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "its name holds a NUL character", str(path))
    # A pipe that nobody writes to would not even open without O_NONBLOCK.
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(number).st_mode):
        return os.fdopen(number, "rb")
    os.close(number)
    raise OSError(errno.EINVAL, "it is a folder, a pipe or a device, not a file", str(path))


def read_file(path: Path, most_bytes: int | None = None) -> bytes:
    """The content of a regular file of at most `most_bytes`; raises as `open_file`."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most_bytes is not None and size > most_bytes:
            what = f"{size} bytes, at most {most_bytes} are read"
            raise OSError(errno.EFBIG, what, str(path))
        return file.read()
