"""Asking the sync log what is known: a batch of 1,000 documents, in a small and in a large database."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from benchmarks.measure import Contender, Work, compare
from benchmarks.tables import Table

if TYPE_CHECKING:
    from citysort_dagster.store.database import Database

SMALL, LARGE = 10_000, 1_000_000
BATCH = 1_000
BATCHES = 100
SOURCE = "benchmark"
AS_LISTED = "Each batch is a stretch of ids in their order, as listings of object stores bring them."


def run(rounds: int) -> Iterator[tuple[str, Table]]:
    """The tables by name."""
    for name, shown, databases in (
        ("sync-log-sqlite", "SQLite", _sqlite),
        ("sync-log-postgresql", "PostgreSQL", _postgresql),
    ):
        with databases() as urls:
            for order, described in (
                ("listed", AS_LISTED),
                ("drawn", "Each batch is drawn from everywhere."),
            ):
                contenders = [
                    Contender(f"{rows:,} documents known", lookups, (urls[rows], rows, order))
                    for rows in (LARGE, SMALL)
                ]
                yield (
                    f"{name}-{order}",
                    Table(
                        f"Sync log on {shown}: {BATCHES} batches of {BATCH:,} documents, {order}",
                        described,
                        compare(contenders, BATCHES * BATCH, rounds),
                        baselines=[f"{SMALL:,} documents known"],
                        times=1.5,
                    ),
                )


def lookups(url: str, rows: int, order: str, folder: Path) -> Work:
    """Batches of lookups, as an import makes them."""
    from citysort_dagster.store import sync_log
    from citysort_dagster.store.database import Database

    database = Database(url)
    drawn = random.Random(1)  # noqa: S311 - no secrets
    if order == "listed":
        starts = [drawn.randrange(rows - BATCH) for _ in range(BATCHES)]
        batches = [[_external_id(start + nth) for nth in range(BATCH)] for start in starts]
    else:
        batches = [list(map(_external_id, drawn.sample(range(rows), BATCH))) for _ in range(BATCHES)]

    def work() -> int:
        found = 0
        for ids in batches:
            with database.read() as connection:
                found += len(sync_log.lookup(connection, SOURCE, ids))
        return found

    return work


def fill(
    database: Database, rows: int, source: str = SOURCE, prefix: str = "s3://records/documents/"
) -> None:
    """Adds documents and their sync-log entries, without files. Versions are `v` and the number."""
    if database.is_sqlite:
        numbers = (
            "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < :rows - 1)"
        )
        padded, identifier = (
            "printf('%07d', n)",
            "printf('%08x-0000-5000-8000-%012x', (n * 2654435761) % 4294967296, n)",
        )
    else:
        numbers = "WITH numbers AS (SELECT generate_series(0, CAST(:rows AS int) - 1) AS n)"
        padded = "lpad(CAST(n AS text), 7, '0')"
        identifier = (
            "lpad(to_hex((CAST(n AS bigint) * 2654435761) % 4294967296), 8, '0')"
            " || '-0000-5000-8000-' || lpad(to_hex(n), 12, '0')"
        )
    external_id = f"'{prefix}' || {padded} || '.pdf'"
    at = "'2026-01-01 00:00:00.000000'" if database.is_sqlite else "TIMESTAMPTZ '2026-01-01 00:00:00Z'"
    nothing, none = json.dumps({}), json.dumps([])
    documents = {
        "id": identifier,
        "source": f"'{source}'",
        "connector_type": "'amazon_s3'",
        "external_id": external_id,
        "version": "'v' || n",
        "filename": f"{padded} || '.pdf'",
        "content_type": "'application/pdf'",
        "size": "20000",
        "sha256": f"'{'0' * 64}'",
        "path": f"substr({identifier}, 1, 2) || '/' || {identifier}",
        "source_modified_at": at,
        "source_metadata": f"'{nothing}'",
        "partition": "'2026-01-01'",
        "run_id": "'filled'",
        "imported_at": at,
        "status": "'routed'",
        "stage": "'queued'",
        "fields": f"'{nothing}'",
        "review_reasons": f"'{none}'",
    }
    entries = {
        "source": f"'{source}'",
        "external_id": external_id,
        "version": "'v' || n",
        "document_id": identifier,
        "synced_at": at,
        "run_id": "'filled'",
    }

    def insert(connection: sa.Connection) -> None:
        for table, columns in (("documents", documents), ("connector_sync_log", entries)):
            names, values = ", ".join(columns), ", ".join(columns.values())
            statement = f"INSERT INTO {table} ({names}) {numbers} SELECT {values} FROM numbers"  # noqa: S608 - ours
            connection.execute(sa.text(statement), {"rows": rows})

    database.write(insert)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE" if database.is_sqlite else "VACUUM ANALYZE"))


def _external_id(number: int) -> str:
    return f"s3://records/documents/{number:07}.pdf"


@contextmanager
def _sqlite() -> Iterator[dict[int, str]]:
    with tempfile.TemporaryDirectory(prefix="citysort-benchmark-") as folder:
        yield {rows: _filled(f"sqlite:///{folder}/{rows}.db", rows) for rows in (SMALL, LARGE)}


@contextmanager
def _postgresql() -> Iterator[dict[int, str]]:
    from sandbox.postgresql import postgresql_server

    with postgresql_server() as server:
        urls = {rows: server.create_database() for rows in (SMALL, LARGE)}
        yield {rows: _filled(url.render_as_string(hide_password=False), rows) for rows, url in urls.items()}


def _filled(url: str, rows: int) -> str:
    from citysort_dagster.store.database import Database

    database = Database(url)
    database.migrate()
    fill(database, rows)
    database.close()
    return url
