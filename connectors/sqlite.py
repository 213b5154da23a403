"""SQLite files."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import sqlalchemy as sa
from pydantic import Field

from connectors.sql import Column, SQLConnector, Trouble

_UNIX_EPOCH = 2440587.5
"""1970-01-01 as a Julian day."""
_YEAR_1, _YEAR_10000 = 1721425.5, 5373484.5
"""The first days before and after which there is no date."""


class SQLite(SQLConnector):
    """Rows of a query on a SQLite file, which is opened read-only.

    Dates are ISO 8601 text, or numbers of seconds since 1970 (UTC). A listing holds a read
    transaction: in WAL mode others go on writing, else they wait until it ends,
    https://www.sqlite.org/isolation.html. SQLite reads a value whole even for a part of it: memory
    grows with the largest document.
    """

    connector_type: ClassVar[str] = "sqlite"
    kind: ClassVar[str] = "sqlite"

    filepath: str = Field(description="Path of the database file.")

    def _system(self) -> str:
        return f"SQLite file {self.filepath}"

    def _address(self) -> str:
        return f"sqlite:///{quote(self.filepath)}"

    def _new_engine(self) -> sa.Engine:
        engine = sa.create_engine(
            "sqlite://",
            creator=self._open_file,
            poolclass=sa.QueuePool,
            pool_size=self.concurrency + 1,
            hide_parameters=True,
        )
        sa.event.listen(engine, "connect", _set_up)
        sa.event.listen(engine, "begin", _begin)
        return engine

    def _open_file(self) -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{quote(str(Path(self.filepath).absolute()))}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=self.statement_timeout_seconds,
        )

    def _start_clock(self, connection: sa.Connection) -> None:
        connection.info["deadline"] = time.monotonic() + self.statement_timeout_seconds

    def _types(self, connection: sa.Connection) -> dict[str, Any]:
        # Columns have no type of their own here; what matters is how the file stores text.
        encoding = connection.exec_driver_sql("PRAGMA encoding").scalar_one()
        return dict.fromkeys(super()._types(connection), encoding)

    def _bytes(self, content: Column) -> sa.ColumnElement[Any]:
        if content.type == "UTF-8":
            return sa.cast(content.value, sa.LargeBinary)
        return sa.func.citysort_utf8(content.value)

    def _byte_length(self, content: Column) -> sa.ColumnElement[Any]:
        # Only the length of a blob is known without reading it.
        is_blob = sa.func.typeof(content.value) == "blob"
        return sa.case((is_blob, sa.func.length(content.value)), else_=sa.func.length(self._bytes(content)))

    def _id_values(self, external_id: str, type_: Any) -> list[Any]:
        values: list[Any] = [external_id]
        for read in (int, float, bytes.fromhex):
            with contextlib.suppress(ValueError, OverflowError):
                values.append(read(external_id))
        return [value for value in values if not isinstance(value, int) or -(2**63) <= value < 2**63]

    def _id_groups(self, id_: Column) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
        # The number 5 and the text '5' are different here, but not as ids of documents.
        is_blob = sa.func.typeof(id_.value) == "blob"
        text = sa.case((is_blob, sa.func.lower(sa.func.hex(id_.value))), else_=sa.cast(id_.value, sa.Text))
        return text, text

    def _newest_first(self, modified: sa.ColumnElement[Any]) -> Sequence[sa.ColumnElement[Any]]:
        return super()._newest_first(_day(modified))

    def _is_time(self, type_: Any) -> bool:
        return False  # a column holds values of any type, and forms of dates that SQLite does not read

    def _modified_between(
        self, modified: Column, start: datetime | None, end: datetime | None, undated: bool
    ) -> sa.ColumnElement[bool] | None:
        # A day wider than the window: text may be local to any zone.
        day = _day(modified.value)
        inside = sa.and_(
            sa.true() if start is None else day >= _julian_day(start) - 1,
            sa.true() if end is None else day < _julian_day(end) + 1,
        )
        # Some dates that we can read are beyond SQLite, and it reads some that are beyond us.
        text = sa.func.trim(modified.value)
        unread = sa.and_(day.is_(None), text.op("GLOB")("[0-9][0-9][0-9][0-9]-[0-9][0-9]-*"))
        no_date = sa.or_(day < _YEAR_1, day >= _YEAR_10000)
        return sa.or_(inside, no_date, day.is_(None) if undated else unread)

    def _trouble(self, error: BaseException) -> Trouble:
        """By what https://www.sqlite.org/rescode.html says; Python 3.10 gives the text only."""
        text = str(error).rstrip(".")
        path = Path(self.filepath)
        if "unable to open" in text or not path.is_file():
            why = "it is not a file that we may read" if path.exists() else "there is no such file"
            return Trouble(f"cannot be opened: {why}; check the setting filepath", True)
        if "not a database" in text or "malformed" in text:
            return Trouble(f"is damaged or no SQLite file ({text}): check the setting filepath", True)
        if "interrupted" in text:
            limit = f"{self.statement_timeout_seconds} s (setting statement_timeout_seconds)"
            return Trouble(f"the statement took longer than {limit}", False)
        if "locked" in text or "disk I/O" in text or isinstance(error, OSError):
            return Trouble(text, False)
        if any(
            words in text for words in ("not authorized", "prohibited", "readonly", "one statement", "syntax")
        ):
            return Trouble(f"the query was refused ({text}): it must be one SELECT that only reads", True)
        return Trouble(f"the query was refused: {text}", True)


def _set_up(connection: sqlite3.Connection, record: Any) -> None:
    record.info["deadline"] = float("inf")
    connection.set_progress_handler(lambda: time.monotonic() > record.info["deadline"], 10_000)
    # Text that is no UTF-8 must not end a listing.
    connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
    connection.execute("PRAGMA query_only = ON")
    connection.create_function("md5", 1, _md5, deterministic=True)
    connection.create_function("citysort_utf8", 1, _utf8, deterministic=True)
    connection.set_authorizer(_only_reading)


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _only_reading(action: int, first: str | None, second: str | None, *_: object) -> int:
    """Whether SQLite may compile this part of a statement, https://www.sqlite.org/c3ref/set_authorizer.html."""
    if action == sqlite3.SQLITE_FUNCTION:
        allowed = second not in ("load_extension", "writefile", "edit")
    elif action == sqlite3.SQLITE_PRAGMA:
        allowed = second is None and first in ("read_uncommitted", "encoding", "data_version")
    elif action == sqlite3.SQLITE_TRANSACTION:
        allowed = True  # our own: a statement inside a SELECT cannot be one
    else:
        allowed = action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _utf8(value: Any) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else str(value).encode()


def _md5(content: bytes | None) -> str | None:
    return None if content is None else hashlib.md5(content, usedforsecurity=False).hexdigest()


def _day(modified: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """A date as a Julian day (https://www.sqlite.org/lang_datefunc.html), NULL where it is none."""
    kind = sa.func.typeof(modified)
    return sa.case(
        (kind == "text", sa.func.julianday(sa.func.trim(modified))),
        (kind.in_(["integer", "real"]), modified / 86400.0 + _UNIX_EPOCH),
        else_=sa.null(),
    )


def _julian_day(moment: datetime) -> float:
    return moment.timestamp() / 86400 + _UNIX_EPOCH
