"""A town whose documents have been imported and processed, and may be processed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa

from citysort_dagster.automation import partition_range_tags
from citysort_dagster.import_batch import ImportRequest
from citysort_dagster.importer import Importer
from citysort_dagster.ingestion_assets import build_ingestion_assets
from citysort_dagster.installation import Installation
from citysort_dagster.partitions import Calendar
from citysort_dagster.store.database import Database
from citysort_dagster.store.documents import pending_partitions
from citysort_dagster.store.models import AuditEvent, ConnectorConfig, Document
from citysort_dagster.store.sync_log import now
from connectors.base import Window
from tests.importer.folder_connector import Folder, put

START = date(2026, 1, 1)

PERMIT = """BUILDING PERMIT APPLICATION
Applicant name: Mia Okafor
Property address: 12 Elm Street, Springfield
Parcel number: 12-345-678
Scope of work: a new roof. Licensed contractor. Estimated construction cost: $12,000
Building permit, plan review, permit fee, construction, square feet.
"""
COMPLAINT = """CODE ENFORCEMENT COMPLAINT FORM
Nature of complaint: noise, barking dogs, loud music. Code violation complaint.
Complainant: Jos\u00e9 Mu\u00f1oz
"""


class Town:
    """An installation, and the folder that its sources bring documents from."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self.installation = installation
        self.database: Database = installation.database
        self._folder = folder

    def bring(self, name: str, content: bytes | str, source: str = "town_hall", day: int = 10) -> str:
        """Imports a document, or a later version of it, and returns its id."""
        folder = self._folder / source
        folder.mkdir(parents=True, exist_ok=True)
        self._configure(source)
        data = content.encode() if isinstance(content, str) else content
        put(folder, name, data, datetime(2026, 5, day, tzinfo=timezone.utc))
        calendar = Calendar("monthly", START)
        request = ImportRequest(
            source, f"run-of-{name}-{day}", Window(), calendar.between(Window()), None, False
        )
        connector = Folder(path=str(folder))
        importer = Importer(request, connector, self.database, self.installation.files, calendar)
        list(importer.run())
        with self.database.read() as connection:
            return connection.execute(
                sa.select(Document.id)
                .where(Document.source == source, Document.external_id == name)
                .where(Document.superseded_by.is_(None))
            ).scalar_one()

    def process(self) -> None:
        """Runs the assets of the ingestion pipeline over the partitions in which documents wait for it.

        In a thread of its own: where a browser is controlled from, an event loop runs, and Dagster
        wants to run one itself.
        """
        with ThreadPoolExecutor(1) as thread:
            thread.submit(self._process).result()

    def _process(self) -> None:
        calendar = Calendar("monthly", START)
        with self.database.read() as connection:
            waiting = calendar.holding(pending_partitions(connection, now()))
        ran = dg.materialize(
            build_ingestion_assets(calendar.definition(), []),
            resources={"installation": dg.ResourceDefinition.hardcoded_resource(self.installation)},
            tags=partition_range_tags(waiting or calendar.keys[:1]),
        )
        assert ran.success

    def document(self, document_id: str) -> sa.Row[Any]:
        with self.database.read() as connection:
            return connection.execute(sa.select(Document).where(Document.id == document_id)).one()

    def change(self, document_id: str, values: Mapping[str, Any]) -> None:
        """Gives columns of a document other values, past everything that would not."""
        change = sa.update(Document).where(Document.id == document_id).values(**values)
        self.database.write(lambda connection: connection.execute(change))

    def events(self, document_id: str) -> Sequence[sa.Row[Any]]:
        with self.database.read() as connection:
            return connection.execute(
                sa.select(AuditEvent).where(AuditEvent.document_id == document_id).order_by(AuditEvent.id)
            ).all()

    def revision(self, document_id: str) -> int:
        return int(self.events(document_id)[-1].id)

    def _configure(self, source: str) -> None:
        at = now()
        row = {
            "name": source,
            "connector_type": "folder",
            "config_json": {},
            "enabled": True,
            "owners": [],
            "tags": {},
            "group_name": "sources",
            "created_at": at,
            "updated_at": at,
        }

        def work(connection: sa.Connection) -> None:
            known = connection.execute(
                sa.select(ConnectorConfig.id).where(ConnectorConfig.name == source)
            ).first()
            if known is None:
                connection.execute(sa.insert(ConnectorConfig), [row])

        self.database.write(work)
