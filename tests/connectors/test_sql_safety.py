"""What must not happen: writing, waiting forever, telling secrets. And what people are told instead."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from citysort_dagster.server_process import free_port
from connectors.base import ConfigurationError, Connector, ConnectorError, ListingIncomplete, Window
from connectors.registry import get_connector
from tests.connectors.sql_databases import Database, fetched, listed

MODIFIED = datetime(2026, 1, 15, 12, tzinfo=timezone.utc).replace(tzinfo=None)
COLUMNS = "id, name, modified, content"

ON_EVERY_DATABASE = [
    "DELETE FROM documents",
    "UPDATE documents SET name = 'x'",
    "DROP TABLE documents",
    "WITH gone AS (DELETE FROM documents RETURNING *) SELECT * FROM gone",
    "SELECT * FROM documents; DELETE FROM documents",
    "SELECT * FROM documents; DELETE FROM documents; SELECT 1",
    "SELECT * FROM documents) AS d; DELETE FROM documents; --",
    "SELECT * FROM documents) AS d; COMMIT; DELETE FROM documents; SELECT * FROM (SELECT * FROM documents",
    "SELECT 1) AS d; COMMIT; DELETE FROM documents; SELECT * FROM (SELECT * FROM documents",
]
WRITING = [
    *((kind, query) for kind in ("postgresql", "mysql", "sqlite") for query in ON_EVERY_DATABASE),
    ("postgresql", f"SELECT {COLUMNS} FROM documents FOR UPDATE"),
    ("postgresql", f"SELECT {COLUMNS} INTO copied FROM documents"),
    ("postgresql", "SELECT nextval('numbers') AS id, name, modified, content FROM documents"),
    ("postgresql", "SELECT setval('numbers', 99) AS id, name, modified, content FROM documents"),
    ("postgresql", "SELECT writing() AS id, name, modified, content FROM documents"),
    ("postgresql", "SELECT disguised() AS id, name, modified, content FROM documents"),
    ("postgresql", "SELECT * FROM through_a_view"),
    ("postgresql", f"SELECT {COLUMNS}, pg_advisory_lock(1) FROM documents"),
    ("postgresql", f"SELECT {COLUMNS}, set_config('work_mem', '8MB', false) FROM documents"),
    ("postgresql", f"SELECT {COLUMNS}, set_config('transaction_read_only', 'off', false) FROM documents"),
    ("postgresql", f"SELECT {COLUMNS}, lo_from_bytea(0, 'x') FROM documents"),
    ("postgresql", f"SELECT {COLUMNS}, pg_read_file('/etc/hostname') FROM documents"),
    ("postgresql", f'SELECT {COLUMNS} FROM documents WHERE "pg_terminate_backend"(0)'),
    ("mysql", f"SELECT {COLUMNS} FROM documents FOR UPDATE"),
    ("mysql", f"SELECT {COLUMNS} FROM documents INTO OUTFILE '/tmp/citysort-must-not-exist'"),
    ("mysql", "SELECT nextval(numbers) AS id, name, modified, content FROM documents"),
    ("mysql", "SELECT writing() AS id, name, modified, content FROM documents"),
    ("mysql", f"SELECT {COLUMNS}, get_lock('a', 0) FROM documents"),
    ("mysql", f"SELECT {COLUMNS}, LOAD_FILE('/etc/hostname') FROM documents"),
    ("sqlite", "ATTACH DATABASE 'other.db' AS other"),
    ("sqlite", f"SELECT {COLUMNS}, load_extension('x') FROM documents"),
    ("sqlite", "PRAGMA user_version = 5"),
    ("sqlite", "SELECT * FROM documents, pragma_wal_checkpoint"),
]
SET_UP = {
    "postgresql": [
        "CREATE SEQUENCE numbers",
        "CREATE FUNCTION writing() RETURNS int LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO documents VALUES (9); RETURN 1; END $$",
        "CREATE FUNCTION disguised() RETURNS int LANGUAGE plpgsql STABLE AS"
        " $$ BEGIN PERFORM nextval('numbers'); RETURN 1; END $$",
        "CREATE VIEW through_a_view AS SELECT writing() AS id, name, modified, content FROM documents",
    ],
    "mysql": [
        "CREATE SEQUENCE numbers",
        "CREATE FUNCTION writing() RETURNS int BEGIN INSERT INTO documents (id) VALUES (9); RETURN 1; END",
    ],
    "sqlite": [],
}


@pytest.mark.parametrize(("kind", "query"), WRITING)
def test_a_query_that_writes_is_refused_with_one_sentence_and_writes_nothing(
    request: pytest.FixtureRequest, kind: str, query: str
) -> None:
    database: Database = request.getfixturevalue(kind)
    database.create()
    database.insert((1, "a", MODIFIED, b"abc"), (2, "b", MODIFIED, b"def"))
    for statement in SET_UP[kind]:
        database.execute(statement)
    good = database.connector()
    document = listed(good)["1"]
    before = database.execute("SELECT id, name, content FROM documents ORDER BY id")

    connector = database.connector(query)
    ok, message = connector.test_connection()
    assert not ok
    _assert_one_sentence(message)
    for window in (None, Window(datetime(2026, 1, 1, tzinfo=timezone.utc), None)):
        with pytest.raises(ConfigurationError) as refusal:
            list(connector.list_documents(window))
        _assert_one_sentence(str(refusal.value))
    with pytest.raises(ConnectorError):
        fetched(connector, document)

    connector.close()
    assert database.execute("SELECT id, name, content FROM documents ORDER BY id") == before
    if kind == "postgresql":
        assert database.execute("SELECT last_value, is_called FROM numbers") == [(1, False)]
        assert database.execute("SELECT count(*) FROM pg_largeobject_metadata") == [(0,)]
    assert fetched(good, document) == b"abc"


def test_functions_that_only_compute_are_allowed(postgresql: Database) -> None:
    postgresql.create()
    postgresql.insert((1, "a", MODIFIED, b"abc"))
    query = (
        "SELECT id, upper(name) || ' nextval(' AS name, least(modified, now()::timestamp) AS modified, content"
        " FROM documents WHERE random() < 2 AND coalesce(name, 'setval(x)') <> ''"
    )
    connector = postgresql.connector(query)
    assert fetched(connector, listed(connector)["1"]) == b"abc"


def test_the_account_need_not_write(postgresql: Database, mysql: Database) -> None:
    for database in (postgresql, mysql):
        database.create()
        database.insert((1, "a", MODIFIED, b"abc"))
        host = "" if database is postgresql else "@'%'"
        kind = "ROLE" if database is postgresql else "USER"
        password = "PASSWORD" if database is postgresql else "IDENTIFIED BY"
        login = "LOGIN " if database is postgresql else ""
        name = f"reader_{database.settings()['database'][-8:]}"
        database.execute(f"CREATE {kind} {name}{host} {login}{password} 'only reads: @:/%'")
        database.execute(f"GRANT SELECT ON documents TO {name}{host}")
        try:
            connector = database.connector(username=name, password="only reads: @:/%")
            assert connector.test_connection().ok
            assert fetched(connector, listed(connector)["1"]) == b"abc"
        finally:
            connector.close()
            database.execute(f"REVOKE SELECT ON documents FROM {name}{host}")
            database.execute(f"DROP {kind} {name}{host}")


ENDLESS = {
    "postgresql": "SELECT a AS id, 'x' AS name, now() AS modified, ''::bytea AS content"
    " FROM generate_series(1, 20000) AS a, generate_series(1, 20000) AS b, generate_series(1, 20000) AS c",
    "mysql": "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900)"
    " SELECT a.i AS id, 'x' AS name, now() AS modified, '' AS content FROM n a, n b, n c, n d",
    "sqlite": "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n)"
    " SELECT i AS id, 'x' AS name, 0 AS modified, '' AS content FROM n",
}


def test_a_statement_that_takes_too_long_is_ended(database: Database) -> None:
    database.create()
    connector = database.connector(ENDLESS[database.kind], statement_timeout_seconds=1)
    with pytest.raises(ListingIncomplete, match="statement_timeout_seconds") as failure:
        list(connector.list_documents())
    _assert_one_sentence(str(failure.value))


def test_the_time_between_documents_does_not_count(database: Database) -> None:
    query = database.fill_with_squares(100)
    listing = database.connector(query, statement_timeout_seconds=1).list_documents()
    next(listing)
    time.sleep(1.2)  # longer than the limit
    assert sum(1 for _ in listing) == 9_999


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
@pytest.mark.parametrize(
    ("setting", "value", "kind_of_error", "words"),
    [
        ("password", "canary-password", ConfigurationError, "check username and password"),
        ("username", "nobody_here", ConfigurationError, "check username and password"),
        ("database", "no_such_database", ConfigurationError, "no_such_database"),
        ("port", None, ListingIncomplete, "check host and port"),
        ("host", "no-such-host.invalid", ListingIncomplete, "check host and port"),
        ("query", "SELECT * FROM no_such_table", ConfigurationError, "no_such_table"),
        ("query", "SELEC 1", ConfigurationError, "SELEC"),
        ("query", "SELECT no_such_column FROM documents", ConfigurationError, "no_such_column"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    request: pytest.FixtureRequest,
    kind: str,
    setting: str,
    value: str | None,
    kind_of_error: type[ConnectorError],
    words: str,
) -> None:
    database: Database = request.getfixturevalue(kind)
    database.create()
    changed: dict[str, Any] = {setting: value or free_port()}
    connector = database.connector(**changed)
    ok, message = connector.test_connection()
    assert not ok
    with pytest.raises(kind_of_error) as failure:
        next(connector.list_documents())
    for told in (message, str(failure.value), repr(failure.value)):
        assert words in told
        _assert_one_sentence(told)
        assert "canary-password" not in told
        assert database.settings()["password"] not in told
    assert failure.value.__cause__ is None
    assert failure.value.__suppress_context__


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_passwords_of_any_characters_stay_secret(request: pytest.FixtureRequest, kind: str) -> None:
    database: Database = request.getfixturevalue(kind)
    connector = database.connector(password="pässwörd-€-canary/@:%")
    assert "canary" not in repr(connector)
    assert "canary" not in str(connector)
    ok, message = connector.test_connection()
    assert not ok
    assert "canary" not in message
    assert "check username and password" in message


def test_passwords_that_the_machine_keeps_are_not_sent(
    postgresql: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    password = postgresql.settings()["password"]
    postgresql.create()
    kept = tmp_path / "pgpass"
    kept.write_text(f"*:*:*:*:{password}\n")
    kept.chmod(0o600)
    for name, value in (("PGPASSWORD", password), ("PGPASSFILE", str(kept))):
        with monkeypatch.context() as environment:
            environment.setenv(name, value)
            ok, message = postgresql.connector(password=None).test_connection()
            assert not ok, name
            assert "check username and password" in message
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.9")
    assert postgresql.connector().test_connection().ok


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("postgresql", {"sslmode": "require"}, "check sslmode"),
        ("postgresql", {"sslmode": "verify-full", "sslrootcert": "/no/such/ca.pem"}, "check sslmode"),
        ("mysql", {"ssl_mode": "required"}, "check ssl_mode"),
        ("mysql", {"ssl_mode": "verify_identity"}, "check ssl_mode"),
        ("mysql", {"ssl_mode": "verify_ca", "ssl_ca": "/no/such/ca.pem"}, "ssl_ca"),
    ],
)
def test_encryption_that_cannot_be_had_is_refused(
    request: pytest.FixtureRequest, kind: str, settings: dict[str, Any], words: str
) -> None:
    database: Database = request.getfixturevalue(kind)
    ok, message = database.connector(**settings).test_connection()
    assert not ok
    assert words in message
    _assert_one_sentence(message)


def test_connection_test_tells_what_is_there(database: Database) -> None:
    database.create()
    assert database.connector().test_connection().message.endswith("the query returns no rows at present")
    database.insert((1, "Permit 7.pdf", MODIFIED, b"abc"))
    ok, message = database.connector().test_connection()
    assert ok
    assert message.endswith("the first document is 'Permit 7.pdf'")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"content_column": None}, "exactly one of them"),
        ({"file_path_column": "path", "files_root": "/srv"}, "exactly one of them"),
        ({"files_root": "/srv"}, "go together"),
        ({"content_column": None, "file_path_column": "path"}, "go together"),
        ({"content_column": None, "file_path_column": "path", "files_root": "srv"}, "absolute"),
        ({"timezone": "Atlantis/Center"}, "there is no such time zone"),
        ({"timezone": "../../etc/passwd"}, "there is no such time zone"),
        ({"query": " ; "}, "the query is empty"),
        ({"id_column": None}, "id_column"),
        ({"colour": "blue"}, "has no setting colour"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], words: str) -> None:
    given = {"filepath": "a.db", "query": "SELECT 1", "id_column": "id", "content_column": "c", **settings}
    with pytest.raises(ConfigurationError, match=words):
        get_connector("sqlite", {name: value for name, value in given.items() if value is not None})


# SQLite files.


def _missing(folder: Path) -> Path:
    return folder / "missing.db"


def _a_folder(folder: Path) -> Path:
    return folder


def _no_database(folder: Path) -> Path:
    (folder / "letter.db").write_text("Dear Sir or Madam, " * 100)
    return folder / "letter.db"


@pytest.mark.parametrize(
    ("make", "words"),
    [(_missing, "there is no such file"), (_a_folder, "not a file"), (_no_database, "no SQLite file")],
)
def test_files_that_are_no_database(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    path = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    settings = {
        "filepath": str(path),
        "query": "SELECT 1 AS id, 2 AS c",
        "id_column": "id",
        "content_column": "c",
    }
    connector = get_connector("sqlite", settings)
    ok, message = connector.test_connection()
    assert not ok
    assert words in message
    with pytest.raises(ConfigurationError, match=words):
        list(connector.list_documents())
    connector.close()
    assert sorted(tmp_path.iterdir()) == before


def _write_rows(path: str, begun: Any, stop: Any) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        number = 1_000
        while not stop.is_set():
            connection.execute("INSERT INTO documents VALUES (?, 'new', '2026-01-15', 'x')", [number])
            number += 1
            begun.set()


def test_a_file_that_another_process_writes_to_can_be_read(sqlite: Database) -> None:
    sqlite.execute("PRAGMA journal_mode = WAL")
    sqlite.create()
    sqlite.insert(*((number, "old", MODIFIED, b"abc") for number in range(1_000)))
    spawn = multiprocessing.get_context("spawn")
    begun, stop = spawn.Event(), spawn.Event()
    writer = spawn.Process(target=_write_rows, args=(sqlite.settings()["filepath"], begun, stop))
    writer.start()
    try:
        assert begun.wait(60)
        connector = sqlite.connector()
        for _ in range(5):
            found = listed(connector)
            assert len(found) > 1_000
            assert fetched(connector, found["5"]) == b"abc"
        assert writer.is_alive()
    finally:
        stop.set()
        writer.join(60)
    assert writer.exitcode == 0


def test_a_connector_is_not_changed_by_closing_it_twice(database: Database) -> None:
    connector: Connector = database.connector()
    connector.close()
    connector.close()


def _assert_one_sentence(message: str) -> None:
    assert message
    assert "\n" not in message
    assert "Traceback" not in message
    assert "sqlalche.me" not in message
    assert "[SQL:" not in message
