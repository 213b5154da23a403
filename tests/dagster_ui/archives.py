"""Sources for the tests: archives in SQLite files, in a folder, and in PostgreSQL behind a line that breaks."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from sandbox.postgresql import PostgreSQLServer
from tests.dagster_ui.graphql import wait_for

MAPPING = {
    "query": "SELECT * FROM documents",
    "id_column": "id",
    "filename_column": "name",
    "content_column": "content",
    "modified_column": "modified",
}


@dataclass
class SQLiteArchive:
    """A SQLite file with a table of documents."""

    path: Path

    def __post_init__(self) -> None:
        self.execute("CREATE TABLE documents (id TEXT, name TEXT, modified TEXT, content BLOB)")

    def execute(self, statement: str, *parameters: Any) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(statement, parameters)

    def put(self, id_: str, modified: str, content: bytes | None) -> None:
        self.execute("INSERT INTO documents VALUES (?, ?, ?, ?)", id_, f"{id_}.txt", modified, content)

    def settings(self) -> dict[str, Any]:
        return {**MAPPING, "filepath": str(self.path)}


@dataclass
class FolderArchive:
    """Files in a folder, named in a SQLite file. It has no dates but those of the files, so that
    every listing is of everything."""

    path: Path

    def __post_init__(self) -> None:
        self.files = self.path / "files"
        self.files.mkdir(parents=True)
        self._table = SQLiteArchive(self.path / "files.db")

    def put(self, name: str, modified: datetime, content: bytes) -> None:
        file = self.files / name
        file.write_bytes(content)
        os.utime(file, (modified.timestamp(), modified.timestamp()))
        self._table.execute("INSERT INTO documents (id, name) VALUES (?, ?)", name, name)

    def settings(self) -> dict[str, Any]:
        return {
            "filepath": str(self._table.path),
            "query": "SELECT id, name FROM documents",
            "id_column": "id",
            "filename_column": "name",
            "file_path_column": "name",
            "files_root": str(self.files),
        }


@dataclass
class PostgreSQLArchive:
    """A table of documents in a database of its own."""

    server: PostgreSQLServer
    port: int | None = None
    """Where clients reach it, if not directly."""

    def __post_init__(self) -> None:
        self.database = str(self.server.create_database("archive").database)
        self.execute("CREATE TABLE documents (id text, name text, modified timestamptz, content bytea)")

    def execute(self, statement: str, rows: Sequence[Sequence[Any]] = ()) -> None:
        with self.server.connect(self.database) as connection, connection.cursor() as cursor:
            if rows:
                cursor.executemany(statement.encode(), rows)
            else:
                cursor.execute(statement.encode())

    def put(self, *documents: tuple[str, str, bytes]) -> None:
        rows = [(id_, f"{id_}.txt", modified, content) for id_, modified, content in documents]
        self.execute("INSERT INTO documents VALUES (%s, %s, %s, %s)", rows)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody can read the table in the meantime; readers wait."""
        with self.server.connect(self.database) as connection, connection.transaction():
            connection.execute("LOCK TABLE documents IN ACCESS EXCLUSIVE MODE")
            yield

    def settings(self, password_variable: str) -> dict[str, Any]:
        return {
            **MAPPING,
            "host": self.server.host,
            "port": self.port or self.server.port,
            "database": self.database,
            "username": self.server.username,
            "password": {"env": password_variable},
        }


@dataclass
class Line:
    """A line to a server on loopback. While it is `weak`, it breaks when a listing asks for its next
    rows after the first documents have been downloaded, and nobody gets through until it is mended."""

    port: int
    weak: bool = True
    broken: bool = False
    _lock: Lock = field(default_factory=Lock)
    _open: list[socket.socket] = field(default_factory=list)
    _listing: socket.socket | None = None
    _downloaded: int = 0

    def snap(self) -> None:
        with self._lock:
            self.broken = True
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self.weak = self.broken = False

    def carry(self, client: socket.socket, upstream: tuple[str, int]) -> None:
        with ExitStack() as stack:
            stack.enter_context(client)
            with self._lock:
                if self.broken:
                    return
                server = stack.enter_context(socket.create_connection(upstream))
                self._open += [client, server]
            back = Thread(target=self._pass, args=(server, client), daemon=True)
            back.start()
            self._pass(client, server)
            back.join()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if self.weak and b"FETCH" in data:
                    # The first who fetches rows is the listing; downloads have connections of their own.
                    self._listing = self._listing or source
                    if source is self._listing and len(self._open) > 2:
                        wait_for("downloads over the line", lambda: self._downloaded > FIRST_DOWNLOADS)
                        self.snap()
                        return
                target.sendall(data)
                if target is not self._listing:
                    self._downloaded += len(data)
            target.shutdown(socket.SHUT_RDWR)


FIRST_DOWNLOADS = 60_000
"""Bytes that downloads bring before the line breaks."""


@contextmanager
def line_to(upstream: tuple[str, int]) -> Iterator[Line]:
    """A line to this address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = Line(listener.getsockname()[1])

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    Thread(target=line.carry, args=(client, upstream), daemon=True).start()

        accepting = Thread(target=accept, daemon=True)
        accepting.start()
        yield line
        line.snap()
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
