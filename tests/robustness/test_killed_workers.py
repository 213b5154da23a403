"""Run workers of a running CitySort that are killed: at random moments, and between any two steps."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from citysort_dagster import source_configs
from citysort_dagster.automation import import_job_name, imported_sources
from citysort_dagster.import_runs import launch_import
from citysort_dagster.installation import Installation, open_installation
from citysort_dagster.instance import open_instance, unfinished_runs
from citysort_dagster.server_process import free_port
from citysort_dagster.source_assets import asset_key, resource_key
from citysort_dagster.source_configs import known_source
from citysort_dagster.store.models import AuditEvent, Document, Import, SyncLogEntry
from citysort_dagster.up import running
from citysort_dagster.verify import verify
from tests.dagster_ui.graphql import DagsterUI, wait_for
from tests.robustness.conftest import assert_nothing_staged
from tests.robustness.doomed_workers import FOLDER, REAPER, Reaper, reaper, warm_start

pytestmark = pytest.mark.timeout(900)

KILLS = 50
SOURCES = {"letters": 1_200, "permits": 60, "notices": 60, "invoices": 60}
"""How many documents each holds. As many sources as may be imported at once; one takes two transactions."""
NOT_NEEDED = ("ingestion_automation", "ingest_what_was_left_behind")
"""The sensors that launch runs which import nothing."""
RETRY_SECONDS = 60
"""How long Dagster may take to try a failed run again."""
GIVE_UP_SECONDS = 360
"""`start_timeout_seconds` of dagster.yaml, until the next look, and the import."""
START = datetime.combine(datetime.now(timezone.utc) - timedelta(days=62), datetime.min.time(), timezone.utc)
"""Two or three partitions."""


@dataclass
class Archive:
    """A source: documents in a SQLite file, and what they are now."""

    name: str
    path: Path
    size: int
    holds: dict[str, bytes] = field(default_factory=dict)
    random: Random = field(default_factory=lambda: Random(1))  # noqa: S311 - the same documents each time
    _changes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._write("CREATE TABLE documents (id TEXT PRIMARY KEY, modified TEXT, content BLOB)", [()])
        self.change([str(number) for number in range(self.size)])

    def change(self, ids: Sequence[str]) -> None:
        """Adds these documents, or changes them: other bytes, a later time than any had."""
        with self._lock:
            self._changes += 1
            rows = []
            for id_ in ids:
                content = f"{self.name} {id_} {self._changes}\n".encode() * self.random.randrange(1, 100)
                modified = START + timedelta(days=int(id_) % 60, seconds=self._changes)
                self.holds[id_] = content
                rows.append((id_, modified.isoformat(), content))
            self._write("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", rows)

    def change_most(self) -> None:
        self.change([id_ for id_ in list(self.holds) if self.random.random() < 0.95])

    def _write(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.executemany(statement, rows)

    def configured(self) -> dict[str, Any]:
        """As sources.yaml describes it."""
        return {
            "name": self.name,
            "connector": "sqlite",
            "config": {
                "filepath": str(self.path),
                "query": "SELECT * FROM documents",
                "id_column": "id",
                "content_column": "content",
                "modified_column": "modified",
            },
        }


@pytest.fixture(params=["sqlite", "postgresql"])
def environment(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of a CitySort whose workers start warm, with each kind of documents database."""
    for name in [name for name in os.environ if name.startswith("CITYSORT_") and "TEST" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CITYSORT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CITYSORT_PARTITIONS_START", START.date().isoformat())
    monkeypatch.setenv("DAGSTER_HOME", "")  # set by whoever opens the instance
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_server").create_database()
        monkeypatch.setenv("CITYSORT_DATABASE_URL", url.render_as_string(hide_password=False))
    monkeypatch.setenv("PYTHONPATH", warm_start(tmp_path))
    monkeypatch.setenv(FOLDER, str(tmp_path / "data"))


@dataclass
class Town:
    """A running CitySort and its sources."""

    archives: Sequence[Archive]
    installation: Installation
    instance: dg.DagsterInstance
    ui: DagsterUI
    reaper: Reaper

    def import_normally(self, archive: Archive) -> str:
        """As the console does; the id of the run."""
        source = known_source(self.installation.database, archive.name)
        return launch_import(self.installation, self.instance, source)

    def rows(self, *columns: Any, where: Sequence[Any] = ()) -> Sequence[Any]:
        with self.installation.database.read() as connection:
            return connection.execute(sa.select(*columns).where(*where)).all()

    def furthest(self, run_id: str) -> str | None:
        """What the log of a run says last of its import."""
        kinds = {
            dg.DagsterEventType.STEP_START,
            dg.DagsterEventType.ASSET_MATERIALIZATION,
            dg.DagsterEventType.STEP_SUCCESS,
        }
        found = self.instance.all_logs(run_id, of_type=kinds)
        return found[-1].dagster_event_type.value if found and found[-1].dagster_event_type else None

    def reasons(self, run_ids: Iterable[str]) -> Counter[str]:
        """What Dagster says of the ends of runs that failed."""
        kind = dg.DagsterEventType.RUN_FAILURE
        return Counter(
            entry.message for one in run_ids for entry in self.instance.all_logs(one, of_type=kind)
        )

    def is_at_rest(self) -> bool:
        """Whether no run is under way, and none will follow one that was killed.

        Dagster looks every five seconds for what it has to try again. Should it fail in that, because its
        storage is locked for instance, it goes on to the next and never comes back: nothing may depend on it.
        """
        failed = self.instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        return not unfinished_runs(self.instance) and not any(
            record.dagster_run.tags.get("dagster/will_retry") == "true"
            and "dagster/auto_retry_run_id" not in record.dagster_run.tags
            and time.time() - (record.end_time or 0) < RETRY_SECONDS
            for record in failed
        )


@pytest.fixture
def town(environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    archives = [Archive(name, tmp_path / f"{name}.db", size) for name, size in SOURCES.items()]
    file = tmp_path / "sources.yaml"
    file.write_text(json.dumps({"sources": [archive.configured() for archive in archives]}))
    port = free_port()
    with open_installation() as installation, reaper() as waiting:
        source_configs.apply(file, installation.database)
        monkeypatch.setenv(REAPER, str(waiting.port))
        with (
            running(installation.settings, "127.0.0.1", port),
            open_instance(installation.settings) as instance,
        ):
            ui = DagsterUI(f"http://127.0.0.1:{port}")
            for name in NOT_NEEDED:
                ui.stop_sensor(name)
            yield Town(archives, installation, instance, ui, waiting)


def test_run_workers_killed_at_any_moment_lose_nothing_and_double_nothing(town: Town) -> None:
    """All is as in production: `citysort up` runs, the webserver launches, the daemon takes from the queue and
    tries again, Dagster's DefaultRunLauncher has the code server execute each run in a process of its own,
    which is killed with SIGKILL. Only that this process starts warm is not: see doomed_workers.

    A source changes before each import that is to be killed. The last imports are normal ones."""
    for run_id in [town.import_normally(archive) for archive in town.archives]:
        assert town.ui.ended(run_id)["status"] == "SUCCESS"
    sources = {import_job_name(archive.name): archive for archive in town.archives}
    town.reaper.at_birth = lambda job: sources[job].change_most()
    town.reaper.reaps = True
    while town.reaper.deaths.total() < KILLS:
        busy = {name for run in unfinished_runs(town.instance) for name in imported_sources(run)}
        for archive in town.archives:
            if archive.name not in busy:
                town.import_normally(archive)
        time.sleep(0.5)
    town.reaper.reaps = False
    for archive in town.archives:
        archive.change_most()
    # A run that was killed before its start is given up after four minutes; its source waits until then.
    for run_id in [town.import_normally(archive) for archive in town.archives]:
        assert town.ui.ended(run_id, GIVE_UP_SECONDS)["status"] == "SUCCESS"
    wait_for("the end of what is tried again", town.is_at_rest, GIVE_UP_SECONDS)

    assert_whole(town)
    assert min(town.reaper.deaths.values()) > KILLS // 4
    runs = town.instance.get_runs()
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE}
    failed = {run.run_id for run in runs if run.status == dg.DagsterRunStatus.FAILURE}
    assert len(failed) <= town.reaper.deaths.total(), town.reasons(failed)
    imports = town.rows(Import.run_id, Import.status)
    assert {status for _, status in imports} <= {"complete", "interrupted"}
    assert {run_id for run_id, status in imports if status == "interrupted"} <= failed
    died_at = Counter(town.furthest(run_id) for run_id in failed)
    assert died_at["STEP_START"] > KILLS // 4


def assert_whole(town: Town) -> None:
    """Everything that the sources hold is imported, once; nothing else is left anywhere."""
    holds = {
        (archive.name, id_): hashlib.sha256(content).hexdigest()
        for archive in town.archives
        for id_, content in archive.holds.items()
    }
    documents = town.rows(Document)
    newest = [row for row in documents if row.superseded_by is None]
    assert len(newest) == len(holds)
    assert {(row.source, row.external_id): row.sha256 for row in newest} == holds
    assert len({(row.source, row.external_id, row.version) for row in documents}) == len(documents)
    assert len(town.rows(SyncLogEntry.document_id)) == len(holds)
    assert len(town.rows(AuditEvent.id, where=[AuditEvent.event == "imported"])) == len(documents)
    files = town.installation.files
    assert sorted(files.paths()) == sorted(row.path for row in documents)
    assert list(verify(town.installation.database, files)) == []
    assert_nothing_staged(files)
    for archive in town.archives:
        told = town.instance.get_materialized_partitions(asset_key(archive.name))
        assert told == set(town.installation.calendar.keys)
        pool = town.instance.event_log_storage.get_concurrency_info(resource_key(archive.name))
        assert (pool.limit, pool.claimed_slots, pool.pending_steps) == (1, [], [])
