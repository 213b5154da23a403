"""Marks documents that are gone from their source with a tombstone. Nothing is ever removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

import sqlalchemy as sa

from citysort_dagster.store.database import Database
from citysort_dagster.store.models import SyncLogEntry
from citysort_dagster.store.sync_log import audit, now
from connectors.base import Connector, ListingIncomplete

BATCH = 1_000
MAX_LOST_SHARE = 0.2


class Reconciliation(NamedTuple):
    """What holding a source against the sync log found.

    `known` documents were in the sync log, `gone` of them are not listed any more, and `returned`
    are listed again after they had been gone. `refusal` says why nothing was marked, None when all
    was.
    """

    source: str
    listed: int
    known: int
    gone: int
    returned: int
    refusal: str | None


def reconcile(
    database: Database,
    source: str,
    connector: Connector,
    run_id: str,
    max_lost_share: float = MAX_LOST_SHARE,
) -> Reconciliation:
    """Lists all of a source and marks what the sync log holds and the source does not list.

    A listing that breaks off marks nothing; nor does one in which more than `max_lost_share` of the
    documents are missing at once, which is more likely a fault than so many deletions. Raises
    ConfigurationError as the connector does, and DatabaseError.
    """
    started_at = now()
    # Sixteen bytes an id: a million ids take less than a hundred megabytes.
    listed: set[bytes] = set()
    try:
        for document in connector.list_documents():
            listed.add(_digest(document.external_id))
    except ListingIncomplete as error:
        return Reconciliation(source, len(listed), 0, 0, 0, f"the listing broke off ({error})")
    gone: list[str] = []
    returned: list[str] = []
    known = 0
    for entry in _entries(database, source):
        if entry.synced_at >= started_at:
            continue  # imported while we listed: perhaps too late to be met
        known += entry.gone_at is None
        if _digest(entry.external_id) in listed:
            if entry.gone_at is not None:
                returned.append(entry.external_id)
        elif entry.gone_at is None:
            gone.append(entry.external_id)
    if known and len(gone) / known > max_lost_share:
        refusal = (
            f"{len(gone)} of {known} documents are not listed any more, more than the share of "
            f"{max_lost_share:.0%} that is believed at once"
        )
        return Reconciliation(source, len(listed), known, len(gone), 0, refusal)
    _mark(database, source, run_id, gone, "gone from the source", started_at)
    _mark(database, source, run_id, returned, "back at the source", started_at)
    return Reconciliation(source, len(listed), known, len(gone), len(returned), None)


def _digest(external_id: str) -> bytes:
    return blake2b(external_id.encode(errors="surrogatepass"), digest_size=16).digest()


def _entries(database: Database, source: str) -> Iterator[sa.Row[tuple[str, datetime, datetime | None]]]:
    last = ""
    while True:
        with database.read() as connection:
            batch = connection.execute(
                sa.select(SyncLogEntry.external_id, SyncLogEntry.synced_at, SyncLogEntry.gone_at)
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
    event: str,
    started_at: datetime,
) -> None:
    at = now() if event.startswith("gone") else None

    def work(connection: sa.Connection, batch: Sequence[str]) -> None:
        # A call after a commit whose answer was lost finds nothing left to mark.
        unmarked = SyncLogEntry.gone_at.is_(None) if at else SyncLogEntry.gone_at.is_not(None)
        marked = connection.execute(
            sa.update(SyncLogEntry)
            .where(
                SyncLogEntry.source == source,
                SyncLogEntry.external_id.in_(batch),
                SyncLogEntry.synced_at < started_at,  # one imported since then is there
                unmarked,
            )
            .values(gone_at=at)
            .returning(SyncLogEntry.external_id, SyncLogEntry.document_id)
        ).all()
        audit(
            connection,
            [
                {
                    "event": event,
                    "document_id": row.document_id,
                    "source": source,
                    "run_id": run_id,
                    "details": {"external_id": row.external_id},
                }
                for row in marked
            ],
        )

    for start in range(0, len(external_ids), BATCH):
        batch = external_ids[start : start + BATCH]
        database.write(partial(work, batch=batch))
