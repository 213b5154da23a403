"""A transaction that is lost, or whose answer is, and therefore done again: nothing is imported or counted twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from citysort_dagster.store.models import Document, Import, ImportFailure
from sandbox.postgresql import PostgreSQLServer
from tests.importer.conftest import City

# Its connections can break at any moment.
pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


@contextmanager
def broken_once(
    city: City,
    server: PostgreSQLServer,
    answer_lost: bool = False,
    meanwhile: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """The connection of the first transaction ends just before it commits, or just before it learns that it has.
    What is to happen then happens before the transaction is done again."""
    broken: list[int] = []

    def end(connection: sa.Connection) -> None:
        if broken:
            return
        driver: Any = connection.connection.dbapi_connection
        broken.append(driver.info.backend_pid)
        if answer_lost:
            driver.commit()
        with server.connect() as other:
            other.execute("SELECT pg_terminate_backend(%s, 10000)", broken)
        meanwhile()

    sa.event.listen(city.database.engine, "commit", end)
    yield
    sa.event.remove(city.database.engine, "commit", end)
    assert broken


@pytest.mark.parametrize("answer_lost", [False, True])
def test_what_is_done_again_is_counted_once(
    city: City, postgresql_server: PostgreSQLServer, answer_lost: bool
) -> None:
    city.put("same.txt")
    city.put("other.txt")
    with broken_once(city, postgresql_server, answer_lost=answer_lost):
        _, summary = city.run(run_id="run-1")
    assert (summary.counts.listed, summary.counts.imported, summary.counts.skipped) == (2, 2, 0)

    city.put("other.txt", b"other content under the same date")
    with broken_once(city, postgresql_server, answer_lost=answer_lost):
        _, summary = city.run(run_id="run-2", reimport=True)
    assert (summary.counts.listed, summary.counts.imported, summary.counts.skipped) == (2, 1, 1)
    counts = [(row.listed, row.imported, row.skipped) for row in city.rows(Import)]
    assert sorted(counts) == [(2, 1, 1), (2, 2, 0)]
    documents = city.rows(Document)
    assert len(documents) == 3
    assert sorted(city.stored()) == sorted(row.path for row in documents)
    assert city.disagreements() == []


def test_what_another_import_brings_meanwhile_is_counted_there(
    city: City, postgresql_server: PostgreSQLServer
) -> None:
    city.put("permit.txt")
    others = []
    with broken_once(city, postgresql_server, meanwhile=lambda: others.append(city.run()[1])):
        _, summary = city.run()
    assert [(one.counts.imported, one.counts.skipped) for one in others] == [(1, 0)]
    assert (summary.counts.imported, summary.counts.skipped) == (0, 1)
    (document,) = city.rows(Document)
    assert city.stored() == [document.path]
    assert city.disagreements() == []


@pytest.mark.parametrize("day", [9, 11], ids=["dated earlier", "dated later"])
def test_a_version_that_another_import_brings_meanwhile_leaves_no_stray_file(
    city: City, postgresql_server: PostgreSQLServer, day: int
) -> None:
    """By its date, the version listed first may not be overtaken: it would then supersede the other one, under
    another name than the one that its file has already."""
    city.put("permit.txt", day=10)
    city.put("other.txt")

    def change() -> None:
        city.put("permit.txt", b"another version", day=day)
        city.run()

    with broken_once(city, postgresql_server, meanwhile=change):
        _, summary = city.run()
    assert (summary.counts.listed, summary.counts.imported) == (2, 0)
    assert (summary.counts.skipped, summary.counts.failed) == ((1, 1) if day == 9 else (2, 0))
    assert ["another version" in problem.reason for problem in summary.problems] == [True] * (day == 9)
    assert len(city.rows(ImportFailure)) == (day == 9)

    _, summary = city.run()
    assert (summary.counts.listed, summary.counts.skipped, summary.counts.failed) == (2, 2, 0)
    assert city.rows(ImportFailure) == []
    newest = {row.external_id: row for row in city.rows(Document, Document.superseded_by.is_(None))}
    assert newest["permit.txt"].size == len(b"another version")
    assert sorted(city.stored()) == sorted(row.path for row in newest.values())
    assert city.disagreements() == []
