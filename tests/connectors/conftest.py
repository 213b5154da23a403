"""An empty database of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.connectors.sql_databases import Database, MySQLDatabase, PostgreSQLDatabase, SQLiteDatabase


def _database(kind: str, request: pytest.FixtureRequest, folder: Path) -> Database:
    if kind == "postgresql":
        return PostgreSQLDatabase(request.getfixturevalue("postgresql_server"))
    if kind == "mysql":
        return MySQLDatabase(request.getfixturevalue("mariadb_server"))
    return SQLiteDatabase(folder)


@pytest.fixture(params=["postgresql", "mysql", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Each of the three in turn."""
    made = _database(request.param, request, tmp_path)
    yield made
    made.close()


@pytest.fixture
def postgresql(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    made = _database("postgresql", request, tmp_path)
    yield made
    made.close()


@pytest.fixture
def mysql(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    made = _database("mysql", request, tmp_path)
    yield made
    made.close()


@pytest.fixture
def sqlite(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    made = _database("sqlite", request, tmp_path)
    yield made
    made.close()
