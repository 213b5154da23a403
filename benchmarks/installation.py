"""An installation of CitySort in a folder, and imports into it without Dagster."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.measure import Work
from citysort_dagster.files import open_file_store
from citysort_dagster.import_batch import ImportRequest
from citysort_dagster.importer import Importer
from citysort_dagster.partitions import Calendar
from citysort_dagster.store.database import Database
from citysort_dagster.store.models import ConnectorConfig
from citysort_dagster.store.sync_log import now
from connectors import get_connector
from connectors.base import Window

SOURCE = "benchmark"


def open_database(folder: Path) -> Database:
    """The documents database of the installation in this folder: SQLite, as CitySort comes."""
    database = Database(f"sqlite:///{folder / 'citysort.db'}")
    database.migrate()
    return database


def prepared_import(connector_type: str, settings: Mapping[str, Any], folder: Path) -> Work:
    """An import of everything the source has; returns how many documents were imported or known."""
    database = open_database(folder)
    _configure(database, connector_type)
    files = open_file_store("", folder / "incoming")
    calendar = Calendar("monthly", date(2020, 1, 1))
    connector = get_connector(connector_type, settings)
    connector.test_connection()  # makes its client, as those of the others are made

    def work() -> int:
        request = ImportRequest(SOURCE, str(uuid.uuid4()), Window(), calendar.keys)
        importer = Importer(request, connector, database, files, calendar)
        for _ in importer.run():
            pass
        connector.close()
        if importer.summary.problems or importer.summary.incomplete:
            raise RuntimeError(importer.summary.incomplete or importer.summary.problems[0].reason)
        return importer.summary.counts.imported + importer.summary.counts.skipped

    return work


def import_everything(work: Work, expected: int) -> None:
    """Does an import that is not measured."""
    found = work()
    if found != expected:
        raise RuntimeError(f"{found} of {expected} documents were imported")


def _configure(database: Database, connector_type: str) -> None:
    at = now()
    row = {
        "name": SOURCE,
        "connector_type": connector_type,
        "config_json": {},
        "enabled": True,
        "owners": [],
        "tags": {},
        "group_name": "sources",
        "created_at": at,
        "updated_at": at,
    }

    def add(connection: sa.Connection) -> None:
        if connection.execute(sa.select(ConnectorConfig.id).where(ConnectorConfig.name == SOURCE)).first():
            return
        connection.execute(sa.insert(ConnectorConfig), [row])

    database.write(add)
