"""`citysort up` starts, stops, and leaves nothing running."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg
import psutil
import pytest
import requests

from citysort_dagster.instance import open_instance, process_of
from citysort_dagster.lock_file import hold
from citysort_dagster.reload import running_url
from citysort_dagster.server_process import free_ports
from citysort_dagster.settings import Settings
from citysort_dagster.up import UpError, check_can_run
from tests.dagster_ui.archives import SQLiteArchive
from tests.dagster_ui.conftest import COMMAND, City, family, gone
from tests.dagster_ui.graphql import wait_for


def test_free_ports_are_none_that_a_connection_may_take() -> None:
    """Such a port may be taken between being found and being listened on."""
    ports = free_ports(50)
    assert len(set(ports)) == 50
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        own = server.getsockname()
        given = [stack.enter_context(socket.create_connection(own)).getsockname()[1] for _ in range(50)]
    assert max(ports) < min([own[1], *given])


def test_what_a_killed_one_left_keeps_nobody_from_starting(tmp_path: Path) -> None:
    """Its process id may be anybody's by then; in a container it is that of the next one."""
    settings = Settings(data_dir=tmp_path)
    state = json.dumps({"url": "http://127.0.0.1:9/", "pid": os.getpid()})
    (tmp_path / "up.json").write_text(state)
    assert running_url(settings) is None
    check_can_run(settings, "127.0.0.1", 0)
    with hold(tmp_path / "up.json", state):
        assert running_url(settings) == "http://127.0.0.1:9"
        with pytest.raises(UpError, match="running already"):
            check_can_run(settings, "127.0.0.1", 0)
    assert running_url(settings) is None


def names(processes: Sequence[psutil.Process]) -> str:
    return " ".join(" ".join(process.cmdline()) for process in processes)


def test_in_the_background_it_still_obeys_ctrl_c(tmp_path: Path) -> None:
    """A shell starts background jobs with SIGINT ignored."""
    city = City.found(tmp_path / "data")
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = city.up()
    finally:
        signal.signal(signal.SIGINT, former)
    try:
        started = family(process.pid)
        assert "dagster-webserver" in names(started) and "dagster-daemon" in names(started)
        assert "api grpc" in names(started)

        second = city.command("up", "--port", "0")
        _, said = second.communicate()
        assert second.returncode == 2
        assert said == f"citysort: CitySort is running already for {tmp_path / 'data'}, at {city.ui.url}\n"

        other = City.found(tmp_path / "other")
        port = city.ui.url.rpartition(":")[2]
        taken = other.command("up", "--port", port)
        _, said = taken.communicate()
        assert taken.returncode == 2
        assert said == f"citysort: port {port} of 127.0.0.1 is taken: choose another one with --port\n"
    finally:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and out == ""
    starting, running, console, stopping = err.splitlines()
    assert starting == "Starting CitySort …"
    assert running == f"CitySort is running: {city.ui.url}  (Ctrl-C stops it)"
    assert console.startswith("Its console: http://127.0.0.1:") and stopping == "Stopping."
    wait_for("the end of all processes", lambda: gone(started))
    with socket.create_server(("127.0.0.1", int(port))):
        pass
    assert not (tmp_path / "data" / "up.json").exists()


def test_of_two_started_at_once_one_runs_and_its_paths_begin_at_its_working_folder(tmp_path: Path) -> None:
    city = City.found(tmp_path / "data", CITYSORT_FILES_URL="stored")
    archive = SQLiteArchive(tmp_path / "archive.db")
    archive.put("letter", "2025-03-01", b"letter")
    city.apply(
        {"name": "archive", "connector": "sqlite", "config": {**archive.settings(), "filepath": "archive.db"}}
    )

    def up() -> subprocess.Popen[str]:
        command = [*COMMAND, "up", "--port", "0"]
        return subprocess.Popen(
            command, env=city.environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True
        )

    first, second = up(), up()
    try:
        wait_for("one that runs", lambda: running_url(city.settings))
        state = json.loads((tmp_path / "data" / "up.json").read_bytes())
        if state["pid"] != first.pid:
            first, second = second, first
        _, said = second.communicate(timeout=120)
        assert second.returncode == 2
        assert said in (
            f"citysort: CitySort is being started or stopped already for {tmp_path / 'data'}\n",
            f"citysort: CitySort is running already for {tmp_path / 'data'}, at {state['url']}\n",
        )
        assert running_url(city.settings) == state["url"]

        tried = requests.post(f"{state['console']}/api/sources/archive/test", timeout=60)
        assert tried.json()["ok"], tried.text
        wait_for("the document", lambda: city.documents("archive"), seconds=180)
        assert [path.name for path in (tmp_path / "stored").glob("*/*letter.txt")]
    finally:
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=120)
        city.database.close()


def test_ctrl_c_while_it_starts(tmp_path: Path) -> None:
    city = City.found(tmp_path / "data")
    city.database.close()
    process = city.command("up", "--port", "0")
    wait_for("the webserver", lambda: "dagster-webserver" in names(psutil.Process(process.pid).children()))
    started = family(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=120) == ("", "Starting CitySort …\n")  # it never ran
    assert process.returncode == 0
    wait_for("the end of all processes", lambda: gone(started))


def test_killed_it_takes_all_with_it_and_ends_when_a_part_does(tmp_path: Path) -> None:
    city = City.found(tmp_path / "data")
    process = city.up()
    started = family(process.pid)
    assert "api grpc" in names(started)
    process.kill()
    process.communicate()
    wait_for("the end of all processes", lambda: gone(started))

    again = city.up()
    started = family(again.pid)
    (daemon,) = [one for one in psutil.Process(again.pid).children() if "dagster-daemon" in names([one])]
    daemon.terminate()
    _, err = again.communicate(timeout=120)
    assert again.returncode == 2
    assert f"citysort: daemon has ended; its log is {tmp_path / 'data' / 'daemon.log'}" in err
    wait_for("the end of all processes", lambda: gone(started))


@contextmanager
def silent_server() -> Iterator[str]:
    """The address of a web server that takes every request and answers none."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def under_way(instance: dg.DagsterInstance) -> dg.DagsterRun | None:
    """The run that has begun, and whose process has named itself."""
    runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    return next((run for run in runs if process_of(run) is not None), None)


def test_a_run_under_way_ends_with_it_however_it_ends_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")  # set by whoever opens the instance
    city = City.found(tmp_path / "data")
    with silent_server() as url, open_instance(city.settings) as instance:

        def status(run: dg.DagsterRun) -> dg.DagsterRunStatus:
            found = instance.get_run_by_id(run.run_id)
            assert found is not None
            return found.status

        place = {"bucket_name": "permits", "region": "us-east-1", "endpoint_url": url, "anonymous": True}
        city.apply({"name": "slow", "connector": "amazon_s3", "config": place})
        stopped = city.up()
        try:
            first = wait_for("a run", lambda: under_way(instance))
            started = family(stopped.pid)
        finally:
            stopped.send_signal(signal.SIGINT)
            stopped.communicate(timeout=120)
        assert gone(started)
        assert status(first) == dg.DagsterRunStatus.FAILURE

        cut_off = city.up()
        try:
            second = wait_for("the run that tries again", lambda: under_way(instance))
            assert second.parent_run_id == first.run_id
        finally:
            for process in family(cut_off.pid):  # as by a power cut: none sees the end of another
                process.suspend()
            started = family(cut_off.pid)
            for process in started:
                process.kill()
            cut_off.communicate()
        wait_for("the end of all processes", lambda: gone(started))
        assert status(second) == dg.DagsterRunStatus.STARTED

        next_one = city.up()
        try:
            assert status(second) == dg.DagsterRunStatus.FAILURE
            third = wait_for("the run that tries again", lambda: under_way(instance))
            assert third.parent_run_id == second.run_id
        finally:
            next_one.send_signal(signal.SIGINT)
            next_one.communicate(timeout=120)
    city.database.close()


def test_a_place_where_nothing_can_listen_is_told_with_the_option_that_names_it(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(UpError, match=r"^port \d+ of 127\.0\.0\.1 is taken: .* --console-port$"):
            check_can_run(settings, "127.0.0.1", 0, taken)
    for host in ("203.0.113.1", "no.such.host.invalid", "::1", "a" * 70):
        with pytest.raises(UpError, match=rf"^{host} is not an address of this machine \(IPv4\): .* --host$"):
            check_can_run(settings, host, 0)
