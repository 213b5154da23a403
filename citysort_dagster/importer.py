"""Imports the documents of one source: list, skip what the sync log holds, download, commit.

Everything before the transaction may happen twice and does no harm; what the transaction holds
happens exactly once. Knows no single connector and nothing of Dagster.
"""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO, NamedTuple

import sqlalchemy as sa

from citysort_dagster.files import FileStore, FileStoreError, Staging
from citysort_dagster.import_batch import Arrival, Batch, Counts, ImportEnd, ImportRequest, Outcome, Problem
from citysort_dagster.partitions import Calendar
from citysort_dagster.store import sync_log
from citysort_dagster.store.database import Database
from citysort_dagster.store.sync_log import OVERLAP, Known
from connectors.base import (
    ConfigurationError,
    Connector,
    ConnectorError,
    DownloadRefused,
    ExternalDocument,
    ListingIncomplete,
    NotImported,
    Reached,
    VerifiedDownload,
    Window,
    download_verified,
    refusal,
    unexpected,
    verified,
)

BATCH_SIZE = 1_000
COMMIT_BYTES = 64_000_000
WAITING_DOWNLOADS = 2_000
"""Enough for the threads to go on while a batch is committed."""
DOWNLOADED_TOGETHER = 200
DOWNLOADED_TOGETHER_BYTES = 4_000_000
KEPT_PROBLEMS = 1_000
MAX_ID_BYTES = 2_000
"""PostgreSQL cannot index longer keys."""
CLOCKS_AGREE_WITHIN = timedelta(days=1)
NEVER = datetime(1970, 1, 1, tzinfo=timezone.utc)
"""The watermark of a source that has shown nothing yet."""


@dataclass
class ImportSummary:
    """One import as a whole. `incomplete` says why the listing broke off, None when it did not.
    `started_over` when the source no longer knew what had changed, and was listed whole.

    `problems` holds the first thousand; the table import_failures has all of them.
    """

    partitions: dict[str, Counts] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    limited: bool = False
    incomplete: str | None = None
    started_over: bool = False

    @property
    def counts(self) -> Counts:
        """Of all partitions together."""
        total = Counts()
        for counts in self.partitions.values():
            total.add(counts)
        return total


class Wanted(NamedTuple):
    """A document to download; `former` is the document that the sync log names now."""

    document: ExternalDocument
    partition: str
    former: str | None


class Importer:
    """One import. Iterate over `run()`; `summary` grows along and is final when it ends.

    `on_progress` is called now and then, in the thread that iterates. `batch_size` documents are looked up
    together, and that many are committed together, or fewer if they are large.
    """

    def __init__(
        self,
        request: ImportRequest,
        connector: Connector,
        database: Database,
        files: FileStore,
        calendar: Calendar,
        on_progress: Callable[[Counts], None] = lambda counts: None,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        self.request = request
        self.summary = ImportSummary()
        self._connector = connector
        self._database = database
        self._files = files
        self._calendar = calendar
        self._on_progress = on_progress
        self._batch_size = batch_size
        self._arrivals: list[Arrival] = []
        self._arrived_bytes = 0
        self._problems: list[Problem] = []
        self._returned: list[str] = []
        self._busy_ids: set[str] = set()
        self._small: list[Wanted] = []
        self._small_bytes = 0
        self._outcomes: SimpleQueue[Arrival | Problem] = SimpleQueue()
        self._under_way = 0
        self._uncommitted: Counter[str] = Counter()
        self._downloads_begun = 0
        self._started_at = datetime.now(timezone.utc)
        self._began = time.monotonic()
        self._newest: datetime | None = None
        self._reached: Reached | None = None

    def run(self) -> Iterator[str]:
        """Yields the key of each partition as soon as all of it is committed.

        A listing that breaks off ends the iteration after importing what it had, with
        `summary.incomplete` set and without yielding the partitions that are not known to be whole.
        Raises ConfigurationError when the source's settings cannot work, FileStoreError when nothing can be
        stored, or the store has lost every file that the database knows, and DatabaseError when the documents
        database stays out of reach; the next import then completes.
        """
        try:
            if not self.request.reimport and self._database.fetch(sync_log.holds_documents):
                # What is stored below a folder that is not mounted is out of sight once it is.
                self._files.require_files()
            with _garbage_frozen(), _short_turns(), Staging(self._files) as self._staging:
                if self._staging.has_company():
                    self._database.write(self._sweep)
                with ThreadPoolExecutor(self._connector.concurrency, "download") as self._pool:
                    try:
                        yield from self._import_listing()
                    finally:
                        self._pool.shutdown(wait=False, cancel_futures=True)
        except (ConfigurationError, FileStoreError) as error:
            self._write([], [], ImportEnd("failed", str(error), None, []))
            raise

    def _import_listing(self) -> Iterator[str]:
        open_partitions = list(self.request.partitions)
        listed: deque[str] = deque()
        listing = self._changes() if self.request.changes else self._documents()
        try:
            for batch in _batches(listing, self._batch_size):
                known = self._lookup(batch)
                newest_first = self._connector.newest_first  # some know only once they have listed
                for document in batch:
                    self._notice(document.modified_at)
                    partition = self._calendar.key_of(document.modified_at or self._started_at)
                    if newest_first:
                        while open_partitions and open_partitions[-1] > partition:
                            listed.append(open_partitions.pop())
                    self._take(document, partition, known.get(document.external_id))
                    if self.summary.limited:
                        break
                while listed and not self._uncommitted[listed[0]]:
                    yield listed.popleft()
                self._on_progress(self.summary.counts)
                if self.summary.limited:
                    break
        except ListingIncomplete as error:
            self.summary.incomplete = str(error)
        finally:
            if isinstance(listing, Generator):
                listing.close()
        self._drain()
        complete = not (self.summary.limited or self.summary.incomplete)
        self._commit(last=True)
        self._on_progress(self.summary.counts)
        yield from listed
        if complete:
            yield from reversed(open_partitions)
            yield from (key for key in self.summary.partitions if key not in self.request.partitions)

    def _documents(self) -> Iterator[ExternalDocument]:
        return self._connector.list_documents(self.request.window)

    def _changes(self) -> Iterator[ExternalDocument]:
        self._reached = yield from self._connector.list_changes(self.request.checkpoint)
        self.summary.started_over = self._reached.started_over

    def _notice(self, modified_at: datetime | None) -> None:
        if modified_at is None or (self._newest is not None and modified_at <= self._newest):
            return
        latest = self._started_at
        # By a clock that is behind ours, what came to be during a long listing may seem older than that; and
        # something older than it may have come to be where the listing had been already.
        if not self._connector.newest_first and time.monotonic() - self._began > OVERLAP.total_seconds():
            latest -= CLOCKS_AGREE_WITHIN
        if modified_at <= latest:
            self._newest = modified_at

    def _take(self, document: ExternalDocument, partition: str, known: Known | None) -> None:
        if document.external_id in self._busy_ids:
            self._drain()
            self._commit()
            known = self._lookup([document]).get(document.external_id)
        if known is not None and known.gone_at is not None and not self.request.overridden:
            self._returned.append(document.external_id)
            if len(self._returned) >= self._batch_size:
                self._commit()
        counts = self._counts(partition)
        unchanged = known is not None and known.version == document.version and not self.request.reimport
        hindrance = document.not_imported
        if unchanged and hindrance is not None and hindrance.refused:
            hindrance = None  # it was imported before it was archived, say
        if hindrance is None and not unchanged:
            reason = refusal(self._connector, document)
            hindrance = NotImported(reason, refused=True) if reason else _unstorable(document)
        if hindrance is not None:
            counts.listed += 1
            self._reject(Problem(document, partition, *hindrance))
        elif unchanged:
            counts.listed += 1
            counts.skipped += 1
        elif known is not None and known.run_id == self.request.run_id:
            counts.listed += 1
            reason = "the source lists this id more than once, with different versions"
            self._reject(Problem(document, partition, reason, refused=False))
        elif self._downloads_begun == self.request.limit:
            self.summary.limited = True
        else:
            counts.listed += 1
            self._download(Wanted(document, partition, known.document_id if known else None))

    def _download(self, wanted: Wanted) -> None:
        while self._under_way >= WAITING_DOWNLOADS or not self._outcomes.empty():
            self._collect()
        self._downloads_begun += 1
        self._busy_ids.add(wanted.document.external_id)
        self._uncommitted[wanted.partition] += 1
        self._under_way += 1
        size = wanted.document.size
        if size is None or size > self._connector.batched_bytes:
            self._pool.submit(self._fetch, wanted)
            return
        self._small.append(wanted)
        self._small_bytes += size
        if len(self._small) >= DOWNLOADED_TOGETHER or self._small_bytes >= DOWNLOADED_TOGETHER_BYTES:
            self._download_small()

    def _download_small(self) -> None:
        if self._small:
            self._pool.submit(self._fetch_batch, self._small)
        self._small, self._small_bytes = [], 0

    def _fetch(self, wanted: Wanted) -> None:
        self._stage(wanted, partial(download_verified, self._connector, wanted.document))

    def _fetch_batch(self, batch: Sequence[Wanted]) -> None:
        """Downloads documents together. Those left when that ends, for whatever reason (a library written in
        Rust panics with what is no Exception), are downloaded one by one, which tells what is wrong with each."""
        left = {wanted.document.external_id: wanted for wanted in batch}
        with suppress(BaseException):
            for document, content in self._connector.download_batch([wanted.document for wanted in batch]):
                wanted = left.pop(document.external_id)
                self._stage(wanted, partial(verified, self._connector, document, content))
        for wanted in left.values():
            self._fetch(wanted)

    def _stage(self, wanted: Wanted, download: Callable[[BinaryIO], VerifiedDownload]) -> None:
        """Puts one outcome into the queue, whatever happens."""
        document, partition, former = wanted
        staged = self._staging.new_file()
        try:
            with open(staged, "wb", buffering=0) as into:  # noqa: PTH123 - quicker by a third
                arrived = download(into)
            self._outcomes.put(Arrival(document, partition, former, staged, arrived))
            return
        except DownloadRefused as error:
            problem = Problem(document, partition, str(error), refused=True)
        except ConnectorError as error:
            problem = Problem(document, partition, str(error), refused=False)
        except OSError as error:
            reason = f"cannot be stored: {error.strerror or type(error).__name__}"
            problem = Problem(document, partition, reason, refused=False)
        except BaseException as error:  # noqa: BLE001 - whatever a connector does, the other documents go on
            problem = Problem(document, partition, unexpected(error), refused=False)
        self._outcomes.put(problem)
        with suppress(OSError):  # the whole folder goes in the end
            staged.unlink(missing_ok=True)

    def _collect(self) -> None:
        """Takes the next outcome, and commits when there are enough."""
        outcome = self._outcomes.get()
        self._under_way -= 1
        if isinstance(outcome, Problem):
            self._busy_ids.discard(outcome.document.external_id)
            self._uncommitted[outcome.partition] -= 1
            self._reject(outcome)
            return
        self._arrivals.append(outcome)
        self._arrived_bytes += outcome.download.size
        if len(self._arrivals) >= self._batch_size or self._arrived_bytes >= COMMIT_BYTES:
            self._commit()

    def _drain(self) -> None:
        self._download_small()
        while self._under_way:
            self._collect()

    def _reject(self, problem: Problem) -> None:
        self._note(problem)
        self._problems.append(problem)
        self._uncommitted[problem.partition] += 1
        if len(self._problems) >= self._batch_size:
            self._commit()

    def _note(self, problem: Problem) -> None:
        counts = self._counts(problem.partition)
        if problem.refused:
            counts.skipped += 1
        else:
            counts.failed += 1
        if len(self.summary.problems) < KEPT_PROBLEMS:
            self.summary.problems.append(problem)

    def _counts(self, partition: str) -> Counts:
        counts = self.summary.partitions.get(partition)
        if counts is None:
            counts = self.summary.partitions[partition] = Counts()
        return counts

    def _commit(self, last: bool = False) -> None:
        """Commits all that has arrived; with `last`, the end of the import in the same transaction."""
        arrivals, self._arrivals, self._arrived_bytes = self._arrivals, [], 0
        problems, self._problems = self._problems, []
        returned, self._returned = self._returned, []
        if not (arrivals or problems or returned or last):
            return
        end = self._end() if last else None
        try:
            outcome = self._write(arrivals, problems, end, returned)
        except (OSError, FileStoreError) as error:
            # These files have no place to go; whatever comes later may still have one.
            reason = f"cannot be stored: {getattr(error, 'strerror', None) or error}"
            homeless = [Problem(one.document, one.partition, reason, refused=False) for one in arrivals]
            for problem in homeless:
                self._note(problem)
            for arrival in arrivals:
                arrival.staged.unlink(missing_ok=True)
            outcome = self._write([], [*problems, *homeless], end, returned)
        self._staging.committed(outcome.paths)
        self._uncommitted.subtract(arrival.partition for arrival in arrivals)
        self._uncommitted.subtract(problem.partition for problem in problems)
        for arrival in outcome.imported:
            counts = self._counts(arrival.partition)
            counts.imported += 1
            counts.bytes += arrival.download.size
        for problem in outcome.failed:
            self._note(problem)
        for arrival in outcome.skipped:
            self._counts(arrival.partition).skipped += 1
            arrival.staged.unlink(missing_ok=True)
        for arrival in arrivals:
            self._busy_ids.discard(arrival.document.external_id)
        self._on_progress(self.summary.counts)

    def _write(
        self,
        arrivals: Sequence[Arrival],
        problems: Sequence[Problem],
        end: ImportEnd | None,
        returned: Sequence[str] = (),
    ) -> Outcome:
        batch = Batch(
            self.request,
            self._connector.connector_type,
            self._started_at,
            arrivals,
            problems,
            returned,
            self._publish,
            lambda path: self._files.size(path) is not None,
        )
        before = self.summary.counts
        return self._database.write(lambda connection: batch.commit(connection, before, end))

    def _publish(self, moves: Sequence[tuple[Path, str]]) -> None:
        if moves:
            self._staging.journal([path for _, path in moves])
            self._files.publish(moves)

    def _lookup(self, documents: Sequence[ExternalDocument]) -> Mapping[str, Known]:
        ids = [document.external_id for document in documents if sync_log.is_storable(document.external_id)]
        return self._database.fetch(lambda connection: sync_log.lookup(connection, self.request.source, ids))

    def _sweep(self, connection: sa.Connection) -> None:
        sync_log.lock_imports(connection)
        Staging.sweep_dead(self._files, partial(sync_log.committed_paths, connection))

    def _end(self) -> ImportEnd:
        window = self.request.window or Window()
        whole = [key for key in self.request.partitions if covers(window, self._calendar.window([key]))]
        changes_only = self.request.changes and self.request.checkpoint is not None
        return ImportEnd(
            status="limited"
            if self.summary.limited
            else "incomplete"
            if self.summary.incomplete
            else "complete",
            error=self.summary.incomplete,
            listed_until=self._newest if changes_only else self._listed_until(window),
            # A document without a date moves with the present: only a listing of everything is sure to miss none.
            whole_partitions=[] if changes_only else None if window == Window() else whole,
            checkpoint=self._reached.checkpoint if self._reached else None,
        )

    def _listed_until(self, window: Window) -> datetime | None:
        """Up to which date the listing, if complete, has shown everything that the source will ever date so.

        The source dates by its own clock. Where that may be behind ours, what it shows next may bear a
        date from before we asked, so the newest date that it has shown counts and not our own time.
        """
        if window.end is not None and window.end <= self._started_at - CLOCKS_AGREE_WITHIN:
            return window.end
        if self._newest is not None:
            return max(self._newest, NEVER)
        return NEVER if window.start is None else None


@contextmanager
def _garbage_frozen() -> Iterator[None]:
    """Spares Python's garbage collector what was there before: looking through all of Dagster again
    and again takes a third of the time of an import that finds little new."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _short_turns() -> Iterator[None]:
    """Lets a thread that asks for its turn have it after a millisecond instead of five: one that fetches the
    next page of a listing needs a dozen, while this page is read."""
    former = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    try:
        yield
    finally:
        sys.setswitchinterval(former)


def covers(window: Window, partition: Window) -> bool:
    """Whether all of a partition is in a window."""
    return (window.start is None or (partition.start is not None and window.start <= partition.start)) and (
        window.end is None or (partition.end is not None and window.end >= partition.end)
    )


def _batches(listing: Iterator[ExternalDocument], size: int) -> Iterator[list[ExternalDocument]]:
    """The listing in lists; what was listed before it broke off comes before the error."""
    batch: list[ExternalDocument] = []
    broken: ListingIncomplete | None = None
    try:
        for document in listing:
            batch.append(document)
            if len(batch) == size:
                yield batch
                batch = []
    except ListingIncomplete as error:
        broken = error
    except ConnectorError:
        raise
    except Exception as error:  # noqa: BLE001 - what was listed before is imported all the same
        broken = ListingIncomplete(unexpected(error))
    if batch:
        yield batch
    if broken:
        raise broken


def _unstorable(document: ExternalDocument) -> NotImported | None:
    """Why the documents database cannot hold a document, or None when it can."""
    texts = document.external_id + document.version + document.filename
    if "\0" in texts:
        return NotImported("its id or name holds a NUL character, which databases cannot store")
    if not sync_log.is_storable(texts):
        return NotImported("its id or name is not valid Unicode text")
    if len(document.external_id.encode()) > MAX_ID_BYTES:
        return NotImported(f"its id is longer than {MAX_ID_BYTES} bytes")
    return None
