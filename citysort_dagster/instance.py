"""The Dagster instance of an installation: its home, and runs whose process is gone."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg
import psutil

from citysort_dagster.settings import Settings
from citysort_dagster.store import sync_log
from citysort_dagster.store.database import Database

PROCESS_TAG = ".dagster/citysort_process"
"""Names the process of a run that the command line executes itself: host, pid, start time. Tags that begin
like this one are no more shown in the UI than those of Dagster itself."""

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

PROJECT_ROOT = Path(__file__).parent.parent


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of an installation, whose home is made when it is not there yet.

    Sets DAGSTER_HOME for this process.
    """
    home = settings.dagster_home
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ["DAGSTER_HOME"] = str(home)
    with ExitStack() as stack:
        # Several processes that make Dagster's tables at once leave them unusable.
        with (home / "opening").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            copy = home / "dagster.yaml.new"
            shutil.copyfile(PROJECT_ROOT / "dagster.yaml", copy)
            copy.replace(home / "dagster.yaml")
            instance = stack.enter_context(dg.DagsterInstance.get())
        yield instance


def this_process() -> str:
    """The value of PROCESS_TAG for this process."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def unfinished_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """The queued and running runs, the latest first.

    Runs that the command line executed in a process that has died since are reported as failed
    first: nobody else would ever notice.
    """
    alive = []
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        if _has_died(run.tags.get(PROCESS_TAG)):
            instance.report_run_failed(run, "The process that executed this run ended before the run did.")
        else:
            alive.append(run)
    return alive


def end_interrupted_imports(instance: dg.DagsterInstance, database: Database) -> None:
    """Records the end of imports that cannot have done so themselves: their run has ended, for its process
    was killed, say, or the documents database was out of reach. The next import goes on from there.

    Imports of runs that this instance does not know are left as they are.
    """
    with database.read() as connection:
        running = sync_log.running_imports(connection)
    if not running:
        return
    unfinished_runs(instance)
    ended = [run.run_id for run in instance.get_runs(dg.RunsFilter(run_ids=running)) if run.is_finished]
    if ended:
        database.write(lambda connection: sync_log.end_interrupted(connection, ended))


def _has_died(process: str | None) -> bool:
    if process is None:
        return False
    host, pid, started = process.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.0f}" != started
    except psutil.NoSuchProcess:
        return True


def step_failure(events: Iterable[dg.DagsterEvent], unexpected: str) -> str | None:
    """What the first of these failures of steps says of itself in one sentence; of an error that nobody
    foresaw, whose text may hold anything, `unexpected` with the name of its class in place of {}. None when
    none says either."""
    for event in events:
        failure = event.step_failure_data
        if failure.user_failure_data is not None and failure.user_failure_data.description:
            return str(failure.user_failure_data.description)
        if failure.error is not None and failure.error.cls_name:
            return unexpected.format(failure.error.cls_name)
    return None
