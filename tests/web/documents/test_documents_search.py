"""Documents are found by words, filters and pages, on both kinds of database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from citysort_dagster import document_search
from citysort_dagster.document_list import DocumentFilter
from citysort_dagster.document_search import (
    CursorInvalid,
    count_documents,
    excerpts,
    search_documents,
    source_names,
)
from citysort_dagster.store import document_words
from citysort_dagster.store.database import Database
from citysort_dagster.store.document_words import INDEXED_BYTES, LONGEST_WORD, words_of
from citysort_dagster.store.models import Document
from tests.web.documents.town import COMPLAINT, PERMIT, Town

SOURCE = "search"


@pytest.fixture(scope="session")
def found(town: Town) -> Town:
    """The town with documents to look for."""
    town.bring("Permit_2026-014.txt", PERMIT, SOURCE)
    town.bring("noise.txt", COMPLAINT, SOURCE)
    town.bring("a'b\"c--%_*.txt", "Quotes ' \" ; -- * : & | ! ( ) <-> are in this one.", SOURCE)
    town.bring(
        "stra\u00dfe \u6771\u4eac.txt", "Stra\u00dfe, \u6771\u4eac \u0391\u03b8\u03ae\u03bd\u03b1", SOURCE
    )
    town.process()
    return town


def names(town: Town, words: str, **more: str) -> set[str]:
    chosen = DocumentFilter(source=SOURCE, words=words, **more)  # type: ignore[arg-type]
    page = search_documents(town.database, chosen, 50)
    assert count_documents(town.database, chosen, 1_000) == len(page.documents)
    return {document["filename"] for document in page.documents}


@pytest.mark.parametrize(
    "words",
    [
        "okafor",
        "OKAFOR",
        "okaf",
        "mia okafor",
        "permit 2026 014",
        "permit_2026-014.txt",
        "12-345-678",
        "roof elm",
    ],
)
def test_words_of_name_text_and_id_find_a_document(found: Town, words: str) -> None:
    assert names(found, words) == {"Permit_2026-014.txt"}


@pytest.mark.parametrize("words", ["Jos\u00e9 Mu\u00f1oz", "jose munoz", "JOSE\u0301"])
def test_accents_make_no_difference(found: Town, words: str) -> None:
    assert names(found, words) == {"noise.txt"}


@pytest.mark.parametrize("words", ["strasse", "stra\u00dfe", "\u6771\u4eac", "\u03b1\u03b8\u03b7\u03bd"])
def test_words_of_other_alphabets_find_a_document(found: Town, words: str) -> None:
    assert len(names(found, words)) == 1


def test_all_words_must_occur(found: Town) -> None:
    assert names(found, "okafor barking") == set()


def test_one_or_two_letters_are_a_whole_word(found: Town) -> None:
    assert names(found, "a new roof") == names(found, "a") & names(found, "roof") == {"Permit_2026-014.txt"}
    assert names(found, "ne roof") == set()
    assert len(names(found, "\u6771")) == 1


def test_words_that_many_documents_have_are_found_alike(found: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_words, "MANY", 1)  # as if all these were many
    assert names(found, "okaf 12") == {"Permit_2026-014.txt"}
    assert names(found, "a elm") == {"Permit_2026-014.txt"}
    assert names(found, "jose") == {"noise.txt"}
    assert names(found, "ne roof") == names(found, "kafor") == names(found, "okafor barking") == set()


def test_a_part_in_the_middle_of_a_word_finds_nothing(found: Town) -> None:
    assert names(found, "kafor") == set()


@pytest.mark.parametrize("words", ["'", '"', "-- ;", "*", "%", "_", "\u00bd\u2044", " "])
def test_signs_alone_find_nothing_and_break_nothing(found: Town, words: str) -> None:
    assert names(found, words) in (set(), {"Permit_2026-014.txt"})


@pytest.mark.parametrize(
    "words", ['okafor" OR "x', "okafor':* | 'x", "okafor & !mia", "NOT okafor", "a* OR b*", "words:okafor"]
)
def test_operators_of_the_databases_are_words_like_others(found: Town, words: str) -> None:
    assert names(found, words) <= {"Permit_2026-014.txt"}


@given(words=st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40))
def test_no_text_breaks_the_search(any_database: Database, words: str) -> None:
    search_documents(any_database, DocumentFilter(words=words), 5)


@pytest.fixture(scope="session")
def any_database(found: Town) -> Iterator[Database]:
    yield found.database


def test_a_document_is_found_by_its_name_before_its_text_is_read(found: Town) -> None:
    found.bring("Unread-Letter.txt", "Nothing of this is read yet: saxophone.", SOURCE)
    try:
        assert names(found, "unread letter") == {"Unread-Letter.txt"}
        assert names(found, "saxophone") == set()
    finally:
        found.process()
    assert names(found, "saxophone") == {"Unread-Letter.txt"}


def test_words_and_filters_choose_together(found: Town) -> None:
    assert names(found, "elm", doc_type="building_permit") == {"Permit_2026-014.txt"}
    assert names(found, "elm", doc_type="complaint") == set()
    assert names(found, "elm", department="Building Department") == {"Permit_2026-014.txt"}
    assert names(found, "noise", status="needs_review") == {"noise.txt"}
    assert names(found, "noise", status="routed") == set()


def test_dates_choose_the_day_of_the_import(found: Town) -> None:
    today = found.document(
        search_documents(found.database, DocumentFilter(source=SOURCE), 1).documents[0]["id"]
    ).imported_at.date()
    assert count_documents(found.database, DocumentFilter(source=SOURCE, imported_from=today), 10)
    later = DocumentFilter(source=SOURCE, imported_from=date(today.year + 1, 1, 1))
    assert count_documents(found.database, later, 10) == 0


def test_pages_hold_every_document_once_though_others_arrive(town: Town) -> None:
    chosen = DocumentFilter(source="paged")
    first = {town.bring(f"{number}.txt", f"letter {number}", "paged") for number in range(7)}
    seen: list[str] = []
    cursor = None
    for number in range(10):
        page = search_documents(town.database, chosen, 2, cursor)
        seen += [document["id"] for document in page.documents]
        town.bring(f"new-{number}.txt", f"newer {number}", "paged")
        cursor = page.next
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 7
    assert set(seen) == first
    everything = search_documents(town.database, chosen, 50).documents
    times = [(document["imported_at"], document["id"]) for document in everything]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(
    "cursor", ["", "x", "\u00e9", "W10", "WyIyMDI2IiwgMV0", "bnVsbA", "=" * 9, "WyJhIiwiYiJd"]
)
def test_what_is_no_cursor_is_refused(town: Town, cursor: str) -> None:
    with pytest.raises(CursorInvalid, match="not one that a page"):
        search_documents(town.database, DocumentFilter(), 5, cursor)


@given(cursor=st.text(max_size=60))
def test_any_text_is_a_cursor_or_refused(any_database: Database, cursor: str) -> None:
    with pytest.raises(CursorInvalid):
        search_documents(any_database, DocumentFilter(), 5, cursor)


def test_counting_ends_at_the_most(found: Town) -> None:
    assert count_documents(found.database, DocumentFilter(source=SOURCE), 2) == 2


def test_sources_are_those_configured_or_once_imported(found: Town) -> None:
    assert SOURCE in source_names(found.database)


def test_a_rare_word_is_looked_up_in_the_index(found: Town) -> None:
    """Not by reading every text: what the database plans to do says so."""
    with found.database.read() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
        conditions = DocumentFilter(words="okafor").conditions(connection)
        statement = sa.select(Document.id).where(*conditions)
        compiled = statement.compile(connection, compile_kwargs={"literal_binds": True}).string
        explain = "EXPLAIN" if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
        plan = " ".join(
            str(row) for row in connection.exec_driver_sql(f"{explain} {compiled}".replace("%", "%%"))
        )
    assert "document_words_by_word" in plan or "document_words_index VIRTUAL TABLE INDEX" in plan
    assert "SCAN document_words " not in plan


def test_words_of_a_text_are_bounded() -> None:
    assert words_of("x" * 1_000) == ["x" * LONGEST_WORD]
    many = " ".join(f"{number:x}\u6771" for number in range(100_000))
    assert sum(len(word.encode()) + 1 for word in words_of(many)) <= INDEXED_BYTES


def test_texts_that_were_there_before_the_index_are_found(found: Town) -> None:
    """What the migration does for databases of earlier versions."""
    from importlib import import_module

    migration = import_module("citysort_dagster.store.migrations.versions.0004_search_and_review")

    def again(connection: sa.Connection) -> None:
        connection.execute(sa.text("DELETE FROM document_words"))
        migration.index_texts(connection)

    found.database.write(lambda connection: connection.execute(sa.text("DELETE FROM document_words")))
    assert names(found, "okafor") == set()
    found.database.write(again)
    assert names(found, "okafor") == {"Permit_2026-014.txt"}


def test_an_excerpt_shows_the_words_where_they_stand(found: Town) -> None:
    documents = search_documents(found.database, DocumentFilter(source=SOURCE), 50).documents
    ids = {document["filename"]: document["id"] for document in documents}
    shown = excerpts(found.database, list(ids.values()), "OKAF street")
    assert list(shown) == [ids["Permit_2026-014.txt"]]
    (parts,) = shown.values()
    assert [part for part, is_hit in parts if is_hit] == ["Okafor", "Street"]
    line = "".join(part for part, _ in parts)
    assert line.removesuffix(" \u2026") in " ".join(PERMIT.split())
    assert excerpts(found.database, list(ids.values()), "--") == {}
    assert excerpts(found.database, [], "okafor") == {}


@given(text=st.text(max_size=400), word=st.text(alphabet="ab\u00e9 _-", min_size=1, max_size=4))
def test_an_excerpt_is_a_piece_of_its_text(text: str, word: str) -> None:
    plain = " ".join(f"{text} {word} {text}".split())
    line = document_search._around(plain, len(plain) // 2)
    assert line.removeprefix("\u2026 ").removesuffix(" \u2026") in plain
    pattern = re.compile("ab", re.IGNORECASE)
    assert "".join(part for part, _ in document_search._in_parts(line, pattern)) == line
