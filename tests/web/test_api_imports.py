"""Imports through the API: real Dagster runs, their progress, and what came of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
import requests
import sqlalchemy as sa

from citysort_dagster.automation import partition_range_tags
from citysort_dagster.definitions import build_definitions
from citysort_dagster.instance import open_instance, process_of
from citysort_dagster.reload import running_url
from citysort_dagster.server_process import free_ports
from citysort_dagster.source_assets import asset_key
from citysort_dagster.store.models import Import, RunOverride
from sandbox.servicenow import SimulatedServiceNow
from tests.dagster_ui.conftest import COMMAND, PROJECT
from tests.secrecy.canaries import Search, canary
from tests.web.console import Console, make_archive, running


def test_an_import_that_is_waited_for_and_one_that_finds_nothing_new(
    console: Console, archive: dict[str, Any]
) -> None:
    console.well("POST", "/api/sources", {"name": "archive", "connector": "sqlite", "config": archive})
    answer = console("POST", "/api/sources/archive/import", {"wait": True})
    assert answer.status_code == 200
    first = answer.json()
    assert (first["status"], first["imported_count"], first["skipped_count"], first["failed_count"]) == (
        "succeeded",
        2,
        0,
        1,
    )
    (error,) = first["errors"]
    assert error["filename"] == "three.txt" and "content" in error["reason"]
    again = console.well(
        "POST", "/api/sources/archive/import", {"wait": True, "from": "2026-09-01", "to": "2026-10-31"}
    )
    assert (again["imported_count"], again["skipped_count"], again["failed_count"]) == (0, 2, 1)
    assert again["run_id"] != first["run_id"]
    source = console.well("GET", "/api/sources/archive")
    assert source["documents"] == 2 and source["failures"] == 1 and source["last_run_id"] == again["run_id"]
    assert source["days"][-1]["imported"] == 2

    with open_instance(console.installation.settings) as instance:
        run = instance.get_run_by_id(first["run_id"])
        assert run is not None and run.status == dg.DagsterRunStatus.SUCCESS
        assert run.tags["citysort/source"] == "archive"
    assert ("import launched", "this machine", "archive") in console.audit()


def test_an_import_is_watched_to_its_end(console: Console, environment: Path) -> None:
    config = make_archive(
        environment / "allowed" / "big.db", {f"{number}.txt": b"text" for number in range(80)}
    )
    console.well("PUT", "/api/connectors/sqlite/config", config)
    answer = console("POST", "/api/connectors/sqlite/import")
    assert answer.status_code == 202
    order = answer.json()
    assert answer.headers["Location"] == order["links"]["self"] == f"/api/imports/{order['run_id']}"
    events = console.follow(order["run_id"])
    assert [kind for kind, _ in events[:-1]] == ["progress"] * (len(events) - 1)
    kind, last = events[-1]
    assert kind == "done" and last["status"] == "succeeded" and last["limited"] is True
    assert last["imported_count"] == 50, "the limit is 50 unless another is named"
    assert console.well("GET", last["links"]["self"]) == last
    assert [kind for kind, _ in console.follow(order["run_id"])] == ["done"]
    rest = console.well("POST", "/api/connectors/sqlite/import", {"wait": True, "limit": None})
    assert (rest["imported_count"], rest["skipped_count"], rest["limited"]) == (30, 50, False)


def test_an_import_that_fails_says_why(
    console: Console, help_desk: dict[str, Any], servicenow: SimulatedServiceNow
) -> None:
    console.well("POST", "/api/sources", {"name": "desk", "connector": "servicenow", "config": help_desk})
    servicenow.password = canary()
    failed = console.well("POST", "/api/sources/desk/import", {"wait": True})
    assert failed["status"] == "failed" and "credentials" in failed["message"]
    assert help_desk["password"] not in json.dumps(failed)
    source = console.well("GET", "/api/sources/desk")
    assert source["state"] == "failing" and "credentials" in source["reason"]


def test_a_configuration_for_one_run_serves_it_alone_and_is_nowhere_to_be_read(
    console: Console, help_desk: dict[str, Any], servicenow: SimulatedServiceNow
) -> None:
    saved = {**help_desk, "password": canary()}
    console.well("POST", "/api/sources", {"name": "desk", "connector": "servicenow", "config": saved})
    report = console.well("POST", "/api/sources/desk/import", {"config": help_desk, "wait": True})
    assert (report["status"], report["imported_count"]) == ("succeeded", 1), report
    assert console.well("GET", "/api/sources/desk")["last_sync_at"] is None, (
        "it says nothing about the source"
    )
    again = console.well("POST", "/api/sources/desk/import", {"wait": True})
    assert again["status"] == "failed", "the saved configuration is what it was"
    with console.installation.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(RunOverride)).scalar() == 0
    search = Search([help_desk["password"], saved["password"]])
    assert not search.in_folder(console.installation.settings.data_dir)
    assert not search.in_text(report, again)


def test_an_override_serves_once_and_expires(console: Console, archive: dict[str, Any]) -> None:
    from datetime import timedelta

    from citysort_dagster import run_overrides
    from citysort_dagster.source_configs import known_source
    from citysort_dagster.store.sync_log import now

    console.well("POST", "/api/sources", {"name": "archive", "connector": "sqlite", "config": archive})
    database, settings = console.installation.database, console.installation.settings
    source = known_source(database, "archive")
    kept = run_overrides.keep_override(database, settings, "archive", {**archive, "query": "SELECT 2"})
    assert run_overrides.opened(database, settings, source, kept).config["query"] == "SELECT 2"
    with pytest.raises(run_overrides.OverrideGone):
        run_overrides.opened(database, settings, source, kept)
    late = run_overrides.keep_override(database, settings, "archive", archive)
    database.write(
        lambda connection: connection.execute(
            sa.update(RunOverride).values(expires_at=now() - timedelta(seconds=1))
        )
    )
    with pytest.raises(run_overrides.OverrideGone):
        run_overrides.opened(database, settings, source, late)


def test_what_cannot_be_imported(console: Console, archive: dict[str, Any]) -> None:
    console.refused(404, "POST", "/api/sources/archive/import")
    console.refused(404, "POST", "/api/connectors/sqlite/import")
    console.well("POST", "/api/sources", {"name": "archive", "connector": "sqlite", "config": archive})
    path = "/api/sources/archive/import"
    console.refused(422, "POST", path, {"limit": 0})
    console.refused(422, "POST", path, {"limit": 10**30})
    console.refused(422, "POST", path, {"from": "2026-02-30"})
    console.refused(422, "POST", path, {"from": "2026-03-01", "to": "2026-02-01"})
    console.refused(422, "POST", path, {"to": "9999-12-31"})
    console.refused(422, "POST", path, {"from": "0001-01-01"})
    console.refused(422, "POST", path, {"surprise": 1})
    console.refused(404, "GET", "/api/imports/no-such-run")
    console.refused(404, "GET", "/api/imports/no-such-run/events")
    console.well("PATCH", "/api/sources/archive", {"enabled": False})
    assert "disabled" in console.refused(409, "POST", path)["detail"]


def test_one_import_of_a_source_at_a_time(
    console: Console, help_desk: dict[str, Any], servicenow: SimulatedServiceNow
) -> None:
    console.well("POST", "/api/sources", {"name": "desk", "connector": "servicenow", "config": help_desk})
    with servicenow.lock:  # it answers nobody until the second order has been refused
        first = console.well("POST", "/api/sources/desk/import")
        problem = console.refused(409, "POST", "/api/sources/desk/import")
        assert first["run_id"] in problem["detail"]
    assert console.follow(first["run_id"])[-1][1]["imported_count"] == 1


def test_of_orders_at_the_same_moment_one_is_launched(
    console: Console, help_desk: dict[str, Any], servicenow: SimulatedServiceNow
) -> None:
    """Dagster knows nothing of an import in the seconds that its process takes to begin."""
    console.well("POST", "/api/sources", {"name": "desk", "connector": "servicenow", "config": help_desk})
    url = f"{console.url}/api/sources/desk/import"
    with servicenow.lock, ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: requests.post(url, json={}, timeout=180), range(6)))
    assert sorted(answer.status_code for answer in answers) == [202, *[409] * 5]
    (run_id,) = (answer.json()["run_id"] for answer in answers if answer.status_code == 202)
    assert all(run_id in answer.json()["detail"] for answer in answers if answer.status_code == 409)
    assert console.follow(run_id)[-1][1]["imported_count"] == 1


@pytest.fixture
def city_up(environment: Path) -> Iterator[str]:
    """`citysort up` in the data folder of the test; the address of its console."""
    port, console_port = free_ports(2)
    process = subprocess.Popen(
        [*COMMAND, "up", "--port", str(port), "--console-port", str(console_port)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    assert process.stderr is not None
    said = [process.stderr.readline() for _ in range(3)]
    assert said[2] == f"Its console: http://127.0.0.1:{console_port}\n", said
    yield f"http://127.0.0.1:{console_port}"
    process.terminate()
    process.communicate(timeout=60)


def test_beside_a_running_dagster_a_new_source_is_imported_from_its_queue(
    city_up: str, console: Console, archive: dict[str, Any], help_desk: dict[str, Any]
) -> None:
    """The daemon launches it, as it does all others; the run has a page in the Dagster UI."""
    beside = Console(city_up, console.installation, console.folder)
    made = beside.well("POST", "/api/sources", {"name": "archive", "connector": "sqlite", "config": archive})
    assert made["notice"] is None
    order = beside.well("POST", "/api/sources/archive/import", {"limit": 2})
    dagster = running_url(console.installation.settings)
    assert order["links"]["dagster"] == f"{dagster}/runs/{order['run_id']}"
    done = beside.follow(order["run_id"])[-1][1]
    assert done["status"] == "succeeded"
    # The source's own sensor may have been quicker.
    assert done["imported_count"] + done["skipped_count"] >= 1
    saved = {**help_desk, "password": canary()}
    beside.well("POST", "/api/sources", {"name": "desk", "connector": "servicenow", "config": saved})
    own = beside.well("POST", "/api/sources/desk/import", {"config": help_desk, "wait": True})
    assert (own["status"], own["imported_count"]) == ("succeeded", 1)
    query = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status runConfigYaml tags { key value } } } }"
    shown = requests.post(
        f"{dagster}/graphql", json={"query": query, "variables": {"id": own["run_id"]}}, timeout=30
    )
    assert shown.json()["data"]["runOrError"]["status"] == "SUCCESS"
    search = Search([help_desk["password"], saved["password"]])
    assert not search.in_text(shown.text)
    assert not search.in_folder(console.installation.settings.data_dir)


def test_imports_outlive_the_server(environment: Path, archive: dict[str, Any]) -> None:
    """What has begun is brought to its end, also when the server is stopped meanwhile."""
    from citysort_dagster.installation import open_installation

    with open_installation() as installation:
        with running(installation, environment) as first:
            first.well("POST", "/api/sources", {"name": "archive", "connector": "sqlite", "config": archive})
            run_id = first.well("POST", "/api/sources/archive/import")["run_id"]
        with running(installation, environment) as second:
            assert second.follow(run_id)[-1][1]["imported_count"] == 2
        with installation.database.read() as connection:
            assert connection.execute(sa.select(Import.status)).scalar() == "complete"


def test_an_import_whose_process_is_killed_has_failed(
    console: Console, help_desk: dict[str, Any], servicenow: SimulatedServiceNow
) -> None:
    console.well("POST", "/api/sources", {"name": "desk", "connector": "servicenow", "config": help_desk})
    with servicenow.lock:
        run_id = console.well("POST", "/api/sources/desk/import")["run_id"]
        with open_instance(console.installation.settings) as instance:
            run = instance.get_run_by_id(run_id)
            assert run is not None
            process = process_of(run)
            assert process is not None
            psutil.Process(int(process.partition("-")[0])).kill()
        kind, last = console.follow(run_id)[-1]
    assert kind == "done" and last["status"] == "failed" and "process" in last["message"]


def test_of_a_run_that_imports_several_sources_each_page_shows_its_own(
    console: Console, environment: Path, archive: dict[str, Any]
) -> None:
    """As the Dagster UI launches it for sources that are chosen together."""
    gone = make_archive(environment / "allowed" / "gone.db", {"never.txt": b""})
    for name, config in (("archive", archive), ("a_gone_one", gone)):
        console.well("POST", "/api/sources", {"name": name, "connector": "sqlite", "config": config})
    Path(gone["filepath"]).unlink()
    with open_instance(console.installation.settings) as instance:
        run = (
            build_definitions()
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(
                instance=instance,
                asset_selection=[asset_key("archive"), asset_key("a_gone_one")],
                tags=partition_range_tags(console.installation.calendar.keys),
                raise_on_error=False,
            )
        )
    assert not run.success
    shown = {
        name: console("GET", f"/sources/{name}/imports/{run.run_id}").text
        for name in ("archive", "a_gone_one")
    }
    assert "Everything there is has been looked at" in shown["archive"] and "three.txt" in shown["archive"]
    assert "there is no such file" in shown["a_gone_one"] and "three.txt" not in shown["a_gone_one"]
    for name, part in shown.items():
        assert part.partition("<dl")[2] in console("GET", f"/sources/{name}").text
    assert console("GET", f"/sources/other/imports/{run.run_id}").status_code == 404
    report = console.well("GET", f"/api/imports/{run.run_id}")
    assert (report["source"], report["status"], report["errors"]) == ("a_gone_one", "failed", [])


def test_the_process_of_an_import_says_what_is_wrong(environment: Path) -> None:
    order = {
        "source": "nobody",
        "run_id": "x",
        "limit": None,
        "date_from": None,
        "date_to": None,
        "override": None,
    }
    ran = subprocess.run(
        [sys.executable, "-m", "citysort_dagster.import_process"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    assert ran.returncode == 2 and ran.stderr.startswith("there is no source 'nobody'")
