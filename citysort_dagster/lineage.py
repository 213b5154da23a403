"""Where a document came from and what became of it, from the source to the latest decision."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from citysort_dagster.document_list import as_values
from citysort_dagster.store.database import Database
from citysort_dagster.store.models import AuditEvent, ConnectorConfig, Document, DocumentText


def lineage(database: Database, document: dict[str, Any], ui_url: str | None = None) -> dict[str, Any]:
    """A document (as `document_list` gives it) as it is now, with its asset and partition, all versions of it
    in the order of their import, what its text is like, and every audit event in order.

    With the address of a running UI, links to the run and the asset as well. Raises DatabaseError.
    """
    with database.read() as connection:
        # Before the document itself: the last event is the revision that a decision names, and whoever decides
        # must not have seen an older document than that.
        events = connection.execute(
            sa.select(
                AuditEvent.id,
                AuditEvent.at,
                AuditEvent.event,
                AuditEvent.actor,
                AuditEvent.run_id,
                AuditEvent.details,
            )
            .where(AuditEvent.document_id == document["id"])
            .order_by(AuditEvent.id)
        ).all()
        versions = connection.execute(
            sa.select(
                Document.id,
                Document.version,
                Document.imported_at,
                Document.sha256,
                Document.supersedes,
                Document.superseded_by,
            )
            .where(Document.source == document["source"], Document.external_id == document["external_id"])
            .order_by(Document.imported_at, Document.id)
        ).all()
        text = connection.execute(
            sa.select(
                sa.func.length(DocumentText.text).label("characters"),
                DocumentText.media_type,
                DocumentText.pages,
                DocumentText.truncated,
                DocumentText.problem,
            ).where(DocumentText.document_id == document["id"])
        ).first()
        configured = connection.execute(
            sa.select(ConnectorConfig.id).where(ConnectorConfig.name == document["source"])
        ).first()
        current = connection.execute(sa.select(Document).where(Document.id == document["id"])).one()
    asset_key = f"sources/{document['source']}"
    links = {}
    if ui_url is not None:
        links = {
            "run": f"{ui_url}/runs/{quote(document['run_id'])}",
            "asset": f"{ui_url}/assets/{asset_key}?partition={quote(document['partition'])}",
        }
    return {
        **as_values(current),
        "asset_key": asset_key,
        "source_is_configured": configured is not None,
        "links": links,
        "versions": [as_values(row) for row in versions],
        "text": as_values(text) if text is not None else None,
        "events": [as_values(row) for row in events],
    }
