"""Real runs, executed in this process as the command line does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from citysort_dagster import import_runs, launch, source_configs
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
from citysort_dagster.lock_file import hold
from citysort_dagster.source_assets import asset_key
from citysort_dagster.source_checks import RECORDS_AGREE
from citysort_dagster.source_configs import UnknownSource, known_source
from citysort_dagster.store.models import Document, Import
from connectors.base import ConfigurationError
from sandbox.postgresql import PostgreSQLServer
from tests.dagster_ui.archives import PostgreSQLArchive, SQLiteArchive
from tests.dagster_ui.graphql import wait_for

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


def materialized(installation: Installation, run_id: str, saying: str | None = None) -> list[str]:
    """The partitions that a run materialized; those whose metadata says this, if it is asked for."""
    with open_instance(installation.settings) as instance:
        events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    found = [entry.asset_materialization for entry in events if entry.asset_materialization]
    return sorted(str(one.partition) for one in found if saying is None or saying in one.metadata)


def test_dates_narrow_the_listing_both_inclusive(installation: Installation) -> None:
    outcome = launch.import_source(SOURCE, date_from=date(2025, 2, 15), date_to=date(2025, 4, 15))
    assert (outcome.imported, outcome.failed, outcome.failure) == (3, 0, None)
    assert imported(installation) == {"permit-2", "permit-3", "permit-4"}
    assert materialized(installation, outcome.run_id) == ["2025-02-01", "2025-03-01", "2025-04-01"]
    assert materialized(installation, outcome.run_id, "narrowed_by_dates") == ["2025-02-01", "2025-04-01"]
    assert known_source(installation.database, SOURCE).watermark is None

    whole = launch.import_source(SOURCE)
    assert (whole.imported, whole.skipped) == (3, 3)
    assert materialized(installation, whole.run_id) == list(installation.calendar.keys)
    assert known_source(installation.database, SOURCE).watermark is not None


def test_a_limit_materializes_what_is_complete_if_the_newest_come_first(
    installation: Installation,
    working_folder: Path,
    postgresql_server: PostgreSQLServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive = PostgreSQLArchive(postgresql_server)
    archive.put(*[(f"permit-{month}", f"2025-{month:02d}-15", b"A permit.") for month in range(1, 7)])
    monkeypatch.setenv("ARCHIVE_PASSWORD", postgresql_server.password)
    source = {"name": "registry", "connector": "postgresql", "config": archive.settings("ARCHIVE_PASSWORD")}
    (working_folder / "registry.yaml").write_text(yaml.safe_dump({"sources": [source]}))
    source_configs.apply(working_folder / "registry.yaml", installation.database)

    outcome = launch.import_source("registry", limit=2)
    assert outcome.limited and imported(installation) == {"permit-5", "permit-6"}
    # From the second on, all is there.
    assert materialized(installation, outcome.run_id) == installation.calendar.keys[4:]
    assert known_source(installation.database, "registry").watermark is None


def test_a_limit_materializes_what_it_cut_short_if_they_come_in_any_order(installation: Installation) -> None:
    outcome = launch.import_source(SOURCE, limit=2)
    assert outcome.limited and imported(installation) == {"permit-5", "permit-6"}
    assert materialized(installation, outcome.run_id) == ["2025-05-01", "2025-06-01"]
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


OTHER_PROCESS = """
import sys
from citysort_dagster.instance import open_instance, this_process
from citysort_dagster.settings import load_settings

with open_instance(load_settings()) as instance:
    print(this_process(instance, sys.argv[1]), flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(run_id: str) -> Iterator[str]:
    """Something that executes a run, until it is killed; the value of PROCESS_TAG."""
    command = [sys.executable, "-c", OTHER_PROCESS, run_id]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


def started(
    instance: dg.DagsterInstance,
    tags: Mapping[str, str],
    run_id: str | None = None,
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED,
) -> str:
    """A run of the source that has begun."""
    job = build_definitions().resolve_job_def(import_job_name(SOURCE))
    tags = {**tags, SOURCE_TAG: SOURCE}
    return instance.create_run_for_job(job, run_id=run_id, tags=tags, status=status).run_id


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_a_run_whose_process_is_gone_holds_nobody_up(installation: Installation) -> None:
    """Whatever processes there were, and on whatever machine: one that lives holds its lock file."""
    dead, canceled, alive, own, elsewhere = (str(uuid.uuid4()) for _ in range(5))
    with open_instance(installation.settings) as instance:
        with another_process(alive) as process_of_alive:
            with another_process(dead) as killed:
                pass
            of_canceled = killed.replace(dead, canceled)
            started(instance, {PROCESS_TAG: killed}, dead)
            started(instance, {PROCESS_TAG: of_canceled}, canceled, status=dg.DagsterRunStatus.CANCELING)
            started(instance, {PROCESS_TAG: process_of_alive}, alive)
            started(instance, {PROCESS_TAG: this_process(instance, own)}, own)
            started(instance, {PROCESS_TAG: f"{elsewhere}:1-of-another-machine"}, elsewhere)
            # Dagster, or a person, tries the first one again: with its tags.
            again = started(instance, {PROCESS_TAG: killed})
            found = {run.run_id for run in imports_under_way(instance, SOURCE)}
            assert found == {alive, own, elsewhere, again}
            assert status(instance, dead) == dg.DagsterRunStatus.FAILURE
            assert status(instance, canceled) == dg.DagsterRunStatus.CANCELED  # a failed one is tried again
        left = {run.run_id for run in imports_under_way(instance, SOURCE)}
        assert left == {own, elsewhere, again}
        names = {path.name for path in (installation.settings.dagster_home / "processes").iterdir()}
        assert names == {this_process(instance, own).removeprefix(f"{own}:")}


def test_a_process_that_died_before_it_named_itself(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_instance(installation.settings) as instance:
        begun = started(instance, {})
        launched = started(instance, {}, status=dg.DagsterRunStatus.STARTING)
        assert len(imports_under_way(instance, SOURCE)) == 2
        monkeypatch.setattr("citysort_dagster.instance.NAMED_WITHIN", timedelta(0))
        assert imports_under_way(instance, SOURCE) == []
        assert status(instance, begun) == status(instance, launched) == dg.DagsterRunStatus.FAILURE


def test_an_import_checks_its_own_documents_and_none_when_it_found_none(installation: Installation) -> None:
    """To read all that the source has ever brought is for those who ask for the check alone."""

    def disagreements(run_id: str) -> object:
        with open_instance(installation.settings) as instance:
            (found,) = [
                entry.asset_check_evaluation
                for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
                if entry.asset_check_evaluation and entry.asset_check_evaluation.check_name == RECORDS_AGREE
            ]
            return found.metadata["disagreements"].value

    first = launch.import_source(SOURCE)
    assert (first.imported, disagreements(first.run_id)) == (6, 0)
    with installation.database.read() as connection:
        path = connection.execute(sa.select(Document.path)).scalars().first()
    (installation.settings.data_dir / "files" / str(path)).write_bytes(b"Damaged")
    again = launch.import_source(SOURCE)
    assert (again.imported, disagreements(again.run_id)) == (0, 0)
    with open_instance(installation.settings) as instance:
        key = dg.AssetCheckKey(asset_key(SOURCE), RECORDS_AGREE)
        job = build_definitions().get_implicit_global_asset_job_def().get_subset(asset_check_selection={key})
        on_demand = job.execute_in_process(instance=instance, raise_on_error=False)
    assert disagreements(on_demand.run_id) == 1


def queued(instance: dg.DagsterInstance) -> str:
    """A run of the source that waits for the daemon, as a schedule requests it."""
    job_name = import_job_name(SOURCE)
    module = ModuleCodePointer("citysort_dagster.definitions", "defs", None)
    location = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("citysort"), "__repository__")
    return instance.create_run_for_job(
        build_definitions().resolve_job_def(job_name),
        tags={**partition_range_tags(["2025-01-01"]), SOURCE_TAG: SOURCE},
        status=dg.DagsterRunStatus.QUEUED,
        remote_job_origin=RemoteJobOrigin(location, job_name),
        job_code_origin=JobPythonOrigin(job_name, RepositoryPythonOrigin(sys.executable, module)),
    ).run_id


def test_runs_that_wait_for_a_daemon_hold_up_nobody_while_there_is_none(installation: Installation) -> None:
    settings = installation.settings
    with open_instance(settings) as instance:
        waiting = queued(instance)
        with hold(settings.data_dir / "up.json", json.dumps({"url": "http://127.0.0.1:9"})):
            assert [run.run_id for run in launch.imports_ahead(instance, settings, SOURCE)] == [waiting]
        assert launch.imports_ahead(instance, settings, SOURCE) == []
        begun = started(instance, {}, status=dg.DagsterRunStatus.STARTING)
        assert [run.run_id for run in launch.imports_ahead(instance, settings, SOURCE)] == [begun]
        instance.delete_run(begun)
    waited: list[str] = []
    assert launch.import_source(SOURCE, on_wait=waited.append).imported == 6
    assert waited == []
    with open_instance(settings) as instance:
        source = known_source(installation.database, SOURCE)
        run_id = import_runs.launch_import(installation, instance, source)
        assert run_id != waiting and instance.get_run_by_id(run_id) is not None
        wait_for("the end of the import", lambda: status(instance, run_id) == dg.DagsterRunStatus.SUCCESS)
        assert status(instance, waiting) == dg.DagsterRunStatus.QUEUED


def test_a_run_names_its_process(installation: Installation) -> None:
    """As those that the daemon launches must: it does not notice their end when it has been stopped meanwhile."""
    with open_instance(installation.settings) as instance:
        job = build_definitions().resolve_job_def(import_job_name(SOURCE))
        former = {PROCESS_TAG: this_process(instance, "the-run-that-failed")}
        tags = {**partition_range_tags(["2025-01-01"]), **former}
        ran = job.execute_in_process(instance=instance, tags=tags)
        run = instance.get_run_by_id(ran.run_id)
        assert run is not None and run.tags[PROCESS_TAG] == this_process(instance, ran.run_id)


def _imports(installation: Installation, run_id: str) -> list[sa.Row[tuple[Import]]]:
    with installation.database.read() as connection:
        return list(connection.execute(sa.select(Import.__table__).where(Import.run_id == run_id)))
