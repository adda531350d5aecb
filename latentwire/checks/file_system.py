"""Folders: which file system they are on, and whether they can be written."""

import os
import tempfile
from pathlib import Path

import psutil

# File systems that several machines can mount at once; FUSE names theirs behind "fuse.".
NETWORK = (
    *("nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cephfs", "glusterfs", "cifs", "smb3"),
    *("panfs", "pvfs2", "orangefs", "afs", "wekafs", "juicefs", "9p", "virtiofs"),
)


def file_system(path: Path) -> str:
    """The type of the file system that a path is (or would be) on; "" where it cannot be told."""
    resolved = path.resolve()
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    for place in (resolved, *resolved.parents):
        if place in mounts:
            return mounts[place].removeprefix("fuse.")
    return ""


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
