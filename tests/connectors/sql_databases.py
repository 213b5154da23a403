"""The three SQL databases under one roof, for tests that hold for each of them."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa

from connectors.base import Connector, ExternalDocument, Window, download_verified
from connectors.registry import get_connector
from sandbox.mariadb import MariaDBServer
from sandbox.postgresql import PostgreSQLServer

COLUMNS = ("id", "name", "modified", "content")


class Database(ABC):
    """An empty database of one kind, and connectors to it."""

    kind: ClassVar[str]
    types: ClassVar[Mapping[str, str]]
    """The column types for bytes, text, an integer id, a local time and a moment."""

    def __init__(self) -> None:
        self._connectors: list[Connector] = []

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What leads a connector to this database."""

    @abstractmethod
    def execute(self, statement: str, rows: Sequence[Sequence[Any]] = ()) -> list[tuple[Any, ...]]:
        """Runs a statement as the administrator, once per row where there are rows."""

    @abstractmethod
    def disconnect_clients(self) -> None:
        """Breaks every connection to the database."""

    @property
    def marker(self) -> str:
        return "%s"

    def create(self, content: str = "bytes", id_: str = "integer", modified: str = "local") -> None:
        """The table `documents` with id, name, modified and content."""
        types = self.types
        self.execute(
            f"CREATE TABLE documents (id {types.get(id_, id_)}, name {types['name']},"
            f" modified {types.get(modified, modified)}, content {types[content]})"
        )

    def insert(self, *rows: Sequence[Any]) -> None:
        markers = ", ".join([self.marker] * len(rows[0]))
        self.execute(f"INSERT INTO documents VALUES ({markers})", rows)

    def fill_with_squares(self, side: int) -> str:
        """Fills the table; the query that is returned has side * side rows of 300 bytes."""
        self.create()
        modified = datetime(2026, 1, 15, 12)  # noqa: DTZ001 - as a column without zones holds it
        self.insert(*((number, "x" * 290, modified, b"") for number in range(side)))
        return (
            "SELECT a.id * 1000 + b.id AS id, a.name AS name, a.modified AS modified, a.content AS content"
            " FROM documents a, documents b"
        )

    def connector(self, query: str = "SELECT * FROM documents", **settings: Any) -> Connector:
        """A connector to the table, or with the settings given instead; None leaves one out."""
        mapping = {
            "query": query,
            "id_column": "id",
            "filename_column": "name",
            "modified_column": "modified",
            "content_column": "content",
        }
        merged = {**self.settings(), **mapping, **settings}
        made = get_connector(self.kind, {name: value for name, value in merged.items() if value is not None})
        self._connectors.append(made)
        return made

    def close(self) -> None:
        for connector in self._connectors:
            connector.close()


class PostgreSQLDatabase(Database):
    kind: ClassVar[str] = "postgresql"
    types: ClassVar[Mapping[str, str]] = {
        "bytes": "bytea",
        "text": "text",
        "name": "text",
        "integer": "bigint",
        "local": "timestamp",
        "moment": "timestamptz",
    }

    def __init__(self, server: PostgreSQLServer) -> None:
        super().__init__()
        self.server = server
        self.url = server.create_database("connector")

    def settings(self) -> dict[str, Any]:
        return _server_settings(self.url)

    def execute(self, statement: str, rows: Sequence[Sequence[Any]] = ()) -> list[tuple[Any, ...]]:
        with self.server.connect(str(self.url.database)) as connection, connection.cursor() as cursor:
            if rows:
                cursor.executemany(statement, rows)
                return []
            cursor.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def disconnect_clients(self) -> None:
        assert self.server.disconnect_clients(str(self.url.database))


class MySQLDatabase(Database):
    kind: ClassVar[str] = "mysql"
    types: ClassVar[Mapping[str, str]] = {
        "bytes": "longblob",
        "text": "longtext",
        "name": "varchar(300)",
        "integer": "bigint",
        "local": "datetime(6) NULL",
        "moment": "timestamp(6) NULL",
    }

    def __init__(self, server: MariaDBServer) -> None:
        super().__init__()
        self.server = server
        self.url = server.create_database("connector")

    def settings(self) -> dict[str, Any]:
        return _server_settings(self.url)

    def execute(self, statement: str, rows: Sequence[Sequence[Any]] = ()) -> list[tuple[Any, ...]]:
        with closing(self.server.connect(self.url.database)) as connection, connection.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00'")
            if rows:
                cursor.executemany(statement, rows)
                return []
            cursor.execute(statement)
            return list(cursor.fetchall())

    def disconnect_clients(self) -> None:
        assert self.server.disconnect_clients(str(self.url.database))


class SQLiteDatabase(Database):
    kind: ClassVar[str] = "sqlite"
    types: ClassVar[Mapping[str, str]] = {
        "bytes": "blob",
        "text": "text",
        "name": "text",
        "integer": "integer",
        "local": "text",
        "moment": "text",
    }

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "archive of the city #1?.db"

    def settings(self) -> dict[str, Any]:
        return {"filepath": str(self.path)}

    @property
    def marker(self) -> str:
        return "?"

    def execute(self, statement: str, rows: Sequence[Sequence[Any]] = ()) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            if not rows:
                return connection.execute(statement).fetchall()
            connection.execute("BEGIN")
            texts = (
                [value.isoformat(" ") if isinstance(value, datetime) else value for value in row]
                for row in rows
            )
            connection.executemany(statement, texts)
            connection.execute("COMMIT")
            return []

    def disconnect_clients(self) -> None:
        raise AssertionError("a file has no clients to disconnect")


def _server_settings(url: sa.URL) -> dict[str, Any]:
    return {
        "host": url.host,
        "port": url.port,
        "database": url.database,
        "username": url.username,
        "password": url.password,
    }


def listed(connector: Connector, window: Window | None = None) -> dict[str, ExternalDocument]:
    """Every document of a listing by its external id, which must not repeat."""
    documents = list(connector.list_documents(window))
    found = {document.external_id: document for document in documents}
    assert len(found) == len(documents)
    return found


def fetched(connector: Connector, document: ExternalDocument) -> bytes:
    """The bytes of a document, checked as the import checks them."""
    into = BytesIO()
    download_verified(connector, document, into)
    return into.getvalue()
