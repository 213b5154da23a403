"""A clock that jumps, or is not the source's: what the source shows next is imported all the same."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from citysort_dagster import launch, source_configs
from citysort_dagster.automation import (
    SOURCE_TAG,
    build_news_sensor,
    build_retry_sensor,
    ingest_what_was_left_behind,
)
from citysort_dagster.freshness import freshness
from citysort_dagster.import_batch import ImportRequest
from citysort_dagster.importer import Importer
from citysort_dagster.installation import open_installation
from citysort_dagster.instance import open_instance
from citysort_dagster.source_assets import PARTITION_RANGE_TAGS
from citysort_dagster.source_configs import known_source
from citysort_dagster.store import documents, sync_log
from citysort_dagster.store.models import ConnectorConfig, Document, Import, ImportFailure
from citysort_dagster.store.sync_log import OVERLAP
from connectors.base import Window
from tests.importer.conftest import SOURCE, make_city
from tests.robustness.conftest import Town
from tests.robustness.importing import begin

YEAR = timedelta(days=400)


def present() -> datetime:
    return datetime.now(timezone.utc)


def refresh(town: Town) -> Window:
    """The window of a refresh now."""
    watermark = known_source(town.city.database, SOURCE).watermark
    return Window(watermark - OVERLAP if watermark else None, None)


@pytest.mark.parametrize("ahead", [timedelta(minutes=20), timedelta(days=3), YEAR, -YEAR], ids=str)
def test_no_document_is_passed_over_after_the_clock_was_wrong(town: Town, ahead: timedelta) -> None:
    town.put("old.txt", b"old", present() - timedelta(days=30))
    town.put("new.txt", b"new", present() - timedelta(minutes=1))
    assert begin(town.task(), clock_ahead=ahead).ended().counts.imported == 2
    (row,) = town.city.rows(Import)
    assert abs(row.started_at - (present() + ahead)) < timedelta(minutes=5)

    town.put("next.txt", b"next", present())
    assert begin(town.task(refresh(town))).ended().counts.imported == 1
    town.assert_whole()

    town.put("after that.txt", b"after that", present())
    found = begin(town.task(refresh(town))).ended().counts
    assert (found.listed - found.skipped, found.imported) == (1, 1)
    town.assert_whole()


def test_a_window_that_only_a_wrong_clock_took_for_past_is_not_trusted(town: Town) -> None:
    town.put("old.txt", b"old", present() - timedelta(days=30))
    window = Window(None, present() + timedelta(days=100))
    assert begin(town.task(window), clock_ahead=YEAR).ended().counts.imported == 1
    town.put("next.txt", b"next", present())
    assert begin(town.task(refresh(town))).ended().counts.imported == 1
    assert known_source(town.city.database, SOURCE).watermark is not None
    town.assert_whole()


def test_a_source_whose_clock_is_behind_ours_shows_documents_of_the_past(town: Town) -> None:
    """It dates by its own clock what is written after we asked."""
    behind = timedelta(hours=5)
    town.put("first.txt", b"first", present() - behind)
    begin(town.task(refresh(town))).ended()
    town.put("second.txt", b"second", present() - behind)
    assert begin(town.task(refresh(town))).ended().counts.imported == 1
    town.assert_whole()


def test_a_document_dated_in_the_future_hides_none_of_the_present(town: Town) -> None:
    town.put("future.txt", b"future", present() + YEAR)
    begin(town.task()).ended()
    town.put("next.txt", b"next", present())
    assert begin(town.task(refresh(town))).ended().counts.imported == 1
    town.assert_whole()


def test_an_empty_source_that_was_listed_is_not_listed_as_if_never(town: Town) -> None:
    begin(town.task()).ended()
    assert refresh(town).start is not None
    town.put("first.txt", b"first", present())
    assert begin(town.task(refresh(town))).ended().counts.imported == 1
    town.assert_whole()


def test_what_a_clock_ahead_put_off_is_due_when_it_is_right_again(town: Town) -> None:
    town.change(["good.txt", "bad.txt"])
    ended = begin(town.task(fails=["bad.txt"]), clock_ahead=YEAR).ended()
    assert (ended.counts.imported, ended.counts.failed) == (1, 1)
    city = town.city
    (failure,) = city.rows(ImportFailure)

    def due() -> object:
        return city.database.write(lambda connection: sync_log.take_due_failures(connection, [SOURCE]))

    assert due() == [(SOURCE, failure.partition)]
    assert due() == []
    with city.database.read() as connection:
        (document,) = city.rows(Document)
        waiting = documents.pending_partitions(connection, present() - timedelta(minutes=3))
        assert waiting == {document.partition: 1}


def test_a_failed_import_of_a_clock_ahead_does_not_keep_the_next_waiting(town: Town) -> None:
    town.change(["good.txt"])
    assert begin(town.task(break_after=0), clock_ahead=YEAR).ended().incomplete
    with town.city.database.read() as connection:
        assert sync_log.last_import_failed_at(connection, SOURCE) is None


def test_a_source_is_not_fresh_by_a_time_that_is_yet_to_come() -> None:
    now = present()
    found = freshness("* * * * *", now + YEAR, now - YEAR, now)
    assert not found.fresh
    assert "yet to come" in found.reason


def test_settings_changed_during_an_import_have_the_source_listed_whole(town: Town) -> None:
    """The import goes by the former settings: what the new ones show may be older than anything it met."""
    town.change(["good.txt"])
    city = town.city

    def import_as_configured(at: datetime) -> datetime | None:
        request = ImportRequest(SOURCE, str(uuid.uuid4()), Window(), city.calendar.keys, configured_at=at)
        for _ in Importer(request, city.connector(), city.database, city.files, city.calendar).run():
            pass
        return city.watermark()

    former = known_source(city.database, SOURCE).updated_at
    city.database.write(
        lambda connection: connection.execute(sa.update(ConnectorConfig).values(updated_at=present()))
    )
    assert import_as_configured(former) is None
    assert import_as_configured(known_source(city.database, SOURCE).updated_at) is not None


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CITYSORT_DATA_DIR", str(tmp_path))
    for name in ("CITYSORT_DATABASE_URL", "CITYSORT_FILES_URL"):
        monkeypatch.delenv(name, raising=False)
    with open_installation() as installation:
        make_city(installation.database, tmp_path / "source", tmp_path)
    yield


@pytest.mark.usefixtures("installed")
def test_a_sensor_does_not_wait_for_a_year_that_a_wrong_clock_named() -> None:
    with open_installation() as installation, dg.DagsterInstance.ephemeral() as instance:
        sensor = build_news_sensor(known_source(installation.database, SOURCE))
        for ahead, waits in ((timedelta(minutes=1), True), (YEAR, False)):
            cursor = str((present() + ahead).timestamp())
            found = sensor(dg.build_sensor_context(instance=instance, cursor=cursor))
            assert isinstance(found, dg.SensorResult)
            said = found.skip_reason.skip_message if isinstance(found.skip_reason, dg.SkipReason) else ""
            assert ("waits" in str(said)) == waits


WITHOUT_DATES = """
import sys
from datetime import timedelta
from citysort_dagster import cli, importer, installation, launch, partitions, source_assets, source_configs
from tests.robustness.wrong_clock import set_clock

set_clock(timedelta(days=40))
sys.exit(cli.main(["import", "letters"]))
"""


def test_documents_of_a_partition_that_is_yet_to_come_go_on_in_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents without a date belong to the time of their import, which a clock ahead put into next month."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CITYSORT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CITYSORT_PARTITIONS_START", "2026-01-01")  # each partition of an import takes time
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    for name in ("CITYSORT_DATABASE_URL", "CITYSORT_FILES_URL"):
        monkeypatch.delenv(name, raising=False)
    with closing(sqlite3.connect(tmp_path / "letters.db")) as letters, letters:
        letters.execute("CREATE TABLE letters (id, content)")
        letters.execute("INSERT INTO letters VALUES ('whole', 'A letter'), ('empty', NULL)")
    (tmp_path / "sources.yaml").write_text(
        "sources: [{name: letters, connector: sqlite, config: {filepath: letters.db, query: SELECT * FROM letters,"
        " id_column: id, content_column: content}}]"
    )
    with open_installation() as installation:
        source_configs.apply(tmp_path / "sources.yaml", installation.database)
        assert subprocess.run([sys.executable, "-c", WITHOUT_DATES]).returncode == 1
        last = installation.calendar.keys[-1]
        with installation.database.read() as connection:
            (document,) = connection.execute(sa.select(Document)).all()
            (failure,) = connection.execute(sa.select(ImportFailure)).all()
        assert document.partition == failure.partition > last

        with open_instance(installation.settings) as instance:
            jobs = {"letters": dg.define_asset_job("import_letters")}
            context = dg.build_sensor_context(instance=instance)
            left_behind = ingest_what_was_left_behind(context)
            retried = build_retry_sensor(jobs)(context)
        assert isinstance(left_behind, dg.RunRequest) and isinstance(retried, dg.SensorResult)
        (again,) = retried.run_requests or ()
        assert left_behind.tags == dict.fromkeys(PARTITION_RANGE_TAGS, last)
        assert again.tags == {**left_behind.tags, SOURCE_TAG: "letters"}

        outcome = launch.process()
        assert (outcome.waiting, outcome.failure) == (1, None)
        with installation.database.read() as connection:
            assert connection.execute(sa.select(Document.stage)).scalars().all() == ["queued"]
        assert launch.process().run_id is None
