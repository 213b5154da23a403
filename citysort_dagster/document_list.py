"""Which documents there are: chosen by filters, told one by one as plain values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, Literal

import sqlalchemy as sa

from citysort_dagster.store.database import Database
from citysort_dagster.store.document_words import has_words
from citysort_dagster.store.models import Document

Status = Literal["ingested", "routed", "needs_review", "failed"]
"""How a document stands."""

_BATCH = 1_000
_ID_PREFIX = re.compile(r"[0-9a-f-]{1,36}")


class UnknownDocument(Exception):
    """No document, or more than one, is meant; one sentence."""


@dataclass(frozen=True)
class DocumentFilter:
    """Which documents to choose; None chooses all. The dates are of the import, UTC, both inclusive."""

    source: str | None = None
    department: str | None = None
    doc_type: str | None = None
    status: str | None = None
    partition: str | None = None
    run_id: str | None = None
    imported_from: date | None = None
    imported_to: date | None = None
    current: bool = False
    """Leave out the documents that later versions supersede."""
    words: str | None = None
    """Words, or beginnings of words, of the name, the id at the source or the text; all of them."""

    def conditions(self, connection: sa.Connection) -> list[sa.ColumnElement[bool]]:
        """The same, for the database."""
        found: list[sa.ColumnElement[bool]] = [
            getattr(Document, name) == wanted
            for name in ("source", "department", "doc_type", "status", "partition", "run_id")
            if (wanted := getattr(self, name)) is not None
        ]
        if self.imported_from is not None:
            found.append(Document.imported_at >= _midnight(self.imported_from))
        if self.imported_to is not None:
            found.append(Document.imported_at < _midnight(self.imported_to) + timedelta(days=1))
        if self.current:
            found.append(Document.superseded_by.is_(None))
        if self.words:
            found.append(has_words(connection, self.words))
        return found


def list_documents(
    database: Database, chosen: DocumentFilter, limit: int | None = None
) -> Iterator[dict[str, Any]]:
    """The chosen documents, those imported last first, read as they are asked for.

    Each as its columns, with dates and times as ISO 8601 text (UTC). Raises DatabaseError.
    """
    with database.read() as connection:
        statement = (
            sa.select(Document)
            .where(*chosen.conditions(connection))
            .order_by(Document.imported_at.desc(), Document.id.desc())
            .limit(limit)
        )
        streaming = connection.execution_options(stream_results=True, yield_per=_BATCH)
        for row in streaming.execute(statement):
            yield as_values(row)


def find_document(database: Database, id_or_prefix: str) -> dict[str, Any]:
    """The one document whose id begins so. Raises UnknownDocument, DatabaseError."""
    prefix = id_or_prefix.strip().lower()
    if not _ID_PREFIX.fullmatch(prefix):
        raise UnknownDocument(f"{id_or_prefix!r} is not the id of a document, nor the beginning of one")
    with database.read() as connection:
        rows = connection.execute(
            # Between prefix and prefix + "g", the letter after f: an index answers that, but not LIKE.
            sa.select(Document)
            .where(Document.id >= prefix, Document.id < f"{prefix}g", Document.id.startswith(prefix))
            .limit(2)
        ).all()
    if not rows:
        raise UnknownDocument(f"there is no document whose id begins with {prefix}")
    if len(rows) > 1:
        raise UnknownDocument(f"more than one document has an id that begins with {prefix}: give more of it")
    return as_values(rows[0])


def as_values(row: sa.Row[Any]) -> dict[str, Any]:
    """A row as values that JSON holds."""
    return {name: plain(value) for name, value in row._mapping.items()}


def plain(value: Any) -> Any:
    """The value, a date or time as ISO 8601 text."""
    return value.isoformat() if isinstance(value, date | datetime) else value


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), timezone.utc)
