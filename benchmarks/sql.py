"""Importing rows of PostgreSQL and MySQL, beside a server-side cursor that writes them to files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from benchmarks.measure import Contender, Work, compare
from benchmarks.tables import Table

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
    for name, shown, server, cursor in (
        ("postgresql", "PostgreSQL", _postgresql, postgresql_copies),
        ("mysql", "MariaDB", _mariadb, mysql_copies),
    ):
        with server() as url:
            ours = Contender("CitySort, first import", citysort_imports, (name, _settings(url)))
            bare = Contender("server-side cursor", cursor, (_settings(url),))
            yield (
                name,
                Table(
                    f"First import from {shown}: {ROWS:,} rows of {BYTES // 1000} KB",
                    "The server is on loopback, on the same cores. The cursor fetches the same columns and"
                    " writes each content to a file; CitySort also hashes, records and makes durable.",
                    compare([ours, bare], ROWS, rounds),
                    baselines=["server-side cursor"],
                    times=1.5,
                ),
            )


def citysort_imports(connector_type: str, settings: dict[str, Any], folder: Path) -> Work:
    """CitySort's import of all rows."""
    from benchmarks.installation import prepared_import

    return prepared_import(connector_type, settings | COLUMNS, folder)


def postgresql_copies(settings: dict[str, Any], folder: Path) -> Work:
    """psycopg's server-side cursor."""
    import psycopg

    def work() -> int:
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
            for id_, _, _, content in cursor:
                (folder / str(id_)).write_bytes(content)
        return len(os.listdir(folder))  # noqa: PTH208 - 20,000 names

    return work


def mysql_copies(settings: dict[str, Any], folder: Path) -> Work:
    """PyMySQL's unbuffered cursor."""
    import pymysql
    from pymysql.cursors import SSCursor

    def work() -> int:
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
            for id_, _, _, content in cursor:
                (folder / str(id_)).write_bytes(content)
        return len(os.listdir(folder))  # noqa: PTH208

    return work


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


def _rows() -> Iterator[tuple[int, str, datetime, bytes]]:
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
