"""The Dagster instance of an installation: its home, and runs whose process is gone."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO

import dagster as dg

from citysort_dagster.lock_file import NEW, hold, take
from citysort_dagster.settings import Settings
from citysort_dagster.store import sync_log
from citysort_dagster.store.database import Database

PROCESS_TAG = ".dagster/citysort_process"
"""Names a run, and the process that executes it by its lock file. Tags that begin like this one are no more
shown in the UI than those of Dagster itself."""

NAMED_WITHIN = timedelta(minutes=10)
"""A process names itself a moment after it has begun to execute a run: one that has not within this time is gone."""

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

PROJECT_ROOT = Path(__file__).parent.parent


def python_path() -> str:
    """The PYTHONPATH of processes that import the project, whatever folder they work in."""
    return os.pathsep.join(filter(None, (str(PROJECT_ROOT), os.environ.get("PYTHONPATH", ""))))


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


_own_files: dict[Path, tuple[str, IO[str]]] = {}
"""The lock file of this process in each home of Dagster that it has executed runs for, held to its end."""

_naming = threading.Lock()


def this_process(instance: dg.DagsterInstance, run_id: str) -> str:
    """The value of PROCESS_TAG for a run that this process executes."""
    folder = _processes(instance)
    with _naming:
        if folder not in _own_files:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            name = f"{os.getpid()}-{uuid.uuid4()}"
            _own_files[folder] = name, hold(folder / name)
    return f"{run_id}:{_own_files[folder][0]}"


def name_process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Notes that this process executes the run, so that it is noticed when this process dies."""
    process = this_process(instance, run.run_id)
    if run.tags.get(PROCESS_TAG) != process:
        instance.add_run_tags(run.run_id, {PROCESS_TAG: process})


def process_of(run: dg.DagsterRun) -> str | None:
    """The name of the process that executes a run, None before it has named itself."""
    # Whoever tries a run again, Dagster or a person, gives the new one the tags of the old one.
    named, _, process = run.tags.get(PROCESS_TAG, "").partition(":")
    return process if named == run.run_id else None


def unfinished_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """The queued and running runs, the latest first.

    Runs whose process has died are reported as ended first: with DefaultRunLauncher Dagster notices that
    only while the code server lives that started the process. A process whose lock file is not in this
    Dagster home, on another machine with the same storage for instance, is taken to be alive.
    """
    with ExitStack() as stack:
        # Before the runs are asked for: what these processes wrote of their runs is there by then. They are
        # held so that nobody else reports the same.
        dead = {}
        for path in _processes(instance).glob("*"):
            if path.suffix != NEW and (file := take(path)) is not None:
                dead[path.name] = path
                stack.enter_context(file)
        alive = []
        for record in instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED)):
            if process_of(record.dagster_run) in dead or _never_began(record):
                _report_end(instance, record.dagster_run)
            else:
                alive.append(record.dagster_run)
        for path in dead.values():
            path.unlink(missing_ok=True)
    return alive


def _processes(instance: dg.DagsterInstance) -> Path:
    return Path(instance.root_directory) / "processes"


def _never_began(record: dg.RunRecord) -> bool:
    """Whether the process of a run must have died before it could name itself."""
    run = record.dagster_run
    return (
        run.status in (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)
        and process_of(run) is None
        and datetime.now(timezone.utc) - record.update_timestamp > NAMED_WITHIN
    )


def _report_end(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    message = "The process that executed this run ended before the run did."
    if run.status == dg.DagsterRunStatus.CANCELING:  # a failed run would be tried again
        instance.report_run_canceled(run, message)
    else:
        instance.report_run_failed(run, message)


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
