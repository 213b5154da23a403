"""Two imports of a source at once, one of which meets what the other does not: nothing that is missing is forgotten,
and no version is stored twice."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone

import pytest

from citysort_dagster.import_batch import ImportRequest
from citysort_dagster.importer import Importer, ImportSummary
from citysort_dagster.store.models import ConnectorConfig, Document, ImportFailure, SyncLogEntry
from connectors.base import NotImported, Window
from tests.dagster_ui.graphql import wait_for
from tests.importer.conftest import SOURCE, City
from tests.importer.listed_connector import Listed, document, listing

OLD = document("old", modified_at=datetime(2026, 5, 1, tzinfo=timezone.utc))
NEW = document("new", modified_at=datetime(2026, 5, 20, tzinfo=timezone.utc))
NEWEST = document("newest", modified_at=datetime(2026, 5, 25, tzinfo=timezone.utc))


def run(city: City, source: Listed, batch_size: int) -> ImportSummary:
    """Looks up and commits that many documents together."""
    request = ImportRequest(SOURCE, str(uuid.uuid4()), Window(), city.calendar.keys)
    importer = Importer(request, source, city.database, city.files, city.calendar, batch_size=batch_size)
    list(importer.run())
    return importer.summary


def failures(city: City) -> list[tuple[str, str]]:
    return sorted((row.external_id, row.version) for row in city.rows(ImportFailure))


def known(city: City) -> list[tuple[str, str]]:
    return sorted((row.external_id, row.version) for row in city.rows(SyncLogEntry))


def test_a_failure_that_another_import_met_after_this_listing_passed_stays(city: City) -> None:
    other = listing(NEWEST, NEW, OLD, failing=[("new", "1")])
    city.run(listing(OLD, lambda: city.run(other)))
    assert failures(city) == [("new", "1")]
    assert known(city) == [("newest", "1"), ("old", "1")]
    city.run(listing(OLD, NEWEST))
    assert failures(city) == [], "a listing that begins later and does not meet it closes it"


def test_a_failure_of_a_later_version_outlives_the_import_of_the_earlier(city: City) -> None:
    changed = NEW._replace(external_id="old", version="2")
    other = listing(NEWEST, changed, failing=[("old", "2")])
    city.run(listing(OLD, lambda: city.run(other)), window=Window(None, NEW.modified_at))
    assert failures(city) == [("old", "2")]
    assert known(city) == [("newest", "1"), ("old", "1")]
    city.run(listing(NEWEST, changed))
    assert failures(city) == []
    assert known(city) == [("newest", "1"), ("old", "2")]


def test_a_failure_of_an_earlier_version_ends_with_the_import_of_the_later(city: City) -> None:
    """Both in one transaction."""
    changed = NEW._replace(external_id="old", version="2")

    def wait() -> None:
        wait_for("the download after the one that fails", lambda: "b" in source.downloaded)

    archived = document("c", not_imported=NotImported("archived", refused=True))
    four = (OLD, document("a"), document("b"), archived)
    source = listing(*four, wait, document("d"), changed, failing=[("old", "1")])
    run(city, source, batch_size=4)
    assert known(city) == [("a", "1"), ("b", "1"), ("d", "1"), ("old", "2")]
    assert failures(city) == [("c", "1")]


@pytest.mark.parametrize("dated", [True, False], ids=["of one date", "without a date"])
def test_a_version_that_may_be_the_earlier_does_not_supersede_the_other(city: City, dated: bool) -> None:
    date = OLD.modified_at if dated else None
    first, second = (document("letter", version, modified_at=date) for version in "12")
    summary = run(city, listing(first, lambda: city.run(listing(second))), batch_size=1)
    assert known(city) == [("letter", "2")]
    assert ["another version" in problem.reason for problem in summary.problems] == [True]
    assert failures(city) == [("letter", "1")]

    _, summary = city.run(listing(second))
    assert (summary.counts.skipped, failures(city)) == (1, [])
    assert len(city.rows(Document)) == 1
    assert city.disagreements() == []

    _, summary = city.run(listing(first))
    assert (summary.counts.imported, known(city)) == (1, [("letter", "1")])


def test_only_an_import_up_to_the_present_makes_a_source_fresh(city: City) -> None:
    """Which its check tells of."""

    def last_sync() -> datetime | None:
        (row,) = city.rows(ConnectorConfig.last_sync_at, ConnectorConfig.name == SOURCE)
        found: datetime | None = row.last_sync_at
        return found

    city.run(listing(OLD), window=Window(None, NEW.modified_at))
    assert last_sync() is None
    city.run(listing(NEWEST), window=Window(NEWEST.modified_at, None))
    assert last_sync() is None, "what is before its window has never been listed"
    city.run(listing(OLD, NEW, NEWEST))
    whole = last_sync()
    assert whole is not None
    city.run(listing(OLD), window=Window(None, NEW.modified_at))
    assert last_sync() == whole
    assert NEWEST.modified_at is not None
    city.run(listing(NEWEST), window=Window(NEWEST.modified_at - timedelta(minutes=10), None))
    refreshed = last_sync()
    assert refreshed is not None and refreshed > whole
