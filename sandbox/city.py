"""The two systems of the demo city: a SQLite records archive, and an S3 bucket that its scanners fill."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.documents import CityDocument

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_SCHEMA = """
CREATE TABLE departments (
    code TEXT PRIMARY KEY,
    folder TEXT NOT NULL UNIQUE
);
CREATE TABLE records (
    record_no TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    file_name TEXT NOT NULL,
    mime_type TEXT NOT NULL,
    department TEXT NOT NULL REFERENCES departments (code),
    body BLOB NOT NULL,
    received_at TEXT NOT NULL
);
CREATE INDEX records_received_at ON records (received_at);
CREATE TABLE retention_schedule (
    series TEXT PRIMARY KEY,
    description TEXT NOT NULL,
    years INTEGER NOT NULL
);
"""

_RETENTION = (
    ("BLD-01", "Building permits and plans", 99),
    ("CLK-04", "Requests for public records", 3),
    ("ENF-02", "Complaints and notices of violation", 5),
    ("FIN-07", "Business licenses", 7),
    ("HUM-03", "Applications for assistance", 6),
)


def build_archive(path: Path, documents: Sequence[CityDocument]) -> None:
    """Writes the records archive, replacing a former one only once the new one is complete.

    `records.received_at` is the document's modified_at, ISO 8601 in UTC (`2026-03-02T13:47:27Z`).
    Raises OSError or sqlite3.Error when the file cannot be written; a former archive then stays.
    """
    codes = {
        folder: f"D{number:02}" for number, folder in enumerate(sorted({d.folder for d in documents}), 1)
    }
    building = path.with_name(f".{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    building.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(building)) as archive, archive:
            archive.executescript(_SCHEMA)
            archive.executemany("INSERT INTO retention_schedule VALUES (?, ?, ?)", _RETENTION)
            archive.executemany("INSERT INTO departments VALUES (?, ?)", [(c, f) for f, c in codes.items()])
            archive.executemany(
                "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        f"R-{number:06}",
                        document.name.rpartition(".")[0] or document.name,
                        document.name,
                        document.content_type,
                        codes[document.folder],
                        document.content,
                        f"{document.modified_at:%Y-%m-%dT%H:%M:%SZ}",
                    )
                    for number, document in enumerate(documents, 1)
                ],
            )
        building.replace(path)
    finally:
        building.unlink(missing_ok=True)


def fill_bucket(
    client: S3Client, bucket: str, documents: Sequence[CityDocument], prefix: str = "scans/"
) -> list[str]:
    """Puts each document at `<prefix><folder>/<name>` and returns the keys, in the documents' order.

    S3 dates an object by its upload; the document's own date goes into the object's metadata, as
    `scanned-at`. Raises botocore's ClientError when the server refuses one.
    """

    def put(document: CityDocument) -> str:
        key = f"{prefix}{document.folder}/{document.name}"
        client.put_object(
            Bucket=bucket,
            Key=key,
            Body=document.content,
            ContentType=document.content_type,
            Metadata={"scanned-at": document.modified_at.isoformat()},
        )
        return key

    with ThreadPoolExecutor(max_workers=8) as threads:
        return list(threads.map(put, documents))
