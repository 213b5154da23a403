"""One batch of an import, committed in one transaction: documents, sync-log entries, audit events,
failures and how the import stands. All of it is there afterwards, or none."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from citysort_dagster.files import stored_path
from citysort_dagster.store import checkpoints, sync_log
from citysort_dagster.store.models import SyncLogEntry
from citysort_dagster.store.sync_log import KnownDocument
from connectors.base import ExternalDocument, VerifiedDownload, Window

_DOCUMENTS = uuid.UUID("6f0d2a52-6f43-5c55-9d3c-2f0a86c1f1c7")
"""The name space of document ids (UUIDv5)."""
_OVERTAKEN = "another import brought another version while this was stored; the next import compares them"
_SWEPT = "its file was removed again before it could be recorded; the next import fetches it"


@dataclass
class Counts:
    """What became of the listed documents; `skipped` includes the refused ones. Bytes are stored bytes."""

    listed: int = 0
    imported: int = 0
    skipped: int = 0
    failed: int = 0
    bytes: int = 0

    def add(self, other: Counts) -> None:
        """Adds the figures of another part."""
        self.listed += other.listed
        self.imported += other.imported
        self.skipped += other.skipped
        self.failed += other.failed
        self.bytes += other.bytes


class ImportRequest(NamedTuple):
    """What to import: `window` None lists everything; `partitions` are the keys asked for, ascending.

    `limit` is how many documents to download at most; `reimport` downloads known versions again and
    compares them with what is stored. `configured_at` is when the source's settings were last changed as
    far as the connector knows: a listing by former settings moves no watermark. `overridden` when the
    settings are for this import only: what it did not list says nothing about the source.

    With `changes` the connector lists what has changed since `checkpoint` (None: everything), and
    `window` is None.
    """

    source: str
    run_id: str
    window: Window | None
    partitions: Sequence[str]
    limit: int | None = None
    reimport: bool = False
    configured_at: datetime | None = None
    overridden: bool = False
    changes: bool = False
    checkpoint: str | None = None


class Arrival(NamedTuple):
    """A downloaded document, staged; `former` is the document that the sync log named when it was listed."""

    document: ExternalDocument
    partition: str
    former: str | None
    staged: Path
    download: VerifiedDownload


class Problem(NamedTuple):
    """A listed document that was not imported, and why, in one sentence."""

    document: ExternalDocument
    partition: str
    reason: str
    refused: bool


class ImportEnd(NamedTuple):
    """How an import ended. `listed_until` is how far a complete listing reached, None when it shows nothing
    of that; `whole_partitions` are those it covered wholly, None for all there are. `checkpoint` is where a
    complete listing of changes has come to."""

    status: str
    error: str | None
    listed_until: datetime | None
    whole_partitions: Sequence[str] | None
    checkpoint: str | None = None


class Outcome(NamedTuple):
    """What the transaction made of the arrivals; `skipped` are those that were there already, `failed` those that
    could not be stored any more. `paths` are the stored paths, of those written, that documents now hold."""

    imported: Sequence[Arrival]
    skipped: Sequence[Arrival]
    failed: Sequence[Problem]
    paths: Sequence[str]


def document_id(source: str, external_id: str, version: str, former: str | None) -> str:
    """The id of a document, the same however often its import is attempted.

    The document it supersedes is part of it: a source that returns to an earlier version has a new
    document, not that earlier one again.
    """
    # Where a part holds the character that they are joined by, it has to be told from that.
    parts = [part.replace("\x1e", "\x1e\x1e").replace("\x1f", "\x1e.") for part in (external_id, version)]
    name = "\x1f".join((source, *parts, former or ""))
    return str(uuid.uuid5(_DOCUMENTS, name.encode(errors="surrogatepass").hex()))


@dataclass
class Batch:
    """Arrivals and problems to commit. `returned` are ids that are listed although they bear a tombstone.
    `publish` makes staged files permanent under stored paths, `is_stored` says whether one still is."""

    request: ImportRequest
    connector_type: str
    started_at: datetime
    arrivals: Sequence[Arrival]
    problems: Sequence[Problem]
    returned: Sequence[str]
    publish: Callable[[Sequence[tuple[Path, str]]], None]
    is_stored: Callable[[str], bool]

    def __post_init__(self) -> None:
        self._made: set[str] = set()
        """The ids of the documents that an earlier call made, and has committed unless that was lost."""
        self._published: dict[Path, str] = {}
        """Where staged files have gone, whether committed or lost."""

    def commit(self, connection: sa.Connection, before: Counts, end: ImportEnd | None) -> Outcome:
        """Does it all on the connection's transaction; may be called again when that was lost.

        `before` is what the import had counted before this batch, its problems included.
        """
        source, run_id = self.request.source, self.request.run_id
        sync_log.lock_source(connection, source)
        # A tombstone that is younger than this import may know better.
        was_gone = SyncLogEntry.gone_at < self.started_at
        sync_log.mark_tombstones(connection, source, run_id, self.returned, None, was_gone)
        present = sync_log.lookup_documents(
            connection, source, [arrival.document.external_id for arrival in self.arrivals]
        )
        rows: list[Mapping[str, Any]] = []
        imported: list[Arrival] = []
        skipped: list[Arrival] = []
        failed: list[Problem] = []
        moves: list[tuple[Path, str]] = []
        for arrival in self.arrivals:
            newest = present.get(arrival.document.external_id)
            if newest is not None and newest.run_id == run_id and newest.document_id in self._made:
                imported.append(arrival)  # by an earlier call, whose answer was lost
                moves.append((arrival.staged, newest.path))
            elif newest is not None and self._is_there(arrival, newest):
                skipped.append(arrival)
                if self.request.reimport and arrival.download.sha256 == newest.sha256:
                    moves.append((arrival.staged, newest.path))
            elif newest is not None and self._may_be_earlier(arrival, newest):
                failed.append(Problem(arrival.document, arrival.partition, _OVERTAKEN, refused=False))
            else:
                row = self._row(arrival, newest.document_id if newest else None)
                if (reason := self._lost(arrival.staged, row["path"])) is not None:
                    failed.append(Problem(arrival.document, arrival.partition, reason, refused=False))
                    continue
                rows.append(row)
                imported.append(arrival)
                moves.append((arrival.staged, row["path"]))
        self.publish([move for move in moves if move[0] not in self._published])
        self._published.update(moves)
        self._made.update(row["id"] for row in rows)
        sync_log.add_documents(connection, rows)
        sync_log.record_failures(connection, source, run_id, [_failed(problem) for problem in self.problems])
        there = {arrival.document.external_id: arrival.document.version for arrival in (*imported, *skipped)}
        sync_log.clear_failures(connection, source, run_id, there, self.started_at)
        sync_log.record_failures(connection, source, run_id, [_failed(problem) for problem in failed])
        self._save(connection, before, imported, skipped, failed, end)
        return Outcome(imported, skipped, failed, [path for _, path in moves])

    def _lost(self, staged: Path, path: str) -> str | None:
        """Why a file that an earlier call has stored cannot be the one of this path; None when it can."""
        stored = self._published.get(staged)
        if stored is None:
            return None
        if stored != path:
            return _OVERTAKEN
        return None if self.is_stored(path) else _SWEPT

    def _is_there(self, arrival: Arrival, newest: KnownDocument) -> bool:
        if newest.version == arrival.document.version:
            # Another import brought it meanwhile; or it was downloaded again to be compared.
            return not self.request.reimport or newest.sha256 == arrival.download.sha256
        # Another import brought another version meanwhile: the later one stays the newest.
        ours, theirs = arrival.document.modified_at, newest.modified_at
        return self._overtaken(arrival, newest) and ours is not None and theirs is not None and ours < theirs

    def _may_be_earlier(self, arrival: Arrival, newest: KnownDocument) -> bool:
        ours, theirs = arrival.document.modified_at, newest.modified_at
        return self._overtaken(arrival, newest) and (ours is None or theirs is None or ours == theirs)

    def _overtaken(self, arrival: Arrival, newest: KnownDocument) -> bool:
        """Whether another import brought another version since this was listed."""
        return newest.version != arrival.document.version and newest.document_id != arrival.former

    def _row(self, arrival: Arrival, former: str | None) -> dict[str, Any]:
        document, download = arrival.document, arrival.download
        new_id = document_id(self.request.source, document.external_id, document.version, former)
        return {
            "id": new_id,
            "source": self.request.source,
            "connector_type": self.connector_type,
            "external_id": document.external_id,
            "version": document.version,
            "filename": document.filename,
            "content_type": _storable(download.content_type),
            "size": download.size,
            "sha256": download.sha256,
            "path": stored_path(new_id, document.filename),
            "source_url": _storable(document.source_url),
            "source_modified_at": document.modified_at,
            "source_metadata": _storable(document.metadata),
            "partition": arrival.partition,
            "run_id": self.request.run_id,
            "imported_at": sync_log.now(),
            "supersedes": former,
            "superseded_by": None,
            "status": "ingested",
            "stage": "imported",
            "fields": {},
            "review_reasons": [],
        }

    def _save(
        self,
        connection: sa.Connection,
        before: Counts,
        imported: Sequence[Arrival],
        skipped: Sequence[Arrival],
        failed: Sequence[Problem],
        end: ImportEnd | None,
    ) -> None:
        at = sync_log.now()
        window = self.request.window or Window()
        counts = asdict(before)
        counts["imported"] += len(imported)
        counts["skipped"] += len(skipped)
        counts["failed"] += len(failed)
        counts["bytes"] += sum(arrival.download.size for arrival in imported)
        sync_log.save_import(
            connection,
            {
                "run_id": self.request.run_id,
                "source": self.request.source,
                "window_start": window.start,
                "window_end": window.end,
                "started_at": self.started_at,
                "finished_at": at if end else None,
                "status": end.status if end else "running",
                "error": _storable(end.error) if end else None,
                **counts,
            },
        )
        if end is None or end.status != "complete" or self.request.overridden:
            return
        if end.listed_until is not None:
            sync_log.advance_watermark(
                connection, self.request.source, window.start, end.listed_until, self.request.configured_at
            )
        if end.checkpoint is not None:
            checkpoints.keep(connection, self.request.source, end.checkpoint, self.request.configured_at)
        if window.end is None:
            sync_log.set_last_sync(connection, self.request.source, window.start, at)
        sync_log.close_failures_not_listed(
            connection, self.request.source, self.request.run_id, end.whole_partitions, self.started_at
        )


def _failed(problem: Problem) -> sync_log.Failed:
    document = problem.document
    return sync_log.Failed(
        sync_log.failure_text(document.external_id),
        sync_log.failure_text(document.version),
        sync_log.failure_text(document.filename, 1_000),
        problem.partition,
        sync_log.failure_text(problem.reason, 2_000),
        problem.refused,
    )


def _storable(value: Any) -> Any:
    """A JSON value that any database stores."""
    if isinstance(value, str):
        return sync_log.storable_text(value)
    if isinstance(value, Mapping):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
