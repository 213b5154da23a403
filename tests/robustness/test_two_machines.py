"""Two machines that share the documents database and a bucket for the files, as each has its own data folder."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import sqlalchemy as sa

from citysort_dagster.files import Staging, open_file_store, stored_path
from citysort_dagster.import_batch import document_id
from citysort_dagster.store.database import Database
from citysort_dagster.store.models import Document
from sandbox.s3 import S3Server
from tests.importer.conftest import SOURCE, City
from tests.importer.folder_connector import Folder

WAIT_SECONDS = 3


@pytest.fixture
def files_url(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "AWS_REGION": s3_server.region,
        "AWS_ENDPOINT_URL": s3_server.endpoint_url,
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"files-{uuid.uuid4()}"
    s3_server.create_bucket(bucket)
    return f"s3://{bucket}"


@pytest.fixture
def ours(city: City, files_url: str) -> City:
    city.files = open_file_store(files_url, city.data / "incoming")
    return city


@pytest.fixture
def theirs(ours: City, files_url: str, tmp_path: Path) -> Iterator[City]:
    """The same city seen from the other machine, on which nothing has been imported yet."""
    folder = tmp_path / "other machine"
    folder.mkdir()
    database = Database(ours.database.url.render_as_string(hide_password=False))
    city = replace(ours, data=folder, database=database)
    city.files = open_file_store(files_url, folder / "incoming")
    yield city
    database.close()


def path_of(city: City, name: str) -> str:
    """Where the file of a document is stored that is about to be imported for the first time."""
    (listed,) = [document for document in city.connector().list_documents() if document.filename == name]
    return stored_path(document_id(SOURCE, listed.external_id, listed.version, None), name)


def leave_behind(city: City, path: str) -> None:
    """What a process leaves that dies between storing a file and its transaction."""
    with Staging(city.files) as died:
        staged = died.new_file()
        staged.write_bytes(b"content")
        died.journal([path])
        city.files.publish([(staged, path)])


def test_what_one_machine_left_behind_and_the_other_commits_stays(ours: City, theirs: City) -> None:
    """Theirs died between storing a file and its transaction. Ours has stored the same document and is about to
    commit it when theirs sweeps."""
    ours.put("permit.txt")
    path = path_of(ours, "permit.txt")
    leave_behind(theirs, path)
    assert list(ours.stored()) == [path]

    sweeping = Thread(target=theirs.run)

    def sweep(_connection: sa.Connection) -> None:
        if sweeping.ident is None:
            sweeping.start()
            sweeping.join(WAIT_SECONDS)  # unless it waits for us

    sa.event.listen(ours.database.engine, "commit", sweep)
    _, summary = ours.run()
    sweeping.join()
    assert summary.counts.imported == 1
    (document,) = ours.rows(Document)
    assert document.path == path
    assert list(ours.stored()) == [path]
    assert ours.disagreements() == []
    assert not Staging(theirs.files).has_company()


def test_what_one_machine_sweeps_before_the_other_has_committed_is_fetched_again(
    ours: City, theirs: City, tmp_path: Path
) -> None:
    """Theirs died as before. Ours has stored the same document, loses its transaction, and is to do it again."""
    ours.put("permit.txt")
    ours.put("other.txt")
    leave_behind(theirs, path_of(ours, "permit.txt"))
    (tmp_path / "empty").mkdir()
    transactions = 0

    def lose(_connection: sa.Connection) -> None:
        if transactions == 1:
            raise sa.exc.OperationalError(None, None, sqlite3.OperationalError("database is locked"))

    def sweep(_connection: sa.Connection, options: Mapping[str, object]) -> None:
        nonlocal transactions
        transactions += bool(options.get("citysort_write"))
        if transactions == 2:
            theirs.run(Folder(path=str(tmp_path / "empty")))

    sa.event.listen(ours.database.engine, "commit", lose)
    sa.event.listen(ours.database.engine, "set_connection_execution_options", sweep)
    _, summary = ours.run()
    assert (summary.counts.imported, summary.counts.failed) == (1, 1)
    assert "its file was removed again" in summary.problems[0].reason
    assert ours.disagreements() == []

    _, summary = ours.run()
    assert (summary.counts.imported, summary.counts.skipped, summary.counts.failed) == (1, 1, 0)
    assert sorted(ours.stored()) == sorted(row.path for row in ours.rows(Document))
    assert ours.disagreements() == []
