"""A city to import on each kind of documents database, from which processes can be killed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from citysort_dagster.files import FileStore
from citysort_dagster.store.models import AuditEvent, Document, SyncLogEntry
from citysort_dagster.verify import verify
from connectors.base import Window
from tests.cli.conftest import citysort, data_dir
from tests.importer.conftest import NOW, SOURCE, City, city, database
from tests.robustness.importing import Task

__all__ = ["city", "citysort", "data_dir", "database"]

IN_MEMORY = "/dev/shm"  # noqa: S108 - a folder of our own is made in it
FIRST_DAY = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dataclass
class Town:
    """A city, what its source holds, and what must be true of what was imported."""

    city: City
    holds: dict[str, bytes] = field(default_factory=dict)
    random: Random = field(default_factory=lambda: Random(1))  # noqa: S311 - the same documents each time
    _changes: int = 0

    def change(self, names: Sequence[str]) -> None:
        """Adds these documents, or changes them: other bytes, a later time than any had in its month."""
        for name in names:
            self._changes += 1
            content = f"{name} number {self._changes}\n".encode() * self.random.randrange(1, 400)
            month = 1 + int(hashlib.sha256(name.encode()).hexdigest(), 16) % 6
            modified_at = datetime(2026, month, 2, tzinfo=timezone.utc) + timedelta(seconds=self._changes)
            self.put(name, content, modified_at)

    def put(self, name: str, content: bytes, modified_at: datetime) -> None:
        from tests.importer.folder_connector import put

        put(self.city.folder, name, content, modified_at)
        self.holds[name] = content

    def change_some(self, share: float) -> None:
        self.change([name for name in self.holds if self.random.random() < share])

    def task(self, window: Window | None = None, data: Path | None = None, **settings: Any) -> Task:
        city = self.city
        calendar = (city.calendar.length, FIRST_DAY.date(), NOW)
        url = city.database.url.render_as_string(hide_password=False)
        return Task(SOURCE, url, data or city.data, calendar, city.folder, settings, window or Window())

    def assert_whole(self, city: City | None = None, quick: bool = False) -> None:
        """Everything that the source holds is imported, once, and nothing else is left anywhere."""
        city = city or self.city
        documents = city.rows(Document)
        newest = {row.external_id: row.sha256 for row in documents if row.superseded_by is None}
        assert newest == digests(self.holds)
        assert len({(row.external_id, row.version) for row in documents}) == len(documents)
        assert len(city.rows(SyncLogEntry)) == len(self.holds)
        assert len(city.rows(AuditEvent, AuditEvent.event == "imported")) == len(documents)
        assert sorted(city.stored()) == sorted(row.path for row in documents)
        assert list(verify(city.database, city.files, quick)) == []
        assert_nothing_staged(city.files)

    def assert_nothing_but_strays(self, city: City | None = None, quick: bool = False) -> int:
        """What is imported agrees with itself; returns how many files are there without a document."""
        city = city or self.city
        found = [one.kind for one in verify(city.database, city.files, quick)]
        assert set(found) <= {"stray_file"}, found
        return len(found)


def digests(holds: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in holds.items()}


def assert_nothing_staged(files: FileStore) -> None:
    """No import has left anything behind; locks, which are empty, may stay."""
    for left in files.staging_root.rglob("*"):
        assert left.is_file() and left.stat().st_size == 0, left


def folder_in_memory() -> str | None:
    """A folder in memory where there is one: a kill loses nothing that was written, synced or not."""
    return IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    memory = folder_in_memory()
    if memory is None:
        yield tmp_path
        return
    with TemporaryDirectory(prefix="citysort-", dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def town(city: City) -> Town:
    return Town(city)
