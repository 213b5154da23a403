"""Run workers of a running CitySort that start warm (see warm_workers), and die when a reaper says so.

Each asks the reaper when to die before it does its work. The imports of Python itself, during which nothing
of ours is done, are no moments to die at.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Any

from tests import warm_workers

REAPER = "REAPER_PORT"
FOLDER = "REAPER_FOLDER"
"""Changes of the file system count as steps below this folder."""

STEPS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "fcntl.flock", "open"}
"""The audit events that count as steps: https://docs.python.org/3/library/audit_events.html."""

LOCK_FILES = "/dagster/processes/"
"""The process of a run makes one before it imports anything: that is no step, and no file of a document."""

MOMENT = "moment"
STEP = "step"
FILE = "os.rename"
"""How a worker may die: at a moment of its life, just before one of its steps, just before one of its files
takes its place; then some have theirs, and no transaction knows of them yet."""


def warm_start(folder: Path) -> str:
    """As that of warm_workers, for workers that may die."""
    return warm_workers.warm_start(folder, f"{__name__}.start_doomed")


def start_doomed() -> None:
    """Lets what this process spawns start warm, and ask the reaper."""
    spawned: Any = warm_workers.start_warm()
    spawned.run = _doomed


def _doomed(process: Any) -> None:
    with socket.create_connection(("127.0.0.1", int(os.environ[REAPER]))) as line:
        job = process._args[1].job_name
        line.sendall(json.dumps([os.getpid(), job]).encode())
        taken = _count_steps(json.loads(line.recv(1_000)))
        try:
            BaseProcess.run(process)
        finally:
            line.sendall(json.dumps(taken).encode())


def _count_steps(last: Mapping[str, int]) -> Mapping[str, int]:
    """Counts the steps of this process from now on, and kills it just before the last that it may take: a
    change of the file system, a statement or a commit, those of Dagster's own storage as well."""
    import sqlalchemy as sa

    taken = dict.fromkeys((STEP, FILE), 0)
    below = os.environ[FOLDER]

    def count(kind: str) -> None:
        taken[kind] += 1
        if taken[kind] == last.get(kind):
            os.kill(os.getpid(), signal.SIGKILL)

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if not arguments or LOCK_FILES in str(arguments[0]):
            return
        if event in STEPS and (event != "open" or str(arguments[0]).startswith(below)):
            count(STEP)
        if event == FILE:
            count(FILE)

    sys.addaudithook(look)
    for name in ("before_cursor_execute", "commit"):
        sa.event.listen(sa.Engine, name, lambda *_: count(STEP))
    return taken


@dataclass
class Reaper:
    """Kills each worker that it is told of while it `reaps`, in one way as often as in the others; `deaths`
    says how often. `at_birth` is told the job of a worker before that does anything."""

    port: int
    reaps: bool = False
    at_birth: Callable[[str], None] = lambda job: None
    deaths: Counter[str] = field(default_factory=lambda: Counter({MOMENT: 0, STEP: 0, FILE: 0}))
    random: Random = field(default_factory=lambda: Random(1))  # noqa: S311 - moments differ all the same
    _lives: dict[str, dict[str, float]] = field(default_factory=dict)
    """How long the last worker of each job lived that ended by itself and had something to do: seconds, steps."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def attend(self, line: socket.socket) -> None:
        """Follows one worker to its end."""
        pid, job = json.loads(line.recv(1_000))
        if reaps := self.reaps:
            self.at_birth(job)
        began = time.monotonic()
        with self._lock:
            way = min(self.deaths, key=self.deaths.__getitem__)
            last = self.random.uniform(0, self._lives[job][way]) if reaps else None
        if way == MOMENT:
            line.settimeout(last)
        line.sendall(json.dumps({} if last is None or way == MOMENT else {way: 1 + int(last)}).encode())
        try:
            told = line.recv(1_000)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            line.settimeout(None)
            try:
                told = line.recv(1_000)
            except ConnectionResetError:  # it died before it had read the answer
                told = b""
        with self._lock:
            if not told:
                self.deaths[way] += 1
                return
            taken = json.loads(told)
            if taken[FILE]:
                self._lives[job] = {MOMENT: time.monotonic() - began, **taken}


@contextmanager
def reaper() -> Iterator[Reaper]:
    """A reaper, whom workers reach at its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Reaper(listener.getsockname()[1])

        def attend(worker: socket.socket) -> None:
            with worker:
                made.attend(worker)

        def listen() -> None:
            while True:
                try:
                    worker, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=attend, args=(worker,), daemon=True).start()

        listening = threading.Thread(target=listen, daemon=True)
        listening.start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)
        listening.join()
