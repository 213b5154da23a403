"""Which partitions hold something new."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timezone

import pytest

from citysort_dagster.installation import Installation
from citysort_dagster.news import LOOKUP_BATCH, News, find_news
from citysort_dagster.settings import Settings
from connectors.base import Connector, ExternalDocument, ListingIncomplete, Window
from tests.importer.conftest import SOURCE, City
from tests.importer.folder_connector import Folder


def news(city: City, connector: Connector | None = None, since: datetime | None = None) -> News:
    settings = Settings(data_dir=city.data, partitions_start=date(2026, 1, 1))
    installation = Installation(settings, city.database, city.files)
    return find_news(installation, SOURCE, connector or city.connector(), since, seconds=60)


def test_all_of_it_then_nothing_then_what_changed(city: City) -> None:
    city.put("a", month=2)
    city.put("b", month=5)
    assert news(city) == News(["2026-02-01", "2026-05-01"], whole=True)
    city.run()
    assert news(city) == News([], whole=True)
    city.put("a", b"changed", month=3)
    city.put("old", month=1)
    assert news(city) == News(["2026-01-01", "2026-03-01"], whole=True)


def test_only_what_is_newer_is_asked_for(city: City) -> None:
    city.put("a", month=2)
    city.put("b", month=5)
    assert news(city, since=datetime(2026, 4, 1, tzinfo=timezone.utc)).partitions == ["2026-05-01"]


def test_what_is_known_to_fail_is_no_news_until_it_changes(city: City) -> None:
    city.put("broken", month=2)
    city.put("too large.iso", month=3)
    city.run(city.connector(fails=["broken"], allowed_types=["pdf"]))
    assert news(city) == News([], whole=True)
    city.put("broken", b"mended", month=4)
    assert news(city).partitions == ["2026-04-01"]


def test_a_document_without_a_date_is_news_of_the_present(city: City) -> None:
    class Undated(Folder):
        def list_documents(self, window: Window | None = None) -> Iterator[ExternalDocument]:
            yield ExternalDocument("undated", "1", "undated")

    (partition,) = news(city, Undated(path=str(city.folder))).partitions
    assert partition == f"{datetime.now(timezone.utc):%Y-%m-01}"


def test_it_stops_when_the_time_is_over(city: City) -> None:
    class Endless(Folder):
        def list_documents(self, window: Window | None = None) -> Iterator[ExternalDocument]:
            for number in range(10 * LOOKUP_BATCH):
                assert number <= LOOKUP_BATCH, "it went on"
                yield ExternalDocument(str(number), "1", "name", datetime(2026, 3, 1, tzinfo=timezone.utc))

    settings = Settings(data_dir=city.data, partitions_start=date(2026, 1, 1))
    installation = Installation(settings, city.database, city.files)
    found = find_news(installation, SOURCE, Endless(path=str(city.folder)), None, seconds=0)
    assert found == News(["2026-03-01"], whole=False)


def test_a_listing_that_breaks_off_is_told(city: City) -> None:
    city.put("a")
    with pytest.raises(ListingIncomplete):
        news(city, city.connector(break_after=0))
