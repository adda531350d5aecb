"""A store whose tables are copied is the one that MLflow makes."""

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlite_stores
from mlflow.store.db import utils
from sqlalchemy import Column, MetaData, String, Table, create_engine, insert, select
from sqlite_stores import copy_tables, make_tables


def contents(path: Path) -> list[list[str]]:
    """The lines of all statements that would make the file again, sorted: MLflow makes indices and
    constraints in any order."""
    with closing(sqlite3.connect(path)) as database:
        made = (sorted(line.strip(" \t,") for line in s.splitlines()) for s in database.iterdump())
        return sorted(made)


def test_a_copy_is_what_mlflow_makes(tmp_path: Path) -> None:
    sqlite_stores.make_the_first()
    for name, make in (("made", make_tables), ("copied", copy_tables)):
        engine = create_engine(f"sqlite:///{tmp_path / name}")
        make(engine)
        engine.dispose()
    assert contents(tmp_path / "copied") == contents(tmp_path / "made")
    assert any("alembic_version" in line for [line, *_] in contents(tmp_path / "copied"))


def test_a_file_with_tables_is_left_to_mlflow(tmp_path: Path) -> None:
    path = tmp_path / "other"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE mine (a)")
    engine = create_engine(f"sqlite:///{path}")
    copy_tables(engine)
    engine.dispose()
    assert ["CREATE TABLE mine (a);"] in contents(path)
    assert any('CREATE TABLE "runs" (' in lines for lines in contents(path))


def test_a_statement_is_compiled_once_and_each_store_has_its_own_rows(tmp_path: Path) -> None:
    first, second = (utils.create_sqlalchemy_engine(f"sqlite:///{tmp_path / n}") for n in "ab")
    table = Table("kept", MetaData(), Column("name", String))
    statements = (insert(table), {"name": "here"}), (select(table.c.name), {})
    table.metadata.create_all(first)
    table.metadata.create_all(second)
    with first.begin() as connection:
        for statement in statements:
            connection.execute(*statement)
    known = list(second._compiled_cache)
    with second.begin() as connection:
        connection.execute(insert(table), {"name": "there"})
        assert connection.execute(select(table.c.name)).scalars().all() == ["there"]
    assert list(second._compiled_cache) == known
    with first.connect() as connection:
        assert connection.execute(select(table.c.name)).scalars().all() == ["here"]
    other = create_engine("postgresql+psycopg://nobody@127.0.0.1/nothing")
    assert sqlite_stores.share_statements(other)._compiled_cache is not first._compiled_cache
    for engine in (first, second, other):
        engine.dispose()
