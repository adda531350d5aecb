"""A SQLite store whose folder was moved or copied: where its artifacts are now.

MLflow writes places of artifacts absolutely, into each experiment and each run, and makes a folder
that is not there without a word. Where the store and its artifacts now lie elsewhere, the old place
would come back; where they were copied, the copy would write into the original. No call of MLflow's
client changes a place, so it is changed in the database, in one transaction.

A place is looked for by its last parts (`mlruns/1`) beside the store, and in the current folder. It
counts as found only if it holds the folder of a run of its experiment: their names are random.
"""

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from latentwire.errors import LatentWireError

LOCK_TIMEOUT_S = 20
_TAIL = 2  # parts of a place that stay: mlruns/1

log = logging.getLogger("latentwire")


@dataclass(frozen=True)
class _Experiment:
    number: int
    name: str
    location: str  # as the store has it: a path, or a file: URI
    folder: Path
    created_ms: int | None


@dataclass(frozen=True)
class _Move:
    experiment: _Experiment
    folder: Path  # where its artifacts go from now on
    found: bool  # whether the artifacts of its runs are there


def local_folder(location: str) -> Path | None:
    """The folder of a file: URI or a plain path; None for artifacts that are elsewhere, and for
    what is no address."""
    try:
        parts = urlparse(location)
    except ValueError:
        return None
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(location) if parts.scheme == "" else None


def follow_artifacts(store_file: Path) -> None:
    """Correct the places of a store's artifacts, with a warning for each experiment.

    Nobody else opens the store meanwhile. Raises LatentWireError where the file cannot be written.
    """
    store_file = store_file.absolute()
    try:
        with closing(_connect(store_file, "ro")) as database:
            moves = list(_moves(database, store_file))
        if not moves:
            return
        with closing(_connect(store_file, "rw")) as database:
            database.execute("BEGIN IMMEDIATE")
            for move in moves:
                _rewrite(database, move)
            database.commit()
    except sqlite3.Error as error:
        raise LatentWireError(
            f"the tracking store {store_file} was moved, and its places of artifacts could not be"
            f" corrected: {error}"
        ) from error
    for move in moves:
        log.warning(
            "the project was moved or copied: artifacts of experiment %r are in %s from now on, not"
            " in %s%s",
            move.experiment.name,
            move.folder,
            move.experiment.folder,
            "" if move.found else "; those of earlier runs were not found",
        )


def _connect(file: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{file.as_uri()}?mode={mode}", uri=True, timeout=LOCK_TIMEOUT_S, isolation_level=None
    )


def _moves(database: sqlite3.Connection, store_file: Path) -> Iterator[_Move]:
    for experiment in _experiments(database):
        try:
            move = _move(database, experiment, store_file.resolve())
        except (OSError, ValueError, RuntimeError) as error:  # not ours to look into, or no path
            log.debug("experiment %s: %s", experiment.name, error)
            continue
        if move is not None:
            yield move


def _move(database: sqlite3.Connection, experiment: _Experiment, store_file: Path) -> _Move | None:
    old, bases = experiment.folder, [store_file.parent, Path.cwd().resolve()]
    if old.resolve().is_relative_to(bases[0]):
        return None
    is_there = old.is_dir()
    if is_there and not _is_original(experiment, store_file, bases):
        return None
    runs = {name for (name,) in _runs(database, experiment, "run_uuid")}
    places = _places(old, bases)
    new = next((p for p in places if any(entry.name in runs for entry in p.iterdir())), None)
    if new is not None:
        return _Move(experiment, new, found=True)
    if is_there or not old.parents[_TAIL - 1].exists():
        return _Move(experiment, bases[0].joinpath(*old.parts[-_TAIL:]), is_there or not runs)
    return None


def _experiments(database: sqlite3.Connection) -> list[_Experiment]:
    """Those whose artifacts lie in a folder of this machine, by an absolute path."""
    query = "SELECT 1 FROM sqlite_master WHERE name = 'experiments'"
    if not database.execute(query).fetchone():
        return []  # half made, as MLflow will say
    query = "SELECT experiment_id, name, artifact_location, creation_time FROM experiments"
    found = []
    for number, name, location, created_ms in database.execute(query):
        folder = local_folder(location or "")
        if folder is not None and folder.is_absolute() and len(folder.parts) > _TAIL:
            found.append(_Experiment(number, name, location, folder, created_ms))
    return found


def _runs(
    database: sqlite3.Connection, experiment: _Experiment, columns: str
) -> list[tuple[str, ...]]:
    query = f"SELECT {columns} FROM runs WHERE experiment_id = ?"
    return database.execute(query, (experiment.number,)).fetchall()


def _places(old: Path, bases: Sequence[Path]) -> Iterator[Path]:
    """Folders that may be `old` at a new place, those that share most with it first."""
    for base in bases:
        for count in range(len(old.parts) - 1, _TAIL - 1, -1):
            place = base.joinpath(*old.parts[-count:])
            if place.is_dir() and not (old.is_dir() and place.samefile(old)):
                yield place


def _is_original(experiment: _Experiment, store_file: Path, bases: Sequence[Path]) -> bool:
    """Whether the folder of an experiment's artifacts belongs to the store that this one is a copy
    of: one of the same name, there, with the same experiment in it."""
    for base in bases:
        if not store_file.is_relative_to(base):
            continue
        other = experiment.folder.parents[_TAIL - 1] / store_file.relative_to(base)
        if not other.is_file() or other.samefile(store_file):
            continue
        query = "SELECT 1 FROM experiments WHERE experiment_id = ? AND creation_time = ?"
        with suppress(sqlite3.Error), closing(_connect(other.absolute(), "ro")) as database:
            if database.execute(query, (experiment.number, experiment.created_ms)).fetchone():
                return True
    return False


def _rewrite(database: sqlite3.Connection, move: _Move) -> None:
    """Change the place of an experiment and of its runs: of those whose artifacts are not at the
    old place alone, and, where nothing was found, of those that are still to write theirs."""
    old, new = move.experiment, move.folder
    location = new.as_uri() if old.location.startswith("file:") else str(new)
    places = []
    for run_id, status, uri in _runs(database, old, "run_uuid, status, artifact_uri"):
        below = (uri or "").removeprefix(old.location)
        if below == uri or not below.startswith("/"):
            continue
        if (new / run_id).exists() or (
            not (old.folder / run_id).exists() and (move.found or status == "RUNNING")
        ):
            places.append((location + below, run_id))
    database.execute(
        "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
        (location, old.number),
    )
    database.executemany("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", places)
