"""The text of documents, each read in a process of its own: one that crashes, hangs or hogs memory
goes to review with the reason; the run and the other documents go on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from citysort_dagster.pipeline.isolation import ReaderProcess, wait_for

READER = "citysort_dagster.pipeline.reader"


class Extraction(NamedTuple):
    """What could be read of a document.

    `text` is at most the extractor's `max_characters` long, `truncated` when there was more.
    `media_type` is that of the content, whatever the file is called; None when not recognized.
    `pages` is known of PDF only, otherwise None. `problem` is None, or one sentence for a records
    officer on why a person has to look; there may be text all the same.
    """

    text: str
    media_type: str | None
    pages: int | None
    truncated: bool
    problem: str | None


class _Job(NamedTuple):
    document_id: str
    path: Path
    filename: str
    tried: bool = False


class TextExtractor:
    """Reads documents in a few long-lived processes, by default one per processor.

    A document gets `timeout_seconds`; a process gets `memory_mb` (10^6 bytes), which the system
    enforces where it can (Linux: RLIMIT_DATA, https://man7.org/linux/man-pages/man2/getrlimit.2.html)
    and which is watched from here everywhere. Use as a context manager, from one thread.
    """

    def __init__(
        self,
        workers: int | None = None,
        timeout_seconds: float = 60,
        memory_mb: int = 1024,
        max_characters: int = 1_000_000,
    ) -> None:
        self._count = workers or os.cpu_count() or 1
        self._timeout = timeout_seconds
        self._memory_mb = memory_mb
        self._max_characters = max_characters
        self._at_work: dict[ReaderProcess, _Job] = {}
        self._idle: list[ReaderProcess] = []
        self._extracting = False

    def __enter__(self) -> TextExtractor:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes."""
        for process in [*self._at_work, *self._idle]:
            process.end()
        self._at_work.clear()
        self._idle.clear()

    def extract(self, files: Iterable[tuple[str, Path, str]]) -> Iterator[tuple[str, Extraction]]:
        """Yields (document id, extraction) for every (document id, path, file name), as they are
        done. The next is taken from `files` only when a process is free for it.

        A bad document yields an extraction with a problem. Raises ReaderUnavailable when the
        processes do not even start, and RuntimeError while an earlier call is under way.
        """
        if self._extracting:
            raise RuntimeError("the extractor is already at work")
        self._extracting = True
        try:
            jobs = iter(files)
            again: deque[_Job] = deque()
            self._hand_out(again, jobs)
            while self._at_work:
                done: list[tuple[str, Extraction]] = []
                for process in wait_for(list(self._at_work)):
                    job = self._at_work.pop(process)
                    if not process.ended:
                        self._idle.append(process)
                    if process.answer is not None:
                        done.append((job.document_id, Extraction(**process.answer)))
                    elif process.documents and not job.tried:
                        # An earlier document may have spoiled the process: try once in a fresh one.
                        again.append(job._replace(tried=True))
                    else:
                        done.append((job.document_id, Extraction("", None, None, False, process.failure)))
                self._hand_out(again, jobs)
                yield from done
        finally:
            for process in self._at_work:
                process.end()
            self._at_work.clear()
            self._extracting = False

    def _hand_out(self, again: deque[_Job], files: Iterator[tuple[str, Path, str]]) -> None:
        while len(self._at_work) < self._count:
            if again:
                job = again.popleft()
            elif (file := next(files, None)) is not None:
                job = _Job(*file)
            else:
                return
            process = self._fresh() if job.tried or not self._idle else self._idle.pop()
            self._at_work[process] = job
            process.begin({"path": os.fspath(job.path), "filename": job.filename})

    def _fresh(self) -> ReaderProcess:
        if self._idle and len(self._at_work) + len(self._idle) >= self._count:
            self._idle.pop().end()
        return ReaderProcess(READER, [str(self._max_characters)], self._timeout, self._memory_mb)
