"""The demo city's archive and bucket hold exactly the documents they were given."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import pytest

from sandbox.city import build_archive, fill_bucket
from sandbox.documents import generate
from sandbox.s3 import S3Server

DOCUMENTS = generate(today=date(2026, 11, 20))


def rows(archive: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{archive}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def test_the_archive_holds_the_truth(tmp_path: Path) -> None:
    archive = tmp_path / "city" / "records.db"
    build_archive(archive, DOCUMENTS)
    held = rows(archive, "SELECT file_name, mime_type, body, received_at FROM records ORDER BY record_no")
    assert [row[:3] for row in held] == [(d.name, d.content_type, d.content) for d in DOCUMENTS]
    assert [datetime.fromisoformat(str(row[3]).replace("Z", "+00:00")) for row in held] == [
        d.modified_at for d in DOCUMENTS
    ]
    folders = rows(
        archive, "SELECT folder FROM records JOIN departments ON code = department ORDER BY record_no"
    )
    assert folders == [(d.folder,) for d in DOCUMENTS]
    assert rows(archive, "PRAGMA integrity_check") == [("ok",)]
    assert [path.name for path in archive.parent.iterdir()] == ["records.db"]


def test_a_failure_leaves_the_former_archive(tmp_path: Path) -> None:
    archive = tmp_path / "records.db"
    build_archive(archive, DOCUMENTS[:20])
    former = archive.read_bytes()
    unstorable = replace(DOCUMENTS[0], name="\ud800.pdf")
    with pytest.raises((sqlite3.Error, UnicodeError)):
        build_archive(archive, [*DOCUMENTS, unstorable])
    assert archive.read_bytes() == former
    assert list(tmp_path.iterdir()) == [archive]


def test_building_again_replaces_it(tmp_path: Path) -> None:
    archive = tmp_path / "records.db"
    build_archive(archive, DOCUMENTS)
    build_archive(archive, DOCUMENTS[:20])
    assert rows(archive, "SELECT count(*) FROM records") == [(20,)]


def test_the_bucket_holds_the_truth(s3_server: S3Server) -> None:
    s3_server.create_bucket("demo-city")
    client = s3_server.client()
    keys = fill_bucket(client, "demo-city", DOCUMENTS, prefix="incoming/scans/")
    listed = client.list_objects_v2(Bucket="demo-city", Prefix="incoming/scans/")["Contents"]
    assert sorted(entry["Key"] for entry in listed) == sorted(keys)
    assert len(set(keys)) == len(DOCUMENTS)
    for key, document in zip(keys, DOCUMENTS, strict=True):
        held = client.get_object(Bucket="demo-city", Key=key)
        assert held["Body"].read() == document.content
        assert held["ContentType"] == document.content_type
        assert held["Metadata"] == {"scanned-at": document.modified_at.isoformat()}
