"""MariaDB for tests and benchmarks: a private server that leaves nothing behind, or one you name."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymysql
from sqlalchemy import URL, make_url

from citysort_dagster.server_process import ServerError, ServerProcess, find_program, free_port

if TYPE_CHECKING:
    from pymysql.connections import Connection

VARIABLE = "CITYSORT_TEST_MYSQL_URL"
_FOLDERS = [
    Path("/usr/sbin"),
    Path("/usr/local/sbin"),
    Path("/opt/homebrew/opt/mariadb/bin"),
    Path("/usr/local/opt/mariadb/bin"),
]


@dataclass
class MariaDBServer:
    """A running server and an account that may do everything on it."""

    host: str
    port: int
    username: str
    password: str = field(repr=False)
    _command: list[str | Path] = field(default_factory=list, repr=False)
    _log: Path | None = None
    _process: ServerProcess | None = field(default=None, repr=False)
    _databases: list[str] = field(default_factory=list, repr=False)

    @property
    def admin_url(self) -> URL:
        """SQLAlchemy's address of the system database, password included."""
        return self.url("mysql")

    def url(self, database: str) -> URL:
        """SQLAlchemy's address of a database on this server, password included."""
        return URL.create("mysql+pymysql", self.username, self.password, self.host, self.port, database)

    def connect(self, database: str | None = None) -> Connection[Any]:
        """An autocommitting connection as the administrator."""
        return pymysql.connect(
            host=self.host,
            port=self.port,
            user=self.username,
            password=self.password,
            database=database,
            autocommit=True,
            connect_timeout=10,
            charset="utf8mb4",
            ssl_disabled=True,  # on loopback; the certificates of the system take a while to load
        )

    def create_database(self, name: str = "citysort") -> URL:
        """The address of a new, empty database; its name begins with `name` and is unused so far."""
        name = f"{name}_{secrets.token_hex(4)}"
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        self._databases.append(name)
        return self.url(name)

    def drop_databases(self) -> None:
        """Drops every database that was created through this object."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            while self._databases:
                name = self._databases.pop()
                self.disconnect_clients(name)
                cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")

    def disconnect_clients(self, database: str) -> int:
        """Ends every connection to a database, as a restart of the server would; returns how many."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", [database])
            found = [row[0] for row in cursor.fetchall()]
            for number in found:
                cursor.execute("KILL %s", [number])
            return len(found)

    def start(self) -> None:
        """Starts a private server and waits until it answers."""
        assert self._log is not None, "only a private server can be started"
        self._process = ServerProcess(self._command, self._log)
        self._process.wait_until(lambda: self.connect().close(), pymysql.OperationalError)

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
def mariadb_server() -> Iterator[MariaDBServer]:
    """The server that `CITYSORT_TEST_MYSQL_URL` names, or else a private one for the time being.

    Databases made on it are dropped at the end. Raises ServerError when MariaDB is not installed.
    """
    given = os.environ.get(VARIABLE)
    if given:
        address = make_url(given)
        server = MariaDBServer(
            address.host or "127.0.0.1",
            address.port or 3306,
            address.username or "root",
            str(address.password or ""),
        )
        try:
            yield server
        finally:
            server.drop_databases()
        return
    install, mariadbd = find_program("mariadb-install-db", _FOLDERS), find_program("mariadbd", _FOLDERS)
    if install is None or mariadbd is None:
        raise ServerError(
            "MariaDB is not installed: install it (apt-get install mariadb-server, brew install mariadb) or"
            f" set {VARIABLE} to the address of a server, mysql://user:password@host:port"
        )
    # A socket's path is limited to some hundred bytes, and macOS's own temporary folder uses most of them.
    folder = Path(tempfile.mkdtemp(prefix="citysort-mariadb-", dir="/tmp"))
    server = MariaDBServer("127.0.0.1", free_port(), "citysort", secrets.token_urlsafe(12))
    accounts = folder / "accounts.sql"
    as_root = ["--user=root"] if os.geteuid() == 0 else []
    server._log = folder / "server.log"
    server._command = [
        mariadbd,
        "--no-defaults",
        f"--datadir={folder / 'data'}",
        f"--socket={folder / 'socket'}",
        f"--pid-file={folder / 'pid'}",
        f"--init-file={accounts}",
        "--bind-address=127.0.0.1",
        f"--port={server.port}",
        "--skip-name-resolve",
        "--skip-log-bin",
        "--innodb-flush-log-at-trx-commit=0",
        "--max-allowed-packet=256M",
        "--max-connections=200",
        *as_root,
    ]
    try:
        # The install program leaves accounts without a password: only ours stays.
        accounts.write_text(
            f"CREATE OR REPLACE USER '{server.username}'@'%' IDENTIFIED BY '{server.password}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO '{server.username}'@'%' WITH GRANT OPTION;\n"
            f"DELETE FROM mysql.global_priv WHERE User NOT IN ('mariadb.sys', '{server.username}');\n"
            "FLUSH PRIVILEGES;\n"
        )
        accounts.chmod(0o600)
        made = subprocess.run(  # noqa: S603 - a program of the system, our own paths
            [str(install), "--no-defaults", f"--datadir={folder / 'data'}", "--skip-test-db", *as_root],
            capture_output=True,
            text=True,
            cwd=folder,
        )
        if made.returncode:
            raise ServerError(f"mariadb-install-db could not make a server: {made.stderr.strip()}")
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
