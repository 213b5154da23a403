"""Holds sync log, documents, audit trail and stored files against each other.

Each question to the database is one statement, which sees whole transactions only: an import under
way is never caught half-way there. A file is stored just before the transaction that adds its
document, so a file without a document is looked at again at the end, after every transaction that
was open by then has ended.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import sqlalchemy as sa

from citysort_dagster.files import COPY_BYTES, FileStore, FileStoreError
from citysort_dagster.store.database import Database
from citysort_dagster.store.models import AuditEvent, Document, SyncLogEntry
from citysort_dagster.store.sync_log import committed_paths, lock_imports

_BATCH = 500
_THREADS = 4


class Disagreement(NamedTuple):
    """Something that does not agree: `message` is one sentence, the rest says which document or file."""

    kind: str
    """sync_log, document, supersedes, audit, file or stray_file."""
    message: str
    source: str | None = None
    external_id: str | None = None
    document_id: str | None = None
    path: str | None = None


def verify(
    database: Database,
    files: FileStore,
    quick: bool = False,
    on_checked: Callable[[int], None] = lambda count: None,
) -> Iterator[Disagreement]:
    """Everything that disagrees, found while iterating. Memory does not grow with the documents.

    With `quick` a stored file is judged by its size, its SHA-256 is not computed. `on_checked` is told
    of every so many documents. Raises DatabaseError, and FileStoreError when the stored files cannot
    be listed.
    """
    yield from verify_documents(database, files, quick=quick, on_checked=on_checked)
    yield from _stray_files(database, files)


def verify_documents(
    database: Database,
    files: FileStore,
    source: str | None = None,
    run_id: str | None = None,
    quick: bool = False,
    on_checked: Callable[[int], None] = lambda count: None,
) -> Iterator[Disagreement]:
    """As `verify`, of the documents of one source, or of those that one run imported; without
    files that belong to no document. Raises DatabaseError."""
    for statement in (
        _sync_log_statement(source, run_id),
        _unnamed_statement(source, run_id),
        _superseding_statement(source, run_id),
        _superseded_statement(source, run_id),
        _audit_statement(source, run_id),
    ):
        with database.read() as connection:
            rows = connection.execution_options(stream_results=True, yield_per=_BATCH).execute(statement)
            for row in rows:
                yield Disagreement(**row._mapping)
    yield from _file_disagreements(database, files, source, run_id, quick, on_checked)


def _of(table: Any, source: str | None, run_id: str | None) -> list[sa.ColumnElement[bool]]:
    conditions = []
    if source is not None:
        conditions.append(table.source == source)
    if run_id is not None:
        conditions.append(table.run_id == run_id)
    return conditions


def _finding(table: Any, kind: str, *messages: tuple[sa.ColumnElement[bool], str]) -> sa.Select[Any]:
    """Selects the rows to which a condition applies, with the message of the first that does."""
    return sa.select(
        sa.literal(kind).label("kind"),
        sa.case(*[(condition, sa.literal(message)) for condition, message in messages]).label("message"),
        table.source,
        table.external_id,
        (table.document_id if table is SyncLogEntry else table.id).label("document_id"),
    ).where(sa.or_(*[condition for condition, _ in messages]))


def _sync_log_statement(source: str | None, run_id: str | None) -> sa.Select[Any]:
    entry = SyncLogEntry
    return (
        _finding(
            entry,
            "sync_log",
            (Document.id.is_(None), "the sync log names a document that is not there"),
            (
                sa.or_(Document.source != entry.source, Document.external_id != entry.external_id),
                "the sync log names a document of another source or id",
            ),
            (Document.version != entry.version, "the sync log and its document have different versions"),
            (Document.superseded_by.is_not(None), "the sync log names a document that is superseded"),
        )
        .outerjoin(Document, Document.id == entry.document_id)
        .where(*_of(entry, source, run_id))
    )


def _unnamed_statement(source: str | None, run_id: str | None) -> sa.Select[Any]:
    entry = SyncLogEntry
    return (
        _finding(
            Document,
            "document",
            (entry.document_id.is_(None), "the sync log does not hold this document's id"),
            (
                sa.and_(Document.superseded_by.is_(None), entry.document_id != Document.id),
                "nothing supersedes this document, yet the sync log names another",
            ),
        )
        .outerjoin(entry, sa.and_(entry.source == Document.source, entry.external_id == Document.external_id))
        .where(*_of(Document, source, run_id))
    )


def _superseded_statement(source: str | None, run_id: str | None) -> sa.Select[Any]:
    later = sa.orm.aliased(Document)
    return (
        _finding(
            Document,
            "supersedes",
            (later.id.is_(None), "the document that supersedes this one is not there"),
            (
                sa.or_(later.source != Document.source, later.external_id != Document.external_id),
                "the document that supersedes this one has another source or id",
            ),
            (
                later.supersedes.is_distinct_from(Document.id),
                "the document that supersedes this one does not say so",
            ),
        )
        .outerjoin(later, later.id == Document.superseded_by)
        .where(Document.superseded_by.is_not(None), *_of(Document, source, run_id))
    )


def _superseding_statement(source: str | None, run_id: str | None) -> sa.Select[Any]:
    earlier = sa.orm.aliased(Document)
    return (
        _finding(
            Document,
            "supersedes",
            (earlier.id.is_(None), "the document that this one supersedes is not there"),
            (
                earlier.superseded_by.is_distinct_from(Document.id),
                "the document that this one supersedes does not say so",
            ),
        )
        .outerjoin(earlier, earlier.id == Document.supersedes)
        .where(Document.supersedes.is_not(None), *_of(Document, source, run_id))
    )


def _audit_statement(source: str | None, run_id: str | None) -> sa.Select[Any]:
    recorded = (
        sa.select(AuditEvent.id)
        .where(AuditEvent.document_id == Document.id, AuditEvent.event == "imported")
        .exists()
    )
    return _finding(
        Document, "audit", (~recorded, "the audit trail does not hold the import of this document")
    ).where(*_of(Document, source, run_id))


def _file_disagreements(
    database: Database,
    files: FileStore,
    source: str | None,
    run_id: str | None,
    quick: bool,
    on_checked: Callable[[int], None],
) -> Iterator[Disagreement]:
    columns = (
        Document.id,
        Document.source,
        Document.external_id,
        Document.path,
        Document.size,
        Document.sha256,
    )
    last = ""
    with ThreadPoolExecutor(_THREADS, "verify") as pool:
        while True:
            with database.read() as connection:
                batch = connection.execute(
                    sa.select(*columns)
                    .where(Document.id > last, *_of(Document, source, run_id))
                    .order_by(Document.id)
                    .limit(_BATCH)
                ).all()
            if not batch:
                return
            faults = pool.map(lambda row: _fault_of_file(files, row.path, row.size, row.sha256, quick), batch)
            for row, fault in zip(batch, faults, strict=True):
                if fault:
                    yield Disagreement("file", fault, row.source, row.external_id, row.id, row.path)
            on_checked(len(batch))
            last = batch[-1].id


def _fault_of_file(files: FileStore, path: str, size: int, sha256: str, quick: bool) -> str | None:
    try:
        found = files.size(path)
        if found is None:
            return "the stored file is missing"
        if found != size:
            return f"the stored file has {found} bytes, not {size}"
        if quick:
            return None
        digest = hashlib.sha256()
        with files.open(path) as stored:
            while piece := stored.read(COPY_BYTES):
                digest.update(piece)
    except (FileStoreError, OSError) as error:
        return f"the stored file cannot be read: {error}"
    return None if digest.hexdigest() == sha256 else "the stored file has another SHA-256"


def _stray_files(database: Database, files: FileStore) -> Iterator[Disagreement]:
    with tempfile.TemporaryFile("w+", encoding="ascii") as suspects:
        for path in _without_document(database, files.paths()):
            suspects.write(json.dumps(path) + "\n")
        if not suspects.tell():
            return
        _wait_for_open_transactions(database)
        suspects.seek(0)
        for path in _without_document(database, (json.loads(line) for line in suspects)):
            if files.size(path) is not None:
                yield Disagreement("stray_file", "this stored file belongs to no document", path=path)


def _without_document(database: Database, paths: Iterator[str]) -> Iterator[str]:
    while batch := list(islice(paths, _BATCH)):
        with database.read() as connection:
            known = committed_paths(connection, _storable(batch))
        yield from (path for path in batch if path not in known)


def _storable(paths: Iterable[str]) -> list[str]:
    # A file name of other bytes than UTF-8 cannot be in the database, nor be asked for.
    return [path for path in paths if path == path.encode(errors="replace").decode()]


def _wait_for_open_transactions(database: Database) -> None:
    """Returns once every import has committed or given up what it had stored when this was called."""
    database.write(lock_imports)
