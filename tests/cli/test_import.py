"""`citysort import`, `process` and `failures`: real Dagster runs of a real database."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import Command

YAML = """sources:
  - name: archive
    connector: sqlite
    config:
      filepath: {folder}/archive.db
      query: SELECT id, name, content, modified FROM filings
      id_column: id
      filename_column: name
      content_column: content
      modified_column: modified
"""


@pytest.fixture
def archive(citysort: Command, tmp_path: Path) -> Path:
    """A source with three documents, the last of which is refused by its type."""
    file = tmp_path / "archive.db"
    rows = [
        (1, "complaint.txt", b"Complaint about noise at 12 Elm Street.", "2026-03-05T10:00:00Z"),
        (2, "request.txt", b"Freedom of information request.", "2026-04-06T10:00:00Z"),
        (3, "program.exe", b"MZ", "2026-04-07T10:00:00Z"),
    ]
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE filings (id INTEGER, name TEXT, content BLOB, modified TEXT)")
        database.executemany("INSERT INTO filings VALUES (?, ?, ?, ?)", rows)
    (tmp_path / "sources.yaml").write_text(YAML.format(folder=tmp_path) + "      allowed_types: [txt]\n")
    citysort.well("sources", "apply", "sources.yaml")
    return file


def test_importing_processing_and_repeating(citysort: Command, archive: Path) -> None:
    ran = citysort.well("import", "archive", "--from", "2026-03-01", "--to", "2026-03-31", "--json")
    first = json.loads(ran.out.splitlines()[-1])
    assert set(first) == {"source", "imported", "skipped", "failed", "errors", "warnings", "run_id"}
    assert (first["source"], first["imported"], first["failed"], first["errors"]) == ("archive", 1, 0, [])

    rest = citysort.well("import", "archive")
    assert rest.out.startswith("archive: 1 imported, 2 skipped, 0 failed (run ")
    documents = citysort.well("documents", "list", "--json").json
    assert {document["filename"] for document in documents} == {"complaint.txt", "request.txt"}
    assert first["run_id"] in {document["run_id"] for document in documents}

    (refused,) = citysort.well("failures", "list", "--json").json
    assert (refused["filename"], refused["refused"]) == ("program.exe", True)
    assert "program.exe" in citysort.well("failures", "list").out
    assert citysort.well("failures", "list", "--json", "--source", "other").json == []

    processed = citysort.well("process", "--json").json
    assert (processed["waiting"], processed["failure"]) == (2, None)
    statuses = {document["status"] for document in citysort.well("documents", "list", "--json").json}
    assert statuses <= {"routed", "needs_review"}
    assert citysort.well("process").out == "no document is waiting\n"

    with closing(sqlite3.connect(archive)) as database, database:
        database.execute("UPDATE filings SET name = 'program.txt' WHERE id = 3")
    retried = citysort.well("failures", "retry", "--json").json
    assert (retried["imported"], retried["failed"]) == (1, 0)
    assert citysort.well("failures", "retry").err == "nothing has failed\n"
    assert citysort.well("verify").code == 0


def test_a_disabled_source_is_not_imported(citysort: Command, archive: Path) -> None:
    citysort.well("sources", "disable", "archive")
    ran = citysort("import", "archive")
    assert (ran.code, ran.out) == (2, "")
    assert "the source archive is disabled" in ran.err


def test_documents_that_fail_are_exit_code_1_and_named(citysort: Command, archive: Path) -> None:
    with closing(sqlite3.connect(archive)) as database, database:
        database.execute("INSERT INTO filings VALUES (2, 'twin.txt', x'00', '2026-04-06T11:00:00Z')")
    ran = citysort("import", "archive", "--json")
    assert ran.code == 1
    outcome = json.loads(ran.out.splitlines()[-1])
    assert outcome["failed"] >= 1
    assert set(outcome["errors"][0]) == {"external_id", "filename", "reason"}
    assert outcome["errors"][0]["external_id"] == "2"


def test_a_source_that_cannot_be_listed_is_one_sentence(citysort: Command, archive: Path) -> None:
    archive.write_bytes(b"not a database " * 100)
    ran = citysort("import", "archive", "--json")
    assert ran.code in (2, 3)
    assert ran.err.startswith("citysort: ")
    assert "Traceback" not in ran.err
    assert json.loads(ran.out.splitlines()[-1])["imported"] == 0
