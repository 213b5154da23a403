"""Imports in processes of their own, which can be killed: at any moment, or at an exact step."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from citysort_dagster.files import FileStoreError, open_file_store
from citysort_dagster.import_batch import Counts, ImportRequest
from citysort_dagster.importer import Importer
from citysort_dagster.partitions import Calendar
from citysort_dagster.store.database import Database, DatabaseError
from connectors.base import ConfigurationError, Window
from tests.importer.folder_connector import Folder
from tests.robustness.wrong_clock import set_clock

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.robustness.importing"])

STEPS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "fcntl.flock", "open"}
"""The audit events that count as steps: https://docs.python.org/3/library/audit_events.html."""


EVERYTHING = Window()


@dataclass(frozen=True)
class Task:
    """One import, by everything that another process needs to do it. Its transactions are small, so that some
    have been committed and some not whenever something happens to it."""

    source: str
    database_url: str
    data: Path
    calendar: tuple[str, date, datetime]
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    window: Window = EVERYTHING
    batch_size: int = 40
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))


class Ended(NamedTuple):
    """How an import in another process ended: what it counted, or the sentence that it ended with."""

    counts: Counts
    incomplete: str | None
    error: str | None


def do(task: Task, prepare: Callable[[Database], None] = lambda database: None) -> Ended:
    """The import itself, in this process."""
    database = Database(task.database_url)
    prepare(database)
    files = open_file_store(str(task.data / "files"), task.data / "incoming")
    length, start, now = task.calendar
    calendar = Calendar(length, start, now)  # type: ignore[arg-type]
    request = ImportRequest(task.source, task.run_id, task.window, calendar.between(task.window))
    connector = Folder(path=str(task.folder), **task.settings)
    importer = Importer(request, connector, database, files, calendar, batch_size=task.batch_size)
    error = None
    try:
        for _ in importer.run():
            pass
    except (ConfigurationError, DatabaseError, FileStoreError) as problem:
        error = str(problem)
    database.close()
    return Ended(importer.summary.counts, importer.summary.incomplete, error)


class Importing:
    """An import under way in another process."""

    def __init__(self, process: ForkServerProcess, answer: Connection) -> None:
        self._process = process
        self._answer = answer

    def go(self) -> None:
        """Lets it begin."""
        self._answer.send(None)

    def kill_after(self, seconds: float) -> bool:
        """Kills it then (SIGKILL), or finds that it has ended; returns whether it was killed."""
        self._process.join(seconds)
        self._process.kill()
        return self.was_killed()

    def was_killed(self) -> bool:
        """Waits for its end; False when it ended by itself."""
        self._process.join()
        code = self._process.exitcode
        self._process.close()
        self._answer.close()
        assert code in (0, -signal.SIGKILL), code
        return code != 0

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def ended(self) -> Ended:
        """Waits for its end, which is its own."""
        answer: Ended = self._answer.recv()
        assert not self.was_killed()
        return answer


def begin(
    task: Task,
    waits: bool = False,
    largest_file: int | None = None,
    clock_ahead: timedelta | None = None,
) -> Importing:
    """Begins an import in another process, which waits for `go` if told to. It may write no file
    larger than that, and its clock is as wrong as that."""
    return _begin(_work, task, waits, largest_file, clock_ahead)


def begin_to_die(task: Task, step: int) -> Importing:
    """Begins an import that kills itself just before this step: a change of the file system below
    `data`, a statement or a commit. Steps are counted from 1."""
    return _begin(_die, task, step)


def _begin(work: Callable[..., None], *arguments: Any) -> Importing:
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=work, args=(theirs, *arguments))
    process.start()
    theirs.close()
    return Importing(process, ours)


def _work(
    answer: Connection,
    task: Task,
    waits: bool,
    largest_file: int | None,
    clock_ahead: timedelta | None,
) -> None:
    if clock_ahead is not None:
        set_clock(clock_ahead)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if waits:
        answer.recv()
    answer.send(do(task))


def _die(answer: Connection, task: Task, step: int) -> None:
    taken = 0

    def count() -> None:
        nonlocal taken
        taken += 1
        if taken == step:
            os.kill(os.getpid(), signal.SIGKILL)

    answer.send(do(task, lambda database: _on_each_step(database, task.data, count)))


def _on_each_step(database: Database, data: Path, tell: Callable[[], None]) -> None:
    below = str(data)

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in STEPS:
            return
        if event == "open" and not str(arguments[0]).startswith(below):
            return
        tell()

    sys.addaudithook(look)
    for name in ("before_cursor_execute", "commit"):
        sa.event.listen(database.engine, name, lambda *_: tell())
