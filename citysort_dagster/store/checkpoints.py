"""Where the listings of changes have come to, by source. To lose one costs a listing of everything."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from citysort_dagster.store.models import ConnectorConfig, SourceCheckpoint
from citysort_dagster.store.sync_log import upsert


def load(connection: sa.Connection, source: str) -> str | None:
    """The checkpoint of a source; None when there is none, or the source has been changed since."""
    found: str | None = connection.execute(
        sa.select(SourceCheckpoint.checkpoint)
        .join(ConnectorConfig, ConnectorConfig.name == SourceCheckpoint.source)
        .where(
            SourceCheckpoint.source == source, SourceCheckpoint.configured_at == ConnectorConfig.updated_at
        )
    ).scalar()
    return found


def keep(connection: sa.Connection, source: str, checkpoint: str, configured_at: datetime | None) -> None:
    """Keeps what a complete listing returned whose documents are all imported or recorded as failed.

    `configured_at` is when the source was last changed as far as that listing knew, None: as now.
    """
    now_configured_at = connection.execute(
        sa.select(ConnectorConfig.updated_at).where(ConnectorConfig.name == source)
    ).scalar()
    if now_configured_at is None or configured_at not in (None, now_configured_at):
        return
    row = {"source": source, "checkpoint": checkpoint, "configured_at": now_configured_at}
    connection.execute(upsert(connection, SourceCheckpoint, ("source",)), [row])
