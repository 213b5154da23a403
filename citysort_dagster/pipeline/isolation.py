"""Processes that read untrusted documents: started with next to no environment, bounded in time and
memory, killed when they overstep, and outliving the process that started them by no more than that."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

READY = b"ready\n"
OUT_OF_MEMORY = 86
"""The exit code of a process that was refused memory and could still say so."""

WATCH_SECONDS = 0.05
START_SECONDS = 120

# What Python, its libraries and temporary files need; credentials are in none of these.
KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")


class ReaderUnavailable(Exception):
    """The process that reads documents does not start; the sentence says why."""


class ReaderProcess:
    """One process, reading one document at a time: `begin`, then `wait_for` until it is done.

    Done means that either `answer` holds what the process said, or `failure` says in one sentence
    why there is none; then the process has ended.
    """

    def __init__(self, module: str, arguments: Sequence[str], timeout_seconds: float, memory_mb: int) -> None:
        self._timeout = timeout_seconds
        self._memory_mb = memory_mb
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", module, str(memory_mb), str(timeout_seconds), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for the process that started this one
            )
        except OSError as error:
            self._log.close()
            raise ReaderUnavailable(f"the document reader cannot be started: {error.strerror}") from error
        self._watched = psutil.Process(self._process.pid)
        self._received = bytearray()
        self._ready = False
        self._deadline = time.monotonic() + START_SECONDS
        self.busy = False
        self.documents = 0
        self.answer: dict[str, Any] | None = None
        self.failure: str | None = None

    @property
    def ended(self) -> bool:
        return self._log.closed

    def begin(self, request: Mapping[str, Any]) -> None:
        """Hands over the next request. A process that has died meanwhile shows that in `wait_for`."""
        self.busy, self.answer, self.failure = True, None, None
        if self._ready:
            self._deadline = time.monotonic() + self._timeout
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")

    def end(self) -> None:
        """Kills the process, if it still runs, and lets go of everything."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._log.close()

    def _receive(self) -> None:
        assert self._process.stdout is not None
        data = os.read(self._process.stdout.fileno(), 1 << 20)
        if not data:
            self._died()
            return
        self._received += data
        if not self._ready and self._received.startswith(READY):
            self._ready = True
            del self._received[: len(READY)]
        self._deadline = time.monotonic() + self._timeout
        if self._received.endswith(b"\n"):
            self.answer = json.loads(self._received)
            self._received.clear()
            self.busy = False
            self.documents += 1
            # What a big document leaves behind would count against the next one.
            if self._memory_used() > self._memory_mb * 1_000_000 / 2:
                self.end()

    def _check(self) -> None:
        if time.monotonic() > self._deadline:
            if not self._ready:
                raise ReaderUnavailable(f"the document reader did not start in {START_SECONDS} seconds")
            self._fail(self._too_much_time())
        elif self._memory_used() > self._memory_mb * 1_000_000:
            if not self._ready:
                raise ReaderUnavailable(
                    f"the document reader cannot be started: {self._memory_mb} MB of memory are not enough for it"
                )
            self._fail(self._too_much_memory())

    def _died(self) -> None:
        code = self._process.wait()
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 2000))
        last_words = self._log.read().decode(errors="replace").strip()
        if not self._ready:
            reason = last_words.rpartition("\n")[2] or f"exit code {code}"
            self.end()
            raise ReaderUnavailable(f"the document reader cannot be started: {reason}")
        # Rust's allocator says this before it aborts.
        if code == OUT_OF_MEMORY or "memory allocation of" in last_words:
            self._fail(self._too_much_memory())
            return
        if code == -signal.SIGXCPU:
            self._fail(self._too_much_time())
            return
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._fail(f"Reading the document made the reading program crash ({how}).")

    def _fail(self, sentence: str) -> None:
        self.failure = sentence
        self.busy = False
        self.end()

    def _too_much_time(self) -> str:
        return f"Reading the document took more than {self._timeout:g} seconds and was stopped."

    def _too_much_memory(self) -> str:
        return f"Reading the document needed more than {self._memory_mb:,} MB of memory and was stopped."

    def _memory_used(self) -> int:
        try:
            return int(self._watched.memory_info().rss)
        except psutil.Error:
            return 0


def wait_for(processes: Sequence[ReaderProcess]) -> list[ReaderProcess]:
    """Waits until at least one of these busy processes is done, and returns those that are.

    Raises ReaderUnavailable when one of them has not even started.
    """
    with selectors.DefaultSelector() as selector:
        for process in processes:
            selector.register(process._process.stdout, selectors.EVENT_READ, process)  # type: ignore[arg-type]
        checked = time.monotonic()
        while True:
            # Answers first: one that came in time counts, however late it is looked at.
            heard = [key.data for key, _ in selector.select(WATCH_SECONDS)]
            for process in heard:
                process._receive()
            if time.monotonic() - checked >= WATCH_SECONDS or not heard:
                checked = time.monotonic()
                for process in processes:
                    if process.busy and process not in heard:
                        process._check()
            done = [process for process in processes if not process.busy]
            if done:
                return done
