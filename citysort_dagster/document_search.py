"""Documents page by page: chosen by filters and words, those imported last first."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from citysort_dagster.document_list import DocumentFilter, as_values
from citysort_dagster.store.database import Database
from citysort_dagster.store.models import ConnectorConfig, Document, Import


class CursorInvalid(ValueError):
    """A cursor that no page gave out; one sentence."""


class DocumentPage(NamedTuple):
    """Documents as `document_list` tells them, and the cursor of the page that follows, None on the last."""

    documents: Sequence[dict[str, Any]]
    next: str | None


def search_documents(
    database: Database, chosen: DocumentFilter, limit: int, cursor: str | None = None
) -> DocumentPage:
    """The chosen documents, at most `limit`: the first of them, or those that follow a cursor.

    A cursor names a place between two documents, so that pages neither repeat nor leave out one
    when others are imported meanwhile. Raises CursorInvalid, DatabaseError.
    """
    with database.read() as connection:
        conditions = chosen.conditions(connection)
        if cursor is not None:
            conditions.append(sa.tuple_(Document.imported_at, Document.id) < sa.tuple_(*_place(cursor)))
        rows = connection.execute(
            sa.select(Document)
            .where(*conditions)
            .order_by(Document.imported_at.desc(), Document.id.desc())
            .limit(limit + 1)
        ).all()
    more = len(rows) > limit
    return DocumentPage([as_values(row) for row in rows[:limit]], _cursor(rows[limit - 1]) if more else None)


def count_documents(database: Database, chosen: DocumentFilter, most: int) -> int:
    """How many documents are chosen; counting ends at `most`. Raises DatabaseError."""
    with database.read() as connection:
        some = sa.select(Document.id).where(*chosen.conditions(connection)).limit(most).subquery()
        return connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()


def source_names(database: Database) -> Sequence[str]:
    """The sources that are configured or were once imported, by name. Raises DatabaseError."""
    with database.read() as connection:
        names = sa.union(sa.select(ConnectorConfig.name), sa.select(Import.source))
        return sorted(connection.execute(names).scalars())


def _cursor(row: sa.Row[Any]) -> str:
    place = json.dumps([row.imported_at.isoformat(), row.id])
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _place(cursor: str) -> tuple[sa.BindParameter[datetime], sa.BindParameter[str]]:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        at, document_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        imported_at = datetime.fromisoformat(at)
        if imported_at.tzinfo is None or not isinstance(document_id, str) or not document_id.isascii():
            raise ValueError
        # Far enough from both ends of the calendar to be told in any time zone.
        if not 1900 < imported_at.year < 9000 or "\0" in document_id:
            raise ValueError
    except (ValueError, TypeError):  # UnicodeError and JSONDecodeError are ValueErrors
        raise CursorInvalid("this cursor is not one that a page of documents gave out") from None
    return (
        sa.bindparam(None, imported_at, Document.imported_at.type),
        sa.bindparam(None, document_id, Document.id.type),
    )
