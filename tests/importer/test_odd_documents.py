"""Documents that a database could not store as they are listed, and sources that say odd things: whatever is wrong
with one document is told of it, and the others are imported."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest

from citysort_dagster.installation import Installation
from citysort_dagster.news import find_news
from citysort_dagster.settings import Settings
from citysort_dagster.store.models import AuditEvent, Document, Import, ImportFailure
from connectors.base import NotImported, Window
from sandbox.postgresql import PostgreSQLServer
from tests.importer.conftest import SOURCE, City
from tests.importer.listed_connector import MAY, document, listing

GOOD = [document("first"), document("last")]


def installation_of(city: City) -> Installation:
    settings = Settings(data_dir=city.data, partitions_start=date(2026, 1, 1))
    return Installation(settings, city.database, city.files)


@pytest.mark.parametrize("texts", [{"external_id": "a\0b"}, {"version": "1\0"}, {"filename": "a\0.txt"}])
def test_nul_characters_are_told_and_stop_nothing(city: City, texts: Mapping[str, Any]) -> None:
    odd = document("odd")._replace(**texts)
    for imported in (2, 0):
        _, summary = city.run(listing(GOOD[0], odd, GOOD[1]))
        assert (summary.counts.imported, summary.counts.failed) == (imported, 1)
        (problem,) = summary.problems
        assert problem.reason == "its id or name holds a NUL character, which databases cannot store"
    (failure,) = city.rows(ImportFailure)
    assert failure.attempts == 2


@pytest.mark.parametrize("character", ["\0", "\ud800"], ids=["NUL", "half a character"])
def test_what_is_told_of_a_document_is_stored_whatever_characters_it_holds(
    city: City, character: str
) -> None:
    odd = document(
        "odd",
        content_type=f"text/plain{character}",
        source_url=f"https://city.example/{character}",
        metadata={f"key{character}": [f"value{character}", float("nan"), {"whole": 3}]},
    )
    _, summary = city.run(listing(GOOD[0], odd, GOOD[1], broken=f"the site said {character}"))
    assert (summary.counts.imported, summary.counts.failed) == (3, 0)
    escaped = "\\x00" if character == "\0" else "\\ud800"
    (row,) = city.rows(Document, Document.external_id == "odd")
    assert row.content_type == f"text/plain{escaped}"
    assert row.source_url == f"https://city.example/{escaped}"
    assert row.source_metadata == {f"key{escaped}": [f"value{escaped}", "nan", {"whole": 3}]}
    (found,) = city.rows(Import)
    assert (found.status, found.error) == ("incomplete", f"the site said {escaped}")
    assert city.disagreements() == []


def test_ids_and_versions_that_look_alike_when_joined_are_two_documents(city: City) -> None:
    _, summary = city.run(listing(document("a", "b\x1fc"), document("a\x1fb", "c"), document("a\x1e", "1")))
    assert (summary.counts.imported, summary.counts.failed) == (3, 0)
    assert city.disagreements() == []


@pytest.mark.parametrize("length", [300, 450, 1_900])
def test_a_document_with_a_long_id_is_tried_when_it_is_due_and_cured_when_it_is_imported(
    city: City, length: int
) -> None:
    installation = installation_of(city)
    long = document("k" * length, version="v" * length)
    city.run(listing(*GOOD, long, failing=[(long.external_id, long.version)]))
    assert find_news(installation, SOURCE, listing(*GOOD, long), None, 60).partitions == []

    city.run(listing(*GOOD, long), window=Window(MAY, MAY + timedelta(days=1)))
    assert city.rows(ImportFailure) == []
    assert city.rows(AuditEvent, AuditEvent.event == "failure closed") == []


def test_an_id_that_is_no_text_is_news_once(city: City) -> None:
    installation = installation_of(city)
    broken = document("\ud800")
    assert find_news(installation, SOURCE, listing(broken), None, 60).partitions == ["2026-05-01"]
    city.run(listing(broken))
    assert find_news(installation, SOURCE, listing(broken), None, 60).partitions == []


def test_a_document_that_is_archived_after_it_was_imported_is_not_missing(city: City) -> None:
    city.run(listing(*GOOD))
    archived = NotImported("archived: it must be restored", refused=True)
    _, summary = city.run(listing(GOOD[0]._replace(not_imported=archived), GOOD[1]))
    assert (summary.counts.skipped, summary.problems) == (2, [])
    _, summary = city.run(listing(*GOOD, allowed_types=["pdf"]))
    assert (summary.counts.skipped, summary.problems) == (2, [])
    changed = GOOD[0]._replace(version="2", not_imported=archived)
    _, summary = city.run(listing(changed, GOOD[1]))
    assert [problem.reason for problem in summary.problems] == [archived.reason]
    assert len(city.rows(ImportFailure)) == 1


def test_the_first_day_that_there_is_stops_nothing(city: City, postgresql_server: PostgreSQLServer) -> None:
    """As dates that mean none do; west of Greenwich, PostgreSQL's own time zone makes it a day before the year 1."""
    if not city.database.is_sqlite:
        with postgresql_server.connect() as connection:
            connection.execute(
                f"ALTER DATABASE {city.database.url.database} SET timezone = 'America/Chicago'"
            )
        city.database.close()
    oldest = document("oldest", modified_at=datetime(1, 1, 1, tzinfo=timezone.utc))
    newest = document("newest", modified_at=datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc))
    city.run(listing(oldest, newest))
    _, summary = city.run(listing(oldest._replace(version="2"), newest._replace(version="2"), *GOOD))
    assert (summary.counts.imported, summary.counts.failed) == (4, 0)
    assert len(city.rows(Document)) == 6
    assert city.disagreements() == []


def test_a_source_whose_documents_are_older_than_all_dates_can_be_refreshed(city: City) -> None:
    city.run(listing(document("oldest", modified_at=datetime(1, 1, 1, tzinfo=timezone.utc))))
    watermark = city.watermark()
    assert watermark is not None
    _, summary = city.run(listing(*GOOD), window=Window(watermark - timedelta(minutes=10), None))
    assert summary.counts.imported == 2
    assert city.watermark() == MAY
