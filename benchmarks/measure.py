"""Measures pieces of work, each in a process of its own: wall time, CPU, peak memory, requests.

A piece of work is a function that prepares (imports, connections to databases of our own) and
returns a function that works; only the second one is timed. It returns how much it did, so that
nobody wins by doing less.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

MB = 1_000_000
Work = Callable[[], int]


class NotInstalled(Exception):
    """A tool to compare with is not on this machine; its name."""


class Usage(NamedTuple):
    """What a piece of work took. `cpu_seconds` and `peak_mb` are those of its processes, not of servers;
    None where only time was measured."""

    done: int
    seconds: float
    cpu_seconds: float | None
    peak_mb: float | None
    requests: int | None = None


@dataclass(frozen=True)
class Contender:
    """Somebody who does the work: `prepare(*arguments, folder)`, with an empty folder to write to."""

    name: str
    prepare: Callable[..., Work]
    arguments: tuple[Any, ...] = ()
    requests: Callable[[], int] | None = None
    """How many requests the server has had so far."""


class Row(NamedTuple):
    """A line of a table: what was measured, or why it was not."""

    name: str
    usage: Usage | None
    note: str = ""


def compare(contenders: Sequence[Contender], expected: int, rounds: int) -> list[Row]:
    """The quickest of several runs of each contender, by turns.

    Raises RuntimeError when one did not do all of the expected work.
    """
    best: dict[str, Usage] = {}
    notes: dict[str, str] = {}
    for _ in range(rounds):
        for contender in contenders:
            if contender.name in notes:
                continue
            try:
                usage = measure(contender)
            except NotInstalled as missing:
                notes[contender.name] = f"{missing} is not installed"
                continue
            if usage.done != expected:
                raise RuntimeError(f"{contender.name} did {usage.done} of {expected}")
            if contender.name not in best or usage.seconds < best[contender.name].seconds:
                best[contender.name] = usage
    return [
        Row(contender.name, best.get(contender.name), notes.get(contender.name, ""))
        for contender in contenders
    ]


def measure(contender: Contender) -> Usage:
    """One run in a new process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    folder = Path(tempfile.mkdtemp(dir=_folders()))
    process = context.Process(target=_child, args=(theirs, contender, folder))
    process.start()
    theirs.close()
    try:
        found: Usage | Exception = ours.recv()
    except EOFError:
        raise RuntimeError(f"{contender.name} died") from None
    finally:
        process.join()
        _empty(folder)
        os.sync()  # what is still to be written must not be the next one's burden
    if isinstance(found, Exception):
        raise found
    return found


@cache
def _folders() -> Path:
    """Where the contenders' folders are, until the program ends.

    Nothing is deleted between runs: an ext4 without a journal uses no inode again for minutes, and looks at
    each of those whenever it makes a file, which then takes ten times as long:
    https://github.com/torvalds/linux/blob/master/fs/ext4/ialloc.c (recently_deleted).
    """
    folder = Path(tempfile.mkdtemp(prefix="citysort-benchmark-"))
    atexit.register(shutil.rmtree, folder)
    return folder


def _empty(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)


def _child(pipe: Connection, contender: Contender, folder: Path) -> None:
    try:
        work = contender.prepare(*contender.arguments, folder)
        requests = contender.requests() if contender.requests else 0
        _forget_peak()
        peak = _ChildrenPeak()
        cpu, began = _cpu_seconds(), time.perf_counter()
        done = work()
        seconds = time.perf_counter() - began
        usage = Usage(done, seconds, _cpu_seconds() - cpu, max(_own_peak_mb(), peak.stop()))
        if contender.requests:
            usage = usage._replace(requests=contender.requests() - requests)
        pipe.send(usage)
    except NotInstalled as missing:
        pipe.send(missing)
    except BaseException as error:
        pipe.send(RuntimeError(f"{contender.name}: {type(error).__name__}: {error}"))
        raise


def _cpu_seconds() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _forget_peak() -> None:
    """https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html"""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def _own_peak_mb() -> float:
    return _peak_mb(os.getpid()) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB


def _peak_mb(process: int) -> float:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / MB
    return 0.0


class _ChildrenPeak:
    """Looks, many times a second, at the memory of the processes that the work starts: their sum."""

    def __init__(self) -> None:
        self._peaks: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            for task in Path("/proc/self/task").iterdir():
                with suppress(OSError):  # the thread has ended meanwhile
                    for process in map(int, (task / "children").read_text().split()):
                        self._peaks[process] = max(self._peaks.get(process, 0.0), _peak_mb(process))

    def stop(self) -> float:
        self._ended.set()
        self._thread.join()
        return sum(self._peaks.values())


def find_tool(name: str) -> str:
    """The path of a program, beside this Python or on the PATH. Raises NotInstalled."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        raise NotInstalled(name)
    return found


def run_tool(command: Sequence[str], environment: dict[str, str]) -> None:
    """Runs a program to its end. Raises RuntimeError with what it said when it fails."""
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-500:]}")


def conditions() -> str:
    """This machine, in a line."""
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "processor unknown",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({processor}), {memory:.0f} GB of memory, {os.uname().sysname}"
        f" {os.uname().release}, Python {sys.version.split()[0]}"
    )
