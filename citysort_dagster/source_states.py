"""How the sources stand: what a person wants to see of each at one glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from citysort_dagster.freshness import freshness
from citysort_dagster.source_configs import SourceConfig, load_sources
from citysort_dagster.store.database import Database
from citysort_dagster.store.models import Import, ImportFailure, SyncLogEntry
from citysort_dagster.store.sync_log import now

DAYS = 30

State = Literal["disabled", "failing", "never synced", "late", "fresh"]


@dataclass(frozen=True)
class SourceState:
    """A source and how it stands. `reason` says in one sentence why, where there is something to say.

    `documents` are those it has now, superseded ones not counted; `failures` those that could not be
    imported, `refused` those that are not by rule. `days` are the last thirty (UTC), the present one
    last, with how many documents arrived on each.
    """

    source: SourceConfig
    state: State
    reason: str
    last_run_id: str | None
    documents: int
    failures: int
    refused: int
    days: Sequence[tuple[date, int]]


def source_states(database: Database) -> list[SourceState]:
    """Every source, by name. Raises DatabaseError."""
    sources = load_sources(database)
    with database.read() as connection:
        last = _last_imports(connection)
        # One entry for each current document: counted in a twentieth of the time that documents take.
        documents = _counts(connection, SyncLogEntry.source, sa.true())
        failures = _counts(connection, ImportFailure.source, ImportFailure.refused.is_(False))
        refused = _counts(connection, ImportFailure.source, ImportFailure.refused.is_(True))
        arrivals = _arrivals(connection)
    found = []
    for source in sources:
        state, reason = _state(source, last.get(source.name))
        row = last.get(source.name)
        found.append(
            SourceState(
                source,
                state,
                reason,
                row.run_id if row else None,
                documents.get(source.name, 0),
                failures.get(source.name, 0),
                refused.get(source.name, 0),
                _filled(arrivals.get(source.name, {})),
            )
        )
    return found


def source_state(database: Database, name: str) -> SourceState | None:
    """The source of that name, None when there is none. Raises DatabaseError."""
    return next((state for state in source_states(database) if state.source.name == name), None)


def _state(source: SourceConfig, last: sa.Row[Any] | None) -> tuple[State, str]:
    if not source.enabled:
        return "disabled", "It is disabled: nothing imports it."
    if last is not None and last.status in ("failed", "incomplete", "interrupted"):
        return "failing", f"The last import failed: {last.error or 'see its run'}."
    fresh, reason = freshness(source.schedule, source.last_sync_at, source.created_at)
    if last is None and source.last_sync_at is None:
        return "never synced", "Nothing has been imported from it yet."
    return ("fresh" if fresh else "late"), reason


def _last_imports(connection: sa.Connection) -> Mapping[str, sa.Row[Any]]:
    """The last import of each source that has one."""
    newest = (
        sa.select(Import.source, sa.func.max(Import.started_at).label("started_at"))
        .where(Import.started_at <= now())
        .group_by(Import.source)
        .subquery()
    )
    rows = connection.execute(
        sa.select(Import.source, Import.run_id, Import.status, Import.error, Import.started_at).join(
            newest, sa.and_(Import.source == newest.c.source, Import.started_at == newest.c.started_at)
        )
    )
    return {row.source: row for row in rows}


def _counts(connection: sa.Connection, column: Any, condition: Any) -> Mapping[str, int]:
    rows = connection.execute(sa.select(column, sa.func.count()).where(condition).group_by(column))
    return dict(rows.tuples().all())


def _arrivals(connection: sa.Connection) -> Mapping[str, Mapping[date, int]]:
    """How many documents each import of the last thirty days brought, by source and day."""
    rows = connection.execute(
        sa.select(Import.source, Import.started_at, Import.imported).where(
            Import.started_at >= _first_day(), Import.started_at <= now(), Import.imported > 0
        )
    )
    found: dict[str, dict[date, int]] = {}
    for row in rows:
        days = found.setdefault(row.source, {})
        days[row.started_at.date()] = days.get(row.started_at.date(), 0) + row.imported
    return found


def _first_day() -> datetime:
    return now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS - 1)


def _filled(arrivals: Mapping[date, int]) -> Sequence[tuple[date, int]]:
    first = _first_day().date()
    days = [first + timedelta(days=number) for number in range(DAYS)]
    return [(day, arrivals.get(day, 0)) for day in days]
