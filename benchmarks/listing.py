"""Listing a million documents that are all known: time and memory beside the listing alone."""

from __future__ import annotations

import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.measure import Contender, Work, compare
from benchmarks.tables import Table
from citysort_dagster.files import stored_path

DOCUMENTS = 1_000_000
PREFIX = "document "


def run(rounds: int) -> Iterator[tuple[str, Table]]:
    """The table, of one round: it takes minutes."""
    from benchmarks import sync_log
    from benchmarks.installation import open_database

    with tempfile.TemporaryDirectory(prefix="citysort-benchmark-") as folder:
        source = Path(folder) / "source.db"
        _make_source(source)
        database = open_database(Path(folder))
        sync_log.fill(database, DOCUMENTS, prefix=PREFIX)
        database.close()
        _store_a_file(Path(folder))
        contenders = [
            Contender("CitySort, import again", imports_again, (_settings(source), folder)),
            Contender("the same connector, listing only", lists, (_settings(source),)),
        ]
        yield (
            "listing",
            Table(
                f"Import again: {DOCUMENTS:,} documents, none changed",
                "The source is a SQLite file, so that the listing itself costs as little as possible.",
                compare(contenders, DOCUMENTS, 1),
                baselines=["the same connector, listing only"],
                times=2.0,
                most_mb=300,
            ),
        )


def imports_again(settings: dict[str, Any], installation: str, folder: Path) -> Work:
    """An import that finds that nothing has changed."""
    from benchmarks.installation import prepared_import

    return prepared_import("sqlite", settings, Path(installation))


def lists(settings: dict[str, Any], folder: Path) -> Work:
    """The connector's listing, thrown away."""
    from connectors import get_connector

    connector = get_connector("sqlite", settings)
    return lambda: sum(1 for _ in connector.list_documents())


def _settings(source: Path) -> dict[str, Any]:
    return {
        "filepath": str(source),
        "query": "SELECT id, version, content FROM documents",
        "id_column": "id",
        "version_column": "version",
        "content_column": "content",
    }


def _store_a_file(folder: Path) -> None:
    """An import into a store that has lost every file is refused."""
    stored = folder / "files" / stored_path(str(uuid.uuid4()), "a.pdf")
    stored.parent.mkdir(parents=True)
    stored.touch()


def _make_source(source: Path) -> None:
    with closing(sqlite3.connect(source)) as connection, connection:
        connection.execute(
            "CREATE TABLE documents (id text PRIMARY KEY, version text, content blob) WITHOUT ROWID"
        )
        connection.executemany(
            "INSERT INTO documents VALUES (?, ?, x'00')",
            ((f"{PREFIX}{number:07}.pdf", f"v{number}") for number in range(DOCUMENTS)),
        )
