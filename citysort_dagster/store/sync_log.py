"""Queries on what has been imported: sync log, documents, failures, imports."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from citysort_dagster.store.models import (
    AuditEvent,
    ConnectorConfig,
    Document,
    Import,
    ImportFailure,
    SyncLogEntry,
)

OVERLAP = timedelta(minutes=10)
"""How far behind the watermark a refresh begins: systems show documents late."""
FIRST_RETRY = timedelta(minutes=5)
LONGEST_RETRY = timedelta(days=1)
_IMPORTS_LOCK = 0x63697479_696D7074
_LONG_TEXTS = uuid.UUID("6f0d2a52-6f43-5c55-9d3c-2f0a86c1f1c7")


class Known(NamedTuple):
    """The newest imported version of a document, as the sync log holds it; `gone_at` is its tombstone."""

    version: str
    document_id: str
    run_id: str
    gone_at: datetime | None


class KnownDocument(NamedTuple):
    """A sync-log entry with what a decision about its document needs."""

    version: str
    document_id: str
    run_id: str
    path: str
    sha256: str
    modified_at: datetime | None


class Failed(NamedTuple):
    """A listed document that was not imported, its texts as `failure_text` makes them."""

    external_id: str
    version: str
    filename: str
    partition: str
    reason: str
    refused: bool


def failure_text(text: str, length: int = 400) -> str:
    """A text as the failures table holds it, for any database to store and index: however broken or long an id
    is, it stands there, and the same for the same id."""
    text = storable_text(text)
    return text if len(text) <= length else f"{text[:length]}… ({uuid.uuid5(_LONG_TEXTS, text)})"


def is_storable(text: str) -> bool:
    """Whether any database stores a text as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def storable_text(text: str) -> str:
    """A text that any database stores: what is no Unicode and NUL characters become escapes."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


def now() -> datetime:
    """The present, UTC."""
    return datetime.now(timezone.utc)


def lookup(connection: sa.Connection, source: str, external_ids: Collection[str]) -> Mapping[str, Known]:
    """What the sync log holds of these ids; ids it does not hold are absent."""
    rows = connection.execute(
        sa.select(
            SyncLogEntry.external_id,
            SyncLogEntry.version,
            SyncLogEntry.document_id,
            SyncLogEntry.run_id,
            SyncLogEntry.gone_at,
        ).where(SyncLogEntry.source == source, among(connection, SyncLogEntry.external_id, external_ids))
    )
    return {row[0]: Known(row[1], row[2], row[3], row[4]) for row in rows.all()}


def among(connection: sa.Connection, column: Any, values: Collection[str]) -> sa.ColumnElement[bool]:
    """Whether a text column holds one of many values, sent as one: one parameter for each takes
    longer to put together than the database takes to answer."""
    if connection.dialect.name == "postgresql":
        array = sa.bindparam(None, list(values), sa.ARRAY(sa.Text))
        matches: sa.ColumnElement[bool] = column == sa.any_(array)
        return matches
    each = sa.func.json_each(json.dumps(list(values))).table_valued("value")
    found: sa.ColumnElement[bool] = column.in_(sa.select(each.c.value))
    return found


def lock_source(connection: sa.Connection, source: str) -> None:
    """Waits until no other transaction stores documents of this source, or `lock_imports`; ends with the
    transaction.

    SQLite has one writer at a time as it is.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(_IMPORTS_LOCK)))
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext("citysort:" + source))))


def lock_imports(connection: sa.Connection) -> None:
    """Waits until no other transaction stores documents, of whatever source; ends with the transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_IMPORTS_LOCK)))


def lookup_documents(
    connection: sa.Connection, source: str, external_ids: Collection[str]
) -> Mapping[str, KnownDocument]:
    """The newest imported documents of these ids."""
    if not external_ids:
        return {}
    rows = connection.execute(
        sa.select(
            SyncLogEntry.external_id,
            SyncLogEntry.version,
            SyncLogEntry.document_id,
            SyncLogEntry.run_id,
            Document.path,
            Document.sha256,
            Document.source_modified_at,
        )
        .join(Document, Document.id == SyncLogEntry.document_id)
        .where(SyncLogEntry.source == source, among(connection, SyncLogEntry.external_id, external_ids))
    )
    return {row.external_id: KnownDocument(*row[1:]) for row in rows}


def holds_documents(connection: sa.Connection) -> bool:
    """Whether any document has been imported, from whatever source."""
    return connection.execute(sa.select(Document.id).limit(1)).first() is not None


def add_documents(connection: sa.Connection, documents: Sequence[Mapping[str, Any]]) -> None:
    """Adds documents, names them in the sync log as the newest versions, marks what they supersede
    and records it in the audit trail."""
    if not documents:
        return
    connection.execute(sa.insert(Document), documents)
    entries = [
        {
            "source": document["source"],
            "external_id": document["external_id"],
            "version": document["version"],
            "document_id": document["id"],
            "synced_at": document["imported_at"],
            "run_id": document["run_id"],
        }
        for document in documents
    ]
    connection.execute(upsert(connection, SyncLogEntry, ("source", "external_id")), entries)
    superseding = [document for document in documents if document["supersedes"]]
    if superseding:
        connection.execute(
            sa.update(Document)
            .where(Document.id == sa.bindparam("former"))
            .values(superseded_by=sa.bindparam("latter")),
            [{"former": document["supersedes"], "latter": document["id"]} for document in superseding],
        )
    audit(
        connection,
        [
            {
                "event": "imported",
                "document_id": document["id"],
                "source": document["source"],
                "run_id": document["run_id"],
                "details": {
                    "external_id": document["external_id"],
                    "version": document["version"],
                    "sha256": document["sha256"],
                    "size": document["size"],
                    "supersedes": document["supersedes"],
                },
            }
            for document in documents
        ]
        + [
            {
                "event": "superseded",
                "document_id": document["supersedes"],
                "source": document["source"],
                "run_id": document["run_id"],
                "details": {"superseded_by": document["id"]},
            }
            for document in superseding
        ],
    )


def mark_tombstones(
    connection: sa.Connection,
    source: str,
    run_id: str,
    external_ids: Collection[str],
    gone_at: datetime | None,
    condition: sa.ColumnElement[bool],
) -> None:
    """Gives documents whose sync-log entry meets a condition a tombstone, or takes it from them (`gone_at`
    None), and records it in the audit trail. Those that are so already stay as they are."""
    if not external_ids:
        return
    changes = SyncLogEntry.gone_at.is_(None) if gone_at else SyncLogEntry.gone_at.is_not(None)
    marked = connection.execute(
        sa.update(SyncLogEntry)
        .where(
            SyncLogEntry.source == source,
            among(connection, SyncLogEntry.external_id, external_ids),
            condition,
            changes,
        )
        .values(gone_at=gone_at)
        .returning(SyncLogEntry.external_id, SyncLogEntry.document_id)
    ).all()
    audit(
        connection,
        [
            {
                "event": "gone from the source" if gone_at else "back at the source",
                "document_id": row.document_id,
                "source": source,
                "run_id": run_id,
                "details": {"external_id": row.external_id},
            }
            for row in marked
        ],
    )


def audit(connection: sa.Connection, events: Sequence[Mapping[str, Any]], actor: str = "CitySort") -> None:
    """Appends audit events; each names its `event` and what it concerns."""
    if events:
        nothing: dict[str, Any] = {"document_id": None, "source": None, "run_id": None, "details": {}}
        at = now()
        connection.execute(
            sa.insert(AuditEvent), [{"at": at, "actor": actor, **nothing, **event} for event in events]
        )


def record_failures(connection: sa.Connection, source: str, run_id: str, failures: Sequence[Failed]) -> None:
    """Records documents that could not be imported, with a growing delay until the next try."""
    if not failures:
        return
    at = now()
    attempts = {
        row.external_id: row
        for row in connection.execute(
            sa.select(
                ImportFailure.external_id,
                ImportFailure.attempts,
                ImportFailure.first_failed_at,
                ImportFailure.run_id,
            ).where(
                ImportFailure.source == source,
                among(connection, ImportFailure.external_id, [failure.external_id for failure in failures]),
            )
        )
    }
    rows = {}
    for failure in failures:
        former = attempts.get(failure.external_id)
        # A transaction that is tried again must not count its attempt twice.
        again = former is not None and former.run_id == run_id
        attempt = former.attempts + (0 if again else 1) if former else 1
        rows[failure.external_id] = {
            "source": source,
            **failure._asdict(),
            "attempts": attempt,
            "first_failed_at": former.first_failed_at if former else at,
            "last_failed_at": at,
            "next_try_at": None if failure.refused else at + _delay(attempt),
            "run_id": run_id,
        }
    connection.execute(upsert(connection, ImportFailure, ("source", "external_id")), list(rows.values()))


def _delay(attempts: int) -> timedelta:
    doublings: int = min(attempts - 1, 20)
    return min(FIRST_RETRY * (1 << doublings), LONGEST_RETRY)


def clear_failures(
    connection: sa.Connection, source: str, run_id: str, versions: Mapping[str, str], began: datetime
) -> None:
    """Forgets the failures of documents that are imported now, in these versions by their ids.

    What another import has met since this one `began` stays, unless it was the same version: a later one
    may have failed there.
    """
    if not versions:
        return
    imported = {failure_text(external_id): failure_text(version) for external_id, version in versions.items()}
    found = connection.execute(
        sa.select(
            ImportFailure.external_id,
            ImportFailure.version,
            ImportFailure.run_id,
            ImportFailure.last_failed_at,
        ).where(ImportFailure.source == source, among(connection, ImportFailure.external_id, imported))
    ).all()
    cured = [
        row.external_id
        for row in found
        if row.run_id == run_id or row.version == imported[row.external_id] or row.last_failed_at < began
    ]
    if cured:
        connection.execute(
            sa.delete(ImportFailure).where(
                ImportFailure.source == source, among(connection, ImportFailure.external_id, cured)
            )
        )


def take_due_failures(
    connection: sa.Connection, sources: Collection[str], count: int = 10
) -> Sequence[tuple[str, str]]:
    """Up to `count` pairs of source and partition with failures that are due, the longest waiting
    first. Their next try is put off as if this one had failed: it may never come to be.

    What a clock that was ahead put off is due at once.
    """
    at = now()
    is_due = sa.or_(
        ImportFailure.next_try_at <= at,
        sa.and_(ImportFailure.next_try_at.is_not(None), ImportFailure.last_failed_at > at),
    )
    due = connection.execute(
        sa.select(ImportFailure.source, ImportFailure.partition)
        .where(is_due, ImportFailure.source.in_(sources))
        .group_by(ImportFailure.source, ImportFailure.partition)
        .order_by(sa.func.min(ImportFailure.next_try_at))
        .limit(count)
    ).all()
    for source, partition in due:
        of_partition = sa.and_(ImportFailure.source == source, ImportFailure.partition == partition)
        most = connection.execute(
            sa.select(sa.func.max(ImportFailure.attempts)).where(of_partition)
        ).scalar_one()
        connection.execute(
            sa.update(ImportFailure)
            .where(of_partition, is_due)
            .values(
                next_try_at=at + _delay(most + 1),
                last_failed_at=sa.case(
                    (ImportFailure.last_failed_at > at, at), else_=ImportFailure.last_failed_at
                ),
            )
        )
    return [(source, partition) for source, partition in due]


def last_import_failed_at(connection: sa.Connection, source: str) -> datetime | None:
    """When the last import of a source began, if it failed or its listing broke off; else None."""
    last = connection.execute(
        sa.select(Import.status, Import.started_at)
        .where(Import.source == source, Import.started_at <= now())
        .order_by(Import.started_at.desc())
        .limit(1)
    ).first()
    return last.started_at if last is not None and last.status in ("failed", "incomplete") else None


def close_failures_not_listed(
    connection: sa.Connection,
    source: str,
    run_id: str,
    partitions: Collection[str] | None,
    began: datetime,
) -> None:
    """Closes failures that a complete listing of these partitions (None: of all) no longer met:
    the document is gone from the source, or has moved on to a later date and is met there.

    What another import has met since this one `began` stays: the listing may have passed its place.
    """
    gone = sa.and_(
        ImportFailure.source == source, ImportFailure.run_id != run_id, ImportFailure.last_failed_at < began
    )
    if partitions is not None:
        gone = sa.and_(gone, ImportFailure.partition.in_(partitions))
    closed = connection.execute(
        sa.delete(ImportFailure).where(gone).returning(ImportFailure.external_id, ImportFailure.reason)
    ).all()
    audit(
        connection,
        [
            {
                "event": "failure closed",
                "source": source,
                "run_id": run_id,
                "details": {"external_id": row.external_id, "reason": row.reason, "why": "no longer listed"},
            }
            for row in closed
        ],
    )


def save_import(connection: sa.Connection, row: Mapping[str, Any]) -> None:
    """Writes how an import stands."""
    connection.execute(upsert(connection, Import, ("run_id", "source")), [row])


def running_imports(connection: sa.Connection) -> Sequence[str]:
    """The runs of imports that have not told their end."""
    return (
        connection.execute(sa.select(Import.run_id).where(Import.status == "running").distinct())
        .scalars()
        .all()
    )


def end_interrupted(connection: sa.Connection, run_ids: Collection[str]) -> None:
    """Notes that the imports of these runs have ended before they were done, unless they have told another end."""
    connection.execute(
        sa.update(Import)
        .where(Import.status == "running", among(connection, Import.run_id, run_ids))
        .values(status="interrupted", finished_at=now(), error="its run ended before the import did")
    )


def advance_watermark(
    connection: sa.Connection,
    source: str,
    window_start: datetime | None,
    listed_until: datetime,
    configured_at: datetime | None = None,
) -> None:
    """Moves the watermark to `listed_until` when the complete listing that began at `window_start`
    joins on to it; backwards only from a time that is yet to come.

    Leaves it when the source has been changed since `configured_at`.
    """
    wrong = ConnectorConfig.watermark > now()
    reached = sa.or_(ConnectorConfig.watermark < listed_until, ConnectorConfig.watermark.is_(None), wrong)
    joins = (
        sa.true()
        if window_start is None
        else sa.and_(ConnectorConfig.watermark >= window_start, sa.not_(wrong))
    )
    unchanged = sa.true() if configured_at is None else ConnectorConfig.updated_at == configured_at
    connection.execute(
        sa.update(ConnectorConfig)
        .where(ConnectorConfig.name == source, reached, joins, unchanged)
        .values(watermark=listed_until)
    )


def set_last_sync(
    connection: sa.Connection, source: str, window_start: datetime | None, at: datetime
) -> None:
    """Notes when the source was last imported whole, by a listing that began at `window_start`, if what is
    before that has been listed too."""
    joins = sa.true() if window_start is None else ConnectorConfig.watermark >= window_start
    connection.execute(
        sa.update(ConnectorConfig).where(ConnectorConfig.name == source, joins).values(last_sync_at=at)
    )


def committed_paths(connection: sa.Connection, paths: Iterable[str]) -> set[str]:
    """Which of these stored paths belong to a document."""
    known = sa.select(Document.path).where(among(connection, Document.path, list(paths)))
    return set(connection.execute(known).scalars())


def upsert(connection: sa.Connection, table: Any, keys: Sequence[str]) -> Any:
    """An insert that writes over rows with the same keys."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    columns = {
        column.name: statement.excluded[column.name]
        for column in table.__table__.columns
        if column.name not in keys
    }
    return statement.on_conflict_do_update(index_elements=list(keys), set_=columns)
