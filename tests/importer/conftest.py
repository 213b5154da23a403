"""An importer on each kind of documents database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sqlalchemy as sa

from citysort_dagster.files import open_file_store
from citysort_dagster.import_batch import ImportRequest
from citysort_dagster.importer import Importer, ImportSummary
from citysort_dagster.partitions import Calendar
from citysort_dagster.store import checkpoints
from citysort_dagster.store.database import Database
from citysort_dagster.store.models import ConnectorConfig, SourceCheckpoint
from citysort_dagster.store.sync_log import now
from citysort_dagster.verify import Disagreement, verify
from connectors.base import Connector, Window
from tests.importer.folder_connector import Folder, put

SOURCE = "town_hall"
NOW = datetime(2026, 6, 15, tzinfo=timezone.utc)


@dataclass
class City:
    """A source folder, and an installation that imports it."""

    folder: Path
    data: Path
    database: Database
    calendar: Calendar = field(default_factory=lambda: Calendar("monthly", date(2026, 1, 1), NOW))

    def __post_init__(self) -> None:
        self.files = open_file_store(str(self.data / "files"), self.data / "incoming")

    def put(
        self, name: str, content: bytes = b"content", month: int = 5, day: int = 10, hour: int = 0
    ) -> None:
        put(self.folder, name, content, datetime(2026, month, day, hour, tzinfo=timezone.utc))

    def connector(self, **settings: Any) -> Folder:
        return Folder(path=str(self.folder), **settings)

    def run(
        self,
        connector: Connector | None = None,
        *,
        window: Window | None = None,
        limit: int | None = None,
        reimport: bool = False,
        overridden: bool = False,
        run_id: str | None = None,
    ) -> tuple[Sequence[str], ImportSummary]:
        """The partitions that were completed, and the summary."""
        window = window or Window()
        request = ImportRequest(
            SOURCE,
            run_id or str(uuid.uuid4()),
            window,
            self.calendar.between(window),
            limit,
            reimport,
            overridden=overridden,
        )
        return self._run(request, connector or self.connector())

    def refresh(
        self,
        connector: Connector,
        *,
        limit: int | None = None,
        run_id: str | None = None,
        configured_at: datetime | None = None,
    ) -> tuple[Sequence[str], ImportSummary]:
        """The same for what has changed since the last complete refresh."""
        request = ImportRequest(
            SOURCE,
            run_id or str(uuid.uuid4()),
            None,
            self.calendar.keys[-1:],
            limit,
            configured_at=configured_at,
            changes=True,
            checkpoint=self.checkpoint(),
        )
        return self._run(request, connector)

    def _run(self, request: ImportRequest, connector: Connector) -> tuple[Sequence[str], ImportSummary]:
        importer = Importer(request, connector, self.database, self.files, self.calendar)
        return list(importer.run()), importer.summary

    def rows(self, table: Any, *where: Any) -> Sequence[sa.Row[Any]]:
        with self.database.read() as connection:
            return connection.execute(sa.select(table).where(*where)).all()

    def watermark(self) -> datetime | None:
        (row,) = self.rows(ConnectorConfig.watermark, ConnectorConfig.name == SOURCE)
        found: datetime | None = row.watermark
        return found

    def checkpoint(self) -> str | None:
        with self.database.read() as connection:
            return checkpoints.load(connection, SOURCE)

    def forget_checkpoint(self) -> None:
        self.database.write(lambda connection: connection.execute(sa.delete(SourceCheckpoint)))

    def disagreements(self) -> Sequence[Disagreement]:
        return list(verify(self.database, self.files))

    def stored(self) -> Sequence[str]:
        return list(self.files.paths())


def new_database(folder: Path) -> Database:
    """A documents database on SQLite with its tables: making them takes longer than an import."""
    (folder / "citysort.db").write_bytes(_empty_database())
    return Database(f"sqlite:///{folder / 'citysort.db'}")


@cache
def _empty_database() -> bytes:
    with TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/citysort.db")
        database.migrate()
        database.close()
        return Path(folder, "citysort.db").read_bytes()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        opened = new_database(tmp_path)
    else:
        server = request.getfixturevalue("postgresql_server")
        opened = Database(server.create_database().render_as_string(hide_password=False))
        opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def city(database: Database, tmp_path: Path) -> City:
    return make_city(database, tmp_path / "source", tmp_path)


def make_city(database: Database, folder: Path, data: Path) -> City:
    """A source folder, made and configured."""
    folder.mkdir()
    at = now()
    row = {
        "name": SOURCE,
        "connector_type": "folder",
        "config_json": {},
        "enabled": True,
        "owners": [],
        "tags": {},
        "group_name": "sources",
        "created_at": at,
        "updated_at": at,
    }
    database.write(lambda connection: connection.execute(sa.insert(ConnectorConfig), [row]))
    return City(folder, data, database)
