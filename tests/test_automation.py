"""Sensors, asked in this process."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml

from citysort_dagster import automation, launch, source_configs
from citysort_dagster.automation import build_news_sensor, freshness_of_sources
from citysort_dagster.installation import Installation, open_installation
from citysort_dagster.instance import open_instance
from citysort_dagster.pipeline.rules import PACKAGED
from citysort_dagster.source_configs import known_source
from citysort_dagster.store import documents, sync_log
from sandbox.postgresql import PostgreSQLServer
from tests.dagster_ui.archives import PostgreSQLArchive

SOURCE = "registry"


@pytest.fixture
def archive(postgresql_server: PostgreSQLServer) -> PostgreSQLArchive:
    made = PostgreSQLArchive(postgresql_server)
    made.put(("entry-1", "2025-06-06", b"An entry."))
    return made


@pytest.fixture
def installation(
    working_folder: Path, archive: PostgreSQLArchive, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    monkeypatch.setenv("ARCHIVE_PASSWORD", archive.server.password)
    file = working_folder / "sources.yaml"
    source = {
        "name": SOURCE,
        "connector": "postgresql",
        "config": archive.settings("ARCHIVE_PASSWORD"),
        "schedule": "0 3 * * *",
    }
    file.write_text(yaml.safe_dump({"sources": [source]}))
    with open_installation() as opened:
        source_configs.apply(file, opened.database)
        yield opened


def ask(installation: Installation, cursor: str | None = None) -> dg.SensorResult:
    sensor = build_news_sensor(known_source(installation.database, SOURCE))
    with open_instance(installation.settings) as instance:
        answer = sensor(dg.build_sensor_context(instance, cursor))
    assert isinstance(answer, dg.SensorResult)
    return answer


def test_a_source_is_imported_whole_then_only_what_is_new(
    installation: Installation, archive: PostgreSQLArchive
) -> None:
    (whole,) = ask(installation).run_requests or ()
    assert whole.tags["dagster/asset_partition_range_start"] == "2025-01-01"
    assert launch.import_source(SOURCE).failure is None
    nothing = ask(installation)
    assert not nothing.run_requests and str(nothing.skip_reason).endswith("Nothing new.')")

    archive.put(("entry-2", "2025-08-08", b"Another entry."))
    (news,) = ask(installation).run_requests or ()
    assert news.job_name == "import_registry"
    assert news.tags["dagster/asset_partition_range_start"] == "2025-08-01"
    assert news.tags["dagster/asset_partition_range_end"] == "2025-08-01"

    source_configs.set_enabled(installation.database, SOURCE, False)
    assert "The source is disabled." in str(ask(installation).skip_reason)


def test_a_source_that_does_not_answer_holds_nobody_up(
    installation: Installation, archive: PostgreSQLArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is imported instead, in a process of its own, and not asked again for a while."""
    assert launch.import_source(SOURCE).failure is None
    monkeypatch.setattr(automation, "LOOK_SECONDS", 0)
    monkeypatch.setattr(automation, "ANSWER_SECONDS", 1)
    with archive.locked():
        answer = ask(installation)
    (request,) = answer.run_requests or ()
    assert request.run_config["ops"]["sources__registry"]["config"]["refresh"] is True
    assert request.tags["dagster/asset_partition_range_start"] == installation.calendar.keys[-1]
    again = ask(installation, answer.cursor)
    assert "the next one waits" in str(again.skip_reason) and again.cursor == answer.cursor


def test_a_source_that_cannot_be_asked_is_told(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert launch.import_source(SOURCE).failure is None
    monkeypatch.delenv("ARCHIVE_PASSWORD")
    assert "the environment variable that it names is not set" in str(ask(installation).skip_reason)


def test_freshness_is_told_when_it_changes(installation: Installation) -> None:
    with open_instance(installation.settings) as instance:
        first = freshness_of_sources(dg.build_sensor_context(instance))
        assert isinstance(first, dg.SensorResult)
        (event,) = first.asset_events
        assert isinstance(event, dg.AssetCheckEvaluation)
        assert (event.asset_key, event.check_name, event.passed) == (
            dg.AssetKey(["sources", SOURCE]),
            "fresh",
            True,
        )
        second = freshness_of_sources(dg.build_sensor_context(instance, cursor=first.cursor))
        assert isinstance(second, dg.SensorResult) and not second.asset_events


def test_a_pipeline_that_fails_is_tried_again_ever_more_rarely(
    installation: Installation,
    archive: PostgreSQLArchive,
    working_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(automation, "LEFT_BEHIND_AFTER", timedelta(0))
    rules = working_folder / "rules.yaml"
    rules.write_text("nonsense: [")
    monkeypatch.setenv("CITYSORT_RULES_FILE", str(rules))
    assert launch.import_source(SOURCE).imported == 1

    waits = [timedelta(0), timedelta(0), timedelta(hours=1)]
    monkeypatch.setattr(automation, "WAITS_AFTER_FAILED_INGESTION", waits)
    with open_instance(installation.settings) as instance:

        def requested() -> bool:
            answer = automation.ingest_what_was_left_behind(dg.build_sensor_context(instance))
            return isinstance(answer, dg.RunRequest)

        for _ in range(3):
            assert requested()
            assert launch.process().failure is not None
        assert not requested()
        rules.write_text(PACKAGED.read_text())
        assert requested()
        assert launch.process().failure is None
        rules.write_text("nonsense: [")
        archive.put(("entry-2", "2025-08-08", b"Another entry."))
        assert launch.import_source(SOURCE).imported == 1
        assert launch.process().failure is not None
        assert requested()  # the first failure since it succeeded


def test_documents_left_behind_are_looked_up_in_the_index(installation: Installation) -> None:
    """Every minute, among all that there ever were: what the database plans to do says so."""
    asked: list[tuple[str, Any]] = []
    with installation.database.read() as connection:
        sa.event.listen(
            connection, "before_cursor_execute", lambda *given: asked.append((given[2], given[3]))
        )
        assert documents.pending_partitions(connection, sync_log.now()) == {}
        statement, parameters = asked[-1]
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    assert "USING INDEX documents_by_stage (stage=?)" in str(plan)
