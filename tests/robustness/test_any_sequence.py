"""Any sequence of changes at the source and imports of any kind: what is imported is what a simple
model says, and the watermark never passes over a document."""

from __future__ import annotations

import hashlib
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from citysort_dagster.files import open_file_store
from citysort_dagster.import_batch import Counts, ImportRequest
from citysort_dagster.importer import CLOCKS_AGREE_WITHIN, NEVER, Importer
from citysort_dagster.partitions import Calendar
from citysort_dagster.store.database import Database
from citysort_dagster.store.models import ConnectorConfig, Document, Import, ImportFailure, SyncLogEntry
from citysort_dagster.store.sync_log import OVERLAP
from citysort_dagster.verify import verify
from connectors.base import Window
from tests.importer.conftest import SOURCE, City, make_city, new_database
from tests.robustness.archive_connector import Archive, ArchiveConnector, Crash, Mishaps, Version
from tests.robustness.conftest import folder_in_memory

DAYS = 5
NAMES = st.sampled_from("abcdefgh")
CONTENTS = st.sampled_from([b"", b"one", b"two", b"three" * 1000])
DAY = st.integers(-DAYS - 2, 2)
WINDOWS = st.tuples(st.none() | st.integers(-DAYS, 0), st.none() | st.integers(-DAYS, 1)).filter(
    lambda days: days[0] is None or days[1] is None or days[0] < days[1]
)
LIMITS = st.none() | st.integers(1, 4)
FAILING = st.frozensets(NAMES, max_size=3)
LOST = st.sampled_from([None] * 8 + [(number, learned) for number in (1, 2, 3) for learned in (False, True)])
"""Which transaction of an import fails, if any, and whether the database has committed it all the same."""


@dataclass
class Failing:
    """A failure as it should be recorded."""

    version: str
    partition: str
    attempts: int
    run_id: str


class AnySequence(RuleBasedStateMachine):
    """The machine holds the source, the installation, and the model of what is imported."""

    @initialize(batch_size=st.integers(1, 9))
    def begin(self, batch_size: int) -> None:
        self._folder = TemporaryDirectory(prefix="citysort-", dir=folder_in_memory())
        at = Path(self._folder.name)
        self.city: City = make_city(new_database(at), at / "source", at)
        self.files = open_file_store(str(at / "files"), at / "incoming")
        self.today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
        first = self.today - timedelta(days=DAYS)
        self.calendar = Calendar("daily", first.date(), self.today + timedelta(hours=1))
        self.batch_size = batch_size
        self.archive = Archive()
        self.removed: dict[str, Version] = {}
        self.former: dict[str, list[Version]] = {}
        self.honest: set[str] = set()
        self.changes = 0
        # The model.
        self.chains: dict[str, list[tuple[str, str]]] = {}
        self.failing: dict[str, Failing] = {}
        self.watermark: datetime | None = None

    def teardown(self) -> None:
        if hasattr(self, "city"):
            assert list(verify(self.city.database, self.files)) == []
            self.city.database.close()
            self._folder.cleanup()

    # The source

    def put(self, name: str, version: Version, honest: bool = False) -> None:
        if name in self.archive.holds:
            self.former.setdefault(name, []).append(self.archive.holds[name])
        self.archive.holds[name] = version
        self.honest.discard(name)
        if honest:
            self.honest.add(name)

    def date(self, day: int) -> datetime:
        """A time of that day that no other document has; today it is a time gone by."""
        self.changes += 1
        return self.today + timedelta(days=day, microseconds=self.changes)

    def token(self) -> str:
        self.changes += 1
        return f"v{self.changes}"

    @rule(name=NAMES, content=CONTENTS)
    def change_now(self, name: str, content: bytes) -> None:
        """As honest systems do: with the time of the change."""
        self.put(name, Version(self.token(), content, datetime.now(timezone.utc)), honest=True)

    @rule(name=NAMES, content=CONTENTS, day=DAY)
    def change_under_another_date(self, name: str, content: bytes, day: int) -> None:
        self.put(name, Version(self.token(), content, self.date(day)))

    @rule(name=NAMES, content=CONTENTS)
    def change_without_a_date(self, name: str, content: bytes) -> None:
        self.put(name, Version(self.token(), content, None))

    @precondition(lambda self: self.archive.holds)
    @rule(data=st.data(), day=DAY)
    def re_date(self, data: st.DataObject, day: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.archive.holds)))
        self.put(name, self.archive.holds[name]._replace(modified_at=self.date(day)))

    @precondition(lambda self: self.archive.holds)
    @rule(data=st.data(), content=CONTENTS)
    def change_unnoticed(self, data: st.DataObject, content: bytes) -> None:
        """Neither version nor date show it."""
        name = data.draw(st.sampled_from(sorted(self.archive.holds)))
        self.archive.holds[name] = self.archive.holds[name]._replace(content=content)

    @precondition(lambda self: self.archive.holds)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.archive.holds)))
        self.removed[name] = self.archive.holds.pop(name)
        self.honest.discard(name)

    @precondition(lambda self: self.removed)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.removed)))
        self.put(name, self.removed.pop(name))

    @precondition(lambda self: self.former)
    @rule(data=st.data())
    def return_to_a_former_version(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.former)))
        self.put(name, data.draw(st.sampled_from(self.former[name])))

    # Imports

    @rule(days=WINDOWS, limit=LIMITS, reimport=st.booleans(), fails=FAILING, lost=LOST)
    def import_a_window(
        self,
        days: tuple[int | None, int | None],
        limit: int | None,
        reimport: bool,
        fails: frozenset[str],
        lost: tuple[int, bool] | None,
    ) -> None:
        with losing(self.city.database, lost):
            self.import_as_the_model_says(self.window(days), limit, reimport, Mishaps(fails))

    @rule()
    def import_everything(self) -> None:
        self.import_as_the_model_says(Window())

    @rule(fails=FAILING, lost=LOST)
    def refresh(self, fails: frozenset[str], lost: tuple[int, bool] | None) -> None:
        start = self.watermark - OVERLAP if self.watermark else None
        with losing(self.city.database, lost):
            self.import_as_the_model_says(Window(start, None), mishaps=Mishaps(fails))

    @rule(days=WINDOWS, after=st.integers(0, 6), limit=LIMITS)
    def import_what_a_broken_listing_shows(
        self, days: tuple[int | None, int | None], after: int, limit: int | None
    ) -> None:
        self.import_as_the_model_says(self.window(days), limit, mishaps=Mishaps(breaks_after=after))

    @rule(days=WINDOWS, after=st.none() | st.integers(0, 6), partitions=st.integers(1, 4))
    def crash(self, days: tuple[int | None, int | None], after: int | None, partitions: int) -> None:
        """Some documents are imported, some not, each wholly; and nothing else changes."""
        window = self.window(days)
        importer, run_id = self.importer(window, None, False, Mishaps(crashes_after=after))
        would_be = {name: (held.token, digest(held.content)) for name, held in self.archive.listing(window)}
        run = importer.run()
        try:
            for _ in range(partitions):
                next(run)
        except (Crash, StopIteration):
            return self.adopt(would_be, run_id)
        run.close()  # type: ignore[attr-defined]
        return self.adopt(would_be, run_id)

    def window(self, days: tuple[int | None, int | None]) -> Window:
        start, end = (None if day is None else self.today + timedelta(days=day) for day in days)
        return Window(start, end)

    def importer(
        self, window: Window, limit: int | None, reimport: bool, mishaps: Mishaps
    ) -> tuple[Importer, str]:
        run_id = str(uuid.uuid4())
        request = ImportRequest(SOURCE, run_id, window, self.calendar.between(window), limit, reimport)
        connector = ArchiveConnector(concurrency=2).reads(self.archive, mishaps)
        importer = Importer(
            request,
            connector,
            self.city.database,
            self.files,
            self.calendar,
            batch_size=self.batch_size,
        )
        return importer, run_id

    def import_as_the_model_says(
        self,
        window: Window,
        limit: int | None = None,
        reimport: bool = False,
        mishaps: Mishaps | None = None,
    ) -> None:
        mishaps = mishaps or Mishaps()
        importer, run_id = self.importer(window, limit, reimport, mishaps)
        present = datetime.now(timezone.utc)
        completed = list(importer.run())
        summary = importer.summary
        counts, limited, broken = self.model_import(window, limit, reimport, mishaps, run_id, present)
        assert summary.counts == counts
        assert summary.limited == limited
        assert (summary.incomplete is not None) == broken
        assert sum(one.listed for one in summary.partitions.values()) == counts.listed
        if not (limited or broken):
            assert set(self.calendar.between(window)) <= set(completed)
        (row,) = self.city.rows(Import, Import.run_id == run_id)
        assert row.status == ("limited" if limited else "incomplete" if broken else "complete")
        assert Counts(row.listed, row.imported, row.skipped, row.failed, row.bytes) == counts

    def model_import(
        self,
        window: Window,
        limit: int | None,
        reimport: bool,
        mishaps: Mishaps,
        run_id: str,
        present: datetime,
    ) -> tuple[Counts, bool, bool]:
        counts = Counts()
        begun = 0
        dates = []
        for number, (name, held) in enumerate(self.archive.listing(window)):
            if number == mishaps.breaks_after:
                return counts, False, True
            version = (held.token, digest(held.content))
            chain = self.chains.setdefault(name, [])
            is_known = bool(chain) and chain[-1][0] == held.token
            if (not is_known or reimport) and begun == limit:
                return counts, True, False
            counts.listed += 1
            if held.modified_at is not None and held.modified_at <= present:
                dates.append(held.modified_at)
            if is_known and not reimport:
                counts.skipped += 1
                continue
            begun += 1
            if name in mishaps.fails:
                counts.failed += 1
                attempts = self.failing[name].attempts + 1 if name in self.failing else 1
                partition = self.calendar.key_of(held.modified_at or present)
                self.failing[name] = Failing(held.token, partition, attempts, run_id)
                continue
            self.failing.pop(name, None)
            if chain and chain[-1] == version:
                counts.skipped += 1
            else:
                chain.append(version)
                counts.imported += 1
                counts.bytes += len(held.content)
        self.model_complete(window, run_id, present, dates)
        return counts, False, False

    def model_complete(
        self, window: Window, run_id: str, present: datetime, dates: Sequence[datetime]
    ) -> None:
        covered = {key for key in self.calendar.keys if covers(window, self.calendar.window([key]))}
        for name, failing in list(self.failing.items()):
            if failing.run_id != run_id and (window == Window() or failing.partition in covered):
                del self.failing[name]
        until = max(dates, default=NEVER if window.start is None else None)
        if window.end is not None and window.end <= present - CLOCKS_AGREE_WITHIN:
            until = window.end
        joins = window.start is None or (self.watermark is not None and self.watermark >= window.start)
        if until is not None and joins and (self.watermark is None or self.watermark < until):
            self.watermark = until

    def adopt(self, would_be: dict[str, tuple[str, str]], run_id: str) -> None:
        """Takes over what a crashed import left, held to what it may have left."""
        found = self.imported()
        for name, chain in found.items():
            former = self.chains.get(name, [])
            if chain != former:
                assert chain == [*former, would_be[name]]
                self.chains[name] = chain
                self.failing.pop(name, None)
        rows = self.city.rows(Import, Import.run_id == run_id)
        if rows and rows[0].status == "complete":
            listed = self.archive.listing(Window(rows[0].window_start, rows[0].window_end))
            dates = [held.modified_at for _, held in listed if held.modified_at is not None]
            started = rows[0].started_at
            window = Window(rows[0].window_start, rows[0].window_end)
            self.model_complete(window, run_id, started, [date for date in dates if date <= started])

    # What must be so at any time

    def imported(self) -> dict[str, list[tuple[str, str]]]:
        """The versions of each document in the order in which they supersede each other."""
        rows = {row.id: row for row in self.city.rows(Document)}
        chains: dict[str, list[tuple[str, str]]] = {}
        seen = 0
        for row in rows.values():
            if row.supersedes is not None:
                continue
            chain = chains[row.external_id] = [(row.version, row.sha256)]
            seen += 1
            while row.superseded_by is not None:
                former, row = row, rows[row.superseded_by]
                assert row.supersedes == former.id
                chain.append((row.version, row.sha256))
                seen += 1
        assert seen == len(rows)
        return chains

    @invariant()
    def documents_are_what_the_model_says(self) -> None:
        if not hasattr(self, "city"):
            return
        expected = {name: chain for name, chain in self.chains.items() if chain}
        assert self.imported() == expected
        log = {row.external_id: row.version for row in self.city.rows(SyncLogEntry)}
        assert log == {name: chain[-1][0] for name, chain in expected.items()}
        failures = {
            row.external_id: Failing(row.version, row.partition, row.attempts, row.run_id)
            for row in self.city.rows(ImportFailure)
        }
        assert failures == self.failing
        (source,) = self.city.rows(ConnectorConfig.watermark)
        assert source.watermark == self.watermark

    @invariant()
    def no_watermark_passes_over_a_document(self) -> None:
        """What a system dated honestly is imported, or recorded as failed, or listed by the next refresh."""
        if not hasattr(self, "city") or self.watermark is None:
            return
        for name in self.honest:
            held = self.archive.holds[name]
            chain = self.chains.get(name)
            assert (
                (chain and chain[-1][0] == held.token)
                or name in self.failing
                or Window(self.watermark - OVERLAP, None).includes(held.modified_at)
            )


@contextmanager
def losing(database: Database, lost: tuple[int, bool] | None) -> Iterator[None]:
    """Has a transaction fail, which is then done again: before it is committed, or although it is."""
    if lost is None:
        yield
        return
    wanted, committed = lost
    seen = 0

    def fail(connection: sa.Connection) -> None:
        nonlocal seen
        seen += 1
        if seen == wanted:
            if committed:
                connection.exec_driver_sql("COMMIT")
                connection.exec_driver_sql("BEGIN")
            raise sa.exc.OperationalError(None, None, sqlite3.OperationalError("database is locked"))

    sa.event.listen(database.engine, "commit", fail)
    yield
    sa.event.remove(database.engine, "commit", fail)


def covers(window: Window, partition: Window) -> bool:
    starts = window.start is None or (partition.start is not None and window.start <= partition.start)
    ends = window.end is None or (partition.end is not None and window.end >= partition.end)
    return starts and ends


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


AnySequence.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestAnySequence = AnySequence.TestCase
