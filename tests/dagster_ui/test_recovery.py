"""Runs that wait for each other, and processes that are killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest

from citysort_dagster.instance import PROCESS_TAG
from citysort_dagster.store.models import Import
from tests.dagster_ui.archives import PostgreSQLArchive
from tests.dagster_ui.conftest import Busy, Sources
from tests.dagster_ui.graphql import wait_for


def wait_until_it_waits(archive: PostgreSQLArchive) -> None:
    """Waits until somebody waits for the lock on the archive's table."""
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"

    def look() -> object:
        with archive.server.connect() as connection:
            return connection.execute(query, [archive.database]).fetchone()

    wait_for("an import that waits for the lock", look)


@dataclass
class Killed:
    """A `citysort import` that was killed, and the run that was launched behind it."""

    run_id: str
    next_run_id: str


@pytest.fixture(scope="module", autouse=True)
def killed_command(city: Busy, sources: Sources) -> Iterator[Killed]:
    with sources.desk.locked():
        command = city.command("import", "desk", "--json")
        wait_until_it_waits(sources.desk)
        next_run_id = city.ui.start("desk", "2025-06-01")
        command.send_signal(signal.SIGKILL)
        command.communicate()
    (run,) = [run for run in city.ui.tagged(**{"citysort/source": "desk"}) if run["runId"] != next_run_id]
    yield Killed(run["runId"], next_run_id)


def test_a_source_never_runs_twice_at_once_others_run_meanwhile(city: Busy, sources: Sources) -> None:
    with sources.registry.locked():
        first, second = (city.ui.start("registry", "2025-06-01") for _ in range(2))
        wait_until_it_waits(sources.registry)
        other = city.ui.start("scans", city.calendar.keys[-1])
        assert city.ui.ended(other)["status"] == "SUCCESS"
        assert city.ui.run(first)["status"] == "STARTED"
        assert city.ui.run(second)["status"] == "QUEUED"
    ended = [city.ui.ended(run_id) for run_id in (first, second)]
    assert [run["status"] for run in ended] == ["SUCCESS", "SUCCESS"]
    assert ended[0]["endTime"] <= ended[1]["startTime"]
    assert len(city.documents("registry")) == 5


def test_a_run_killed_in_the_middle_of_an_import_is_tried_again(city: Busy, sources: Sources) -> None:
    entries = [(f"new-{number}", "2025-06-07", b"A complaint about noise.") for number in range(3_000)]
    sources.registry.put(*entries)
    with sources.registry.locked():
        run_id = city.ui.start("registry", "2025-06-01")
        wait_until_it_waits(sources.registry)
        process = wait_for("the process of the run", lambda: city.ui.process_of(run_id))
    while not city.rows(Import.status, where=[Import.run_id == run_id]):
        assert psutil.pid_exists(process)
    os.kill(process, signal.SIGKILL)
    assert city.rows(Import.status, where=[Import.run_id == run_id]) == [("running",)]
    assert city.ui.ended(run_id)["status"] == "FAILURE"
    (again,) = wait_for(
        "the run that tries again", lambda: city.ui.tagged(**{"dagster/parent_run_id": run_id})
    )
    assert city.ui.ended(again["runId"])["status"] == "SUCCESS"
    assert "2025-06-01" in city.ui.materialized(again["runId"])
    assert city.rows(Import.status, where=[Import.run_id == run_id]) == [("interrupted",)]
    ids = [row.external_id for row in city.documents("registry")]
    assert len(ids) == len(set(ids)) == 3_005
    assert city.disagreements() == []


def test_a_killed_command_blocks_nobody(city: Busy, killed_command: Killed) -> None:
    """Its process is gone, so that nobody but another process can end its run."""
    assert city.ui.ended(killed_command.next_run_id)["status"] == "SUCCESS"
    dead = city.ui.run(killed_command.run_id)
    assert dead["status"] == "FAILURE"
    assert "citysort/source" in dead["tags"] and PROCESS_TAG not in dead["tags"]
    assert dead["endTime"] <= city.ui.run(killed_command.next_run_id)["startTime"]
    messages = [event["message"] for event in city.ui.events(killed_command.run_id)]
    assert "The process that executed this run ended before the run did." in messages

    command = city.command("import", "desk", "--json")
    out, err = command.communicate()
    assert command.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["source"] == "desk"
    assert len(city.documents("desk")) == 5
