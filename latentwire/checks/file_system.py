"""Folders: which file system they are on."""

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
