"""Listing rows as documents: ids, names, dates, windows, versions."""

from __future__ import annotations

import itertools
import tracemalloc
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from connectors.base import ConfigurationError, DownloadFailed, ListingIncomplete, NotImported, Window
from connectors.sql import _Row, _version
from tests.connectors.sql_databases import Database, fetched, listed

UTC = timezone.utc


def day(number: int, month: int = 1) -> datetime:
    return datetime(2026, month, number, tzinfo=UTC)


def local(number: int, month: int = 1, year: int = 2026, hour: int = 0, minute: int = 0) -> datetime:
    """A time as a column without zones holds it."""
    return datetime(year, month, number, hour, minute)  # noqa: DTZ001


WINTER = local(15, 1, hour=12)
ALL_TIME = Window(datetime(1990, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC))


def test_rows_come_as_documents(database: Database) -> None:
    database.create()
    database.insert((7, "Permit 7.pdf", WINTER, b"\x00\xff%PDF"), (8, "", WINTER, b""))
    found = listed(database.connector())
    assert found["7"].filename == "Permit 7.pdf"
    assert found["7"].modified_at == WINTER.replace(tzinfo=UTC)
    assert found["7"].size == 6
    assert found["7"].not_imported is None
    assert found["8"].filename == "8"
    assert found["8"].size == 0


def test_source_url_leads_to_the_row_without_credentials(database: Database) -> None:
    database.create(id_="name")
    database.insert(("a/b ?&ü", "x", WINTER, b""))
    [document] = listed(database.connector()).values()
    assert document.source_url is not None
    assert document.source_url.startswith(f"{database.kind}://")
    assert document.source_url.endswith("?id=a%2Fb%20%3F%26%C3%BC")
    assert database.settings().get("password", "no password") not in document.source_url
    if database.kind == "sqlite":
        assert "/archive%20of%20the%20city%20%231%3F.db?" in document.source_url


def test_text_content_counts_and_arrives_as_utf8(database: Database) -> None:
    database.create(content="text")
    database.insert((1, "a.txt", WINTER, "Straße 5, 東京 😀"), (2, "b.txt", None, "ß"))
    found = listed(database.connector())
    assert found["1"].size == len("Straße 5, 東京 😀".encode())
    assert fetched(database.connector(), found["1"]) == "Straße 5, 東京 😀".encode()
    assert fetched(database.connector(), found["2"]) == "ß".encode()


def test_colons_percents_backslashes_and_comments_stay_as_they_are(database: Database) -> None:
    backslash = r"\\:x" if database.kind == "mysql" else r"\:x"
    database.create(id_="name")
    database.insert(("50% :off %s %(x)s \\:x", "n", WINTER, b"a"), ("other", "n", WINTER, b"b"))
    query = (
        "SELECT id, name, modified, content, ':start' AS type, 100 % 7 AS rest FROM documents -- :why; )\n"
        f"WHERE id LIKE '50\\% :off %' {'' if database.kind == 'mysql' else 'ESCAPE chr(92)'}"
        f" AND id LIKE '%{backslash}' ; "
    )
    if database.kind == "postgresql":
        query = query.replace("100 % 7", "'5'::int % 3").replace(r"LIKE '%\:x'", r"LIKE E'%\\\\:x'")
    if database.kind == "sqlite":
        query = query.replace("chr(92)", "char(92)")
    connector = database.connector(query, content_type_column="type")
    [document] = listed(connector, Window(day(1), day(31))).values()
    assert document.external_id == "50% :off %s %(x)s \\:x"
    assert document.content_type == ":start"
    assert fetched(connector, document) == b"a"


def test_a_query_may_end_in_a_comment(database: Database) -> None:
    database.create()
    database.insert((1, "a", WINTER, b"a"))
    assert len(listed(database.connector("SELECT * FROM documents -- all of them"))) == 1


def test_a_query_may_begin_with_with(database: Database) -> None:
    database.create()
    database.insert((1, "a", WINTER, b"a"), (2, "b", WINTER, b"b"))
    query = "WITH late AS (SELECT * FROM documents WHERE id > 1) SELECT * FROM late"
    assert list(listed(database.connector(query))) == ["2"]


def test_column_names_may_be_unusual(database: Database) -> None:
    database.create()
    database.insert((1, "a", WINTER, b"a"))
    mark = "`" if database.kind == "mysql" else '"'
    query = (
        f"SELECT id AS {mark}Order{mark}, name AS {mark}citysort 1%:x{mark}, modified AS {mark}Last Change{mark},"
        " content AS size FROM documents"
    )
    connector = database.connector(
        query,
        id_column="order",
        filename_column="citysort 1%:x",
        modified_column="last change",
        content_column="size",
    )
    [document] = listed(connector, Window(day(1), day(31))).values()
    assert (document.external_id, document.filename, fetched(connector, document)) == ("1", "a", b"a")


@pytest.mark.parametrize(
    ("kind", "type_", "value", "text"),
    [
        (
            "postgresql",
            "uuid",
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ),
        ("postgresql", "numeric(8,2)", Decimal("12.50"), "12.50"),
        ("postgresql", "bytea", b"\x00\xab", "00ab"),
        ("postgresql", "date", "2026-01-02", "2026-01-02"),
        ("postgresql", "char(5)", "ab", "ab   "),
        ("mysql", "decimal(8,2)", Decimal("12.50"), "12.50"),
        ("mysql", "binary(2)", b"\x00\xab", "00ab"),
        ("mysql", "varchar(10)", "00ab", "00ab"),
        ("mysql", "uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("mysql", "date", "2026-01-02", "2026-01-02"),
        ("sqlite", "blob", b"\x00\xab", "00ab"),
        ("sqlite", "", 5, "5"),
        ("sqlite", "", "5", "5"),
        ("sqlite", "", 2.5, "2.5"),
    ],
)
def test_ids_of_any_type_become_text_and_are_found_again(
    request: pytest.FixtureRequest, kind: str, type_: str, value: Any, text: str
) -> None:
    database: Database = request.getfixturevalue(kind)
    database.create(id_=type_)
    database.insert((value, "a", WINTER, b"content"))
    connector = database.connector()
    [document] = listed(connector).values()
    assert document.external_id == text
    assert fetched(connector, document) == b"content"


def test_ids_that_differ_only_in_case_or_trailing_space_are_different(database: Database) -> None:
    database.create(id_="name")
    database.insert(("a", "1", WINTER, b"1"), ("A", "2", WINTER, b"2"), ("a ", "3", WINTER, b"3"))
    connector = database.connector()
    found = listed(connector)
    assert {name: fetched(connector, document) for name, document in found.items()} == {
        "a": b"1",
        "A": b"2",
        "a ": b"3",
    }


@pytest.mark.parametrize(
    ("type_", "ids"),
    [
        ("text COLLATE no_case", ["a", "A", "a "]),
        ("varchar(9) COLLATE no_case", ["a", "A", "a "]),
        ("char(5) COLLATE no_case", ["a    ", "A    "]),
        ("citext", ["a", "A", "a "]),
        ("numeric", ["1", "1.0", "0.0000001"]),
    ],
)
def test_ids_that_are_equal_to_postgresql_alone_are_different(
    postgresql: Database, type_: str, ids: list[str]
) -> None:
    postgresql.execute("CREATE EXTENSION IF NOT EXISTS citext")
    postgresql.execute(
        "CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    )
    postgresql.create(id_=type_)
    postgresql.insert(*((id_, "x", WINTER, id_.encode()) for id_ in ids), *[("7", "x", WINTER, b"")] * 2)
    connector = postgresql.connector()
    documents = list(connector.list_documents())
    wanted = [document for document in documents if document.not_imported is None]
    assert sorted(fetched(connector, document) for document in wanted) == sorted(id_.encode() for id_ in ids)
    assert len(documents) == len(ids) + 2


@pytest.mark.parametrize(
    ("kind", "type_", "value"),
    [
        ("postgresql", "json", "{}"),
        ("postgresql", "jsonb", "{}"),
        ("postgresql", "integer[]", "{1,2}"),
        ("postgresql", "text[]", "{a}"),
        ("mysql", "float", 0.1),
        ("mysql", "bit(9)", 5),
    ],
)
def test_ids_of_a_type_that_cannot_be_looked_up_are_refused(
    request: pytest.FixtureRequest, kind: str, type_: str, value: Any
) -> None:
    database: Database = request.getfixturevalue(kind)
    database.create(id_=type_)
    database.insert((value, "a", WINTER, b"content"))
    with pytest.raises(ConfigurationError, match=r"\(setting id_column\) .* cast it to text in the query"):
        listed(database.connector())
    text = "CAST(id AS char(9))" if kind == "mysql" else "id::text"
    connector = database.connector(f"SELECT {text} AS id, name, modified, content FROM documents")
    [document] = listed(connector).values()
    assert fetched(connector, document) == b"content"


def test_an_id_that_stands_twice_fails_and_the_others_are_fine(database: Database) -> None:
    database.create()
    database.insert((1, "a", WINTER, b"a"), (2, "b", WINTER, b"b"), (1, "c", local(5, 5, 2020), b"c"))
    documents = list(database.connector().list_documents(Window(day(1), day(31))))
    assert {document.external_id: document.not_imported for document in documents} == {
        "1": NotImported("its id stands 2 times in the result of the query"),
        "2": None,
    }


def test_rows_without_an_id_fail_and_stay_apart(database: Database) -> None:
    database.create()
    database.insert(
        (None, "a.pdf", WINTER, b"a"),
        (None, "a.pdf", WINTER, b"a"),
        (None, None, WINTER, b""),
        (2, "b", WINTER, b"b"),
    )
    found = listed(database.connector())
    assert set(found) == {"row without id: a.pdf", "row without id: a.pdf (2)", "row without id: row", "2"}
    for external_id, document in found.items():
        assert (document.not_imported is None) == (external_id == "2")


def test_numbers_and_text_that_read_the_same_are_one_id(sqlite: Database) -> None:
    sqlite.create(id_="blob")
    sqlite.insert((5, "a", WINTER, b"a"), ("5", "b", WINTER, b"b"), ("6", "c", WINTER, b"c"))
    found = [(d.external_id, d.not_imported is None) for d in sqlite.connector().list_documents()]
    assert sorted(found) == [("5", False), ("5", False), ("6", True)]


def test_newest_first_and_rows_without_a_date_before_all(database: Database) -> None:
    database.create()
    database.insert(
        (1, "a", local(1, 1, 2025), b""),
        (2, "b", None, b""),
        (3, "c", WINTER, b""),
        (4, "d", WINTER, b""),
        (5, "e", local(1, 7), b""),
    )
    connector = database.connector()
    assert (connector.newest_first, connector.windowed) == (False, True)
    assert list(listed(connector)) == ["2", "5", "4", "3", "1"]
    assert connector.newest_first == (database.kind != "sqlite")


def test_dates_in_text_are_not_promised_newest_first(database: Database) -> None:
    database.create(modified="name")
    database.insert((1, "a", "2026-05-31T20:00:00-05:00", b""), (2, "b", "2026-06-01T05:00:00+09:00", b""))
    connector = database.connector()
    assert len(listed(connector)) == 2
    assert not connector.newest_first


@pytest.mark.parametrize("column", ["local", "moment"])
def test_windows_are_exact_at_both_ends(database: Database, column: str) -> None:
    database.create(modified=column)
    start, end = day(1, 2), day(1, 3)
    tick = timedelta(microseconds=1)
    moments = [start - tick, start, end - tick, end]
    if column == "local":
        moments = [moment.replace(tzinfo=None) for moment in moments]
    database.insert(*((number, "x", moment, b"") for number, moment in enumerate(moments)))
    connector = database.connector()
    assert set(listed(connector, Window(start, end))) == {"1", "2"}
    assert set(listed(connector, Window(None, end))) == {"0", "1", "2"}
    assert set(listed(connector, Window(end, None))) == {"3"}
    assert set(listed(connector, Window())) == {"0", "1", "2", "3"}


def test_adjacent_windows_take_every_row_once(database: Database) -> None:
    database.create()
    begin = local(28, 3)
    database.insert(*((hour, "x", begin + timedelta(hours=hour), b"") for hour in range(72)))
    connector = database.connector(timezone="Europe/Berlin")
    days = [begin.replace(tzinfo=UTC) + timedelta(days=number) for number in range(-1, 4)]
    parts = [set(listed(connector, Window(*pair))) for pair in itertools.pairwise(days)]
    assert sum(len(part) for part in parts) == 72
    assert set().union(*parts) == {str(hour) for hour in range(72)}


def test_rows_without_a_date_belong_to_the_present(database: Database) -> None:
    database.create()
    database.insert((1, "a", None, b"a"), (2, "b", WINTER, b"b"))
    connector = database.connector()
    now = datetime.now(UTC)
    assert set(listed(connector, Window(day(1), day(31)))) == {"2"}
    assert set(listed(connector, Window(now - timedelta(hours=1), None))) == {"1"}
    assert set(listed(connector, ALL_TIME)) == {"1", "2"}


def test_without_a_date_column_everything_belongs_to_the_present(database: Database) -> None:
    database.create()
    database.insert((1, "a", WINTER, b"a"), (2, "b", None, b"b"))
    connector = database.connector(modified_column=None)
    assert (connector.newest_first, connector.windowed) == (False, False)
    found = listed(connector, ALL_TIME)
    assert {document.modified_at for document in found.values()} == {None}
    assert set(found) == {"1", "2"}
    assert listed(connector, Window(day(1), day(31))) == {}


def test_local_times_get_the_zone_also_when_clocks_change(database: Database) -> None:
    database.create()
    database.insert(
        (1, "winter", WINTER, b""),
        (2, "summer", local(15, 7, hour=12), b""),
        (3, "skipped", local(29, 3, hour=2, minute=30), b""),
        (4, "twice", local(25, 10, hour=2, minute=30), b""),
    )
    found = listed(database.connector(timezone="Europe/Berlin"))
    assert {name: document.modified_at for name, document in found.items()} == {
        "1": datetime(2026, 1, 15, 11, tzinfo=UTC),
        "2": datetime(2026, 7, 15, 10, tzinfo=UTC),
        "3": datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
        "4": datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
    }


def test_what_is_written_while_the_clock_strikes_the_same_hour_again_is_in_a_refresh(
    database: Database,
) -> None:
    """Its date is before that of what was written in the first of the two hours, and listed already."""
    database.create()
    database.insert((1, "first hour", local(25, 10, hour=2, minute=55), b""))
    connector = database.connector(timezone="Europe/Berlin")
    [known] = listed(connector).values()
    assert known.modified_at is not None
    refresh = Window(known.modified_at - timedelta(minutes=10), None)
    database.insert(
        (2, "second hour", local(25, 10, hour=2, minute=5), b""),
        (3, "before", local(25, 10, hour=1, minute=55), b""),
    )
    found = listed(connector, refresh)
    assert set(found) == {"1", "2"}
    assert found["2"].modified_at == datetime(2026, 10, 25, 0, 5, tzinfo=UTC)
    assert listed(connector)["2"] == found["2"]


def test_moments_ignore_the_zone_setting(database: Database) -> None:
    database.create(modified="moment")
    database.insert((1, "a", datetime(2026, 1, 31, 23, 30, tzinfo=UTC), b""))
    connector = database.connector(timezone="Pacific/Kiritimati")
    [document] = listed(connector, Window(day(31), day(1, month=2))).values()
    assert document.modified_at == datetime(2026, 1, 31, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_dates_and_text_as_modified(request: pytest.FixtureRequest, kind: str) -> None:
    database: Database = request.getfixturevalue(kind)
    database.create(modified="date")
    database.insert((1, "a", "2026-01-15", b""), (2, "b", "2026-02-15", b""))
    window = Window(day(15), day(16))
    assert set(listed(database.connector(), window)) == {"1"}
    as_text = "SELECT id, name, concat(modified, 'T10:00:00Z') AS modified, content FROM documents"
    assert set(listed(database.connector(as_text), window)) == {"1"}


def test_dates_in_all_the_forms_that_sqlite_files_hold(sqlite: Database) -> None:
    forms: dict[int, Any] = {
        1: "2026-01-15 12:00:00",
        2: "2026-01-15T12:00:00Z",
        3: "2026-01-15T13:00:00.000+01:00",
        4: "2026-01-15 12:00",
        5: "2026-01-15T12:00:00.000000000",
        6: 1768478400,
        7: 1768478400.0,
        8: "2026-01-15T130000+0100",
        10: " 2026-01-15 12:00:00",
        11: "2026-01-15T12:00:00Z  ",
        12: "  2026-01-15T130000+0100 ",
    }
    sqlite.create(modified="")
    sqlite.insert(*((number, "x", form, b"") for number, form in forms.items()), (9, "x", "2026-01-16", b""))
    connector = sqlite.connector()
    noon = datetime(2026, 1, 15, 12, tzinfo=UTC)
    assert {document.modified_at for name, document in listed(connector).items() if name != "9"} == {noon}
    assert set(listed(connector, Window(noon, noon + timedelta(seconds=1)))) == {str(n) for n in forms}
    assert set(listed(connector, Window(day(16), day(17)))) == {"9"}
    assert listed(connector, Window(noon + timedelta(microseconds=1), day(16))) == {}


def test_a_date_that_is_none_fails_its_row_only(sqlite: Database) -> None:
    sqlite.create(modified="")
    sqlite.insert((1, "a", "last Tuesday", b""), (2, "b", "2026-01-15", b""), (3, "c", 1e20, b""))
    found = listed(sqlite.connector(), ALL_TIME)
    assert found["1"].not_imported == NotImported("modified: 'last Tuesday' is not a date")
    assert found["2"].not_imported is None
    assert found["3"].not_imported == NotImported("modified: '1e+20' is not a date")


def test_numbers_that_are_no_date_are_told_in_every_window(sqlite: Database) -> None:
    milliseconds = 1_768_478_400_000
    sqlite.create(modified="")
    sqlite.insert((1, "a", milliseconds, b""), (2, "b", -1e20, b""), (3, "c", 253_402_300_799, b""))
    for window in (Window(day(1), day(31)), Window(None, day(1)), Window(day(1), None)):
        found = listed(sqlite.connector(), window)
        assert found["1"].not_imported == NotImported(f"modified: '{milliseconds}' is not a date")
        assert found["2"].not_imported == NotImported("modified: '-1e+20' is not a date")
        assert ("3" in found) == (window.end is None)
    assert listed(sqlite.connector())["3"].not_imported is None


def test_an_infinite_date_fails_its_row_only(postgresql: Database) -> None:
    postgresql.create()
    postgresql.insert((1, "a", "infinity", b""), (2, "b", WINTER, b""), (3, "c", "20000-01-01", b""))
    found = listed(postgresql.connector(), ALL_TIME)
    assert found["1"].not_imported == NotImported("modified: 'infinity' is not a date")
    assert found["2"].not_imported is None
    assert found["3"].not_imported is not None


def test_a_zero_date_fails_its_row_only(mysql: Database) -> None:
    mysql.create()
    mysql.execute(["SET sql_mode = ''", " "][0])
    mysql.insert((2, "b", WINTER, b""))
    mysql.execute("INSERT IGNORE INTO documents VALUES (1, 'a', '0000-00-00 00:00:00', '')")
    found = listed(mysql.connector())
    assert found["1"].not_imported is not None
    assert "0000-00-00" in found["1"].not_imported.reason
    assert found["2"].not_imported is None


def test_version_is_the_stated_one_else_date_and_length_else_a_digest(database: Database) -> None:
    database.create()
    database.insert((1, "v1", WINTER, b"abc"), (2, None, None, b"abc"))
    assert listed(database.connector(version_column="name"))["1"].version == "v1"
    by_date = listed(database.connector())
    assert by_date["1"].version == "2026-01-15T12:00:00+00:00-3"
    md5_of_abc = "900150983cd24fb0d6963f7d28e17f72"
    assert by_date["2"].version == md5_of_abc
    assert listed(database.connector(version_column="name"))["2"].version == md5_of_abc
    assert {d.version for d in listed(database.connector(modified_column=None)).values()} == {md5_of_abc}


@pytest.mark.parametrize("blank", ["", "   "])
@pytest.mark.parametrize("column", ["modified_column", "version_column"])
def test_a_change_is_seen_where_date_and_version_are_blank_text(
    database: Database, column: str, blank: str
) -> None:
    database.create(content="text", modified="name")
    database.insert((1, "a", blank, "one"), (2, "a", None, "one"), (3, "a", "2026-01-15", "one"))
    columns: dict[str, Any] = {"modified_column": None, column: "modified"}
    connector = database.connector(**columns)
    now = Window(datetime.now(UTC) - timedelta(hours=1), None)
    before = listed(connector)
    assert {document.not_imported for document in before.values()} == {None}
    assert set(listed(connector, now)) >= {"1", "2"}
    assert fetched(connector, before["1"]) == b"one"
    database.execute("UPDATE documents SET content = 'two'")
    after = listed(connector)
    assert after["1"].version == after["2"].version != before["1"].version
    assert fetched(connector, after["1"]) == b"two"


@pytest.mark.parametrize("type_", ["date", "text"])
def test_a_second_change_on_the_same_day_is_seen_where_dates_have_no_time(
    database: Database, type_: str
) -> None:
    database.create(modified=type_)
    database.insert((1, "a", "2026-01-15", b"one"), (2, "a", "2026-01-15", None))
    connector = database.connector()
    before = listed(connector)
    assert listed(connector) == before
    assert fetched(connector, before["1"]) == b"one"
    database.execute("UPDATE documents SET content = 'two' WHERE id = 1")
    after = listed(connector)
    assert (after["1"].modified_at, after["2"]) == (before["1"].modified_at, before["2"])
    assert after["1"].version != before["1"].version
    with pytest.raises(DownloadFailed, match="changed since it was listed"):
        fetched(connector, before["1"])
    assert fetched(connector, after["1"]) == b"two"
    stated = listed(database.connector(version_column="name"))
    assert {document.version for document in stated.values()} == {"a"}


def test_a_change_is_seen_where_the_version_is_no_bytes(database: Database) -> None:
    database.create(modified=database.types["bytes"])
    database.insert((1, "a", b"", b"one"))
    connector = database.connector(modified_column=None, version_column="modified")
    before = listed(connector)["1"]
    database.execute("UPDATE documents SET content = 'two'")
    assert listed(connector)["1"].version != before.version


def test_text_around_which_there_is_more_than_spaces_is_no_date(sqlite: Database) -> None:
    sqlite.create()
    sqlite.insert((1, "a", "\t", b"a"), (2, "b", "2026-01-15\t", b"b"))
    reasons = {name: document.not_imported for name, document in listed(sqlite.connector()).items()}
    assert reasons == {
        "1": NotImported("modified: '\\t' is not a date"),
        "2": NotImported("modified: '2026-01-15\\t' is not a date"),
    }


def test_content_without_version_date_and_digest_has_no_version() -> None:
    row = _Row("1", None, None, "", None, size=3, digest=None, path=None)
    with pytest.raises(DownloadFailed, match="neither a version nor a date"):
        _version(row, None)


def test_a_listing_does_not_carry_the_contents(database: Database) -> None:
    database.create()
    size = 8_000_000
    database.insert(*((number, "x", WINTER, b"x" * size) for number in range(5)))
    connector = database.connector()
    connector.test_connection()
    tracemalloc.start()
    found = listed(connector, ALL_TIME)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {document.size for document in found.values()} == {size}
    assert peak < size


def test_a_long_listing_needs_little_memory_and_can_be_left(database: Database) -> None:
    connector = database.connector(database.fill_with_squares(100))
    connector.test_connection()
    tracemalloc.start()
    assert sum(1 for _ in connector.list_documents()) == 10_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000
    listing = connector.list_documents()
    first = next(listing)
    listing.close()  # type: ignore[attr-defined]
    assert fetched(connector, first) == b""
    connector.close()
    database.execute("DROP TABLE documents")


def test_documents_are_downloaded_while_the_listing_goes_on(database: Database) -> None:
    database.create()
    database.insert(*((number, "x", WINTER, b"%d" % number) for number in range(1_200)))
    connector = database.connector()
    contents = {fetched(connector, document) for document in connector.list_documents()}
    assert len(contents) == 1_200


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_connection_that_breaks_ends_the_listing_as_incomplete(
    request: pytest.FixtureRequest, kind: str
) -> None:
    database: Database = request.getfixturevalue(kind)
    connector = database.connector(database.fill_with_squares(250))
    listing = connector.list_documents()
    next(listing)
    database.disconnect_clients()
    with pytest.raises(ListingIncomplete) as failure:
        list(listing)
    _assert_one_sentence(str(failure.value), database)
    assert next(connector.list_documents()).not_imported is None


def test_a_row_that_cannot_be_read_ends_the_listing_as_incomplete(postgresql: Database) -> None:
    postgresql.create()
    postgresql.insert(*((number, "x", WINTER, b"") for number in range(3_000)))
    query = "SELECT id, name, modified, content, 1 / (id - 2500) AS version FROM documents"
    listing = postgresql.connector(query, version_column="version", modified_column=None).list_documents()
    next(listing)
    with pytest.raises(ListingIncomplete, match="division by zero"):
        list(listing)


def test_unknown_columns_are_named_with_those_there_are(database: Database) -> None:
    database.create()
    connector = database.connector(filename_column="title")
    with pytest.raises(ConfigurationError) as failure:
        list(connector.list_documents())
    assert "no column 'title' (setting filename_column); it has id, name, modified, content" in str(
        failure.value
    )
    assert connector.test_connection() == (False, str(failure.value))


def _assert_one_sentence(message: str, database: Database) -> None:
    assert "\n" not in message
    assert "Traceback" not in message
    assert database.settings().get("password", "no password") not in message
