"""PostgreSQL for tests and benchmarks: a private server that leaves nothing behind, or one you name."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url

from citysort_dagster.server_process import ServerError, ServerProcess, find_program, free_port

VARIABLE = "CITYSORT_TEST_POSTGRESQL_URL"


@dataclass
class PostgreSQLServer:
    """A running server and an account that may do everything on it."""

    host: str
    port: int
    username: str
    password: str = field(repr=False)
    _command: list[str | Path] = field(default_factory=list, repr=False)
    _account: str | None = None
    _process: ServerProcess | None = field(default=None, repr=False)
    _databases: list[str] = field(default_factory=list, repr=False)

    @property
    def admin_url(self) -> URL:
        """SQLAlchemy's address of the maintenance database, password included."""
        return self.url("postgres")

    def url(self, database: str) -> URL:
        """SQLAlchemy's address of a database on this server, password included."""
        return URL.create("postgresql+psycopg", self.username, self.password, self.host, self.port, database)

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """An autocommitting connection as the administrator."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.username,
            password=self.password,
            dbname=database,
            autocommit=True,
            connect_timeout=10,
        )

    def create_database(self, name: str = "citysort") -> URL:
        """The address of a new, empty database; its name begins with `name` and is unused so far."""
        name = f"{name}_{secrets.token_hex(4)}"
        create = sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(sql.Identifier(name))
        with self.connect() as connection:
            if connection.info.server_version >= 150_000:
                create += sql.SQL(" STRATEGY FILE_COPY")  # in half the time of the default, or less
            connection.execute(create)
        self._databases.append(name)
        return self.url(name)

    def drop_databases(self) -> None:
        """Drops every database that was created through this object, whoever is connected."""
        with self.connect() as connection:
            while self._databases:
                name = sql.Identifier(self._databases.pop())
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))

    def disconnect_clients(self, database: str) -> int:
        """Ends every connection to a database, as a restart of the server would; returns how many."""
        with self.connect() as connection:
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s AND pid <> pg_backend_pid()",
                [database],
            )
            return len(ended.fetchall())

    def start(self) -> None:
        """Starts a private server and waits until it answers."""
        log = Path(str(self._command[-1])).parent / "server.log"
        self._process = ServerProcess(self._command, log, user=self._account, stop_signal="INT")
        self._process.wait_until(lambda: self.connect().close(), psycopg.OperationalError)

    def stop(self) -> None:
        """Stops a private server; open connections break."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def restart(self) -> None:
        """Stops and starts a private server, on the same port and data."""
        self.stop()
        self.start()


@contextmanager
def postgresql_server() -> Iterator[PostgreSQLServer]:
    """The server that `CITYSORT_TEST_POSTGRESQL_URL` names, or else a private one for the time being.

    Databases made on it are dropped at the end. Raises ServerError when PostgreSQL is not installed.
    """
    given = os.environ.get(VARIABLE)
    if given:
        address = make_url(given)
        server = PostgreSQLServer(
            address.host or "127.0.0.1",
            address.port or 5432,
            address.username or "postgres",
            str(address.password or ""),
        )
        try:
            yield server
        finally:
            server.drop_databases()
        return
    initdb, postgres = _programs()
    folder = Path(tempfile.mkdtemp(prefix="citysort-postgresql-"))
    account = _unprivileged_account()
    server = PostgreSQLServer("127.0.0.1", free_port(), "postgres", secrets.token_urlsafe(12))
    data = folder / "data"
    server._account = account
    server._command = [
        postgres,
        *("-c", "listen_addresses=127.0.0.1"),
        *("-c", f"port={server.port}"),
        *("-c", "unix_socket_directories="),
        *("-c", "fsync=off"),
        *("-c", "max_connections=200"),
        *("-D", data),
    ]
    try:
        password_file = folder / "password"
        password_file.write_text(server.password)
        password_file.chmod(0o600)
        if account:
            shutil.chown(password_file, account)
            shutil.chown(folder, account)
        made = subprocess.run(  # noqa: S603 - a program of the system, our own paths
            [
                str(initdb),
                *("-D", str(data), "-U", server.username),
                *("--auth=scram-sha-256", f"--pwfile={password_file}"),
                *("--encoding=UTF8", "--locale=C", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            cwd=folder,
            user=account,
            extra_groups=[] if account else None,
        )
        if made.returncode:
            raise ServerError(f"initdb could not make a PostgreSQL server: {made.stderr.strip()}")
        password_file.unlink()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def _programs() -> tuple[Path, Path]:
    """`initdb` and `postgres` of the newest version installed by Debian or Homebrew, or on PATH."""
    installed = [
        *Path("/usr/lib/postgresql").glob("*/bin"),
        *Path("/opt/homebrew/opt").glob("postgresql*/bin"),
        *Path("/usr/local/opt").glob("postgresql*/bin"),
    ]
    newest_first = sorted(
        installed, key=lambda folder: [int(n) for n in re.findall(r"\d+", folder.parent.name)], reverse=True
    )
    initdb = find_program("initdb", newest_first)
    postgres = find_program("postgres", newest_first)
    if initdb is None or postgres is None:
        raise ServerError(
            "PostgreSQL is not installed: install it (apt-get install postgresql, brew install postgresql) or"
            f" set {VARIABLE} to the address of a server, postgresql://user:password@host:port"
        )
    return initdb, postgres


def _unprivileged_account() -> str | None:
    """Whom to run the server as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"
