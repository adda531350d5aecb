"""The tracking store: can it be reached and written, and do artifacts come back as they were?"""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import mlflow
from packaging.version import InvalidVersion, Version

from latentwire.checks.file_system import NETWORK, file_system
from latentwire.checks.report import CheckWarning
from latentwire.errors import LatentWireError, first_line
from latentwire.redaction import redact_uri
from latentwire.tracking.moved import local_folder
from latentwire.tracking.store import Store, http_get, is_server, sqlite_path
from latentwire.user_files import why_not_writable

LOCK_TIMEOUT_S = 5
_REMOTE_FILE = "round_trip.txt"


def check_store(uri: str) -> str:
    """Is the store there, as far as can be seen without opening it?

    Raises LatentWireError for a server that does not answer and for a SQLite file that cannot be
    written, and CheckWarning for SQLite on a network file system and a server of another version.
    """
    if is_server(uri):
        http_get(uri)
        return _server_version(uri)
    path = sqlite_path(uri)
    if path is None:
        return redact_uri(uri)
    reason = why_not_writable(path.parent) or _why_refused(path)
    if reason:
        raise LatentWireError(f"{path} cannot be written ({reason})")
    kind = file_system(path)
    if kind in NETWORK:
        raise CheckWarning(
            f"{path} is SQLite on a network file system ({kind}), whose locks may not hold"
        )
    return f"{path}{'' if path.exists() else ', which a run makes'}"


def _why_refused(path: Path) -> str | None:
    """Why a SQLite file that exists takes no writes: asked for the right to write, and given back
    unused. A file that is not there yet takes them.

    Raises CheckWarning where another process holds it: that may be a run that is writing.
    """
    if not path.exists():
        return None
    try:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_TIMEOUT_S)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise CheckWarning(
                f"{path} has been held by another process for {LOCK_TIMEOUT_S} s"
            ) from None
        return str(error)
    return None


def _server_version(uri: str) -> str:
    here, answer = mlflow.__version__, http_get(uri, "/version")
    try:
        there = Version(answer.text.strip()) if answer.ok else None
    except InvalidVersion:
        there = None
    if there and there.major != Version(here).major:
        raise CheckWarning(f"{redact_uri(uri)} is MLflow {there}, here is {here}")
    return f"{redact_uri(uri)}" + (f", MLflow {there}" if there else "")


def check_artifacts(store: Store) -> str:
    """Where new runs' artifacts go; a folder of this machine must be writable."""
    if not store.experiment_id:
        return "the experiment is made by the first run"
    location = store.client.get_experiment(store.experiment_id).artifact_location
    folder = local_folder(location)
    if folder is None:
        return f"artifacts go to {redact_uri(location)}"
    reason = why_not_writable(folder)
    if reason:
        raise LatentWireError(f"the artifact folder {folder} cannot be written ({reason})")
    return f"artifacts go to {folder}"


def round_trip(store: Store, run_id: str) -> str:
    """Store an artifact in a run and read it back.

    Raises LatentWireError where the store does not take it, or gives back something else.
    """
    text = "written and read back\n"
    try:
        store.client.log_text(run_id, text, _REMOTE_FILE)
        with tempfile.TemporaryDirectory() as folder:
            read = store.client.download_artifacts(run_id, _REMOTE_FILE, folder)
            found = Path(read).read_text(encoding="utf-8")
    except Exception as error:  # every artifact store has failures of its own
        reason = first_line(error)
        raise LatentWireError(f"an artifact could not be stored and read back: {reason}") from None
    if found != text:
        raise LatentWireError("an artifact came back altered")
    return "an artifact was written and read back"
