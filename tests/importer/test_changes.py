"""Imports of what has changed since the last one: the checkpoint moves with complete listings only, and
nothing that happened before it is missing."""

from __future__ import annotations

from collections.abc import Generator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from citysort_dagster import source_configs
from citysort_dagster.installation import Installation
from citysort_dagster.news import News, find_news
from citysort_dagster.settings import Settings
from citysort_dagster.store.database import DatabaseError
from citysort_dagster.store.models import (
    ConnectorConfig,
    Document,
    ImportFailure,
    SourceCheckpoint,
    SyncLogEntry,
)
from citysort_dagster.store.sync_log import now
from connectors.base import ExternalDocument, Reached, Window
from tests.importer.conftest import SOURCE, City, make_city, new_database
from tests.importer.ledger_connector import Ledger, LedgerConnector
from tests.robustness.archive_connector import Crash, Mishaps
from tests.robustness.conftest import folder_in_memory

LONG_AGO = datetime(2019, 1, 1, tzinfo=timezone.utc)
NAMES = st.sampled_from("abcdef")
FAILING = st.frozensets(NAMES, max_size=2)


def filled(count: int = 6) -> Ledger:
    ledger = Ledger()
    for number in range(count):
        ledger.put(f"{number}", b"%d" % number, LONG_AGO + timedelta(days=number))
    return ledger


def connector(ledger: Ledger, mishaps: Mishaps | None = None) -> LedgerConnector:
    return LedgerConnector(concurrency=2).reads(ledger, mishaps)


def test_a_refresh_takes_what_has_changed_whatever_its_date(city: City) -> None:
    ledger = filled()
    _, first = city.refresh(connector(ledger))
    assert (first.counts.imported, city.checkpoint()) == (6, "0:6")
    ledger.put("old", b"moved here", LONG_AGO - timedelta(days=900))
    ledger.put("2", b"changed", LONG_AGO)
    keys, second = city.refresh(connector(ledger))
    assert (second.counts.listed, second.counts.imported, city.checkpoint()) == (2, 2, "0:8")
    assert keys
    _, third = city.refresh(connector(ledger))
    assert (third.counts.listed, city.checkpoint()) == (0, "0:8")
    assert city.disagreements() == []


def test_an_import_of_a_window_moves_no_checkpoint(city: City) -> None:
    ledger = filled()
    city.run(connector(ledger))
    assert city.checkpoint() is None
    _, summary = city.refresh(connector(ledger))
    assert (summary.counts.skipped, city.checkpoint()) == (6, "0:6")


@pytest.mark.parametrize("after", [0, 3, 6])
def test_a_listing_that_breaks_off_moves_no_checkpoint(city: City, after: int) -> None:
    ledger = filled()
    _, summary = city.refresh(connector(ledger, Mishaps(breaks_after=after)))
    assert (summary.counts.imported, city.checkpoint()) == (after, None)
    city.refresh(connector(ledger))
    ledger.put("new", b"new", LONG_AGO)
    city.refresh(connector(ledger, Mishaps(breaks_after=1)))
    assert city.checkpoint() == "0:6"


def test_a_limit_moves_no_checkpoint_unless_it_was_never_met(city: City) -> None:
    ledger = filled()
    _, summary = city.refresh(connector(ledger), limit=5)
    assert (summary.limited, city.checkpoint()) == (True, None)
    _, summary = city.refresh(connector(ledger), limit=5)
    assert (summary.limited, summary.counts.imported, city.checkpoint()) == (False, 1, "0:6")


def test_the_checkpoint_is_in_the_transaction_of_the_last_documents(city: City) -> None:
    """Where it cannot be kept, they are not imported either."""

    def rename(former: str, latter: str) -> None:
        statement = sa.text(f"ALTER TABLE {former} RENAME TO {latter}")
        city.database.write(lambda connection: connection.execute(statement))

    class Ending(LedgerConnector):
        def list_changes(self, checkpoint: str | None) -> Generator[ExternalDocument, None, Reached]:
            reached = yield from super().list_changes(checkpoint)
            rename("source_checkpoints", "elsewhere")
            return reached

    ledger = filled()
    with pytest.raises(DatabaseError):
        city.refresh(Ending(concurrency=2).reads(ledger))
    rename("elsewhere", "source_checkpoints")
    assert (city.rows(Document), city.checkpoint(), city.watermark()) == ([], None, None)
    _, summary = city.refresh(connector(ledger))
    assert (summary.counts.imported, city.checkpoint()) == (6, "0:6")
    assert city.disagreements() == []


def test_documents_that_fail_are_left_to_the_retries(city: City) -> None:
    """The next refresh does not meet them again."""
    ledger = filled()
    city.refresh(connector(ledger, Mishaps(fails=frozenset("3"))))
    assert city.checkpoint() == "0:6"
    city.refresh(connector(ledger))
    (failure,) = city.rows(ImportFailure)
    assert (failure.external_id, failure.attempts, failure.next_try_at is not None) == ("3", 1, True)
    city.run(connector(ledger), window=Window(None, LONG_AGO + timedelta(days=30)))
    assert city.rows(ImportFailure) == []
    assert len(city.rows(Document)) == 6


def test_a_listing_of_everything_closes_the_failures_of_what_is_gone(city: City) -> None:
    ledger = filled()
    city.refresh(connector(ledger, Mishaps(fails=frozenset("3"))))
    ledger.remove("3")
    city.refresh(connector(ledger))
    assert len(city.rows(ImportFailure)) == 1
    city.forget_checkpoint()
    city.refresh(connector(ledger))
    assert city.rows(ImportFailure) == []


def test_a_source_that_forgot_is_listed_whole(city: City) -> None:
    ledger = filled()
    city.refresh(connector(ledger))
    ledger.epoch += 1
    ledger.put("new", b"new", LONG_AGO)
    _, summary = city.refresh(connector(ledger))
    assert (summary.started_over, summary.counts.listed, summary.counts.imported) == (True, 7, 1)
    assert city.checkpoint() == "1:7"
    _, summary = city.refresh(connector(ledger))
    assert (summary.started_over, summary.counts.listed) == (False, 0)


def test_settings_that_change_end_a_checkpoint(city: City) -> None:
    ledger = filled()
    city.refresh(connector(ledger))
    (row,) = city.rows(ConnectorConfig.updated_at, ConnectorConfig.name == SOURCE)
    reconfigure(city)
    assert city.checkpoint() is None
    # An import that began before knows nothing of it.
    city.refresh(connector(ledger), configured_at=row.updated_at)
    assert city.checkpoint() is None
    city.refresh(connector(ledger))
    assert city.checkpoint() == "0:6"


def test_a_source_that_is_removed_takes_its_checkpoint_along(city: City) -> None:
    city.refresh(connector(filled()))
    source_configs.remove_source(city.database, SOURCE)
    assert city.rows(SourceCheckpoint) == []


def news(city: City, found: LedgerConnector, seconds: float = 60) -> News:
    settings = Settings(data_dir=city.data, partitions_start=date(2026, 1, 1))
    return find_news(Installation(settings, city.database, city.files), SOURCE, found, now(), seconds)


def test_news_are_what_has_changed_since_the_checkpoint(city: City) -> None:
    ledger = filled()
    assert news(city, connector(ledger)).partitions == ["2026-01-01"]
    city.refresh(connector(ledger))
    found = connector(ledger)
    assert news(city, found) == News([], True, Reached("0:6"))
    assert found.listed == 0
    ledger.put("2", b"changed", datetime(2026, 3, 1, tzinfo=timezone.utc))
    assert news(city, found) == News(["2026-03-01"], True, Reached("0:7"))
    assert found.listed == 1
    assert news(city, connector(ledger), seconds=0) == News(["2026-03-01"], False)
    ledger.epoch += 1
    assert news(city, connector(ledger)).reached == Reached("1:7", started_over=True)


def reconfigure(city: City) -> None:
    city.database.write(
        lambda connection: connection.execute(
            sa.update(ConnectorConfig).where(ConnectorConfig.name == SOURCE).values(updated_at=now())
        )
    )


class AnyChanges(RuleBasedStateMachine):
    """Any sequence of changes, refreshes of any kind, imports of windows and changes of the settings."""

    @initialize()
    def begin(self) -> None:
        self._folder = TemporaryDirectory(prefix="citysort-", dir=folder_in_memory())
        at = Path(self._folder.name)
        self.city = make_city(new_database(at), at / "source", at)
        self.ledger = Ledger()
        self.checkpoint: str | None = None

    def teardown(self) -> None:
        if hasattr(self, "city"):
            assert self.city.disagreements() == []
            self.city.database.close()
            self._folder.cleanup()

    @rule(name=NAMES, content=st.binary(max_size=3), days=st.integers(-3_000, 3_000))
    def change(self, name: str, content: bytes, days: int) -> None:
        self.ledger.put(name, content, LONG_AGO + timedelta(days=days))

    @precondition(lambda self: self.ledger.holds)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        self.ledger.remove(data.draw(st.sampled_from(sorted(self.ledger.holds))))

    @rule()
    def forget(self) -> None:
        self.ledger.epoch += 1

    @rule()
    def reconfigure(self) -> None:
        reconfigure(self.city)
        self.checkpoint = None

    @rule(fails=FAILING)
    def refresh(self, fails: frozenset[str]) -> None:
        _, summary = self.city.refresh(connector(self.ledger, Mishaps(fails)))
        assert not (summary.limited or summary.incomplete)
        self.checkpoint = self.ledger.checkpoint

    @rule(limit=st.integers(1, 3))
    def refresh_with_a_limit(self, limit: int) -> None:
        _, summary = self.city.refresh(connector(self.ledger), limit=limit)
        if not summary.limited:
            self.checkpoint = self.ledger.checkpoint

    @rule(after=st.integers(0, 6))
    def refresh_that_breaks_off(self, after: int) -> None:
        _, summary = self.city.refresh(connector(self.ledger, Mishaps(breaks_after=after)))
        if summary.incomplete is None:
            self.checkpoint = self.ledger.checkpoint

    @rule(after=st.integers(0, 6))
    def refresh_that_crashes(self, after: int) -> None:
        try:
            self.city.refresh(connector(self.ledger, Mishaps(crashes_after=after)))
        except Crash:
            return
        self.checkpoint = self.ledger.checkpoint

    @rule(fails=FAILING, after=st.none() | st.integers(0, 6))
    def import_everything(self, fails: frozenset[str], after: int | None) -> None:
        self.city.run(connector(self.ledger, Mishaps(fails, breaks_after=after)))

    @invariant()
    def only_complete_listings_move_the_checkpoint(self) -> None:
        if hasattr(self, "city"):
            assert self.city.checkpoint() == self.checkpoint

    @invariant()
    def nothing_before_the_checkpoint_is_missing(self) -> None:
        if not hasattr(self, "city") or self.checkpoint is None:
            return
        number = int(self.checkpoint.partition(":")[2])
        known = {(row.external_id, row.version) for row in self.city.rows(SyncLogEntry)}
        known |= {(row.external_id, row.version) for row in self.city.rows(ImportFailure)}
        for name, held in self.ledger.holds.items():
            assert held.number > number or (name, str(held.number)) in known


AnyChanges.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestAnyChanges = AnyChanges.TestCase
