"""One installation, opened: its settings, documents database, file store and calendar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from citysort_dagster.files import FileStore, open_file_store
from citysort_dagster.settings import Settings, SettingsError, load_settings
from citysort_dagster.store.database import Database

if TYPE_CHECKING:
    from citysort_dagster.partitions import Calendar


@dataclass(frozen=True)
class Installation:
    """What the parts of CitySort work on."""

    settings: Settings
    database: Database
    files: FileStore

    @cached_property
    def calendar(self) -> Calendar:
        """The partitions up to now, as of when it is first asked for."""
        # Imports Dagster, which commands that only read the database do without.
        from citysort_dagster.partitions import Calendar

        return Calendar(self.settings.partitions, self.settings.partitions_start)


@contextmanager
def open_installation() -> Iterator[Installation]:
    """The installation that the settings describe, its tables up to date.

    Raises SettingsError and DatabaseError.
    """
    settings = load_settings()
    database = Database(settings.sqlalchemy_url)
    try:
        database.migrate()
        try:
            files = open_file_store(
                settings.files_url or str(settings.data_dir / "files"), settings.data_dir / "incoming"
            )
        except ValueError as error:
            raise SettingsError(f"setting CITYSORT_FILES_URL: {error}") from None
        yield Installation(settings, database, files)
    finally:
        database.close()
