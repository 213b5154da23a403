"""MySQL and MariaDB."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime, timezone, tzinfo
from typing import Any, ClassVar, Literal, NamedTuple

import pymysql
import sqlalchemy as sa
from pydantic import Field
from pymysql.constants import CR, FIELD_TYPE

from connectors.base import ConnectorError, ListingIncomplete, secret
from connectors.sql import Column, HostName, SQLConnector, Trouble

# What a read-only transaction allows, as SHOW WARNINGS prints it.
_SIDE_EFFECTS = re.compile(
    r"\b(get_lock|release_lock|release_all_locks|load_file|sleep|benchmark|master_pos_wait|"
    r"source_pos_wait|master_gtid_wait|wait_for_executed_gtid_set)\s*\(",
    re.IGNORECASE,
)


CONNECT_TIMEOUT = 10
"""Seconds."""

_STRINGS = (
    FIELD_TYPE.VARCHAR,
    FIELD_TYPE.VAR_STRING,
    FIELD_TYPE.STRING,
    FIELD_TYPE.TINY_BLOB,
    FIELD_TYPE.BLOB,
    FIELD_TYPE.MEDIUM_BLOB,
    FIELD_TYPE.LONG_BLOB,
    FIELD_TYPE.BIT,
)
_INTEGERS = (
    FIELD_TYPE.TINY,
    FIELD_TYPE.SHORT,
    FIELD_TYPE.INT24,
    FIELD_TYPE.LONG,
    FIELD_TYPE.LONGLONG,
)
_INTEGER = re.compile("-?[0-9]{1,20}")
_HEX = re.compile("(?:[0-9a-f]{2})*")


_PASSWORD_IN_CLEAR = -1
"""No number of the server's or the driver's."""


class _Type(NamedTuple):
    """A column's type, and whether it holds bytes rather than characters."""

    code: int
    binary: bool


class MySQL(SQLConnector):
    """Rows of a query on a MySQL or MariaDB database.

    Values of type TIMESTAMP are moments and read as UTC; DATETIME and DATE are local to `timezone`.
    An expression on a TIMESTAMP (IFNULL, say) is a DATETIME in UTC.
    """

    connector_type: ClassVar[str] = "mysql"
    kind: ClassVar[str] = "mysql"

    host: HostName = Field(description="Host name or address of the server.")
    port: int = Field(default=3306, ge=1, le=65535, description="Port of the server.")
    database: str = Field(description="Name of the database.")
    username: str = Field(description="Account to log in with; one that may only read is best.")
    password: str | None = secret("Password of the account.")
    ssl_mode: Literal["disabled", "preferred", "required", "verify_ca", "verify_identity"] = Field(
        default="preferred",
        description="Encryption, as in https://dev.mysql.com/doc/refman/8.4/en/encrypted-connections.html;"
        " verify_identity also checks who the server is. The files below need required or stricter.",
    )
    ssl_ca: str | None = Field(default=None, description="File of the authority that signed the server.")
    ssl_cert: str | None = Field(default=None, description="File of the client's certificate.")
    ssl_key: str | None = Field(default=None, description="File of the client's private key.")

    def _system(self) -> str:
        return f"MySQL at {self.host}:{self.port}"

    def _address(self) -> str:
        return f"mysql://{self.host}:{self.port}/{self.database}"

    def _new_engine(self) -> sa.Engine:
        engine = sa.create_engine(
            sa.URL.create("mysql+pymysql", self.username, None, self.host, self.port, self.database),
            connect_args={
                "password": (self.password or "").encode(),
                "charset": "utf8mb4",
                "connect_timeout": CONNECT_TIMEOUT,
                # The server watches statements; this is for a server that no longer answers.
                "read_timeout": self.statement_timeout_seconds + 10,
                **self._ssl(),
            },
            pool_size=self.concurrency + 1,
            hide_parameters=True,
        )
        sa.event.listen(engine, "connect", self._set_up)
        sa.event.listen(engine, "begin", _begin)
        return engine

    def _connection_to(self, addresses: Sequence[str], options: Mapping[str, Any]) -> pymysql.Connection:
        """The name stays with the driver, which compares the server's certificate with it."""
        connection = pymysql.connect(**options, defer_connect=True)
        connection.connect(_socket(addresses, self.port))
        return connection

    def _ssl(self) -> dict[str, Any]:
        # Whoever answers on a connection that need not be encrypted could ask for the password itself.
        no_clear_password = {"auth_plugin_map": {"mysql_clear_password": _NoClearPassword}}
        if self.ssl_mode == "disabled":
            return {"ssl_disabled": True, **no_clear_password}
        if self.ssl_mode == "preferred":
            return no_clear_password
        context = ssl.create_default_context(cafile=self.ssl_ca)
        # Certificates that MySQL makes for itself do not pass the strictest checks of Python 3.13.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.check_hostname = self.ssl_mode == "verify_identity"
        if self.ssl_mode == "required":
            context.verify_mode = ssl.CERT_NONE
        if self.ssl_cert is not None:
            context.load_cert_chain(self.ssl_cert, self.ssl_key)
        return {"ssl": context}

    def _set_up(self, connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00'")
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            # A listing waits in the middle of its result while documents are downloaded.
            cursor.execute("SET net_write_timeout = 86400")
        self._limit_time(connection, self.statement_timeout_seconds)

    def _limit_time(self, connection: Any, seconds: int) -> None:
        # In seconds, https://mariadb.com/kb/en/aborting-statements/, or in milliseconds,
        # https://dev.mysql.com/doc/refman/8.4/en/server-system-variables.html; 0 is without end.
        with connection.cursor() as cursor:
            if "mariadb" in connection.get_server_info().lower():
                cursor.execute("SET max_statement_time = %s", [seconds])
            else:
                cursor.execute("SET max_execution_time = %s", [seconds * 1000])

    def _types(self, connection: sa.Connection) -> dict[str, Any]:
        codes = super()._types(connection)
        # The driver describes text and bytes alike. The join gives a row where the query has none.
        charsets = (
            sa.select(*(sa.func.charset(sa.column(name)) for name in codes))
            .select_from(sa.text(f"(SELECT 1) AS citysort_one LEFT JOIN {self._documents()} ON TRUE"))
            .limit(sa.bindparam("rows", 1))
        )
        found = connection.execute(charsets).one()
        return {
            name: _Type(code, charset == "binary")
            for (name, code), charset in zip(codes.items(), found, strict=True)
        }

    def _side_effects(self, connection: sa.Connection) -> list[str]:
        """Functions named in the query as the server understood it,
        https://dev.mysql.com/doc/refman/8.4/en/explain-extended.html."""
        extended = "EXTENDED" if connection.dialect.is_mariadb else ""  # type: ignore[attr-defined]
        explain = sa.text(f"EXPLAIN {extended} SELECT * FROM {self._documents()} LIMIT :rows")  # noqa: S608
        connection.execute(explain, {"rows": 1})
        notes = " ".join(str(row[2]) for row in connection.exec_driver_sql("SHOW WARNINGS"))
        without_literals = re.sub(r"'(?:[^'\\]|''|\\.)*'", "''", notes)
        return [f"{name.lower()}()" for name in sorted(set(_SIDE_EFFECTS.findall(without_literals)))]

    def _bytes(self, content: Column) -> sa.ColumnElement[Any]:
        if content.type.binary:
            return content.value
        return sa.cast(sa.func.convert(content.value.op("USING")(sa.text("utf8mb4"))), sa.LargeBinary)

    def _byte_length(self, content: Column) -> sa.ColumnElement[Any]:
        return sa.func.octet_length(self._bytes(content))

    def _can_be_looked_up(self, type_: Any) -> bool:
        return type_.code not in (FIELD_TYPE.FLOAT, FIELD_TYPE.BIT)

    def _id_values(self, external_id: str, type_: Any) -> list[Any]:
        if type_.binary and type_.code in _STRINGS:
            return [bytes.fromhex(external_id)] if _HEX.fullmatch(external_id) else []
        if type_.code in _INTEGERS and _INTEGER.fullmatch(external_id):
            # An index on numbers is of no use for finding several texts.
            return [int(external_id)]
        return [external_id]

    def _id_groups(self, id_: Column) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
        # By its bytes: most collations find that a and A are the same.
        if id_.type.code in _STRINGS:
            return sa.func.min(id_.value), sa.cast(id_.value, sa.LargeBinary)
        return id_.value, id_.value

    def _zone(self, type_: Any) -> tzinfo:
        is_moment = type_ is not None and type_.code == FIELD_TYPE.TIMESTAMP
        return timezone.utc if is_moment else super()._zone(type_)

    def _is_time(self, type_: Any) -> bool:
        return type_.code in (FIELD_TYPE.TIMESTAMP, FIELD_TYPE.DATETIME, FIELD_TYPE.DATE)

    def _modified_between(
        self, modified: Column, start: datetime | None, end: datetime | None, undated: bool
    ) -> sa.ColumnElement[bool] | None:
        if not self._is_time(modified.type):
            return None
        if modified.type.code == FIELD_TYPE.TIMESTAMP:
            start, end = start and start.replace(tzinfo=None), end and end.replace(tzinfo=None)
        else:
            start, end = self._local_bounds(start, end)
        inside = sa.and_(
            sa.true() if start is None else modified.value >= sa.bindparam("start", start),
            sa.true() if end is None else modified.value < sa.bindparam("end", end),
        )
        return sa.or_(inside, modified.value.is_(None)) if undated else inside

    def _rows(self, connection: sa.Connection, statement: sa.Select[Any]) -> Generator[Sequence[Any]]:
        # The server would count the time that the listing waits for downloads: meanwhile only the
        # driver's read_timeout holds.
        driver = connection.connection.dbapi_connection
        self._limit_time(driver, 0)
        try:
            yield from super()._rows(connection, statement)
        finally:
            with contextlib.suppress(pymysql.Error):
                self._limit_time(driver, self.statement_timeout_seconds)

    def _abandon(self, connection: sa.Connection, rows: sa.CursorResult[Any]) -> None:
        # The protocol knows no way to leave the rest of a result, so the server is told to end it.
        with (
            contextlib.suppress(sa.exc.SQLAlchemyError, pymysql.Error, ConnectorError),
            self._told(ListingIncomplete),
        ):
            number = connection.connection.dbapi_connection.thread_id()  # type: ignore[union-attr]
            with self._connect() as other:
                other.exec_driver_sql(f"KILL QUERY {number:d}")
            for _ in rows:
                pass
        if rows.cursor is not None:
            # The driver would try to, once more, when the result is thrown away.
            rows.cursor._result.unbuffered_active = False

    def _trouble(self, error: BaseException) -> Trouble:
        """By error number, https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html and
        https://mariadb.com/kb/en/mariadb-error-code-reference/."""
        code = error.args[0] if isinstance(error, pymysql.Error) and error.args else None
        text = str(error.args[1] if code is not None and len(error.args) > 1 else error).rstrip(".")
        if code == _PASSWORD_IN_CLEAR:
            return Trouble(text, True)
        if code in (1045, 1698, 1251, 2059, 2061):
            return Trouble(f"the login was refused ({text}): check username and password", True)
        if code in (1044, 1049):
            return Trouble(f"{text}: check the setting database", True)
        if code == 2026 or "SSL" in text or "certificate" in text.lower():
            return Trouble(f"no encrypted connection ({text}): check ssl_mode and the certificates", True)
        if code == 2003:
            return Trouble(f"no connection ({text}): check host and port, and that the server runs", False)
        if code in (1969, 3024) or (code == 2013 and "timed out" in text):
            limit = f"{self.statement_timeout_seconds} s (setting statement_timeout_seconds)"
            return Trouble(f"the statement took longer than {limit}", False)
        if code in (2006, 2013, 1053, 1317, 1927):
            return Trouble(f"the connection broke off ({text})", False)
        if code in (1064, 1792):
            return Trouble(f"the query was refused ({text}): it must be one SELECT that only reads", True)
        if code is not None and 1000 < code < 2000 and code not in (1040, 1203, 1205, 1213):
            return Trouble(f"the query was refused: {text}", True)
        if isinstance(error, OSError):
            return Trouble(f"ssl_ca, ssl_cert or ssl_key cannot be read ({text})", True)
        return Trouble(text, False)


def _socket(addresses: Sequence[str], port: int) -> socket.socket:
    """A connection to the first of the addresses that takes one, with the options that pymysql sets."""
    error = OSError()
    for address in addresses:
        try:
            made = socket.create_connection((address, port), CONNECT_TIMEOUT)
        except OSError as failure:
            error = failure
            continue
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return made
    raise pymysql.OperationalError(CR.CR_CONN_HOST_ERROR, f"Can't connect to MySQL server ({error})")


class _NoClearPassword:
    """https://dev.mysql.com/doc/refman/8.4/en/cleartext-pluggable-authentication.html"""

    def __init__(self, connection: object) -> None:
        """The driver gives its connection."""

    def authenticate(self, _packet: object) -> None:
        raise pymysql.OperationalError(
            _PASSWORD_IN_CLEAR,
            "the server asks for the password in clear: set ssl_mode to required or stricter",
        )


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
