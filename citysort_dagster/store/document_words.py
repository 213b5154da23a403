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
MANY = 5_000
"""Documents with a word, from which on they are looked at one by one."""

# Not among the models: the two databases have different tables of this name.
_TABLE = sa.table(
    "document_words", sa.column("document_id"), sa.column("words", sa.Text), sa.column("number")
)
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


def words_of_documents(connection: sa.Connection, texts: Mapping[str, str]) -> dict[str, list[str]]:
    """The words of the texts, names and ids at the source of these documents; `texts` are by document id.

    Takes a while for long texts: not for a transaction that others wait for.
    """
    rows = connection.execute(
        sa.select(Document.id, Document.filename, Document.external_id).where(Document.id.in_(texts))
    ).all()
    return {row.id: words_of(f"{row.filename} {row.external_id} {texts[row.id]}") for row in rows}


def remember_words(connection: sa.Connection, words: Mapping[str, Sequence[str]]) -> None:
    """Indexes documents by these words; they are by document id."""
    if not words:
        return
    forget_words(connection, list(words))
    if connection.dialect.name == "postgresql":
        value: Any = sa.func.array_to_tsvector(sa.bindparam("words", type_=sa.ARRAY(sa.Text)))
        values: list[dict[str, Any]] = [
            {"document_id": id_, "words": list(found)} for id_, found in words.items()
        ]
    else:
        value = sa.bindparam("words")
        values = [{"document_id": id_, "words": " ".join(found)} for id_, found in words.items()]
    connection.execute(sa.insert(_TABLE).values(document_id=sa.bindparam("document_id"), words=value), values)


def forget_words(connection: sa.Connection, document_ids: Sequence[str]) -> None:
    """Removes documents from the index."""
    connection.execute(sa.delete(_TABLE).where(_TABLE.c.document_id.in_(document_ids)))


def has_words(connection: sa.Connection, text: str) -> sa.ColumnElement[bool]:
    """Whether a document has, for each word of the text, a word that begins with it; one that is
    shorter than three ASCII characters must be the whole word.

    A document whose text has not been read yet is found by parts of its name and its id at the
    source. A text without any word is found nowhere.
    """
    wanted = words_of(text)[:MOST_WANTED]
    if not wanted:
        return sa.false()
    named = sa.func.lower(Document.filename + " " + Document.external_id)
    unread = [Document.stage == "imported", *[named.contains(word, autoescape=True) for word in wanted]]
    index = _InPostgreSQL(wanted) if connection.dialect.name == "postgresql" else _InSQLite(wanted)
    if index.finds_many(connection):
        # The list of them all would take longest; looking at one after the other soon finds a page.
        return sa.or_(index.of_this_document(), sa.and_(*unread))
    # One list, not one condition or another: that, an index does not answer.
    return Document.id.in_(sa.union_all(index.ids(), sa.select(Document.id).where(*unread)))


class _InPostgreSQL:
    def __init__(self, wanted: Sequence[str]) -> None:
        parts = [f"'{word}'{':*' if _is_beginning(word) else ''}" for word in wanted]
        query = sa.cast(sa.literal(" & ".join(parts), sa.Text), postgresql.TSQUERY)
        self._matches = _TABLE.c.words.op("@@")(query)

    def ids(self) -> sa.Select[Any]:
        return sa.select(_TABLE.c.document_id).where(self._matches)

    def of_this_document(self) -> sa.ColumnElement[bool]:
        return sa.exists().where(_TABLE.c.document_id == Document.id, self._matches)

    def finds_many(self, connection: sa.Connection) -> bool:
        """As the database guesses from its statistics; its index could not be asked for the first few."""
        statement = self.ids().compile(connection)
        plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", statement.params).scalar_one()
        return int(plan[0]["Plan"]["Plan Rows"]) >= MANY


class _InSQLite:
    def __init__(self, wanted: Sequence[str]) -> None:
        self._wanted = wanted
        query = " AND ".join(f'"{word}"{"*" if _is_beginning(word) else ""}' for word in wanted)
        self._numbers = sa.select(_FTS.c.rowid).where(_FTS.c.document_words_index.op("MATCH")(query))

    def ids(self) -> sa.Select[Any]:
        return sa.select(_TABLE.c.document_id).where(_TABLE.c.number.in_(self._numbers))

    def of_this_document(self) -> sa.ColumnElement[bool]:
        spaced = sa.literal(" ") + _TABLE.c.words + " "
        parts = [f" {word}" if _is_beginning(word) else f" {word} " for word in self._wanted]
        found = [sa.func.instr(spaced, part) > 0 for part in parts]
        return sa.exists().where(_TABLE.c.document_id == Document.id, *found)

    def finds_many(self, connection: sa.Connection) -> bool:
        first = self._numbers.limit(MANY).subquery()
        return connection.execute(sa.select(sa.func.count()).select_from(first)).scalar_one() == MANY


def _is_beginning(word: str) -> bool:
    """Whether words that begin so count; there are too many for one or two letters of an alphabet."""
    return len(word) > 2 or not word.isascii()
