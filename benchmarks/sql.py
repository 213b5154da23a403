"""Importing rows of PostgreSQL and MySQL, beside a server-side cursor that writes them to files."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import URL

from benchmarks.measure import Contender, NotInstalled, Work, compare
from benchmarks.tables import Table
from citysort_dagster.files import WholeDisk

Row: TypeAlias = tuple[int, str, datetime, bytes]
Rows: TypeAlias = Callable[[dict[str, Any]], Iterator[Row]]

ROWS = 20_000
BYTES = 20_000
QUERY = "SELECT id, name, modified, content FROM documents"
COLUMNS = {
    "query": QUERY,
    "id_column": "id",
    "filename_column": "name",
    "modified_column": "modified",
    "content_column": "content",
}


def run(rounds: int) -> Iterator[tuple[str, Table]]:
    """The tables by name."""
    databases = (
        ("postgresql", "PostgreSQL", _postgresql, postgresql_rows),
        ("mysql", "MariaDB", _mariadb, mysql_rows),
    )
    with ExitStack() as servers:  # until the end: what a server leaves is not deleted between measurements
        for name, shown, server, rows in databases:
            settings = _settings(servers.enter_context(server()))
            contenders = [
                Contender("CitySort, first import", citysort_imports, (name, settings)),
                Contender("server-side cursor", copies, (rows, settings)),
                Contender("cursor, hashed, recorded, synced", copies_for_good, (rows, settings)),
            ]
            yield (
                name,
                Table(
                    f"First import from {shown}: {ROWS:,} rows of {BYTES // 1000} KB",
                    "The server is on loopback, on the same cores. The cursor fetches the same columns and"
                    " writes each content to a file; CitySort also hashes, records and makes durable.",
                    compare(contenders, ROWS, rounds),
                    baselines=["server-side cursor"],
                    times=1.5,
                ),
            )


def citysort_imports(connector_type: str, settings: dict[str, Any], folder: Path) -> Work:
    """CitySort's import of all rows."""
    from benchmarks.installation import prepared_import

    return prepared_import(connector_type, settings | COLUMNS, folder)


def copies(rows: Rows, settings: dict[str, Any], folder: Path) -> Work:
    """Each content to a file."""

    def work() -> int:
        for id_, _, _, content in rows(settings):
            (folder / str(id_)).write_bytes(content)
        return len(os.listdir(folder))  # noqa: PTH208 - 20,000 names

    return work


def copies_for_good(rows: Rows, settings: dict[str, Any], folder: Path) -> Work:
    """The same, with a SHA-256 and a row in one table of SQLite for each, and everything on the disk, a thousand
    at a time: the least that promises like CitySort's cost."""
    disk = WholeDisk(folder)
    database = sqlite3.connect(folder / "documents.db")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE documents (id PRIMARY KEY, name, modified, sha256, size)")

    def commit(batch: list[tuple[object, ...]]) -> None:
        if not disk.sync():
            raise NotInstalled("a file system that is known to sync as a whole")
        with database:
            database.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?)", batch)
        batch.clear()

    def work() -> int:
        batch: list[tuple[object, ...]] = []
        for id_, name, modified, content in rows(settings):
            (folder / str(id_)).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            batch.append((id_, name, modified.isoformat(), digest, len(content)))
            if len(batch) == 1_000:
                commit(batch)
        commit(batch)
        (count,) = database.execute("SELECT count(*) FROM documents").fetchone()
        return int(count)

    return work


def postgresql_rows(settings: dict[str, Any]) -> Iterator[Row]:
    """psycopg's server-side cursor."""
    import psycopg

    with (
        psycopg.connect(
            host=settings["host"],
            port=settings["port"],
            user=settings["username"],
            password=settings["password"],
            dbname=settings["database"],
        ) as connection,
        connection.cursor("documents", binary=True) as cursor,
    ):
        cursor.itersize = 200
        cursor.execute(QUERY)
        yield from cursor


def mysql_rows(settings: dict[str, Any]) -> Iterator[Row]:
    """PyMySQL's unbuffered cursor."""
    import pymysql
    from pymysql.cursors import SSCursor

    connection = pymysql.connect(
        host=settings["host"],
        port=settings["port"],
        user=settings["username"],
        password=settings["password"],
        database=settings["database"],
        cursorclass=SSCursor,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(QUERY)
        yield from cursor


@contextmanager
def _postgresql() -> Iterator[URL]:
    from sandbox.postgresql import postgresql_server

    with postgresql_server() as server:
        url = server.create_database("benchmark")
        with server.connect(str(url.database)) as connection, connection.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE documents (id int PRIMARY KEY, name text, modified timestamptz, content bytea)"
            )
            with cursor.copy("COPY documents FROM STDIN") as copy:
                for number, name, modified, content in _rows():
                    copy.write_row((number, name, modified, content))
            cursor.execute("VACUUM ANALYZE documents")
        yield url


@contextmanager
def _mariadb() -> Iterator[URL]:
    from sandbox.mariadb import mariadb_server

    with mariadb_server() as server:
        url = server.create_database("benchmark")
        connection = server.connect(str(url.database))
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE documents (id int PRIMARY KEY, name text, modified datetime, content mediumblob)"
            )
            batch: list[Any] = []
            for row in _rows():
                batch.append(row)
                if len(batch) == 100:
                    cursor.executemany("INSERT INTO documents VALUES (%s, %s, %s, _binary %s)", batch)
                    batch.clear()
            cursor.execute("ANALYZE TABLE documents")
        yield url


def _rows() -> Iterator[Row]:
    """Dated over two years, so that the import goes through two dozen partitions."""
    content = os.urandom(BYTES)
    for number in range(ROWS):
        modified = datetime(2024, 1, 1) + timedelta(minutes=52 * number)  # noqa: DTZ001 - UTC for either server
        yield number, f"letter {number}.pdf", modified, b"%08d" % number + content[8:]


def _settings(url: URL) -> dict[str, Any]:
    return {
        "host": url.host,
        "port": url.port,
        "username": url.username,
        "password": url.password,
        "database": url.database,
    }
