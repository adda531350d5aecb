"""SQLite stores of tests: their tables are made once, and the system says when they are on disk.

Importing this has every SQLite connection that SQLAlchemy makes in this process leave it to the
system when a file reaches the disk: they need not survive a power cut, which is most of what
writing a run costs. What other processes see is the same.

MLflow makes tables by all migrations that there ever were, which takes most of a second. It does so
for the first store of a process; the next ones get copies. Which migration is the last it finds out
once, too, and not whenever a store is opened. Nor are statements compiled for each store.
"""

import logging
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from mlflow.store.db import utils
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine

make_tables = utils._initialize_tables
_first_engine: list[Engine] = []  # once MLflow has made one
_made: list[bytes] = []  # a file of tables without rows, once there is one


@event.listens_for(Engine, "connect")
def _leave_syncing_to_the_system(connection: object, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


def copy_tables(engine: Engine) -> None:
    """Does what `make_tables` does; a file that is not empty is left to that."""
    path = engine.url.database if engine.dialect.name == "sqlite" else None
    if path is None or _tables(path):
        make_tables(engine)
    elif _made:
        with closing(sqlite3.connect(":memory:")) as made, closing(sqlite3.connect(path)) as copy:
            made.deserialize(_made[0])
            made.backup(copy)
    else:
        make_tables(engine)
        with closing(sqlite3.connect(path)) as database:
            _made.append(database.serialize())


def _tables(path: str) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0])


def share_statements(engine: Engine) -> Engine:
    """Have an engine know the SQL of each statement that MLflow's other ones have compiled: it is
    the same for all files."""
    if engine.dialect.name == "sqlite":
        first = _first_engine or [engine]
        _first_engine[:] = first
        engine.dialect = first[0].dialect  # a part of the key under which the SQL is kept
        engine._compiled_cache = first[0]._compiled_cache
    return engine


def make_the_first() -> None:
    """From now on there is something to copy, also in processes that are forked from this one."""
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder) / 'first.db'}")
        copy_tables(engine)
        engine.dispose()
    utils._get_latest_schema_revision()


make_engine = utils.create_sqlalchemy_engine
utils.create_sqlalchemy_engine = lambda uri: share_statements(make_engine(uri))
utils._initialize_tables = copy_tables
utils._get_latest_schema_revision = cache(utils._get_latest_schema_revision)
