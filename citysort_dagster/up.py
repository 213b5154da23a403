"""Runs an installation: Dagster's webserver and daemon on workspace.yaml, as production does, and the
console beside them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType

import requests

from citysort_dagster import api_tokens
from citysort_dagster.installation import open_installation
from citysort_dagster.instance import PROJECT_ROOT, open_instance, python_path, unfinished_runs
from citysort_dagster.lock_file import hold
from citysort_dagster.reload import running_url
from citysort_dagster.server_process import ServerError, ServerProcess, free_port
from citysort_dagster.settings import Settings
from citysort_dagster.source_assets import resource_key
from citysort_dagster.source_configs import load_sources
from citysort_dagster.web.loopback import is_loopback

WATCH_SECONDS = 1.0


class UpError(Exception):
    """CitySort cannot run, or has stopped running, and why, in one sentence."""


class _Stopped(Exception):
    """It was stopped before it ran."""


def run(settings: Settings, host: str, port: int, console_port: int | None = None) -> None:
    """Runs until Ctrl-C or SIGTERM, then stops all that it started.

    The console is served at `console_port`; None: at the one after `port`, or any if that is taken.
    Raises UpError when it cannot start or one of its processes ends by itself.
    """
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    # A shell starts background jobs with SIGINT ignored: be told of it all the same.
    former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with (
            suppress(_Stopped),
            _alone(settings),
            running(settings, host, port, console_port, stopped) as processes,
        ):
            while not stopped.wait(WATCH_SECONDS):
                for name, process in processes.items():
                    if process.has_ended():
                        raise UpError(f"{name} has ended; its log is {settings.data_dir / f'{name}.log'}")
            print("Stopping.", file=sys.stderr)  # noqa: T201 - a message to the person at the terminal
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """From the first step to the last, so that two that begin at the same moment do not both go on."""
    with (settings.data_dir / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            check_is_not_running(settings)
            raise UpError(f"CitySort is being started or stopped already for {settings.data_dir}") from None
        yield


@contextmanager
def running(
    settings: Settings,
    host: str,
    port: int,
    console_port: int | None = None,
    stopped: threading.Event | None = None,
) -> Iterator[dict[str, ServerProcess]]:
    """The webserver, the daemon and the console, answering; all are stopped in the end, and when `stopped`
    is set before they answer. Raises UpError."""
    check_can_run(settings, host, port, console_port)
    port = port or free_port()
    # Both databases are there, and up to date, before several processes open them.
    with open_installation() as installation, open_instance(settings) as instance:
        for source in load_sources(installation.database):
            # Dagster learns of a pool from its first run, which is too late when two are launched at once.
            instance.event_log_storage.initialize_concurrency_limit_to_default(resource_key(source.name))
        unfinished_runs(instance)  # ends those that a power cut has left
        # Others may reach the Dagster UI as they always could; the console wants to know who they are.
        known = any(token.revoked_at is None for token in api_tokens.tokens(installation.database))
    console_host = host if known or is_loopback(host) else "127.0.0.1"
    if console_port is None:
        console_port = port + 1 if port < 65535 and is_free(console_host, port + 1) else free_port()
    workspace = ["-w", str(PROJECT_ROOT / "workspace.yaml")]
    programs = Path(sys.executable).parent
    commands: dict[str, list[str | Path]] = {
        "webserver": [programs / "dagster-webserver", "-h", host, "-p", str(port), *workspace],
        "daemon": [programs / "dagster-daemon", "run", *workspace],
        "console": [
            *(sys.executable, "-m", "citysort_dagster.cli"),
            *("serve", "--host", console_host, "--port", str(console_port)),
        ],
    }
    environment = {
        "DAGSTER_HOME": str(settings.dagster_home),
        "CITYSORT_DATA_DIR": str(settings.data_dir),
        "PYTHONPATH": python_path(),
    }
    state = settings.data_dir / "up.json"
    processes: dict[str, ServerProcess] = {}
    dagster, console = address(host, port), address(console_host, console_port)
    print("Starting CitySort …", file=sys.stderr)  # noqa: T201 - see above
    try:
        for name, command in commands.items():
            log = settings.data_dir / f"{name}.log"
            log.touch(mode=0o600)
            # Paths of settings and sources begin at our working folder.
            processes[name] = ServerProcess(command, log, folder=Path.cwd(), environment=environment)
        try:
            for name, answering in (
                ("webserver", f"{dagster}/server_info"),
                ("console", f"{console}/api/health"),
            ):
                answers = partial(_get, answering, stopped)
                processes[name].wait_until(answers, requests.RequestException, seconds=120)
        except ServerError as error:
            raise UpError(str(error)) from None
        with hold(state, json.dumps({"url": dagster, "console": console, "pid": os.getpid()})):
            for line in (f"CitySort is running: {dagster}  (Ctrl-C stops it)", f"Its console: {console}"):
                print(line, file=sys.stderr)  # noqa: T201 - see above
            yield processes
    finally:
        state.unlink(missing_ok=True)
        with ThreadPoolExecutor() as pool:
            list(pool.map(ServerProcess.stop, processes.values()))
        if processes:
            with open_instance(settings) as instance:
                unfinished_runs(instance)  # ends those whose process had to be killed: they are tried again


def check_can_run(settings: Settings, host: str, port: int, console_port: int | None = None) -> None:
    """Raises UpError when this installation is running already, or a port is taken."""
    check_is_not_running(settings)
    check_is_free(host, port)
    if console_port is not None:
        check_is_free(host, console_port, "--console-port")


def check_is_not_running(settings: Settings) -> None:
    """Raises UpError when this installation is running already."""
    url = running_url(settings)
    if url is not None:
        raise UpError(f"CitySort is running already for {settings.data_dir}, at {url}")


def check_is_free(host: str, port: int, option: str = "--port") -> None:
    """Raises UpError when no server can listen there; `option` is the one that names the port."""
    try:
        _listen(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UpError(f"port {port} of {host} is taken: choose another one with {option}") from None
        if error.errno == errno.EACCES:
            raise UpError(
                f"this account may not listen on port {port}: choose another one with {option}"
            ) from None
        raise UpError(f"{host} is not an address of this machine (IPv4): choose one with --host") from None


def is_free(host: str, port: int) -> bool:
    """Whether a server can listen there."""
    try:
        _listen(host, port)
    except OSError:
        return False
    return True


def _listen(host: str, port: int) -> None:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (UnicodeError, TypeError) as error:  # a name that cannot be the name of a host
        raise OSError(str(error)) from None


def address(host: str, port: int) -> str:
    """The address at which a person on this machine finds what listens there."""
    return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104 - compared, not bound


def _get(url: str, stopped: threading.Event | None) -> None:
    if stopped is not None and stopped.is_set():
        raise _Stopped
    requests.get(url, timeout=5).raise_for_status()
