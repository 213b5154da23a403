"""Marks documents that are gone from their source with a tombstone. Nothing is ever removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

import sqlalchemy as sa

from citysort_dagster.importer import CLOCKS_AGREE_WITHIN
from citysort_dagster.store import checkpoints
from citysort_dagster.store.database import Database
from citysort_dagster.store.models import (
    AuditEvent,
    ConnectorConfig,
    Import,
    ImportFailure,
    SourceCheckpoint,
    SyncLogEntry,
)
from citysort_dagster.store.sync_log import OVERLAP, audit, failure_text, lock_source, mark_tombstones, now
from connectors.base import Connector, ListingIncomplete, Window

BATCH = 1_000
MAX_LOST_SHARE = 0.2


class Reconciliation(NamedTuple):
    """What holding a source against the sync log found.

    `known` documents were in the sync log, `gone` of them are not listed any more, and `returned`
    are listed again after they had been gone. `refusal` says why nothing was marked, None when all
    was. `missed` documents are listed, and dated so that no refresh will tell of them, but no import has
    met them, or not in this version.
    """

    source: str
    listed: int
    known: int
    gone: int
    returned: int
    refusal: str | None
    missed: int = 0


def reconcile(
    database: Database,
    source: str,
    connector: Connector,
    run_id: str,
    max_lost_share: float = MAX_LOST_SHARE,
) -> Reconciliation:
    """Lists all of a source and marks what the sync log holds and the source does not list.

    A listing that breaks off marks nothing; nor does one in which more than `max_lost_share` of the
    documents are missing at once, which is more likely a fault than so many deletions. Where documents
    have been missed, for they came to be or were changed with an earlier date, or a listing of changes did not
    tell of them, the source loses its watermark or its checkpoint: the next refresh lists all of it. Raises
    ConfigurationError as the connector does, and DatabaseError.
    """
    began = database.write(partial(_last_event, source=source))
    # Sixteen bytes an id, eight a version: a million documents take less than two hundred megabytes.
    listed: set[bytes] = set()
    missed: dict[bytes, int] = {}
    met_until = _met_until(database, source, connector)
    # What is touched meanwhile may have moved to where the listing had been already: it is listed by its new date.
    meanwhile = [Window(now() - CLOCKS_AGREE_WITHIN)] if connector.windowed else []
    try:
        for document in chain.from_iterable(map(connector.list_documents, [None, *meanwhile])):
            digest = _digest(document.external_id)
            listed.add(digest)
            if met_until and document.modified_at and document.modified_at < met_until - OVERLAP:
                missed[digest] = hash(document.version)
    except ListingIncomplete as error:
        return Reconciliation(source, len(listed), 0, 0, 0, f"it could not be listed completely ({error})")
    gone: list[str] = []
    returned: list[str] = []
    known = 0
    for entry in _entries(database, source, began):
        digest = _digest(entry.external_id)
        if not entry.is_older:
            missed.pop(digest, None)
            continue  # imported while we listed: perhaps too late to be met
        if missed.get(digest) == hash(entry.version):
            del missed[digest]
        known += entry.gone_at is None
        if digest in listed:
            if entry.gone_at is not None:
                returned.append(entry.external_id)
        elif entry.gone_at is None:
            gone.append(entry.external_id)
    for failing in _failing(database, source) if missed else ():
        missed.pop(failing, None)
    if missed:
        watermark = None if connector.keeps_checkpoint else met_until
        database.write(
            partial(_list_anew, source=source, run_id=run_id, missed=len(missed), watermark=watermark)
        )
    if known and len(gone) / known > max_lost_share:
        refusal = (
            f"{len(gone)} of {known} documents are not listed any more, more than the share of "
            f"{max_lost_share:.0%} that is believed at once"
        )
        return Reconciliation(source, len(listed), known, len(gone), 0, refusal, len(missed))
    _mark(database, source, run_id, gone, now(), began)
    _mark(database, source, run_id, returned, None, began)
    return Reconciliation(source, len(listed), known, len(gone), len(returned), None, len(missed))


def _digest(external_id: str) -> bytes:
    return _digest_of_text(failure_text(external_id))


def _digest_of_text(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


def _last_event(connection: sa.Connection, source: str) -> int:
    """The last event of the audit trail, between two transactions that store documents of this source."""
    lock_source(connection, source)
    return connection.execute(sa.select(sa.func.coalesce(sa.func.max(AuditEvent.id), 0))).scalar_one()


def _older_than(event: int) -> sa.ColumnElement[bool]:
    """Whether the newest version of a document was imported before this event: by the order of the audit trail,
    for the clocks of two machines differ."""
    since = sa.select(AuditEvent.document_id).where(AuditEvent.id > event, AuditEvent.event == "imported")
    return SyncLogEntry.document_id.not_in(since)


def _met_until(database: Database, source: str, connector: Connector) -> datetime | None:
    """Before which date imports should have met everything; None: everything is listed next anyway.

    A listing of changes tells what is new whatever its date, or should: so what is older than the last one.
    """
    with database.read() as connection:
        if not connector.keeps_checkpoint:
            return connection.execute(
                sa.select(ConnectorConfig.watermark).where(ConnectorConfig.name == source)
            ).scalar_one_or_none()
        if checkpoints.load(connection, source) is None:
            return None
        return connection.execute(
            sa.select(sa.func.max(Import.started_at)).where(
                Import.source == source,
                Import.status == "complete",
                Import.window_start.is_(None),
                Import.window_end.is_(None),
            )
        ).scalar_one()


def _failing(database: Database, source: str) -> set[bytes]:
    """The documents that an import has met and could not import."""
    with database.read() as connection:
        failures = connection.execute(
            sa.select(ImportFailure.external_id).where(ImportFailure.source == source)
        )
        return {_digest_of_text(text) for text in failures.scalars()}


def _list_anew(
    connection: sa.Connection, source: str, run_id: str, missed: int, watermark: datetime | None
) -> None:
    """Takes this watermark from the source, None: its checkpoint."""
    forgotten = connection.execute(
        sa.delete(SourceCheckpoint).where(SourceCheckpoint.source == source)
        if watermark is None
        else sa.update(ConnectorConfig)
        .where(ConnectorConfig.name == source, ConnectorConfig.watermark == watermark)
        .values(watermark=None)
    )
    if forgotten.rowcount:
        details = {"documents": missed, "why": "no refresh would tell of them; the next one lists all"}
        audit(connection, [{"event": "missed", "source": source, "run_id": run_id, "details": details}])


def _entries(
    database: Database, source: str, began: int
) -> Iterator[sa.Row[tuple[str, str, datetime | None, bool]]]:
    last = ""
    while True:
        with database.read() as connection:
            batch = connection.execute(
                sa.select(
                    SyncLogEntry.external_id,
                    SyncLogEntry.version,
                    SyncLogEntry.gone_at,
                    _older_than(began).label("is_older"),
                )
                .where(SyncLogEntry.source == source, SyncLogEntry.external_id > last)
                .order_by(SyncLogEntry.external_id)
                .limit(BATCH)
            ).all()
        if not batch:
            return
        yield from batch
        last = batch[-1].external_id


def _mark(
    database: Database,
    source: str,
    run_id: str,
    external_ids: Sequence[str],
    gone_at: datetime | None,
    began: int,
) -> None:
    def work(connection: sa.Connection, batch: Sequence[str]) -> None:
        lock_source(connection, source)
        # One imported since then is there.
        mark_tombstones(connection, source, run_id, batch, gone_at, _older_than(began))

    for start in range(0, len(external_ids), BATCH):
        database.write(partial(work, batch=external_ids[start : start + BATCH]))
