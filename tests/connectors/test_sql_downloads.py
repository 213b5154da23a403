"""Fetching the content of a row: whole, unaltered, of the version that was listed."""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from connectors.base import (
    ConfigurationError,
    Connector,
    DownloadFailed,
    DownloadRefused,
    NotImported,
    download_verified,
)
from connectors.sql import PIECE
from tests.connectors.sql_databases import Database, fetched, listed

MODIFIED = datetime(2026, 1, 15, 12, tzinfo=timezone.utc).replace(tzinfo=None)


class Discarding:
    """Takes bytes and keeps their digest only."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.largest = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.largest = max(self.largest, len(data))
        return len(data)


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 30_000_000])
def test_content_of_any_size_arrives_in_pieces(database: Database, size: int) -> None:
    content = random.Random(size).randbytes(size)  # noqa: S311
    database.create()
    database.insert((1, "plan.tif", MODIFIED, content), (2, "other", MODIFIED, b"x"))
    connector = database.connector()
    document = listed(connector)["1"]
    into = Discarding()
    tracemalloc.start()
    verified = download_verified(connector, document, into)  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert verified.size == size
    assert verified.sha256 == into.digest.hexdigest() == hashlib.sha256(content).hexdigest()
    assert into.largest <= PIECE
    assert peak < 6 * PIECE


def test_large_text_arrives_as_utf8(database: Database) -> None:
    text = "Überprüfung 東京 " * 400_000
    database.create(content="text")
    database.insert((1, "a.txt", MODIFIED, text))
    connector = database.connector()
    assert fetched(connector, listed(connector)["1"]) == text.encode()


def test_text_of_another_encoding_arrives_as_utf8(mysql: Database, sqlite: Database) -> None:
    mysql.execute(
        "CREATE TABLE documents (id int, name text, modified datetime, content text CHARACTER SET latin1)"
    )
    with closing(sqlite3.connect(sqlite.settings()["filepath"])) as connection:
        connection.execute("PRAGMA encoding = 'UTF-16'")
        connection.execute("CREATE TABLE documents (id, name, modified, content)")
    for database in (mysql, sqlite):
        database.insert((1, "a", MODIFIED, "Straße"))
        connector = database.connector()
        document = listed(connector)["1"]
        assert document.size == len("Straße".encode())
        assert fetched(connector, document) == "Straße".encode()


def test_large_objects_are_read_by_lo_get_and_their_numbers_are_no_content(postgresql: Database) -> None:
    content = random.Random(1).randbytes(PIECE + 1)  # noqa: S311
    postgresql.create(content="bytes")
    postgresql.insert((1, "plan.tif", MODIFIED, content))
    postgresql.execute("ALTER TABLE documents ALTER content TYPE oid USING lo_from_bytea(0, content)")
    numbers = postgresql.connector()
    with pytest.raises(ConfigurationError, match=r"select lo_get\(content\) in the query instead"):
        listed(numbers)
    assert not numbers.test_connection().ok
    connector = postgresql.connector("SELECT id, name, modified, lo_get(content) AS content FROM documents")
    document = listed(connector)["1"]
    assert fetched(connector, document) == content


def test_threads_download_at_once(database: Database) -> None:
    database.create()
    contents = {str(number): b"%d" % number * 5_000 for number in range(60)}
    database.insert(*((int(name), "x", MODIFIED, content) for name, content in contents.items()))
    connector = database.connector(concurrency=8)
    found = listed(connector)
    with ThreadPoolExecutor(8) as pool:
        arrived = pool.map(lambda name: (name, fetched(connector, found[name])), contents)
        assert dict(arrived) == contents


def test_small_contents_come_many_at_once(database: Database) -> None:
    database.create()
    contents = {str(number): b"%d" % number * 1_000 for number in range(150)}
    database.insert(*((int(name), "x", MODIFIED, content) for name, content in contents.items()))
    connector = database.connector()
    found = listed(connector)
    arrived = {
        document.external_id: content for document, content in connector.download_batch([*found.values()])
    }
    assert arrived == contents
    assert connector.batched_bytes >= 1_000_000


def test_text_comes_as_utf8_and_empty_content_as_empty(database: Database) -> None:
    database.create(content="text")
    database.insert((1, "x", MODIFIED, "Straße 東京"), (2, "x", MODIFIED, ""), (3, "x", MODIFIED, None))
    connector = database.connector()
    arrived = {
        document.external_id: content
        for document, content in connector.download_batch([*listed(connector).values()])
    }
    assert arrived == {"1": "Straße 東京".encode(), "2": b""}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE documents SET content = NULL WHERE id = 1",
        "UPDATE documents SET name = 'v2' WHERE id = 1",
        "DELETE FROM documents WHERE id = 1",
        "UPDATE documents SET id = 1 WHERE id = 3",
    ],
)
def test_what_changed_since_it_was_listed_does_not_come_with_the_others(
    database: Database, change: str
) -> None:
    database.create()
    database.insert((1, "v1", MODIFIED, b"abc"), (2, "v1", MODIFIED, b"def"), (3, "v1", MODIFIED, b"ghi"))
    connector = database.connector(version_column="name")
    documents = list(listed(connector).values())
    database.execute(change)
    arrived = {document.external_id: content for document, content in connector.download_batch(documents)}
    assert "1" not in arrived
    assert arrived["2"] == b"def"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE documents SET content = NULL WHERE id = 1", "changed since it was listed"),
        ("UPDATE documents SET name = 'v2' WHERE id = 1", "changed since it was listed"),
        ("DELETE FROM documents WHERE id = 1", "the row is gone"),
        ("UPDATE documents SET id = 1", "its id stands 2 times"),
    ],
)
def test_a_row_that_changed_since_it_was_listed_fails(database: Database, change: str, reason: str) -> None:
    database.create()
    database.insert((1, "v1", MODIFIED, b"abc"), (2, "v1", MODIFIED, b"def"))
    stated = "version_column" if "name" in change else "content_type_column"
    connector = database.connector(**{stated: "name"})
    document = listed(connector)["1"]
    database.execute(change)
    with pytest.raises(DownloadFailed, match=reason):
        fetched(connector, document)


def test_a_row_whose_date_is_none_any_more_has_changed(sqlite: Database) -> None:
    sqlite.create()
    sqlite.insert((1, "a", MODIFIED, b"abc"), (2, "b", MODIFIED, b"def"))
    connector = sqlite.connector()
    documents = list(listed(connector).values())
    sqlite.execute("UPDATE documents SET modified = 'last Tuesday' WHERE id = 1")
    assert [document.external_id for document, _ in connector.download_batch(documents)] == ["2"]
    with pytest.raises(DownloadFailed, match="changed since it was listed"):
        fetched(connector, documents[-1])


def test_a_change_of_the_same_length_is_noticed_without_a_date(database: Database) -> None:
    database.create()
    database.insert((1, "a", None, b"abc"))
    connector = database.connector()
    document = listed(connector)["1"]
    database.execute("UPDATE documents SET content = 'abd'")
    with pytest.raises(DownloadFailed, match="changed since it was listed"):
        fetched(connector, document)


def test_a_row_without_content_fails(database: Database) -> None:
    database.create()
    database.insert((1, "a", MODIFIED, None), (2, "b", None, None), (3, "c", MODIFIED, b""))
    connector = database.connector()
    found = listed(connector)
    for name in ("1", "2"):
        with pytest.raises(DownloadFailed, match="content is NULL"):
            fetched(connector, found[name])
    assert fetched(connector, found["3"]) == b""


def test_errors_of_the_receiver_pass_through(database: Database) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    database.create()
    database.insert((1, "a", MODIFIED, b"abc"))
    connector = database.connector()
    document = listed(connector)["1"]
    with pytest.raises(OSError, match="No space left"):
        connector.download_document(document, Full())  # type: ignore[arg-type]
    assert fetched(connector, document) == b"abc"


def test_a_document_above_the_limit_is_refused_while_it_arrives(database: Database) -> None:
    database.create()
    database.insert((1, "a", MODIFIED, b"x" * 1_500_000))
    connector = database.connector(max_size_mb=1)
    document = listed(connector)["1"]._replace(size=None)
    with pytest.raises(DownloadRefused, match="larger than the limit of 1 MB"):
        fetched(connector, document)


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_after_the_connection_broke_downloads_work_again(request: pytest.FixtureRequest, kind: str) -> None:
    database: Database = request.getfixturevalue(kind)
    database.create()
    database.insert((1, "a", MODIFIED, b"abc"))
    connector = database.connector()
    document = listed(connector)["1"]
    database.disconnect_clients()
    with pytest.raises(DownloadFailed) as failure:
        fetched(connector, document)
    assert "\n" not in str(failure.value)
    assert fetched(connector, document) == b"abc"


# Files that rows name.


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "scans"
    (made / "2026").mkdir(parents=True)
    (made / "2026" / "plan.pdf").write_bytes(b"%PDF plan")
    (tmp_path / "secret.txt").write_text("not a scan")
    return made


def files(database: Database, root: Path, *paths: Any, **settings: Any) -> Connector:
    """A connector to rows that name these files."""
    database.create(content="text")
    database.insert(*((number, "a.pdf", MODIFIED, path) for number, path in enumerate(paths, 1)))
    given = {"content_column": None, "file_path_column": "content", "files_root": str(root), **settings}
    return database.connector(**given)


def test_files_have_their_own_size_time_and_version(database: Database, root: Path) -> None:
    os.utime(root / "2026" / "plan.pdf", ns=(0, 1_767_225_600_000_000_000))
    connector = files(database, root, "2026/plan.pdf", modified_column=None)
    [document] = listed(connector).values()
    assert document.size == 9
    assert document.modified_at == datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert document.version == "1767225600000000000-9"
    assert fetched(connector, document) == b"%PDF plan"


def test_the_date_column_goes_before_the_time_of_the_file(database: Database, root: Path) -> None:
    [document] = listed(files(database, root, "2026/plan.pdf")).values()
    assert document.modified_at == MODIFIED.replace(tzinfo=timezone.utc)


def _absolute(root: Path) -> str:
    return str(root / "2026" / "plan.pdf")


def _upwards(root: Path) -> str:
    return "2026/../../secret.txt"


def _inner_upwards(root: Path) -> str:
    return "2026/../2026/plan.pdf"


def _link_out(root: Path) -> str:
    (root / "link.txt").symlink_to(root.parent / "secret.txt")
    return "link.txt"


def _folder_link_out(root: Path) -> str:
    (root / "out").symlink_to(root.parent)
    return "out/secret.txt"


def _pipe(root: Path) -> str:
    os.mkfifo(root / "pipe")
    return "pipe"


def _folder(root: Path) -> str:
    return "2026"


def _device(root: Path) -> str:
    (root / "null").symlink_to("/dev/null")
    return "null"


def _empty(root: Path) -> str:
    return ""


@pytest.mark.parametrize(
    "path",
    [_absolute, _upwards, _inner_upwards, _link_out, _folder_link_out, _pipe, _folder, _device, _empty],
)
def test_paths_that_leave_the_folder_or_are_no_files_are_refused(
    sqlite: Database, root: Path, path: Callable[[Path], str]
) -> None:
    connector = files(sqlite, root, path(root), "2026/plan.pdf")
    found = listed(connector)
    refused = found["1"].not_imported
    assert refused is not None
    assert refused.refused
    assert "\n" not in refused.reason
    with pytest.raises(DownloadRefused):
        fetched(connector, found["1"])
    assert fetched(connector, found["2"]) == b"%PDF plan"


def test_a_link_that_stays_below_the_folder_is_followed(sqlite: Database, root: Path) -> None:
    (root / "latest.pdf").symlink_to("2026/plan.pdf")
    connector = files(sqlite, root, "latest.pdf")
    assert fetched(connector, listed(connector)["1"]) == b"%PDF plan"


def test_a_file_that_is_missing_fails_its_row_only(database: Database, root: Path) -> None:
    connector = files(database, root, "gone.pdf", "2026/plan.pdf", None)
    found = listed(connector)
    assert found["1"].not_imported == NotImported("there is no file 'gone.pdf' below files_root")
    assert found["2"].not_imported is None
    assert found["3"].not_imported == NotImported("the row names no file: content is NULL")


def test_a_file_that_changed_or_went_since_it_was_listed_fails(sqlite: Database, root: Path) -> None:
    connector = files(sqlite, root, "2026/plan.pdf")
    [document] = listed(connector).values()
    (root / "2026" / "plan.pdf").write_bytes(b"%PDF another plan")
    with pytest.raises(DownloadFailed, match="changed since it was listed"):
        fetched(connector, document)
    (root / "2026" / "plan.pdf").unlink()
    with pytest.raises(DownloadFailed, match="there is no file"):
        fetched(connector, document)


def test_a_link_put_in_place_after_the_listing_is_refused(sqlite: Database, root: Path) -> None:
    connector = files(sqlite, root, "2026/plan.pdf")
    [document] = listed(connector).values()
    (root / "2026" / "plan.pdf").unlink()
    (root / "2026" / "plan.pdf").symlink_to(root.parent / "secret.txt")
    with pytest.raises(DownloadRefused, match="leads out of files_root"):
        fetched(connector, document)


def test_names_of_any_bytes_are_found(sqlite: Database, root: Path) -> None:
    name = "Straße #1 %?\n.pdf"
    (root / name).write_bytes(b"odd")
    connector = files(sqlite, root, name)
    assert fetched(connector, listed(connector)["1"]) == b"odd"


def test_the_folder_must_be_there(sqlite: Database, tmp_path: Path) -> None:
    connector = files(sqlite, tmp_path / "nowhere", "a")
    with pytest.raises(ConfigurationError, match="files_root is not a folder"):
        list(connector.list_documents())
