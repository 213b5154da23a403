"""The importer on SQLite and PostgreSQL: nothing lost, nothing twice, whatever the source does."""

from __future__ import annotations

import hashlib
import os
import threading
from datetime import datetime, timedelta, timezone

import pytest
import sqlalchemy as sa

from citysort_dagster import importer
from citysort_dagster.files import FileStoreError
from citysort_dagster.import_batch import Counts
from citysort_dagster.store.models import AuditEvent, Document, Import, ImportFailure, SyncLogEntry
from connectors.base import ConfigurationError, Window
from tests.importer.conftest import SOURCE, City
from tests.importer.listed_connector import document, listing


def at(month: int, day: int = 1) -> datetime:
    return datetime(2026, month, day, tzinfo=timezone.utc)


def test_a_document_arrives_with_everything_that_proves_where_it_came_from(city: City) -> None:
    city.put("permit.pdf", b"a permit", month=5, day=10)
    completed, summary = city.run(run_id="run-1")

    (document,) = city.rows(Document)
    (entry,) = city.rows(SyncLogEntry)
    (event,) = city.rows(AuditEvent)
    (row,) = city.rows(Import)
    assert completed == ["2026-06-01", "2026-05-01", "2026-04-01", "2026-03-01", "2026-02-01", "2026-01-01"]
    assert summary.counts == Counts(listed=1, imported=1, bytes=8)
    assert (document.source, document.external_id, document.filename) == (SOURCE, "permit.pdf", "permit.pdf")
    assert (document.sha256, document.size) == (hashlib.sha256(b"a permit").hexdigest(), 8)
    assert document.partition == "2026-05-01"
    assert document.source_modified_at == at(5, 10)
    assert (document.status, document.stage, document.run_id) == ("ingested", "imported", "run-1")
    assert (entry.document_id, entry.version) == (document.id, document.version)
    assert (event.event, event.document_id, event.run_id) == ("imported", document.id, "run-1")
    assert (row.status, row.imported, row.listed) == ("complete", 1, 1)
    with city.files.open(document.path) as stored:
        assert stored.read() == b"a permit"
    assert city.disagreements() == []


def test_an_unchanged_source_is_skipped_and_not_downloaded_again(city: City) -> None:
    for number in range(1_200):
        city.put(f"{number}.txt", str(number).encode(), month=1 + number % 6)
    _, first = city.run()
    _, second = city.run(city.connector(fails=[f"{number}.txt" for number in range(1_200)]))

    assert first.counts.imported == 1_200
    assert second.counts == Counts(listed=1_200, skipped=1_200)
    assert len(city.rows(Document)) == len(city.stored()) == 1_200
    assert city.disagreements() == []


def test_a_new_version_supersedes_the_former_which_is_kept(city: City) -> None:
    city.put("plan.txt", b"first", day=1)
    city.run()
    city.put("plan.txt", b"second", day=2)
    _, summary = city.run()

    former, latter = sorted(city.rows(Document), key=lambda row: row.source_modified_at)
    assert summary.counts.imported == 1
    assert (former.superseded_by, latter.supersedes) == (latter.id, former.id)
    assert latter.superseded_by is None
    assert {entry.document_id for entry in city.rows(SyncLogEntry)} == {latter.id}
    assert {city.files.open(row.path).read() for row in (former, latter)} == {b"first", b"second"}
    assert city.disagreements() == []


def test_a_source_that_returns_to_an_earlier_version_has_a_new_document(city: City) -> None:
    city.put("plan.txt", b"first", day=1)
    city.run()
    city.put("plan.txt", b"second", day=2)
    city.run()
    city.put("plan.txt", b"first", day=1)
    city.run()

    assert len(city.rows(Document)) == 3
    (current,) = city.rows(Document, Document.superseded_by.is_(None))
    assert city.files.open(current.path).read() == b"first"
    assert city.disagreements() == []


def test_a_document_that_fails_is_recorded_and_the_others_arrive(city: City) -> None:
    for number in range(20):
        city.put(f"{number}.txt")
    completed, summary = city.run(city.connector(fails=["7.txt"]))

    (failure,) = city.rows(ImportFailure)
    assert summary.counts == Counts(listed=20, imported=19, failed=1, bytes=19 * 7)
    assert (failure.external_id, failure.reason, failure.attempts) == ("7.txt", "told to fail", 1)
    assert failure.refused is False
    assert failure.next_try_at > failure.last_failed_at
    assert failure.partition == "2026-05-01"
    assert "2026-05-01" in completed

    city.run(city.connector(fails=["7.txt"]))
    (again,) = city.rows(ImportFailure)
    assert again.attempts == 2
    assert again.first_failed_at == failure.first_failed_at
    assert again.next_try_at - again.last_failed_at > failure.next_try_at - failure.last_failed_at

    _, mended = city.run()
    assert mended.counts.imported == 1
    assert city.rows(ImportFailure) == []
    assert city.disagreements() == []


def test_a_failed_document_that_is_gone_from_the_source_is_closed_with_an_audit_event(city: City) -> None:
    city.put("gone.txt")
    city.run(city.connector(fails=["gone.txt"]))
    (city.folder / "gone.txt").unlink()
    city.run(window=Window(at(4), at(5)))
    assert len(city.rows(ImportFailure)) == 1
    city.run(window=Window(at(5), at(6)))
    assert city.rows(ImportFailure) == []
    (event,) = city.rows(AuditEvent, AuditEvent.event == "failure closed")
    assert event.details["external_id"] == "gone.txt"


def test_refused_documents_are_reported_as_skipped_with_the_reason(city: City) -> None:
    city.put("plan.pdf")
    city.put("virus.exe")
    city.put("film.pdf", b"x" * 2_000_000)
    _, summary = city.run(city.connector(allowed_types=["pdf"], max_size_mb=1))

    assert summary.counts == Counts(listed=3, imported=1, skipped=2, bytes=7)
    reasons = {
        row.external_id: (row.refused, row.next_try_at, row.reason) for row in city.rows(ImportFailure)
    }
    assert reasons["virus.exe"] == (
        True,
        None,
        "files of type exe are not allowed (setting allowed_types of the source)",
    )
    assert "larger than the limit of 1 MB" in reasons["film.pdf"][2]
    _, allowed = city.run()
    assert allowed.counts.imported == 2
    assert city.rows(ImportFailure) == []


def test_a_listing_that_breaks_off_imports_what_it_had_and_moves_no_watermark(city: City) -> None:
    for month in range(1, 7):
        for number in range(3):
            city.put(f"{month}-{number}.txt", month=month)
    completed, summary = city.run(city.connector(break_after=7))

    assert summary.incomplete == "the folder went away"
    assert summary.counts.imported == 7
    assert completed == ["2026-06-01", "2026-05-01"]
    assert city.watermark() is None
    (row,) = city.rows(Import)
    assert (row.status, row.error) == ("incomplete", "the folder went away")

    completed, summary = city.run()
    assert summary.counts == Counts(listed=18, imported=11, skipped=7, bytes=77)
    assert len(completed) == 6
    assert city.disagreements() == []


def test_a_limit_takes_the_newest_first_and_says_so(city: City) -> None:
    for month in range(1, 7):
        city.put(f"{month}.txt", month=month)
    _, summary = city.run(limit=2)
    assert (summary.limited, summary.counts.imported) == (True, 2)
    assert {row.external_id for row in city.rows(Document)} == {"5.txt", "6.txt"}
    assert city.watermark() is None
    _, more = city.run(limit=3)
    assert (more.limited, more.counts) == (True, Counts(listed=5, imported=3, skipped=2, bytes=21))
    _, rest = city.run(limit=100)
    assert (rest.limited, rest.counts.imported) == (False, 1)
    assert city.watermark() is not None


def test_the_watermark_moves_only_with_a_complete_listing_that_joins_on(city: City) -> None:
    city.put("a.txt", month=3)
    city.run(window=Window(at(3), at(4)))
    assert city.watermark() is None
    city.run(window=Window(None, at(4)))
    assert city.watermark() == at(4)
    city.run(window=Window(at(5), at(6)))
    assert city.watermark() == at(4)
    city.run(window=Window(at(3), at(5)))
    assert city.watermark() == at(5)
    city.run(window=Window(at(2), at(3)))
    assert city.watermark() == at(5)
    city.run(window=Window(at(4), None))
    assert city.watermark() == at(5)
    city.put("b.txt", month=6, day=2)
    city.run(window=Window(at(4), None))
    assert city.watermark() == at(6, 2)


def test_what_came_to_be_during_a_long_listing_moves_no_watermark(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock of the source it may seem to be older than the listing, and what was changed before it, where
    the listing had been already, would be passed over by the next refresh."""
    earlier, behind = (datetime.now(timezone.utc) - timedelta(minutes=ago) for ago in (3_000, 30))
    of_both = listing(document("a", modified_at=earlier), document("b", modified_at=behind))
    monkeypatch.setattr(importer, "OVERLAP", timedelta(0))
    city.run(of_both)
    assert city.watermark() == earlier
    monkeypatch.undo()
    city.run(of_both)
    assert city.watermark() == behind


def test_an_id_that_stands_twice_in_one_listing_is_reported_not_imported_twice(city: City) -> None:
    city.put("plan.txt")
    city.put("other.txt")
    _, summary = city.run(city.connector(twice=["plan.txt"]))
    assert summary.counts == Counts(listed=3, imported=2, failed=1, bytes=14)
    assert "more than once" in summary.problems[0].reason
    assert len(city.rows(Document)) == 2
    assert city.disagreements() == []


def test_importing_again_on_purpose_compares_and_restores_what_was_damaged(city: City) -> None:
    city.put("plan.txt", b"as it was")
    city.put("other.txt", b"other")
    city.run()
    (plan,) = city.rows(Document, Document.external_id == "plan.txt")
    city.files.delete(plan.path)
    assert [one.kind for one in city.disagreements()] == ["file"]

    _, summary = city.run(reimport=True)
    assert summary.counts == Counts(listed=2, skipped=2)
    assert city.files.open(plan.path).read() == b"as it was"
    assert len(city.rows(Document)) == 2
    assert city.disagreements() == []


def test_other_bytes_under_the_same_version_are_a_new_document_when_imported_on_purpose(city: City) -> None:
    city.put("plan.txt", b"as it was")
    city.run()
    city.put("plan.txt", b"altered!!")
    _, plain = city.run()
    assert plain.counts.skipped == 1
    _, summary = city.run(reimport=True)
    assert summary.counts.imported == 1
    former, latter = sorted(city.rows(Document), key=lambda row: row.superseded_by is None)
    assert (former.superseded_by, former.version) == (latter.id, latter.version)
    assert city.files.open(former.path).read() == b"as it was"
    assert city.disagreements() == []


def test_imports_at_once_share_the_work_without_doubles(city: City) -> None:
    for number in range(60):
        city.put(f"{number}.txt", str(number).encode(), month=1 + number % 6)
    summaries = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            summaries.append(city.run()[1])
        except BaseException as error:  # noqa: BLE001 - reported by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sum(summary.counts.imported for summary in summaries) == 60
    assert sum(summary.counts.imported + summary.counts.skipped for summary in summaries) == 240
    assert len(city.rows(Document)) == len(city.rows(SyncLogEntry)) == len(city.stored()) == 60
    assert len(city.rows(AuditEvent)) == 60
    assert city.disagreements() == []


def test_a_source_that_cannot_work_leaves_a_record_and_one_sentence(city: City) -> None:
    city.folder.rmdir()
    with pytest.raises(ConfigurationError, match="there is no folder"):
        city.run()
    (row,) = city.rows(Import)
    assert row.status == "failed"
    assert row.error.startswith("there is no folder")


def test_documents_from_before_the_first_and_after_the_last_partition_have_a_place(city: City) -> None:
    city.put("old.txt", month=1)
    city.put("tomorrow.txt", month=12)
    (city.folder / "ancient.txt").write_bytes(b"x")
    os.utime(city.folder / "ancient.txt", (0, 0))
    city.run()
    partitions = {row.external_id: row.partition for row in city.rows(Document)}
    assert partitions == {
        "old.txt": "2026-01-01",
        "ancient.txt": "2026-01-01",
        "tomorrow.txt": "2026-06-01",
    }
    _, windowed = city.run(window=city.calendar.window(["2026-01-01"]))
    assert windowed.counts.listed == 2


def test_a_full_disk_is_the_affected_documents_failure_and_the_next_import_completes(city: City) -> None:
    for number in range(5):
        city.put(f"{number}.txt")
    root = city.data / "files"
    # A file where a folder should be stands for a store that takes no more.
    city.run(limit=1)
    names = set(city.stored())
    for path in names:
        city.files.delete(path)
    for child in root.iterdir():
        if child.is_dir() and len(child.name) == 2:
            child.rmdir()
            child.write_bytes(b"in the way")
    blocked = [child for child in root.iterdir() if child.is_file()]
    assert len(blocked) == 1
    _, summary = city.run(reimport=True)
    assert summary.counts.failed + summary.counts.imported + summary.counts.skipped == 5
    assert summary.counts.failed >= 1
    assert all("cannot be stored" in row.reason for row in city.rows(ImportFailure))
    blocked[0].unlink()
    _, healed = city.run(reimport=True)
    assert healed.counts.failed == 0
    assert city.rows(ImportFailure) == []
    assert city.disagreements() == []


def test_nothing_is_imported_into_a_store_that_has_lost_every_file(city: City) -> None:
    city.put("plan.txt")
    city.run()
    files = city.data / "files"
    files.rename(city.data / "mounted")
    files.mkdir()  # what is left of a folder that is not mounted
    city.put("deed.txt")
    with pytest.raises(FileStoreError, match="holds no file at all: make sure that it is mounted"):
        city.run()
    assert list(files.iterdir()) == []
    assert [row.status for row in city.rows(Import)].count("failed") == 1

    files.rmdir()
    (city.data / "mounted").rename(files)
    _, summary = city.run()
    assert summary.counts.imported == 1
    assert city.disagreements() == []


def test_a_store_that_takes_nothing_is_told_and_recorded(city: City) -> None:
    city.put("plan.txt")
    (city.data / "files").write_bytes(b"in the way")
    with pytest.raises(FileStoreError, match="files cannot be kept in"):
        city.run()
    (row,) = city.rows(Import)
    assert (row.status, row.error.startswith("files cannot be kept in")) == ("failed", True)


def test_the_schema_is_the_models(city: City) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from citysort_dagster.store.database import VERSION_TABLE
    from citysort_dagster.store.models import Base

    def is_of_words(name: str | None) -> bool:
        return bool(name and name.startswith("document_words"))

    with city.database.engine.connect() as connection:
        differences = compare_metadata(
            MigrationContext.configure(
                connection,
                # The index of words is each database's own.
                opts={
                    "compare_type": False,
                    "include_name": lambda name, *_: not is_of_words(name),
                    "version_table": VERSION_TABLE,
                },
            ),
            Base.metadata,
        )
    assert differences == []


def test_the_counts_of_the_import_row_are_those_of_the_summary(city: City) -> None:
    for number in range(450):
        city.put(f"{number}.txt", month=1 + number % 6)
    _, summary = city.run(city.connector(fails=["3.txt"], allowed_types=["txt"]))
    (row,) = city.rows(Import)
    with city.database.read() as connection:
        total = connection.execute(sa.select(sa.func.sum(Document.size))).scalar_one()
    assert Counts(row.listed, row.imported, row.skipped, row.failed, row.bytes) == summary.counts
    assert summary.counts == Counts(450, 449, 0, 1, int(total))
