"""The words by which documents are found: of their names, their ids at the source and their text.

An index that each kind of database keeps in its own way, so that finding a few documents among a
million reads a few rows: tsvector and GIN (https://www.postgresql.org/docs/current/textsearch-indexes.html)
or FTS5 (https://www.sqlite.org/fts5.html). What counts as a word is decided here, for both alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from citysort_dagster.store.models import Document

INDEXED_CHARACTERS = 200_000
"""What is looked at of a text."""
INDEXED_BYTES = 500_000
"""Of all words of a document together; a tsvector holds a million."""
LONGEST_WORD = 60
MOST_WANTED = 10

# Not among the models: the two databases have different tables of this name.
_TABLE = sa.table("document_words", sa.column("document_id"), sa.column("words"), sa.column("number"))
_FTS = sa.table("document_words_index", sa.column("rowid"), sa.column("document_words_index"))


def words_of(text: str) -> list[str]:
    """The different words of a text, in the order in which they first occur.

    Letters and digits, in lower case and without accents; all else separates them, so that the
    words of `permit_2026-014.PDF` are permit, 2026, 014 and pdf.
    """
    plain = unicodedata.normalize("NFKD", text[:INDEXED_CHARACTERS]).casefold()
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    found: dict[str, None] = {}
    size = 0
    for word in re.findall(r"[^\W_]+", plain):
        word = word[:LONGEST_WORD]
        if word not in found:
            size += len(word.encode(errors="replace")) + 1
            if size > INDEXED_BYTES:
                break
            found[word] = None
    return list(found)


def remember_words(connection: sa.Connection, texts: Mapping[str, str]) -> None:
    """Indexes these documents by their text, name and id at the source; `texts` are by document id."""
    rows = connection.execute(
        sa.select(Document.id, Document.filename, Document.external_id).where(Document.id.in_(texts))
    ).all()
    if not rows:
        return
    forget_words(connection, [row.id for row in rows])
    words = {row.id: words_of(f"{row.filename} {row.external_id} {texts[row.id]}") for row in rows}
    if connection.dialect.name == "postgresql":
        value: Any = sa.func.array_to_tsvector(sa.bindparam("words", type_=sa.ARRAY(sa.Text)))
        values: list[dict[str, Any]] = [{"document_id": id_, "words": found} for id_, found in words.items()]
    else:
        value = sa.bindparam("words")
        values = [{"document_id": id_, "words": " ".join(found)} for id_, found in words.items()]
    connection.execute(sa.insert(_TABLE).values(document_id=sa.bindparam("document_id"), words=value), values)


def forget_words(connection: sa.Connection, document_ids: Sequence[str]) -> None:
    """Removes documents from the index."""
    connection.execute(sa.delete(_TABLE).where(_TABLE.c.document_id.in_(document_ids)))


def has_words(connection: sa.Connection, text: str) -> sa.ColumnElement[bool]:
    """Whether a document has, for each word of the text, a word that begins with it.

    A document whose text has not been read yet is found by parts of its name and its id at the
    source. A text without any word is found nowhere.
    """
    wanted = words_of(text)[:MOST_WANTED]
    if not wanted:
        return sa.false()
    if connection.dialect.name == "postgresql":
        query = sa.literal(" & ".join(f"'{word}':*" for word in wanted), sa.Text)
        matches = _TABLE.c.words.op("@@")(sa.cast(query, postgresql.TSQUERY))
        indexed = sa.select(_TABLE.c.document_id).where(matches)
    else:
        query = sa.literal(" AND ".join(f'"{word}"*' for word in wanted), sa.Text)
        numbers = sa.select(_FTS.c.rowid).where(_FTS.c.document_words_index.op("MATCH")(query))
        indexed = sa.select(_TABLE.c.document_id).where(_TABLE.c.number.in_(numbers))
    named = sa.func.lower(Document.filename + " " + Document.external_id)
    unread = sa.select(Document.id).where(
        Document.stage == "imported", *[named.contains(word, autoescape=True) for word in wanted]
    )
    return Document.id.in_(sa.union_all(indexed, unread))
