"""Asks a source, cheaply, which partitions hold documents that are not imported yet."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from itertools import islice
from typing import NamedTuple

import sqlalchemy as sa

from citysort_dagster.installation import Installation
from citysort_dagster.store import checkpoints, sync_log
from citysort_dagster.store.models import ImportFailure
from connectors.base import Connector, ExternalDocument, Reached, Window

LOOKUP_BATCH = 500


class News(NamedTuple):
    """The partitions with news, ascending. `whole` is False when there was no time to look at
    everything: there may be more. `reached` is where a listing of changes has come to."""

    partitions: Sequence[str]
    whole: bool
    reached: Reached | None = None


def find_news(
    installation: Installation, source: str, connector: Connector, since: datetime | None, seconds: float
) -> News:
    """Lists the source from `since` (UTC; None: all of it), or from its checkpoint where the connector
    keeps one, and compares it with the sync log.

    Documents that are known to fail or to be refused are no news. Stops after `seconds`. Raises
    ConfigurationError and ListingIncomplete as the connector does.
    """
    began = time.monotonic()
    found: set[str] = set()
    calendar = installation.calendar
    reached: Reached | None = None

    def changes() -> Iterator[ExternalDocument]:
        nonlocal reached
        with installation.database.read() as connection:
            checkpoint = checkpoints.load(connection, source)
        reached = yield from connector.list_changes(checkpoint)

    listing = changes() if connector.keeps_checkpoint else iter(connector.list_documents(Window(since, None)))
    while batch := list(islice(listing, LOOKUP_BATCH)):
        for document in _unknown(installation, source, batch):
            found.add(calendar.key_of(document.modified_at or datetime.now(timezone.utc)))
        if time.monotonic() - began > seconds:
            return News(sorted(found), whole=False)
    return News(sorted(found), whole=True, reached=reached)


def _unknown(
    installation: Installation, source: str, batch: Sequence[ExternalDocument]
) -> Iterator[ExternalDocument]:
    ids = {document.external_id for document in batch if sync_log.is_storable(document.external_id)}
    failure_ids = {sync_log.failure_text(document.external_id) for document in batch}
    with installation.database.read() as connection:
        known = sync_log.lookup(connection, source, ids)
        failing = set(
            connection.execute(
                sa.select(ImportFailure.external_id, ImportFailure.version).where(
                    ImportFailure.source == source, ImportFailure.external_id.in_(failure_ids)
                )
            ).tuples()
        )
    for document in batch:
        entry = known.get(document.external_id)
        if entry is not None and entry.version == document.version:
            continue
        failure = (sync_log.failure_text(document.external_id), sync_log.failure_text(document.version))
        if failure not in failing:
            yield document
