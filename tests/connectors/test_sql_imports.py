"""Imports from databases: which partitions are told to be complete when a listing breaks off."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from citysort_dagster.import_batch import Counts, ImportRequest
from citysort_dagster.importer import Importer
from connectors.base import Window
from tests.connectors.sql_databases import Database
from tests.importer.conftest import SOURCE, make_city, new_database

IN_JUNE = "2026-05-31T20:00:00-05:00"
IN_MAY = "2026-06-01T05:00:00+09:00"
"""As text, the later of the two comes first."""


@pytest.mark.parametrize(("type_", "complete"), [("timestamptz", ["2026-06-01"]), ("text", [])])
def test_a_partition_is_complete_early_only_if_the_database_sorts_by_time(
    postgresql: Database, tmp_path: Path, type_: str, complete: list[str]
) -> None:
    postgresql.create(content="text", modified=type_)
    postgresql.execute(
        f"INSERT INTO documents SELECT n, 'a', '{IN_JUNE}', 'a' FROM generate_series(1, 600) n"
    )
    postgresql.execute(
        f"INSERT INTO documents SELECT n, 'b', '{IN_MAY}', 'b' FROM generate_series(1001, 4000) n"
    )
    city = make_city(new_database(tmp_path), tmp_path / "source", tmp_path)
    request = ImportRequest(
        SOURCE, str(uuid.uuid4()), Window(), city.calendar.between(Window()), limit=None, reimport=False
    )
    disconnected: list[int] = []

    def disconnect_once(counts: Counts) -> None:
        if counts.listed >= 1_000 and not disconnected:
            postgresql.disconnect_clients()
            disconnected.append(counts.listed)

    importer = Importer(
        request, postgresql.connector(), city.database, city.files, city.calendar, disconnect_once, 500
    )
    assert list(importer.run()) == complete
    assert importer.summary.incomplete is not None
    city.database.close()
