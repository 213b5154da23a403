"""What the SQL connectors have in common: rows of one query as documents.

The query is wrapped, never edited: `SELECT … FROM (query) AS documents WHERE …`. It runs in a
transaction that the database itself holds read-only and that is always rolled back. A database
account that may only read is the second fence: reading server files or ending other sessions, for
instance, does not count as writing.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import threading
from abc import abstractmethod
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple
from urllib.parse import quote
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from pydantic import AfterValidator, Field, PrivateAttr, field_validator, model_validator
from sqlalchemy.types import NullType

from connectors.addresses import OutOfReach
from connectors.base import (
    ConfigurationError,
    ConnectionStatus,
    Connector,
    ConnectorError,
    Download,
    DownloadFailed,
    DownloadRefused,
    ExternalDocument,
    ListingIncomplete,
    NotImported,
    Window,
)
from connectors.local_files import open_below
from connectors.sql_values import as_text, as_utc, is_blank

PIECE = 4 * 1024 * 1024
ROWS_AT_ONCE = 1_000
SMALL = 1_000_000
_CHANGED = "changed since it was listed: the next import takes the new version"
_ENGINE_LOCK = threading.Lock()
_DATABASE_ERRORS = (sa.exc.SQLAlchemyError, sqlite3.Warning, UnicodeError, OSError)


def _bare_host(host: str) -> str:
    # Errors name the host, and an address or a connection string may hold a password. Of several hosts
    # (with commas) a driver would choose one by itself.
    if not re.fullmatch(r"[^\s@?#=,]+", host) or "://" in host:
        raise ValueError("must be the bare name or address of one host, without credentials")
    return host


HostName = Annotated[str, AfterValidator(_bare_host)]


class _UnknownHost(Exception):
    """The name of the host leads nowhere at present."""


class Trouble(NamedTuple):
    """A database error told in one sentence; `lasting` when only a person can end it."""

    sentence: str
    lasting: bool


class Column(NamedTuple):
    """A column of the query's result, with its type as the database describes it."""

    value: sa.ColumnElement[Any]
    type: Any


class _Row(NamedTuple):
    """A row as it is listed: everything but the content."""

    id: Any
    filename: Any
    modified: Any
    version: Any
    content_type: Any
    size: int | None
    digest: Any
    path: Any


@dataclass(frozen=True)
class Plan:
    """The statements made for the columns that the query turned out to have, and where its rows are."""

    address: str
    id: Column
    modified: Column | None
    by_time: bool
    """The database sorts and compares the column with the date as times."""
    zone: tzinfo
    duplicates: sa.Select[Any]
    listing: sa.Select[Any]
    one: sa.Select[Any]
    piece: sa.Select[Any] | None


class SQLConnector(Connector):
    """Documents that a query on a database returns, one a row.

    The content stands in a column, or in files that a column names. A document is listed without
    its content; its version is the `version_column`, else the date and the byte length (a file's
    own time and length), with a digest that the database computes if the date has no time, else that
    digest alone.
    """

    query: str = Field(description="One SELECT or WITH … SELECT that returns a row for each document.")
    id_column: str = Field(description="Column with the document's id, unique in the whole result.")
    filename_column: str | None = Field(
        default=None, description="Column with the file name. Where it is empty, the id is the name."
    )
    content_column: str | None = Field(
        default=None, description="Column with the content: bytes, or text, which becomes UTF-8."
    )
    file_path_column: str | None = Field(
        default=None, description="Column with the path of the document's file, relative to files_root."
    )
    files_root: str | None = Field(
        default=None, description="Folder that holds the files named by file_path_column."
    )
    content_type_column: str | None = Field(
        default=None, description="Column with the content type, such as application/pdf."
    )
    modified_column: str | None = Field(
        default=None, description="Column with the date of the last modification."
    )
    version_column: str | None = Field(
        default=None, description="Column whose value changes whenever the document does."
    )
    timezone: str = Field(
        default="UTC", description="IANA time zone of dates that carry none, such as America/Chicago."
    )
    statement_timeout_seconds: int = Field(
        default=300, ge=1, description="Seconds that the database may work on one statement."
    )

    concurrency: int = Field(
        default=2, ge=1, le=64, description="Downloads under way at once; more only take turns."
    )

    _engine: sa.Engine | None = PrivateAttr(default=None)
    _prepared: Plan | None = PrivateAttr(default=None)

    @field_validator("query")
    @classmethod
    def _without_semicolon(cls, query: str) -> str:
        query = query.strip()
        query = query[:-1].rstrip() if query.endswith(";") else query
        if not query:
            raise ValueError("the query is empty")
        return query

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (OSError, ValueError, LookupError):
            raise ValueError("there is no such time zone; use an IANA name such as Europe/Berlin") from None
        return name

    @model_validator(mode="after")
    def _one_place_of_content(self) -> SQLConnector:
        if (self.content_column is None) == (self.file_path_column is None):
            raise ValueError("give either content_column or file_path_column, exactly one of them")
        if (self.file_path_column is None) != (self.files_root is None):
            raise ValueError("file_path_column and files_root go together: give both or neither")
        if self.files_root is not None and not Path(self.files_root).is_absolute():
            raise ValueError("files_root must be an absolute path")
        return self

    @property
    def windowed(self) -> bool:  # type: ignore[override]  # here it depends on the settings
        """The database narrows the listing when it knows which column holds the date."""
        return self.modified_column is not None

    @property
    def newest_first(self) -> bool:  # type: ignore[override]  # here it depends on the settings
        """Known once the listing has begun: text may be a date, but is sorted as text."""
        return self._prepared is not None and self._prepared.by_time

    # What differs between databases.

    @abstractmethod
    def _new_engine(self) -> sa.Engine:
        """An engine whose transactions the database holds read-only, on one snapshot."""

    @abstractmethod
    def _system(self) -> str:
        """The database in an error message."""

    @abstractmethod
    def _address(self) -> str:
        """The database as the beginning of a source URL, without credentials."""

    @abstractmethod
    def _trouble(self, error: BaseException) -> Trouble:
        """What a driver's error means."""

    @abstractmethod
    def _bytes(self, content: Column) -> sa.ColumnElement[Any]:
        """The content as bytes, text as UTF-8."""

    @abstractmethod
    def _byte_length(self, content: Column) -> sa.ColumnElement[Any]:
        """How many bytes `_bytes` has, where possible without reading them."""

    def _can_be_looked_up(self, type_: Any) -> bool:
        """Whether the database finds an id of this type by its text."""
        return True

    @abstractmethod
    def _id_values(self, external_id: str, type_: Any) -> list[Any]:
        """What to look for in an id column of this type, to find every id that has this text."""

    @abstractmethod
    def _is_time(self, type_: Any) -> bool:
        """Whether a column of this type holds nothing but dates or times, which the database sorts as such."""

    @abstractmethod
    def _modified_between(
        self, modified: Column, start: datetime | None, end: datetime | None, undated: bool
    ) -> sa.ColumnElement[bool] | None:
        """Holds for every row in the window and for few others, with those that have no date if
        `undated`; None where the database cannot compare values of this type with a date."""

    def _is_blank(self, column: Column) -> sa.ColumnElement[bool]:
        """Holds for every value that is blank (as `is_blank` means it)."""
        return sa.or_(column.value.is_(None), sa.func.trim(sa.cast(column.value, sa.Text)) == "")

    def _is_day(self, column: Column) -> sa.ColumnElement[bool]:
        """Holds for every date without a time, within which a row may change more than once."""
        return sa.func.trim(sa.cast(column.value, sa.Text)).like("____-__-__")

    def _side_effects(self, connection: sa.Connection) -> list[str]:
        """Functions called by the query that a read-only transaction allows although they do more
        than compute a value."""
        return []

    def _types(self, connection: sa.Connection) -> dict[str, Any]:
        """The query's columns and their types, as the driver describes them."""
        statement = sa.text(f"SELECT * FROM {self._documents()} LIMIT :rows")  # noqa: S608 - as is meant
        rows = connection.execute(statement, {"rows": 0})
        return {described[0]: described[1] for described in rows.cursor.description}

    def _zone(self, type_: Any) -> tzinfo:
        """The zone of dates that carry none, in a column of this type."""
        return ZoneInfo(self.timezone)

    def _local_bounds(
        self, start: datetime | None, end: datetime | None
    ) -> tuple[datetime | None, datetime | None]:
        """The window in the configured zone's own time, a day wider: clocks are set back and forth."""
        zone, day = ZoneInfo(self.timezone), timedelta(days=1)
        return (
            start and (start - day).astimezone(zone).replace(tzinfo=None),
            end and (end + day).astimezone(zone).replace(tzinfo=None),
        )

    def _id_groups(self, id_: Column) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
        """The id of a group of rows, and what to group by: equal exactly when the text of ids is."""
        return id_.value, id_.value

    def _newest_first(self, modified: sa.ColumnElement[Any]) -> Sequence[sa.ColumnElement[Any]]:
        """What to sort by: rows without a date, then the newest."""
        return [modified.is_not(None), modified.desc()]

    def _connection_to(self, addresses: Sequence[str], options: Mapping[str, Any]) -> Any:
        """A connection of the driver, with these options, to the first of the addresses that takes one."""
        raise NotImplementedError(f"{type(self).__name__} connects to no host")

    def _start_clock(self, connection: sa.Connection) -> None:
        """Called before the database is asked to work, for those that do not watch the time."""

    def _abandon(self, connection: sa.Connection, rows: sa.CursorResult[Any]) -> None:
        """Gives up a result that was not read to its end."""
        rows.close()

    # What a Connector does.

    def test_connection(self) -> ConnectionStatus:
        try:
            with self._told(ListingIncomplete), self._connect() as connection:
                plan = self._plan(connection)
                self._start_clock(connection)
                first = connection.execute(plan.listing.limit(sa.bindparam("rows", 1))).first()
            found = None if first is None else self._document(_Row(*first), plan, {}, Counter())
        except ConnectorError as error:
            return ConnectionStatus(False, str(error))
        if found is None:
            return ConnectionStatus(True, f"{self._system()} answers; the query returns no rows at present")
        if found.not_imported:
            what = f"its first row ({found.external_id}) cannot be imported: {found.not_imported.reason}"
            return ConnectionStatus(True, f"{self._system()} answers, but {what}")
        return ConnectionStatus(True, f"{self._system()} answers; the first document is {found.filename!r}")

    def list_documents(self, window: Window | None = None) -> Iterator[ExternalDocument]:
        """Every row whose date is in the window, newest first as far as the database can sort by it.

        Without one, documents have no date, or that of their file. Rows without an id or with one
        that stands twice in the query's whole result, with a date that is none, or with a file that
        is missing come as documents that are `not_imported`; so does one with such a date in
        windows that it may not belong to.

        Raises ConfigurationError before the first document when the settings or the query cannot
        work, ListingIncomplete when the database is out of reach or fails while it is read.
        """
        with self._told(ListingIncomplete), self._connect() as connection:
            plan = self._plan(connection)
            self._start_clock(connection)
            duplicates = {as_text(id_): times for id_, times in connection.execute(plan.duplicates)}
            unnamed: Counter[str] = Counter()
            listing = self._rows(connection, self._narrowed(plan, window))
            with closing(listing):
                rows = next(listing, [])
                with self._told(ListingIncomplete, begun=True):
                    while rows:
                        for row in map(_Row._make, rows):
                            document = self._document(row, plan, duplicates, unnamed)
                            if window is None or _may_be_in(window, document, row, plan):
                                yield document
                        rows = next(listing, [])

    def download_document(self, document: ExternalDocument, into: BinaryIO) -> Download:
        """Writes the content of one row, or its file.

        Raises DownloadFailed when the row is gone, has no content, or is no longer of the version
        that was listed, DownloadRefused when its path leads out of `files_root`.
        """
        with ExitStack() as stack:
            with self._told(DownloadFailed):
                connection = stack.enter_context(self._connect())
                plan = self._plan(connection)
                row, piece = self._one(connection, plan, document.external_id)
            if plan.piece is None:
                return self._copy_file(row, plan, document.version, into)
            if not _is_version(document.version, row, plan):
                raise DownloadFailed(_CHANGED)
            if row.size is None:
                raise DownloadFailed(f"the row has no content: {self.content_column} is NULL")
            piece = piece or b""
            into.write(piece)
            written = len(piece)
            while written < row.size:
                with self._told(DownloadFailed):
                    piece = self._next_piece(connection, plan, document.external_id, written + 1)
                if not piece:
                    raise DownloadFailed(f"the content ended after {written} of {row.size} bytes")
                into.write(piece)
                written += len(piece)
            return Download(size=row.size)

    @property
    def batched_bytes(self) -> int:  # type: ignore[override]  # here it depends on the settings
        """Small contents are asked for many at once; files are there anyway."""
        return SMALL if self.content_column is not None else 0

    def download_batch(
        self, documents: Sequence[ExternalDocument]
    ) -> Iterator[tuple[ExternalDocument, bytes]]:
        """The contents of rows that are there once, whole, and in the listed version, in one statement."""
        with self._told(DownloadFailed), self._connect() as connection:
            plan = self._plan(connection)
            self._start_clock(connection)
            ids = [id_ for found in documents for id_ in self._id_values(found.external_id, plan.id.type)]
            rows = [(_Row(*listed), piece) for *listed, piece in connection.execute(plan.one, {"ids": ids})]
            # A row that cannot be told from another is nobody's content.
            times = Counter(as_text(row.id) for row, _ in rows)
            contents = {as_text(row.id): (row, piece) for row, piece in rows}
            for document in documents:
                if times[document.external_id] != 1:
                    continue
                row, piece = contents.pop(document.external_id)
                content = piece or b""
                if _is_version(document.version, row, plan) and len(content) == row.size:
                    yield document, content

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    # Statements.

    def _documents(self) -> str:
        """The query as a table, for a statement of SQLAlchemy's `text`."""
        as_it_stands = re.sub("(?=:)", r"\\", self.query)  # a colon would name a parameter
        # The closing parenthesis has a line of its own: the query may end in a comment.
        return f"({as_it_stands}\n) AS documents"

    def _wrapped(self, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        """`SELECT columns FROM (query) AS documents`.

        Labels of the columns must not be names that the query could use. Every statement has bound
        parameters or a server-side cursor: with either, servers accept a single statement only,
        https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY.
        """
        labelled = (column.label(f"citysort_{number}") for number, column in enumerate(columns))
        return sa.select(*labelled).select_from(sa.text(self._documents()))

    def _plan(self, connection: sa.Connection) -> Plan:
        """Asks the database which columns the query has, once. Raises ConfigurationError."""
        if self._prepared is None:
            self._start_clock(connection)
            types = self._types(connection)
            effects = self._side_effects(connection)
            if effects:
                raise ConfigurationError(
                    f"{self._system()}: the query calls {', '.join(effects)}, which may do more than read;"
                    " leave it out, or declare a function of your own STABLE or IMMUTABLE"
                )
            self._prepared = self._make_plan(types)
        return self._prepared

    def _make_plan(self, types: Mapping[str, Any]) -> Plan:
        id_ = self._column(types, "id_column")
        if not self._can_be_looked_up(id_.type):
            raise ConfigurationError(
                f"{self._system()}: {self.id_column} (setting id_column) has a type whose values cannot be"
                " looked up: cast it to text in the query"
            )
        modified = self._column(types, "modified_column") if self.modified_column else None
        version = self._column(types, "version_column") if self.version_column else None
        content = self._column(types, "content_column") if self.content_column else None
        size: sa.ColumnElement[Any] = sa.null()
        digest: sa.ColumnElement[Any] = sa.null()
        if content is not None:
            size = self._byte_length(content)
            digest = sa.func.md5(self._bytes(content))
            others = [] if version is None else [self._is_blank(version)]
            if modified is not None:
                others.append(sa.or_(self._is_blank(modified), self._is_day(modified)))
            if others:
                digest = sa.case((sa.and_(*others), digest), else_=sa.null())
        listed = [
            id_.value,
            self._column(types, "filename_column").value if self.filename_column else sa.null(),
            modified.value if modified is not None else sa.null(),
            version.value if version is not None else sa.null(),
            self._column(types, "content_type_column").value if self.content_type_column else sa.null(),
            size,
            digest,
            self._column(types, "file_path_column").value if self.file_path_column else sa.null(),
        ]
        same_id, group = self._id_groups(id_)
        count = sa.func.count()
        sought = id_.value.in_(sa.bindparam("ids", type_=NullType(), expanding=True))
        listing = self._wrapped(*listed)
        if modified is not None:
            listing = listing.order_by(*self._newest_first(modified.value), id_.value.desc())
        piece = None
        first_piece: sa.ColumnElement[Any] = sa.null()
        if content is not None:
            start: sa.BindParameter[int] = sa.bindparam("start", 1, sa.Integer)
            first_piece = sa.func.substr(self._bytes(content), start, PIECE)
            piece = self._wrapped(id_.value, first_piece).where(sought)
        return Plan(
            address=self._address(),
            id=id_,
            modified=modified,
            by_time=modified is not None and self._is_time(modified.type),
            zone=self._zone(modified.type if modified is not None else None),
            duplicates=self._wrapped(same_id, count)
            .where(id_.value.is_not(None))
            .group_by(group)
            .having(count > 1),
            listing=listing,
            one=self._wrapped(*listed, first_piece).where(sought),
            piece=piece,
        )

    def _column(self, types: Mapping[str, Any], setting: str) -> Column:
        wanted = str(getattr(self, setting))
        alike = [name for name in types if name.lower() == wanted.lower()]
        name = wanted if wanted in types else alike[0] if len(alike) == 1 else None
        if name is None:
            raise ConfigurationError(
                f"{self._system()}: the query has no column {wanted!r} (setting {setting});"
                f" it has {', '.join(types)}"
            )
        return Column(sa.column(name), types[name])

    def _narrowed(self, plan: Plan, window: Window | None) -> sa.Select[Any]:
        if plan.modified is None or window is None or window == Window():
            return plan.listing
        condition = self._modified_between(plan.modified, window.start, window.end, window.includes(None))
        return plan.listing if condition is None else plan.listing.where(condition)

    # Rows.

    def _rows(self, connection: sa.Connection, statement: sa.Select[Any]) -> Generator[Sequence[Any]]:
        """The rows in portions, as the server sends them; giving up early frees the connection."""
        self._start_clock(connection)
        result = connection.execute(
            statement, execution_options={"stream_results": True, "max_row_buffer": ROWS_AT_ONCE}
        )
        complete = False
        try:
            while rows := result.fetchmany(ROWS_AT_ONCE):
                yield rows
                self._start_clock(connection)
            complete = True
        finally:
            if not complete:
                self._abandon(connection, result)

    def _one(self, connection: sa.Connection, plan: Plan, external_id: str) -> tuple[_Row, bytes | None]:
        self._start_clock(connection)
        ids = self._id_values(external_id, plan.id.type)
        rows = connection.execute(plan.one, {"ids": ids}).all()
        found = [row for row in rows if as_text(row[0]) == external_id]
        if not found:
            raise DownloadFailed("the row is gone since it was listed")
        if len(found) > 1:
            raise DownloadFailed(_duplicate(len(found)))
        *listed, piece = found[0]
        return _Row(*listed), piece

    def _next_piece(
        self, connection: sa.Connection, plan: Plan, external_id: str, start: int
    ) -> bytes | None:
        assert plan.piece is not None
        self._start_clock(connection)
        ids = self._id_values(external_id, plan.id.type)
        rows = connection.execute(plan.piece, {"ids": ids, "start": start})
        return next((row[1] for row in rows if as_text(row[0]) == external_id), None)

    def _document(
        self, row: _Row, plan: Plan, duplicates: Mapping[str | None, int], unnamed: Counter[str]
    ) -> ExternalDocument:
        external_id = as_text(row.id)
        filename = _as_name(row.filename) or external_id or "row"
        not_imported = None
        if not external_id:
            unnamed[filename] += 1
            nth = f" ({unnamed[filename]})" if unnamed[filename] > 1 else ""
            external_id = f"row without id: {filename}{nth}"
            not_imported = NotImported(f"the row has no id: {self.id_column} is empty")
        elif external_id in duplicates:
            not_imported = NotImported(_duplicate(duplicates[external_id]))
        modified_at, size, version = None, row.size, ""
        try:
            modified_at = as_utc(row.modified, plan.zone)
            file = None
            if self.file_path_column is not None:
                with self._open(row) as opened:
                    file = os.fstat(opened.fileno())
                size = file.st_size
                if self.modified_column is None:
                    modified_at = datetime.fromtimestamp(file.st_mtime, timezone.utc)
            version = _version(row, modified_at, file)
        except ValueError as error:
            not_imported = not_imported or NotImported(f"{self.modified_column}: {error}")
        except DownloadRefused as error:
            not_imported = not_imported or NotImported(str(error), refused=True)
        except DownloadFailed as error:
            not_imported = not_imported or NotImported(str(error))
        return ExternalDocument(
            external_id=external_id,
            version=version,
            filename=filename,
            modified_at=modified_at,
            size=size,
            content_type=_as_name(row.content_type) or None,
            source_url=None if row.id is None else f"{plan.address}?id={quote(external_id, safe='')}",
            not_imported=not_imported,
        )

    # Files.

    def _open(self, row: _Row) -> BinaryIO:
        if row.path is None:
            raise DownloadFailed(f"the row names no file: {self.file_path_column} is NULL")
        assert self.files_root is not None
        return open_below(Path(self.files_root), _as_name(row.path) or "")

    def _copy_file(self, row: _Row, plan: Plan, version: str, into: BinaryIO) -> Download:
        with self._open(row) as file:
            before = os.fstat(file.fileno())
            if not _is_version(version, row, plan, before):
                raise DownloadFailed(_CHANGED)
            shutil.copyfileobj(file, into, 1024 * 1024)
            after = os.fstat(file.fileno())
            if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
                raise DownloadFailed("the file changed while it was read")
            return Download(size=before.st_size)

    # Connections.

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        """A connection in a transaction of its own, rolled back in the end."""
        with _ENGINE_LOCK:
            if self._engine is None:
                if self.files_root is not None and not Path(self.files_root).is_dir():
                    raise ConfigurationError(f"files_root is not a folder: {self.files_root}")
                self._engine = self._new_engine()
                if self._reach.networks is not None:
                    sa.event.listen(self._engine, "do_connect", self._stay_within_reach)
            engine = self._engine
        with engine.connect() as connection:
            yield connection

    def _stay_within_reach(
        self, _dialect: Any, _record: Any, _arguments: Any, options: dict[str, Any]
    ) -> Any:
        """Connects to an address that was looked at; the driver never asks for those of a name itself."""
        if "host" not in options:  # a file
            return None
        try:
            addresses = self._reach.addresses(str(options["host"]))
        except OutOfReach as error:
            raise ConfigurationError(f"{self._system()}: {error}") from None
        if not addresses:
            raise _UnknownHost
        return self._connection_to(addresses, options)

    @contextmanager
    def _told(self, otherwise: type[ConnectorError], begun: bool = False) -> Iterator[None]:
        """Turns a driver's error into one for people: ConfigurationError when only a person can end
        it and the listing has not `begun`, else `otherwise`."""
        try:
            yield
        except _UnknownHost:
            sentence = f"{self._system()}: no connection (the name of the host is not known): check host"
            raise otherwise(sentence) from None
        except _DATABASE_ERRORS as error:
            cause = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig else error
            trouble = self._trouble(cause)
            # A server may say the password back to whoever gave it a wrong one.
            sentence = self.without_secrets(f"{self._system()}: {' '.join(trouble.sentence.split())}")
            raise (ConfigurationError if trouble.lasting and not begun else otherwise)(sentence) from None


def _may_be_in(window: Window, document: ExternalDocument, row: _Row, plan: Plan) -> bool:
    """Whether a row belongs to the window, or might: its date is none, or a time that occurred twice.

    What is written in the second hour looks older than what the first one brought: a refresh that begins
    there would pass it over.
    """
    first = document.modified_at
    if window.includes(first) or is_blank(row.modified):
        return window.includes(first)
    if first is None:
        return True
    second = as_utc(row.modified, plan.zone, second=True)
    return second is not None and second > first and window.includes(second)


def _version(row: _Row, modified_at: datetime | None, file: os.stat_result | None = None) -> str:
    """The strongest sign of a change. Raises DownloadFailed when there is none."""
    stated = as_text(row.version)
    if stated is not None and not is_blank(row.version):
        return stated
    if file is not None:
        return f"{file.st_mtime_ns}-{file.st_size}"
    if modified_at is not None:
        return f"{modified_at.isoformat()}-{row.size}" + (f"-{row.digest}" if row.digest else "")
    if row.digest is None and row.size is not None:
        raise DownloadFailed(
            "the row has neither a version nor a date, and the database made no digest of it"
        )
    return as_text(row.digest) or "no content"


def _is_version(version: str, row: _Row, plan: Plan, file: os.stat_result | None = None) -> bool:
    """Whether this is still the version that was listed."""
    try:
        return _version(row, as_utc(row.modified, plan.zone), file) == version
    except (ValueError, DownloadFailed):
        return False


def _duplicate(times: int) -> str:
    return f"its id stands {times} times in the result of the query"


def _as_name(value: Any) -> str | None:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", "backslashreplace")
    return as_text(value)
