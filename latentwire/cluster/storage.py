"""The tracking store as every task of a job will see it."""

from pathlib import Path
from urllib.parse import urlsplit

from latentwire.checks.file_system import NETWORK, file_system
from latentwire.redaction import redact_uri
from latentwire.tracking.store import sqlite_address, sqlite_path

SERVE = "start a tracking server and set MLFLOW_TRACKING_URI to it"
_HERE = ("localhost", "127.0.0.1", "::1")


def seen_from_anywhere(uri: str, folder: Path) -> str:
    """The URI with a relative SQLite path made absolute in `folder`."""
    path = sqlite_path(uri)
    if path is None:
        return uri
    _, mark, options = uri.partition("?")
    return f"{sqlite_address(folder / path)}{mark}{options}"


def store_warning(uri: str, tasks: int) -> str | None:
    """What may go wrong with this store on a cluster, in one sentence; None for nothing known."""
    path = sqlite_path(uri)
    if path is not None:
        if file_system(path) not in NETWORK:
            return (
                f"the tracking store {path} is on this machine's own disk, where tasks on other"
                f" nodes do not find it: {SERVE}"
            )
        if tasks > 1:
            return (
                f"the tracking store {path} is SQLite on a network file system, whose locks"
                f" may not hold between nodes: {SERVE}"
            )
    place = redact_uri(uri)
    try:
        host = urlsplit(place).hostname
    except ValueError:  # no host's name; the store itself will say so
        return None
    if host in _HERE:
        return f"every node takes the tracking server {place} for itself: give its host name"
    return None
