"""The command itself, killed in the middle of an import: the next one goes on, and the record says what happened."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from citysort_dagster import launch, source_configs
from citysort_dagster.automation import build_retry_sensor
from citysort_dagster.installation import Installation, open_installation
from citysort_dagster.instance import PROCESS_TAG, open_instance, this_process
from citysort_dagster.source_states import source_state
from citysort_dagster.store.database import Database
from citysort_dagster.store.models import Document, Import
from citysort_dagster.store.sync_log import now
from citysort_dagster.verify import verify
from sandbox.postgresql import PostgreSQLServer

LETTERS = 6_000
COMMAND = [sys.executable, "-c", "import sys; from citysort_dagster.cli import main; sys.exit(main())"]
SOURCES = """sources:
  - name: letters
    connector: sqlite
    config: {filepath: letters.db, query: SELECT * FROM letters, id_column: id, content_column: content}
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def installation(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    """With a source of many letters, which takes seconds to import, and each kind of database."""
    for name in [name for name in os.environ if name.startswith("CITYSORT_") and "TEST" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CITYSORT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CITYSORT_PARTITIONS_START", "2026-01-01")  # each partition of an import takes time
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_server").create_database()
        monkeypatch.setenv("CITYSORT_DATABASE_URL", url.render_as_string(hide_password=False))
    with closing(sqlite3.connect(tmp_path / "letters.db")) as connection, connection:
        connection.execute("CREATE TABLE letters (id, content)")
        connection.executemany(
            "INSERT INTO letters VALUES (?, ?)", ((number, f"Letter {number}") for number in range(LETTERS))
        )
    (tmp_path / "sources.yaml").write_text(SOURCES)
    with open_installation() as opened:
        source_configs.apply(tmp_path / "sources.yaml", opened.database)
        yield opened


def imports(installation: Installation) -> dict[str, str]:
    """How each import stands, by its run."""
    with installation.database.read() as connection:
        return dict(connection.execute(sa.select(Import.run_id, Import.status)).tuples().all())


def test_a_command_killed_in_the_middle_of_an_import(installation: Installation) -> None:
    command = subprocess.Popen([*COMMAND, "import", "letters"])
    while not imports(installation):
        assert command.poll() is None
        time.sleep(0.005)
    command.send_signal(signal.SIGKILL)
    command.wait()
    ((killed, status),) = imports(installation).items()
    assert status == "running"

    outcome = launch.import_source("letters")
    assert (outcome.failed, outcome.failure, outcome.incomplete) == (0, None, None)
    assert outcome.skipped > 0
    assert imports(installation) == {killed: "interrupted", outcome.run_id: "complete"}
    with installation.database.read() as connection:
        ids = connection.execute(sa.select(Document.external_id)).scalars().all()
        (row,) = connection.execute(sa.select(Import).where(Import.run_id == killed)).all()
    assert (len(ids), len(set(ids))) == (LETTERS, LETTERS)
    assert row.imported == outcome.skipped
    assert (row.error, row.finished_at is None) == ("its run ended before the import did", False)
    assert list(verify(installation.database, installation.files, quick=True)) == []


@pytest.mark.parametrize("installation", ["sqlite"], indirect=True)
def test_an_import_whose_process_is_gone_is_noticed_within_minutes(installation: Installation) -> None:
    """By the sensor, which looks every minute; what is still at work it leaves alone, and what it does not know."""
    runs = {name: str(uuid.uuid4()) for name in ("dead", "alive", "unknown")}
    with open_instance(installation.settings) as instance:
        processes = {"dead": f"{runs['dead']}:gone", "alive": this_process(instance, runs["alive"])}
        (installation.settings.dagster_home / "processes" / "gone").touch()
        for name, process in processes.items():
            instance.create_run_for_job(
                dg.GraphDefinition(name="empty").to_job(),
                run_id=runs[name],
                status=dg.DagsterRunStatus.STARTED,
                tags={PROCESS_TAG: process},
            )
        nothing = dict.fromkeys(("listed", "imported", "skipped", "failed", "bytes"), 0)
        at = now()
        rows = [
            {
                "run_id": run_id,
                "source": "letters",
                "started_at": at - timedelta(minutes=minutes),
                "status": "running",
                **nothing,
            }
            for minutes, run_id in enumerate(runs.values())
        ]
        installation.database.write(lambda connection: connection.execute(sa.insert(Import), rows))
        build_retry_sensor({"letters": dg.define_asset_job("import_letters")})(
            dg.build_sensor_context(instance=instance)
        )
    found = imports(installation)
    assert {name: found[run_id] for name, run_id in runs.items()} == {
        "dead": "interrupted",
        "alive": "running",
        "unknown": "running",
    }
    state = source_state(installation.database, "letters")
    assert state is not None and state.state == "failing"
    assert "its run ended before the import did" in state.reason


def test_ctrl_c_between_a_command_to_the_database_and_its_answer(postgresql_server: PostgreSQLServer) -> None:
    """What the connection can do no more then, such as roll back, is no fault of the database."""
    database = Database(postgresql_server.create_database().render_as_string(hide_password=False))
    attempts: list[sa.Connection] = []

    def interrupted(connection: sa.Connection) -> None:
        attempts.append(connection)
        connection.execute(sa.text("SELECT 1"))
        driver: Any = connection.connection.dbapi_connection
        driver.pgconn.send_query(b"SELECT 1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), database.read() as connection:
        interrupted(connection)
    for method in (database.fetch, database.write):
        with pytest.raises(KeyboardInterrupt):
            method(interrupted)
    database.close()
    assert len(attempts) == 3


def test_ctrl_c_that_makes_the_driver_fail(postgresql_server: PostgreSQLServer) -> None:
    database = Database(postgresql_server.create_database().render_as_string(hide_password=False))

    with database.read() as connection:
        connection.exec_driver_sql("SELECT 1")

    @sa.event.listens_for(database.engine, "do_execute")
    def interrupted(cursor: Any, *_: object) -> None:
        cursor.connection.pgconn.send_query(b"SELECT 1")
        try:
            raise KeyboardInterrupt
        finally:
            cursor.connection.autocommit = True  # as SQLAlchemy does once it has tried a connection

    attempts = 0

    def ask(connection: sa.Connection) -> None:
        nonlocal attempts
        attempts += 1
        connection.exec_driver_sql("SELECT 1")

    with pytest.raises(KeyboardInterrupt), database.read() as connection:
        ask(connection)
    with pytest.raises(KeyboardInterrupt):
        database.fetch(ask)
    database.close()
    assert attempts == 2
