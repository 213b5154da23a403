"""The power goes: what had been committed is there when the machine starts again.

The kernel's page cache is really lost (see disks.py). What a drive loses of what it has confirmed is
beyond any program.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from citysort_dagster.store.database import Database
from citysort_dagster.store.models import Document
from tests.importer.conftest import City, make_city
from tests.robustness.conftest import Town
from tests.robustness.disks import Disk, disk
from tests.robustness.importing import begin, begin_to_die


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Disk]:
    with disk(tmp_path) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def town(request: pytest.FixtureRequest, drive: Disk, tmp_path: Path) -> Iterator[Town]:
    """The files are on the drive, the database too if it is SQLite."""
    url = _sqlite(drive.folder)
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql_server")
        url = server.create_database().render_as_string(hide_password=False)
    database = Database(url)
    database.migrate()
    yield Town(make_city(database, tmp_path / "source", drive.folder / "data"))
    database.close()


def test_what_was_not_synced_is_lost(drive: Disk) -> None:
    """Or else the other tests here would show nothing."""
    for name in ("synced", "not synced"):
        with (drive.folder / name).open("wb") as file:
            file.write(b"content")
            file.flush()
            if name == "synced":
                os.fsync(file.fileno())
    with drive.after_power_cut() as found:
        assert (found / "synced").read_bytes() == b"content"
        there = (found / "not synced").read_bytes() if (found / "not synced").exists() else b""
        assert (there == b"") == drive.can_lose


def test_every_committed_document_survives_a_power_cut_before_any_step(town: Town, drive: Disk) -> None:
    names = [f"{number}.txt" for number in range(4)]
    step = 1
    killed = True
    while killed:
        town.change(names)
        killed = begin_to_die(town.task(), step).was_killed()
        step += 4
        with drive.after_power_cut() as found:
            committed = {row.id for row in town.city.rows(Document)}
            with _on(found, town) as after:
                assert {row.id for row in after.rows(Document)} == committed
                town.assert_nothing_but_strays(after)
                if after.database.is_sqlite:
                    after.run()
                    town.assert_whole(after)
    assert step > 60


def test_an_import_that_ended_well_survives_a_power_cut_at_once(town: Town, drive: Disk) -> None:
    town.change([f"{number}.txt" for number in range(250)])
    assert begin(town.task()).ended().error is None
    with drive.after_power_cut() as found, _on(found, town) as after:
        assert town.assert_nothing_but_strays(after) == 0
        _, summary = after.run()
        assert summary.counts.imported == 0
        town.assert_whole(after)


@contextmanager
def _on(drive: Path, town: Town) -> Iterator[City]:
    """The installation on a drive."""
    city = town.city
    database = Database(
        _sqlite(drive) if city.database.is_sqlite else city.database.url.render_as_string(False)
    )
    yield City(city.folder, drive / "data", database)
    database.close()


def _sqlite(drive: Path) -> str:
    return f"sqlite:///{drive / 'citysort.db'}"
