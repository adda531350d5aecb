"""Can MLflow use the database that a tracking URI names? Asked once, and before MLflow is.

MLflow asks a database that does not answer ten times in two minutes, and one whose tables are of
an older version it may upgrade without a word, for all who share it.
"""

import importlib
from pathlib import Path

from mlflow.store.db.db_types import DATABASE_ENGINES, MYSQL, POSTGRES, SQLITE
from mlflow.store.db.utils import _get_latest_schema_revision
from mlflow.store.tracking.dbmodels.models import Base
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from latentwire.errors import LatentWireError

CONNECT_TIMEOUT_S = 10
LOCK_TIMEOUT_S = 20  # what MLflow waits for a SQLite file, too
_VERSIONS = "mlflow.store.db_migrations.versions"


def is_database(uri: str) -> bool:
    """Whether MLflow would open a tracking URI as a database."""
    return uri.partition(":")[0].partition("+")[0] in DATABASE_ENGINES


class OlderSchemaError(LatentWireError):
    """A database has tables of an older MLflow, or is still being made."""


def check_database(uri: str, place: str) -> None:
    """Raise LatentWireError unless the database answers and has this MLflow's tables, or none.

    `place` is the URI as it may be shown.
    """
    try:
        engine = _engine(uri)
        try:
            _check_tables(engine, place)
        finally:
            engine.dispose()
    except ImportError as error:
        raise LatentWireError(
            f"the tracking store {place} needs the Python package {error.name}, which is not"
            " installed: install it, or name a driver that is, as in postgresql+psycopg://"
        ) from error
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise LatentWireError(
            f"the tracking store {place} is no database address that can be read: mend"
            " MLFLOW_TRACKING_URI"
        ) from error
    except SQLAlchemyError as error:
        reason = (str(getattr(error, "orig", error)).splitlines() or [type(error).__name__])[0]
        raise LatentWireError(
            f"the tracking store {place} cannot be used ({reason}): start the database, or mend or"
            " unset MLFLOW_TRACKING_URI"
        ) from error


def _engine(uri: str) -> Engine:
    kind = uri.partition(":")[0].partition("+")[0]
    arguments: dict[str, int] = {}
    if kind in (POSTGRES, MYSQL):
        arguments["connect_timeout"] = CONNECT_TIMEOUT_S
    elif kind == SQLITE:
        arguments["timeout"] = LOCK_TIMEOUT_S
    return create_engine(uri, poolclass=NullPool, connect_args=arguments)


def _check_tables(engine: Engine, place: str) -> None:
    with engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        version = None
        if "alembic_version" in tables:
            version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if version is None:
        other = tables - set(Base.metadata.tables) - {"alembic_version"}
        if other and engine.dialect.name == SQLITE:
            raise LatentWireError(
                f"{place} is a database of another program (it has a table {min(other)}): name"
                " another file in MLFLOW_TRACKING_URI"
            )
        return
    if version == _get_latest_schema_revision():
        return
    if _is_known(version):
        raise OlderSchemaError(
            f"the tracking store {place} was made by an older MLflow: make a copy of it, then run"
            " `mlflow db upgrade` with its address"
        )
    raise LatentWireError(
        f"the tracking store {place} was made by a newer MLflow than the one here: install that"
        " version, or name another store in MLFLOW_TRACKING_URI"
    )


def _is_known(version: str) -> bool:
    folder = Path(str(importlib.import_module(_VERSIONS).__path__[0]))
    return any(path.name.startswith(f"{version}_") for path in folder.iterdir())
