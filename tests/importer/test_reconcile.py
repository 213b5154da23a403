"""Tombstones: documents that are gone from their source are marked, never removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone

import pytest
import sqlalchemy as sa

from citysort_dagster.reconcile import Reconciliation, reconcile
from citysort_dagster.store import sync_log
from citysort_dagster.store.models import AuditEvent, Document, SyncLogEntry
from connectors.base import ExternalDocument, Window
from tests.importer.conftest import SOURCE, City
from tests.importer.folder_connector import Folder
from tests.importer.ledger_connector import Entry, Ledger, LedgerConnector

LONG_AGO = datetime(2019, 1, 1, tzinfo=timezone.utc)


def gone(city: City) -> set[str]:
    return {row.external_id for row in city.rows(SyncLogEntry, SyncLogEntry.gone_at.is_not(None))}


def filled(city: City, count: int = 20) -> City:
    for number in range(count):
        city.put(f"{number}.txt", month=1 + number % 6)
    city.run()
    return city


def test_a_document_that_is_gone_gets_a_tombstone_and_an_audit_event_and_stays(city: City) -> None:
    filled(city)
    (city.folder / "7.txt").unlink()
    found = reconcile(city.database, SOURCE, city.connector(), "run-9")

    assert found == Reconciliation(SOURCE, listed=19, known=20, gone=1, returned=0, refusal=None)
    assert gone(city) == {"7.txt"}
    (document,) = city.rows(Document, Document.external_id == "7.txt")
    (event,) = city.rows(AuditEvent, AuditEvent.event == "gone from the source")
    assert (event.document_id, event.run_id) == (document.id, "run-9")
    assert city.files.size(document.path) == 7
    assert city.disagreements() == []

    again = reconcile(city.database, SOURCE, city.connector(), "run-10")
    assert (again.known, again.gone) == (19, 0)
    assert len(city.rows(AuditEvent, AuditEvent.event == "gone from the source")) == 1


def test_a_document_that_is_back_loses_its_tombstone(city: City) -> None:
    filled(city)
    (city.folder / "7.txt").rename(city.data / "away")
    reconcile(city.database, SOURCE, city.connector(), "run-9")
    (city.data / "away").rename(city.folder / "7.txt")
    found = reconcile(city.database, SOURCE, city.connector(), "run-10")
    assert (found.gone, found.returned) == (0, 1)
    assert gone(city) == set()
    assert len(city.rows(AuditEvent, AuditEvent.event == "back at the source")) == 1


def test_a_new_version_of_a_document_that_was_gone_has_no_tombstone(city: City) -> None:
    filled(city)
    (city.folder / "7.txt").unlink()
    reconcile(city.database, SOURCE, city.connector(), "run-9")
    city.put("7.txt", b"again", day=20)
    city.run()
    assert gone(city) == set()
    assert len(city.rows(Document, Document.external_id == "7.txt")) == 2


@pytest.mark.parametrize("change", ["none", "changed", "changed and fails"])
def test_an_import_that_lists_a_document_takes_its_tombstone_away(city: City, change: str) -> None:
    filled(city)
    (city.folder / "7.txt").rename(city.data / "away")
    (city.folder / "8.txt").unlink()
    reconcile(city.database, SOURCE, city.connector(), "run-9")
    assert gone(city) == {"7.txt", "8.txt"}
    (former,) = city.rows(Document, Document.external_id == "7.txt")
    (city.data / "away").rename(city.folder / "7.txt")
    if change != "none":
        city.put("7.txt", b"other", day=20)
    _, summary = city.run(city.connector(fails=["7.txt"] if "fails" in change else []))
    assert (summary.counts.imported, summary.counts.failed) == (change == "changed", "fails" in change)
    assert gone(city) == {"8.txt"}
    (event,) = city.rows(AuditEvent, AuditEvent.event == "back at the source")
    assert (event.document_id, event.details) == (former.id, {"external_id": "7.txt"})
    city.run()
    assert len(city.rows(AuditEvent, AuditEvent.event == "back at the source")) == 1


def test_an_import_by_other_settings_takes_no_tombstone_away(city: City) -> None:
    """What it lists may be outside of what is configured."""
    filled(city)
    (city.folder / "7.txt").rename(city.data / "away")
    reconcile(city.database, SOURCE, city.connector(), "run-9")
    (city.data / "away").rename(city.folder / "7.txt")
    city.run(overridden=True)
    assert gone(city) == {"7.txt"}


def test_an_import_takes_no_tombstone_away_that_is_younger_than_its_listing(city: City) -> None:
    filled(city)

    class Slow(Folder):
        def list_documents(self, window: Window | None = None) -> Iterator[ExternalDocument]:
            listed = list(super().list_documents(window))
            (city.folder / "7.txt").unlink()
            reconcile(city.database, SOURCE, city.connector(), "run-9")
            yield from listed

    city.run(Slow(path=str(city.folder)))
    assert gone(city) == {"7.txt"}


def test_a_document_that_is_imported_while_it_is_found_missing_has_no_tombstone(city: City) -> None:
    """Somebody puts it back after it was not listed, and an import brings it before the tombstone is written."""
    filled(city)
    (city.folder / "7.txt").unlink()
    writes: list[object] = []

    def bring(_connection: sa.Connection, options: Mapping[str, object]) -> None:
        if options.get("citysort_write"):
            writes.append(options)
            if len(writes) == 2:  # the first finds out where the audit trail is
                city.put("7.txt", b"again", day=20)
                city.run()

    sa.event.listen(city.database.engine, "set_connection_execution_options", bring)
    found = reconcile(city.database, SOURCE, city.connector(), "run-9")
    assert (found.gone, len(writes) > 2) == (1, True)
    assert gone(city) == set()
    assert city.rows(AuditEvent, AuditEvent.event == "gone from the source") == []


def test_a_document_that_is_touched_while_the_source_is_listed_has_no_tombstone(city: City) -> None:
    """Newest first, it moves to where the listing has been already."""
    filled(city)
    (city.folder / "8.txt").unlink()

    class Touched(Folder):
        def list_documents(self, window: Window | None = None) -> Iterator[ExternalDocument]:
            for number, document in enumerate(super().list_documents(window)):
                if window is None and number == 10:
                    (city.folder / "7.txt").touch()
                if document.external_id != "7.txt" or window is not None:
                    yield document

    found = reconcile(city.database, SOURCE, Touched(path=str(city.folder)), "run-9")
    assert (found.listed, found.gone, gone(city)) == (19, 1, {"8.txt"})


def test_a_listing_that_breaks_off_marks_nothing(city: City) -> None:
    filled(city)
    (city.folder / "7.txt").unlink()
    found = reconcile(city.database, SOURCE, city.connector(break_after=18), "run-9")
    assert found.refusal == "it could not be listed completely (the folder went away)"
    assert gone(city) == set()


def test_too_many_missing_at_once_mark_nothing_and_say_so(city: City) -> None:
    filled(city)
    for number in range(5):
        (city.folder / f"{number}.txt").unlink()
    found = reconcile(city.database, SOURCE, city.connector(), "run-9")
    assert found.refusal == (
        "5 of 20 documents are not listed any more, more than the share of 20% that is believed at once"
    )
    assert gone(city) == set()
    believed = reconcile(city.database, SOURCE, city.connector(), "run-9", max_lost_share=0.25)
    assert (believed.gone, believed.refusal) == (5, None)
    assert len(gone(city)) == 5
    assert len(city.rows(Document)) == 20


def test_other_sources_and_documents_that_only_failed_are_left_alone(city: City) -> None:
    filled(city)
    found = reconcile(city.database, "another_source", city.connector(), "run-9")
    assert found == Reconciliation("another_source", 20, 0, 0, 0, None)
    assert gone(city) == set()


@pytest.mark.parametrize("ahead", [timedelta(seconds=-5), timedelta(days=365)], ids=["behind", "ahead"])
def test_clocks_have_no_part_in_it(city: City, monkeypatch: pytest.MonkeyPatch, ahead: timedelta) -> None:
    """Another machine imports a document while the source is listed, and its clock differs."""
    filled(city)
    here = sync_log.now

    class Importing(Folder):
        def list_documents(self, window: Window | None = None) -> Iterator[ExternalDocument]:
            yield from super().list_documents(window)
            city.put("late.txt", day=20)
            with monkeypatch.context() as other_machine:
                other_machine.setattr(sync_log, "now", lambda: here() + ahead)
                city.run()

    (city.folder / "7.txt").unlink()
    found = reconcile(city.database, SOURCE, Importing(path=str(city.folder)), "run-9")
    assert (found.known, found.gone, gone(city)) == (20, 1, {"7.txt"})
    (city.folder / "late.txt").unlink()
    found = reconcile(city.database, SOURCE, city.connector(), "run-10")
    assert (found.known, found.gone, gone(city)) == (20, 1, {"7.txt", "late.txt"})


def test_a_document_that_came_to_be_with_an_earlier_date_is_found_and_imported(city: City) -> None:
    """No refresh asks for its date any more."""
    filled(city)
    city.put("failing.txt", month=2)
    city.run(city.connector(fails=["failing.txt"]))
    assert reconcile(city.database, SOURCE, city.connector(), "run-8").missed == 0
    watermark = city.watermark()
    assert watermark is not None

    city.put("restored.txt", month=2)
    city.put("new.txt", month=6, day=11)
    _, refreshed = city.run(
        city.connector(fails=["failing.txt"]), window=Window(watermark - sync_log.OVERLAP, None)
    )
    assert refreshed.counts.imported == 1
    found = reconcile(city.database, SOURCE, city.connector(), "run-9")
    assert (found.missed, found.gone, found.refusal) == (1, 0, None)
    assert city.watermark() is None
    (event,) = city.rows(AuditEvent, AuditEvent.event == "missed")
    assert (event.run_id, event.details["documents"]) == ("run-9", 1)

    city.run()
    assert city.watermark() is not None
    assert reconcile(city.database, SOURCE, city.connector(), "run-10").missed == 0


def test_a_document_that_was_changed_and_kept_its_earlier_date_is_found_and_imported(city: City) -> None:
    """A row of a database, say, whose version column tells of a change and whose date does not."""
    filled(city)
    assert reconcile(city.database, SOURCE, city.connector(), "run-8").missed == 0
    city.put("7.txt", b"restored", month=1)
    watermark = city.watermark()
    assert watermark is not None
    _, refreshed = city.run(window=Window(watermark - sync_log.OVERLAP, None))
    assert refreshed.counts.imported == 0

    found = reconcile(city.database, SOURCE, city.connector(), "run-9")
    assert (found.missed, found.gone, city.watermark()) == (1, 0, None)
    _, refreshed = city.run()
    assert refreshed.counts.imported == 1
    assert reconcile(city.database, SOURCE, city.connector(), "run-10").missed == 0


def test_a_document_that_a_listing_of_changes_did_not_tell_of_is_found_and_imported(city: City) -> None:
    """One in a folder that was moved to where the source looks, say, or in another library of its name."""
    ledger = Ledger()
    connector = LedgerConnector().reads(ledger)
    ledger.put("known", b"known", LONG_AGO)
    city.refresh(connector)
    ledger.put("new", b"new", sync_log.now())
    assert reconcile(city.database, SOURCE, connector, "run-8").missed == 0

    ledger.holds["moved here"] = Entry(1, b"moved here", LONG_AGO)
    _, refreshed = city.refresh(connector)
    assert refreshed.counts.imported == 1
    found = reconcile(city.database, SOURCE, connector, "run-9")
    assert (found.missed, found.gone, city.checkpoint()) == (1, 0, None)
    (event,) = city.rows(AuditEvent, AuditEvent.event == "missed")
    assert (event.run_id, event.details["documents"]) == ("run-9", 1)
    assert reconcile(city.database, SOURCE, connector, "run-10").missed == 0  # the next refresh lists all

    _, refreshed = city.refresh(connector)
    assert refreshed.counts.imported == 1
    assert reconcile(city.database, SOURCE, connector, "run-11").missed == 0
    assert city.checkpoint() is not None


def test_a_failing_document_is_not_missed_however_long_its_id(city: City) -> None:
    """The longest are shortened where failures are kept."""

    class Bucket(Folder):
        def list_documents(self, window: Window | None = None) -> Iterator[ExternalDocument]:
            for document in super().list_documents(window):
                yield document._replace(external_id=document.external_id.rjust(500, "/"))

    city.put("7.txt")
    city.put("new.txt", month=6)
    bucket = Bucket(path=str(city.folder))
    _, imported = city.run(bucket)
    assert imported.counts.failed == 2
    assert reconcile(city.database, SOURCE, bucket, "run-9").missed == 0
    assert city.watermark() is not None
