"""Imports at once from several processes, and a database that is restarted or locked under them."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa

from citysort_dagster.store.database import Database
from citysort_dagster.store.models import Document
from connectors.base import Window
from sandbox import postgresql
from tests.dagster_ui.graphql import wait_for
from tests.importer.conftest import make_city
from tests.robustness.conftest import Town
from tests.robustness.importing import Importing, begin

PROCESSES = 8
DOCUMENTS = 240


def month(number: int) -> datetime:
    return datetime(2026, number, 1, tzinfo=timezone.utc)


OVERLAPPING = [
    Window(),
    Window(),
    Window(None, month(4)),
    Window(month(2), month(5)),
    Window(month(3), None),
    Window(month(1), month(7)),
    Window(month(2), month(3)),
    Window(),
]


def test_eight_imports_of_the_same_source_at_once(town: Town) -> None:
    names = [f"{number}.txt" for number in range(DOCUMENTS)]
    for changed in (names, names[:100]):
        town.change(changed)
        under_way = begin_together(town)
        ended = [importing.ended() for importing in under_way]
        assert [one.error for one in ended] == [None] * PROCESSES
        assert sum(one.counts.imported for one in ended) == len(changed)
        assert sum(one.counts.failed for one in ended) == 0
        for one in ended:
            assert one.counts.listed == one.counts.imported + one.counts.skipped
        town.assert_whole()


def test_eight_imports_at_once_half_of_which_are_killed(town: Town) -> None:
    town.change([f"{number}.txt" for number in range(DOCUMENTS)])
    for _ in range(5):
        under_way = begin_together(town)
        for importing in under_way[:4]:
            importing.kill_after(town.random.uniform(0, 0.2))
        ended = [importing.ended() for importing in under_way[4:]]
        assert [one.error for one in ended] == [None] * 4
        town.change_some(0.2)
    town.city.run()
    town.assert_whole()


@pytest.fixture
def server() -> Iterator[postgresql.PostgreSQLServer]:
    """A server of its own: it is restarted."""
    with postgresql.postgresql_server() as made:
        yield made


@pytest.fixture
def restarted(server: postgresql.PostgreSQLServer, tmp_path: Path) -> Iterator[Town]:
    database = Database(server.create_database().render_as_string(hide_password=False))
    database.migrate()
    yield Town(make_city(database, tmp_path / "source", tmp_path))
    database.close()


def test_a_database_restarted_in_the_middle_is_waited_for(
    restarted: Town, server: postgresql.PostgreSQLServer
) -> None:
    restarted.change([f"{number}.txt" for number in range(600)])
    with locked(restarted):
        importing = begin(restarted.task())
        wait_until_it_waits(restarted)
        restart(server, restarted)
    while importing.is_alive() and len(restarted.city.rows(Document.id)) < 200:
        time.sleep(0.01)
    restart(server, restarted)
    ended = importing.ended()
    assert (ended.error, ended.incomplete) == (None, None)
    assert (ended.counts.imported, ended.counts.skipped, ended.counts.failed) == (600, 0, 0)
    restarted.assert_whole()


def test_connections_that_break_at_any_moment_lose_and_double_nothing(
    restarted: Town, server: postgresql.PostgreSQLServer
) -> None:
    names = [f"{number}.txt" for number in range(600)]
    broken = 0
    while not broken:
        restarted.change(names)
        importing = begin(restarted.task())
        while importing.is_alive() and broken < 8:
            broken += server.disconnect_clients(str(restarted.city.database.url.database))
            time.sleep(restarted.random.uniform(0, 0.3))
        ended = importing.ended()
        assert (ended.error, ended.incomplete) == (None, None)
        assert (ended.counts.imported, ended.counts.skipped, ended.counts.failed) == (600, 0, 0)
        restarted.assert_whole()


def test_a_database_locked_for_seconds_is_waited_for(town: Town) -> None:
    town.change([f"{number}.txt" for number in range(300)])
    with locked(town):
        importing = begin(town.task())
        time.sleep(0.7)
        assert importing.is_alive()
    while importing.is_alive():
        with locked(town):
            time.sleep(0.7)
        time.sleep(0.05)
    ended = importing.ended()
    assert (ended.error, ended.counts.imported, ended.counts.failed) == (None, 300, 0)
    town.assert_whole()


def begin_together(town: Town) -> list[Importing]:
    under_way = [begin(town.task(window), waits=True) for window in OVERLAPPING]
    for importing in under_way:
        importing.go()
    return under_way


def wait_until_it_waits(town: Town) -> None:
    """Until something in the database waits for a lock."""
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")

    def look() -> int:
        with town.city.database.read() as connection:
            return int(connection.execute(waiting).scalar_one())

    wait_for("an import that waits for the lock", look)


def restart(server: postgresql.PostgreSQLServer, town: Town) -> None:
    if postgresql.VARIABLE in os.environ:
        server.disconnect_clients(str(town.city.database.url.database))
    else:
        server.restart()


@contextmanager
def locked(town: Town) -> Iterator[None]:
    """No other connection can write as long."""
    database = town.city.database
    if database.is_sqlite:
        with closing(sqlite3.connect(str(database.url.database), isolation_level=None, timeout=60)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            yield
            holder.execute("ROLLBACK")
        return
    with database.engine.connect() as connection:
        connection.execute(
            sa.text("LOCK TABLE documents, connector_sync_log, audit_events IN EXCLUSIVE MODE")
        )
        yield
        connection.invalidate()
