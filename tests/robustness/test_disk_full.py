"""A disk or a quota fills up in the middle of an import."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from citysort_dagster.store.database import Database
from citysort_dagster.store.models import Document, ImportFailure
from tests.importer.conftest import make_city
from tests.robustness.conftest import FIRST_DAY, Town
from tests.robustness.disks import small_disk
from tests.robustness.importing import begin

SIZE = 2_000_000


def test_a_full_file_store_is_reported_for_the_documents_it_did_not_take(town: Town) -> None:
    documents = {f"{number}.bin": bytes([number]) * 300_000 for number in range(12)}
    for name, content in documents.items():
        town.put(name, content, FIRST_DAY)
    with small_disk(town.city.data / "files", SIZE) as is_small:
        found = begin(town.task()).ended()
        assert (found.error, found.incomplete) == (None, None)
        failed = {row.external_id: row.reason for row in town.city.rows(ImportFailure)}
        if is_small:
            assert failed
            assert all(reason.startswith("cannot be stored: ") for reason in failed.values())
            assert "No space left on device" in next(iter(failed.values()))
        imported = {row.external_id for row in town.city.rows(Document)}
        assert imported | set(failed) == set(documents)
        assert not imported & set(failed)
        assert (found.counts.imported, found.counts.failed) == (len(imported), len(failed))
        town.assert_nothing_but_strays()
        # The administrator makes room.
        if is_small:
            subprocess.run(["mount", "-o", "remount,size=20000000", town.city.data / "files"], check=True)
        assert begin(town.task()).ended().counts.imported == len(failed)
        assert town.city.rows(ImportFailure) == []
        town.assert_whole()


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[tuple[Town, bool]]:
    """Everything of the installation on one small disk, its database too."""
    with small_disk(tmp_path / "disk", SIZE) as is_small:
        database = Database(f"sqlite:///{tmp_path / 'disk' / 'citysort.db'}")
        database.migrate()
        yield Town(make_city(database, tmp_path / "source", tmp_path / "disk")), is_small
        database.close()


def test_an_import_that_finds_no_room_for_its_database_ends_with_a_sentence(
    cramped: tuple[Town, bool], tmp_path: Path
) -> None:
    town, is_small = cramped
    for number in range(1_500):
        town.put(f"{number}.txt", b"%d" % number, FIRST_DAY)
    found = begin(town.task()).ended()
    if is_small:
        assert found.error == "the documents database cannot be used: database or disk is full"
        town.assert_nothing_but_strays(quick=True)
        subprocess.run(["mount", "-o", "remount,size=60000000", tmp_path / "disk"], check=True)
    assert begin(town.task()).ended().error is None
    town.assert_whole()


def test_a_document_beyond_a_quota_is_reported_and_the_others_arrive(town: Town) -> None:
    town.change([f"{number}.txt" for number in range(50)])
    town.put("film.bin", b"x" * 30_000_000, FIRST_DAY)
    found = begin(town.task(), largest_file=20_000_000).ended()
    assert (found.error, found.counts.imported, found.counts.failed) == (None, 50, 1)
    (failure,) = town.city.rows(ImportFailure)
    assert (failure.external_id, failure.reason) == ("film.bin", "cannot be stored: File too large")
    assert begin(town.task()).ended().counts.imported == 1
    town.assert_whole()
