"""When a source counts as late."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from citysort_dagster.freshness import freshness

NIGHTLY = "0 3 * * *"


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 6, day, hour, minute, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("last_sync_at", "now", "fresh", "words"),
    [
        (at(10, 3, 5), at(10, 12), True, "Fresh: last imported whole at 2026-06-10 03:05 UTC"),
        (at(10, 3, 5), at(11, 3, 29), True, "Fresh"),  # it has half an hour
        (at(10, 3, 5), at(11, 3, 31), False, "03:05 UTC, due at 2026-06-11 03:00 UTC"),
        (at(11, 3, 31), at(11, 3, 31), True, "Fresh"),
        (at(10, 2, 59), at(10, 12), False, "due at 2026-06-10 03:00 UTC"),
        (None, at(10, 12), False, "Never imported whole; it was due at 2026-06-10 03:00 UTC (0 3 * * *)."),
    ],
)  # fmt: skip
def test_a_source_with_a_schedule(
    last_sync_at: datetime | None, now: datetime, fresh: bool, words: str
) -> None:
    found, reason = freshness(NIGHTLY, last_sync_at, created_at=at(1, 0), now=now)
    assert found is fresh
    assert words in reason


def test_a_new_source_is_not_late_before_its_time() -> None:
    assert freshness(NIGHTLY, None, created_at=at(10, 4), now=at(11, 3, 15)).fresh
    assert not freshness(NIGHTLY, None, created_at=at(10, 4), now=at(11, 3, 31)).fresh


def test_a_source_without_a_schedule_is_always_fresh() -> None:
    assert freshness(None, None, created_at=at(1, 0)).fresh


def test_a_schedule_that_never_comes_round_is_no_error() -> None:
    found = freshness("0 0 31 2,4 *", at(10, 3), created_at=at(1, 0), now=at(11, 3))
    assert found == (False, "Its schedule never comes round (0 0 31 2,4 *).")
