"""Real runs, executed in this process as the command line does."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml

from citysort_dagster import launch, source_configs
from citysort_dagster.automation import (
    SOURCE_TAG,
    import_job_name,
    import_request,
    imports_under_way,
    partition_range_tags,
)
from citysort_dagster.definitions import build_definitions
from citysort_dagster.installation import Installation, open_installation
from citysort_dagster.instance import PROCESS_TAG, open_instance, this_process
from citysort_dagster.source_configs import UnknownSource, known_source
from citysort_dagster.store.models import Document, Import
from connectors.base import ConfigurationError
from tests.dagster_ui.archives import SQLiteArchive

SOURCE = "permits"


@pytest.fixture
def archive(tmp_path: Path) -> SQLiteArchive:
    made = SQLiteArchive(tmp_path / "permits.db")
    for month in range(1, 7):
        made.put(f"permit-{month}", f"2025-{month:02d}-15T12:00:00Z", b"A permit.")
    return made


@pytest.fixture
def installation(working_folder: Path, archive: SQLiteArchive) -> Iterator[Installation]:
    file = working_folder / "sources.yaml"
    source = {"name": SOURCE, "connector": "sqlite", "config": archive.settings()}
    file.write_text(yaml.safe_dump({"sources": [source]}))
    with open_installation() as opened:
        source_configs.apply(file, opened.database)
        yield opened


def imported(installation: Installation) -> set[str]:
    with installation.database.read() as connection:
        return set(connection.execute(sa.select(Document.external_id)).scalars())


def materialized(installation: Installation, run_id: str) -> list[str]:
    with open_instance(installation.settings) as instance:
        events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        return sorted(str(event.dagster_event.partition) for event in events if event.dagster_event)


def test_dates_narrow_the_listing_both_inclusive(installation: Installation) -> None:
    outcome = launch.import_source(SOURCE, date_from=date(2025, 2, 15), date_to=date(2025, 4, 15))
    assert (outcome.imported, outcome.failed, outcome.failure) == (3, 0, None)
    assert imported(installation) == {"permit-2", "permit-3", "permit-4"}
    assert materialized(installation, outcome.run_id) == ["2025-02-01", "2025-03-01", "2025-04-01"]
    assert known_source(installation.database, SOURCE).watermark is None

    whole = launch.import_source(SOURCE)
    assert (whole.imported, whole.skipped) == (3, 3)
    assert materialized(installation, whole.run_id) == list(installation.calendar.keys)
    assert known_source(installation.database, SOURCE).watermark is not None


def test_a_limit_materializes_only_what_is_complete(installation: Installation) -> None:
    outcome = launch.import_source(SOURCE, limit=2)
    assert outcome.limited and outcome.imported == 2
    assert imported(installation) == {"permit-5", "permit-6"}
    # The newest come first: from the second on, all is there.
    assert materialized(installation, outcome.run_id) == installation.calendar.keys[4:]
    assert known_source(installation.database, SOURCE).watermark is None


def test_a_refresh_begins_at_the_watermark(installation: Installation, archive: SQLiteArchive) -> None:
    """It is for the present partition, and for those before it where it finds something."""
    launch.import_source(SOURCE)
    watermark = known_source(installation.database, SOURCE).watermark
    assert watermark == datetime(2025, 6, 15, 12, tzinfo=timezone.utc)
    for id_, ahead in (("long before", -timedelta(hours=1)), ("late", -timedelta(minutes=5))):
        archive.put(id_, (watermark + ahead).isoformat(), b"Another permit.")
    archive.put("new", "2025-08-01T00:00:00Z", b"Another permit.")

    request = import_request(SOURCE, installation.calendar.keys[-1:], refresh=True)
    with open_instance(installation.settings) as instance:
        job = build_definitions().resolve_job_def(import_job_name(SOURCE))
        result = job.execute_in_process(
            instance=instance, run_config=request.run_config, tags=dict(request.tags)
        )
    assert result.success
    assert imported(installation) >= {"late", "new"} and "long before" not in imported(installation)
    present = installation.calendar.keys[-1]
    assert materialized(installation, result.run_id) == ["2025-06-01", "2025-08-01", present]
    (row,) = _imports(installation, result.run_id)
    assert row.window_start == watermark - timedelta(minutes=10) and row.listed == 3


@pytest.mark.parametrize(
    ("partitions", "config", "sentence"),
    [
        (
            ["2025-03-01", "2025-05-02"],
            {},
            "there is no partition 2025-05-02; the monthly partitions run from 2025-01-01 to",
        ),
        (
            ["2025-05-01", "2025-03-01"],
            {},
            "the partitions are the wrong way round: 2025-05-01 is after 2025-03-01.",
        ),
        ([], {}, "the run names no partition: choose one, or several, when launching it."),
        (["2025-03-01"], {"limit": 0}, "the limit is 0, it must be at least 1."),
        (["2025-03-01"], {"date_from": "soon"}, "'soon' is not a day: write YYYY-MM-DD."),
    ],
)
def test_a_run_that_makes_no_sense_imports_nothing(
    installation: Installation, partitions: list[str], config: dict[str, object], sentence: str
) -> None:
    with open_instance(installation.settings) as instance:
        result = (
            build_definitions()
            .resolve_job_def(import_job_name(SOURCE))
            .execute_in_process(
                instance=instance,
                run_config={"ops": {f"sources__{SOURCE}": {"config": config}}},
                tags=partition_range_tags(partitions) if partitions else {},
                raise_on_error=False,
            )
        )
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    told = failed.step_failure_data.user_failure_data
    assert told is not None and f"Source permits: {sentence}" in str(told.description)
    assert materialized(installation, result.run_id) == [] and imported(installation) == set()


def test_what_cannot_be_launched(installation: Installation) -> None:
    with pytest.raises(UnknownSource, match="did you mean permits"):
        launch.import_source("permit")
    with pytest.raises(ConfigurationError, match="--from 2025-03-02 is after --to 2025-03-01"):
        launch.import_source(SOURCE, date_from=date(2025, 3, 2), date_to=date(2025, 3, 1))
    source_configs.set_enabled(installation.database, SOURCE, False)
    with pytest.raises(ConfigurationError, match="the source permits is disabled"):
        launch.import_source(SOURCE)
    assert imported(installation) == set()


def test_a_source_that_cannot_be_asked_is_told(installation: Installation, archive: SQLiteArchive) -> None:
    archive.path.unlink()
    outcome = launch.import_source(SOURCE)
    assert outcome.failure is not None and "there is no such file" in outcome.failure
    assert materialized(installation, outcome.run_id) == []


def test_a_run_whose_process_is_gone_holds_nobody_up(installation: Installation) -> None:
    died = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    dead = f"{socket.gethostname()}:{died.stdout.strip()}:{datetime.now(timezone.utc).timestamp():.0f}"
    reused = f"{this_process().rpartition(':')[0]}:1"
    elsewhere = "another-host:1:1"
    with open_instance(installation.settings) as instance:
        runs = {
            process: instance.create_run_for_job(
                build_definitions().resolve_job_def(import_job_name(SOURCE)),
                tags={PROCESS_TAG: process, SOURCE_TAG: SOURCE},
                status=dg.DagsterRunStatus.STARTED,
            ).run_id
            for process in (dead, reused, this_process(), elsewhere)
        }
        alive = {run.run_id for run in imports_under_way(instance, SOURCE)}
        assert alive == {runs[this_process()], runs[elsewhere]}
        for process in (dead, reused):
            run = instance.get_run_by_id(runs[process])
            assert run is not None and run.status == dg.DagsterRunStatus.FAILURE


def _imports(installation: Installation, run_id: str) -> list[sa.Row[tuple[Import]]]:
    with installation.database.read() as connection:
        return list(connection.execute(sa.select(Import.__table__).where(Import.run_id == run_id)))
