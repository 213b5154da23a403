"""Runs an installation: Dagster's webserver and daemon on workspace.yaml, as production does."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import requests

from citysort_dagster.installation import open_installation
from citysort_dagster.instance import PROJECT_ROOT, open_instance
from citysort_dagster.reload import running_url
from citysort_dagster.server_process import ServerError, ServerProcess
from citysort_dagster.settings import Settings
from citysort_dagster.source_assets import resource_key
from citysort_dagster.source_configs import load_sources

WATCH_SECONDS = 1.0


class UpError(Exception):
    """CitySort cannot run, or has stopped running, and why, in one sentence."""


def run(settings: Settings, host: str, port: int) -> None:
    """Runs until Ctrl-C or SIGTERM, then stops all that it started.

    Raises UpError when it cannot start or one of its processes ends by itself.
    """
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    # A shell starts background jobs with SIGINT ignored: be told of it all the same.
    former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with running(settings, host, port) as processes:
            while not stopped.wait(WATCH_SECONDS):
                for name, process in processes.items():
                    if process.has_ended():
                        raise UpError(f"{name} has ended; its log is {settings.data_dir / f'{name}.log'}")
            print("Stopping.", file=sys.stderr)  # noqa: T201 - a message to the person at the terminal
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def running(settings: Settings, host: str, port: int) -> Iterator[dict[str, ServerProcess]]:
    """The webserver and the daemon, answering; both are stopped in the end. Raises UpError."""
    check_can_run(settings, host, port)
    # Both databases are there, and up to date, before several processes open them.
    with open_installation() as installation, open_instance(settings) as instance:
        for source in load_sources(installation.database):
            # Dagster learns of a pool from its first run, which is too late when two are launched at once.
            instance.event_log_storage.initialize_concurrency_limit_to_default(resource_key(source.name))
    workspace = ["-w", str(PROJECT_ROOT / "workspace.yaml")]
    programs = Path(sys.executable).parent
    commands: dict[str, list[str | Path]] = {
        "webserver": [programs / "dagster-webserver", "-h", host, "-p", str(port), *workspace],
        "daemon": [programs / "dagster-daemon", "run", *workspace],
    }
    environment = {
        "DAGSTER_HOME": str(settings.dagster_home),
        "CITYSORT_DATA_DIR": str(settings.data_dir),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")))),
    }
    state = settings.data_dir / "up.json"
    processes: dict[str, ServerProcess] = {}
    address = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104 - compared, not bound
    try:
        for name, command in commands.items():
            log = settings.data_dir / f"{name}.log"
            log.touch(mode=0o600)
            processes[name] = ServerProcess(command, log, environment=environment)
        try:
            processes["webserver"].wait_until(
                lambda: requests.get(f"{address}/server_info", timeout=5).raise_for_status(),
                requests.RequestException,
                seconds=120,
            )
        except ServerError as error:
            raise UpError(str(error)) from None
        state.write_text(json.dumps({"url": address, "pid": os.getpid()}))
        print(f"CitySort is running: {address}  (Ctrl-C stops it)", file=sys.stderr)  # noqa: T201 - see above
        yield processes
    finally:
        state.unlink(missing_ok=True)
        for process in processes.values():
            process.stop()


def check_can_run(settings: Settings, host: str, port: int) -> None:
    """Raises UpError when this installation is running already, or the port is taken."""
    url = running_url(settings)
    if url is not None:
        raise UpError(f"CitySort is running already for {settings.data_dir}, at {url}")
    if not _is_free(host, port):
        raise UpError(f"port {port} of {host} is taken: choose another one with --port")


def _is_free(host: str, port: int) -> bool:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, UnicodeError, TypeError):  # the last two: a name that cannot be the name of a host
        return False
    return True
