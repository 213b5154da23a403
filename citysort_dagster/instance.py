"""The Dagster instance of an installation: its home, and runs whose process is gone."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import dagster as dg
import psutil

from citysort_dagster.settings import Settings

PROCESS_TAG = ".citysort/process"
"""Names the process of a run that the command line executes itself: host, pid, start time. The leading
dot keeps it out of lists in the UI."""

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

PROJECT_ROOT = Path(__file__).parent.parent


def prepare_dagster_home(settings: Settings) -> Path:
    """Makes the folder that DAGSTER_HOME names, puts dagster.yaml there and sets the variable."""
    home = settings.dagster_home
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(PROJECT_ROOT / "dagster.yaml", home / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home)
    return home


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
