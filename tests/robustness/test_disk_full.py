"""A disk or a quota fills up in the middle of an import."""

from __future__ import annotations

from pathlib import Path

import pytest

from citysort_dagster.store.database import Database
from citysort_dagster.store.models import Document, ImportFailure
from tests.importer.conftest import make_city
from tests.robustness.conftest import FIRST_DAY, Town
from tests.robustness.disks import make_room, small_disk
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
            make_room(town.city.data / "files")
        assert begin(town.task()).ended().counts.imported == len(failed)
        assert town.city.rows(ImportFailure) == []
        town.assert_whole()


@pytest.mark.parametrize("size", [1_000_000, 3_000_000, 8_000_000])
def test_an_import_that_leaves_no_room_for_its_database_says_so(tmp_path: Path, size: int) -> None:
    """Everything of the installation is on one small disk: what fills it up first is a matter of chance."""
    with small_disk(tmp_path / "disk", size) as is_small:
        database = Database(f"sqlite:///{tmp_path / 'disk' / 'citysort.db'}")
        database.migrate()
        town = Town(make_city(database, tmp_path / "source", tmp_path / "disk"))
        for number in range(1_500):
            town.put(f"{number}.txt", b"%d" % number, FIRST_DAY)
        found = begin(town.task()).ended()
        if is_small:
            if found.error is None:
                assert found.counts.failed == len(town.city.rows(ImportFailure)) > 0
                assert found.counts.failed + found.counts.imported == 1_500
            else:
                assert found.error == "the documents database cannot be used: database or disk is full"
            town.assert_nothing_but_strays(quick=True)
            make_room(tmp_path / "disk")
        assert begin(town.task()).ended().error is None
        town.assert_whole()
        database.close()


def test_a_document_beyond_a_quota_is_reported_and_the_others_arrive(town: Town) -> None:
    town.change([f"{number}.txt" for number in range(50)])
    town.put("film.bin", b"x" * 30_000_000, FIRST_DAY)
    found = begin(town.task(), largest_file=20_000_000).ended()
    assert (found.error, found.counts.imported, found.counts.failed) == (None, 50, 1)
    (failure,) = town.city.rows(ImportFailure)
    assert (failure.external_id, failure.reason) == ("film.bin", "cannot be stored: File too large")
    assert begin(town.task()).ended().counts.imported == 1
    town.assert_whole()
