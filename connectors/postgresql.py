"""PostgreSQL."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, Literal

import psycopg
import sqlalchemy as sa
from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader
from pydantic import Field

from connectors.base import ConfigurationError, secret
from connectors.sql import Column, HostName, Plan, SQLConnector, Trouble

# Type numbers of pg_type.dat, https://github.com/postgres/postgres/blob/master/src/include/catalog/pg_type.dat.
_BYTEA, _DATE, _TIMESTAMP, _TIMESTAMPTZ = 17, 1082, 1114, 1184
_BOOL, _INT8, _INT2, _INT4, _TEXT, _BPCHAR, _VARCHAR, _UUID = 16, 20, 21, 23, 25, 1042, 1043, 2950
_OID, _JSON, _NUMERIC, _JSONB = 26, 114, 1700, 3802
_FIRST_OF_EXTENSIONS = 16384
"""Types from here on are those of extensions and users, https://www.postgresql.org/docs/current/system-catalog-initial-data.html#SYSTEM-CATALOG-OID-ASSIGNMENT."""
_SAME_IN_BINARY = frozenset(
    (_BOOL, _BYTEA, _INT8, _INT2, _INT4, _TEXT, _BPCHAR, _VARCHAR, _DATE, _TIMESTAMP, _TIMESTAMPTZ, _UUID)
)
"""Types whose values psycopg makes the same of, whether they come as text or in binary."""
NO_FILE = f"{os.devnull}/none"
_HARMLESS = {
    "random",
    "random_normal",
    "clock_timestamp",
    "timeofday",
    "gen_random_uuid",
    "uuid_generate_v4",
    "lo_get",
}


class PostgreSQL(SQLConnector):
    """Rows of a query on a PostgreSQL database."""

    connector_type: ClassVar[str] = "postgresql"
    kind: ClassVar[str] = "postgresql"

    host: HostName = Field(description="Host name or address of the server.")
    port: int = Field(default=5432, ge=1, le=65535, description="Port of the server.")
    database: str = Field(description="Name of the database.")
    username: str = Field(description="Account to log in with; one that may only read is best.")
    password: str | None = secret("Password of the account.")
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        default="prefer",
        description="Encryption, https://www.postgresql.org/docs/current/libpq-ssl.html: verify-full also"
        " checks who the server is.",
    )
    sslrootcert: str | None = Field(default=None, description="File of the authority that signed the server.")
    sslcert: str | None = Field(default=None, description="File of the client's certificate.")
    sslkey: str | None = Field(default=None, description="File of the client's private key.")

    def _system(self) -> str:
        return f"PostgreSQL at {self.host}:{self.port}"

    def _address(self) -> str:
        return f"postgresql://{self.host}:{self.port}/{self.database}"

    def _new_engine(self) -> sa.Engine:
        ssl = {
            "sslmode": self.sslmode,
            "sslrootcert": self.sslrootcert,
            "sslcert": self.sslcert,
            "sslkey": self.sslkey,
        }
        engine = sa.create_engine(
            sa.URL.create("postgresql+psycopg", self.username, None, self.host, self.port, self.database),
            connect_args={
                "connect_timeout": 10,
                # Else libpq would send what this machine keeps for other servers (PGPASSWORD, ~/.pgpass), or
                # send elsewhere what is for this one (PGHOSTADDR).
                "password": self.password or "",
                "passfile": NO_FILE,
                "hostaddr": "",
                "client_encoding": "utf8",
                "application_name": "citysort",
                **{name: value for name, value in ssl.items() if value is not None},
            },
            pool_size=self.concurrency + 1,
            hide_parameters=True,
        )
        sa.event.listen(engine, "connect", self._set_up)
        sa.event.listen(engine, "before_cursor_execute", _ask_for_binary)
        return engine

    def _connection_to(self, addresses: Sequence[str], options: Mapping[str, Any]) -> psycopg.Connection:
        """The name is only compared with the server's certificate,
        https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-HOSTADDR."""
        names = ",".join([options["host"]] * len(addresses))
        return psycopg.connect(**{**options, "host": names, "hostaddr": ",".join(addresses)})

    def _make_plan(self, types: Mapping[str, Any]) -> Plan:
        plan = super()._make_plan(types)
        if self.content_column and self._column(types, "content_column").type == _OID:
            raise ConfigurationError(
                f"{self._system()}: {self.content_column} (setting content_column) holds the numbers of large"
                f" objects, not their content: select lo_get({self.content_column}) in the query instead"
            )
        if not set(types.values()) <= _SAME_IN_BINARY:
            return plan
        # As text, bytes are written in hexadecimal digits and read back, which takes longer than all else.
        return replace(plan, one=plan.one.execution_options(**_IN_BINARY))

    def _set_up(self, connection: psycopg.Connection, _record: object) -> None:
        connection.autocommit = True
        # A listing waits in its transaction while documents are downloaded.
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        connection.execute("SET timezone = 'UTC'")
        connection.execute(f"SET statement_timeout = '{self.statement_timeout_seconds}s'")
        connection.autocommit = False
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.adapters.register_loader("date", _Date)
        connection.adapters.register_loader("timestamp", _Timestamp)
        connection.adapters.register_loader("timestamptz", _Timestamptz)

    def _side_effects(self, connection: sa.Connection) -> list[str]:
        """Volatile functions in the query's plan, where views and simple functions are resolved,
        https://www.postgresql.org/docs/current/xfunc-volatility.html."""
        explain = sa.text(f"EXPLAIN (VERBOSE, COSTS OFF) SELECT * FROM {self._documents()} LIMIT :rows")  # noqa: S608
        plan = "\n".join(connection.execute(explain, {"rows": 1}).scalars())
        without_literals = re.sub(r"'(?:[^']|'')*'", "''", plan)
        called = {
            name.strip('"').replace('""', '"')
            for name in re.findall(r'("(?:[^"]|"")+"|[^\s"().,]+)\(', without_literals)
        }
        volatile = sa.text(
            "SELECT DISTINCT proname FROM pg_proc WHERE provolatile = 'v' AND proname = ANY(:names)"
        )
        found = connection.execute(volatile, {"names": sorted(called - _HARMLESS)}).scalars()
        return [f"{name}()" for name in found]

    def _bytes(self, content: Column) -> sa.ColumnElement[Any]:
        if content.type == _BYTEA:
            return content.value
        return sa.func.convert_to(sa.cast(content.value, sa.Text), "UTF8")

    def _byte_length(self, content: Column) -> sa.ColumnElement[Any]:
        if content.type == _BYTEA:
            return sa.func.octet_length(content.value)
        # In a database of that encoding the length is known without reading the text.
        in_utf8 = sa.func.current_setting("server_encoding") == "UTF8"
        return sa.case(
            (in_utf8, sa.func.octet_length(sa.cast(content.value, sa.Text))),
            else_=sa.func.octet_length(self._bytes(content)),
        )

    def _is_blank(self, column: Column) -> sa.ColumnElement[bool]:
        if column.type == _BYTEA:  # whose text is never empty
            return sa.or_(column.value.is_(None), sa.func.octet_length(column.value) == 0)
        return super()._is_blank(column)

    def _is_day(self, column: Column) -> sa.ColumnElement[bool]:
        # How dates are written depends on the account's settings.
        return sa.true() if column.type == _DATE else super()._is_day(column)

    def _can_be_looked_up(self, type_: Any) -> bool:
        found = psycopg.adapters.types.get(type_)
        return type_ not in (_JSON, _JSONB) and (found is None or type_ != found.array_oid)

    def _id_groups(self, id_: Column) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
        # By its text: collations, citext and numbers find that a and A, or 1 and 1.0, are the same.
        text = sa.cast(id_.value, sa.Text).collate("C")
        if id_.type in (_TEXT, _VARCHAR) or id_.type >= _FIRST_OF_EXTENSIONS:
            return text, text
        if id_.type in (_BPCHAR, _NUMERIC):
            return sa.func.min(id_.value), text
        return id_.value, id_.value

    def _id_values(self, external_id: str, type_: Any) -> list[Any]:
        # Sent without a type: the server reads the text as whatever the column is.
        return [f"\\x{external_id}" if type_ == _BYTEA else external_id]

    def _newest_first(self, modified: sa.ColumnElement[Any]) -> Sequence[sa.ColumnElement[Any]]:
        return [modified.desc()]  # rows without a date come first by default

    def _is_time(self, type_: Any) -> bool:
        return type_ in (_DATE, _TIMESTAMP, _TIMESTAMPTZ)

    def _modified_between(
        self, modified: Column, start: datetime | None, end: datetime | None, undated: bool
    ) -> sa.ColumnElement[bool] | None:
        if not self._is_time(modified.type):
            return None
        if modified.type == _TIMESTAMPTZ:
            bound: sa.types.TypeEngine[Any] = sa.DateTime(timezone=True)
        else:
            bound = sa.DateTime()
            start, end = self._local_bounds(start, end)
        inside = sa.and_(
            sa.true() if start is None else modified.value >= sa.bindparam("start", start, bound),
            sa.true() if end is None else modified.value < sa.bindparam("end", end, bound),
        )
        # 'infinity' is no date either.
        no_date = sa.or_(modified.value.is_(None), modified.value > datetime(9999, 12, 30))  # noqa: DTZ001
        return sa.or_(inside, no_date) if undated else inside

    def _trouble(self, error: BaseException) -> Trouble:
        """By SQLSTATE, https://www.postgresql.org/docs/current/errcodes-appendix.html; libpq's own
        errors have none."""
        state = getattr(error, "sqlstate", None) or ""
        primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
        text = (primary or (str(error).strip().splitlines() or [type(error).__name__])[0]).rstrip(".")
        if not state and isinstance(error, psycopg.OperationalError):
            return self._connection_trouble(str(error), text)
        if state == "57014":
            limit = f"{self.statement_timeout_seconds} s (setting statement_timeout_seconds)"
            return Trouble(f"{text}, which is {limit}" if "timeout" in text else text, False)
        if state in ("25006", "25001", "42601", "0A000", "55000"):
            return Trouble(f"the query was refused ({text}): it must be one SELECT that only reads", True)
        if state[:2] in ("22", "25", "28", "3D", "3F", "42"):
            return Trouble(f"the query was refused: {text}", True)
        return Trouble(text, False)

    def _connection_trouble(self, message: str, text: str) -> Trouble:
        reason = text.rpartition("failed: ")[2].replace("FATAL:  ", "")
        if "password" in message or "pg_hba.conf" in message or f'role "{self.username}"' in message:
            return Trouble(f"the login was refused ({reason}): check username and password", True)
        if f'database "{self.database}" does not exist' in message:
            return Trouble(f"{reason}: check the setting database", True)
        if "SSL" in message or "certificate" in message:
            return Trouble(f"no encrypted connection ({reason}): check sslmode and the certificates", True)
        if any(words in message for words in ("connection failed", "failed to resolve", "timeout expired")):
            return Trouble(f"no connection ({reason}): check host and port, and that the server runs", False)
        return Trouble(f"the connection broke off ({reason})", False)


_IN_BINARY = {"citysort_in_binary": True}


def _ask_for_binary(
    connection: sa.Connection,
    cursor: psycopg.Cursor,
    _statement: str,
    _parameters: object,
    context: sa.ExecutionContext | None,
    _many: bool,
) -> None:
    """https://www.psycopg.org/psycopg3/docs/api/cursors.html#psycopg.Cursor.format"""
    options = context.execution_options if context is not None else {}
    if _IN_BINARY.items() <= options.items():
        cursor.format = psycopg.pq.Format.BINARY


class _Timestamp(TimestampLoader):
    """Leaves dates that Python does not know ('infinity', the year 20000) as text: one such row must
    not end the listing."""

    def load(self, data: Any) -> Any:
        return _or_text(super().load, data)


class _Timestamptz(TimestamptzLoader):
    def load(self, data: Any) -> Any:
        return _or_text(super().load, data)


class _Date(DateLoader):
    def load(self, data: Any) -> Any:
        return _or_text(super().load, data)


def _or_text(load: Callable[[Any], Any], data: Any) -> Any:
    try:
        return load(data)
    except psycopg.DataError:
        return bytes(data).decode()
