"""Run workers of a running CitySort that start warm, and a daemon that looks sooner for backfills.

Dagster's code server executes each run in a process of its own, which is a new interpreter: it imports
Dagster for seconds before anything of the run happens. With the PYTHONPATH of `warm_start`, that process is
forked from one that has imported it already. What starts it, what it executes and who watches over it are
as ever; the definitions are loaded in each.

Dagster's daemon looks for backfills every thirty seconds, for which there is no setting. A backfill needs
several such looks. In a daemon with that PYTHONPATH it does so every second.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerProcess, SpawnProcess
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
PRELOADED = [
    "citysort_dagster.automation",
    "citysort_dagster.ingestion_assets",
    "citysort_dagster.reconciliation_asset",
    "dagster._core.storage.event_log",
    "dagster._core.storage.runs",
    "dagster._core.storage.schedules",
    "dagster._grpc.server",
]


def warm_start(folder: Path, start: str = f"{__name__}.start_warm") -> str:
    """A PYTHONPATH with which each Python calls `start` when it starts, for it finds there what this writes
    into `folder`: https://docs.python.org/3/library/site.html."""
    module, _, function = start.rpartition(".")
    (folder / "sitecustomize.py").write_text(f"from {module} import {function}\n{function}()\n")
    return os.pathsep.join((str(folder), str(PROJECT)))


def start_warm() -> type[SpawnProcess]:
    """Lets what this process spawns be forked from a process that has imported Dagster, and backfills begin
    soon if this is the daemon; returns the class of the processes that are spawned."""
    if any(Path(word).name == "dagster-daemon" for word in sys.orig_argv):
        from dagster._daemon import controller

        controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 1
    spawned: Any = SpawnProcess
    spawned._Popen = staticmethod(ForkServerProcess._Popen)
    multiprocessing.set_forkserver_preload(PRELOADED)
    return SpawnProcess
