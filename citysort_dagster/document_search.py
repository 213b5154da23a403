"""Documents page by page: chosen by filters and words, those imported last first."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from citysort_dagster.document_list import DocumentFilter, as_values
from citysort_dagster.store.database import Database
from citysort_dagster.store.document_words import words_of
from citysort_dagster.store.models import ConnectorConfig, Document, DocumentText, Import

_LOOKED_AT = 20_000
_LINE, _BEFORE = 140, 50


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


def excerpts(
    database: Database, document_ids: Sequence[str], words: str
) -> Mapping[str, Sequence[tuple[str, bool]]]:
    """A line of the text of each document around the first of these words in it, in parts: what is
    one of the words, and what is not.

    Without those that have none in the beginning of their text: they may be found by their name, or
    by a word that is written with accents. Raises DatabaseError.
    """
    wanted = "|".join(map(re.escape, words_of(words)))
    if not wanted:
        return {}
    word = re.compile(rf"(?<![^\W_])(?:{wanted})[^\W_]*", re.IGNORECASE)
    beginning = sa.func.substr(DocumentText.text, 1, _LOOKED_AT)
    statement = sa.select(DocumentText.document_id, beginning).where(
        DocumentText.document_id.in_(document_ids)
    )
    found = {}
    with database.read() as connection:
        for document_id, text in connection.execute(statement).tuples():
            plain = " ".join(text.split())
            first = word.search(plain)
            if first is not None:
                found[document_id] = _in_parts(_around(plain, first.start()), word)
    return found


def _around(text: str, place: int) -> str:
    begin = text.rfind(" ", 0, max(place - _BEFORE, 0)) + 1
    end = text.find(" ", min(begin + _LINE, len(text)))
    line = text[begin : end if end != -1 and end - begin < 2 * _LINE else begin + _LINE]
    return f"{'… ' if begin else ''}{line}{' …' if begin + len(line) < len(text) else ''}"


def _in_parts(line: str, word: re.Pattern[str]) -> list[tuple[str, bool]]:
    parts = []
    last = 0
    for hit in word.finditer(line):
        parts += [(line[last : hit.start()], False), (hit[0], True)]
        last = hit.end()
    return [part for part in [*parts, (line[last:], False)] if part[0]]


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
