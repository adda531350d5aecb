"""The tracking store as every task of a job will see it."""

from pathlib import Path
from urllib.parse import urlsplit

from latentwire.checks.file_system import NETWORK, file_system
from latentwire.redaction import without_password

SERVE = "start a tracking server and set MLFLOW_TRACKING_URI to it"
_SQLITE = "sqlite:///"
_HERE = ("localhost", "127.0.0.1", "::1")


def seen_from_anywhere(uri: str, folder: Path) -> str:
    """The URI with a relative SQLite path made absolute in `folder`."""
    if not uri.startswith(_SQLITE):
        return uri
    path, mark, options = uri.removeprefix(_SQLITE).partition("?")
    return f"{_SQLITE}{folder / path}{mark}{options}"


def doubt(uri: str, tasks: int) -> str | None:
    """What may go wrong with this store on a cluster, in one sentence; None for nothing known."""
    if uri.startswith(_SQLITE):
        path = Path(uri.removeprefix(_SQLITE).partition("?")[0])
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
    place = without_password(uri)
    try:
        host = urlsplit(place).hostname
    except ValueError:  # no host's name; the store itself will say so
        return None
    if host in _HERE:
        return f"every node takes the tracking server {place} for itself: give its host name"
    return None
