"""SQLite files of tests need not survive a power cut, which is most of what writing a run costs.

Importing this has every SQLite connection that SQLAlchemy makes in this process leave it to the
system when a file reaches the disk. What other processes see is the same.
"""

import sqlite3

from sqlalchemy import event
from sqlalchemy.engine import Engine


@event.listens_for(Engine, "connect")
def _leave_syncing_to_the_system(connection: object, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")
