"""Whether a source has been imported when its schedule said."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from croniter import CroniterBadDateError, croniter

GRACE = timedelta(minutes=30)
"""How long after its time a scheduled import may take before its source counts as late."""


class Freshness(NamedTuple):
    """Fresh or not, and why, in one sentence."""

    fresh: bool
    reason: str


def freshness(
    schedule: str | None, last_sync_at: datetime | None, created_at: datetime, now: datetime | None = None
) -> Freshness:
    """Whether a source with this cron schedule (UTC), configured at `created_at` and last imported
    whole at `last_sync_at`, is fresh at `now`. A source without a schedule always is."""
    if schedule is None:
        return Freshness(True, "The source has no schedule.")
    now = now or datetime.now(timezone.utc)
    try:
        due: datetime = croniter(schedule, now - GRACE).get_prev(datetime)
    except CroniterBadDateError:  # February 30
        return Freshness(False, f"Its schedule never comes round ({schedule}).")
    if due <= created_at:
        return Freshness(True, f"Its schedule has not come round since it was configured ({schedule}).")
    if last_sync_at is None:
        return Freshness(False, f"Never imported whole; it was due at {due:%Y-%m-%d %H:%M} UTC ({schedule}).")
    last = f"last imported whole at {last_sync_at:%Y-%m-%d %H:%M} UTC"
    if last_sync_at > now:
        return Freshness(False, f"Unknown: {last}, which is yet to come: the clock was wrong ({schedule}).")
    if last_sync_at < due:
        return Freshness(False, f"Late: {last}, due at {due:%Y-%m-%d %H:%M} UTC ({schedule}).")
    return Freshness(True, f"Fresh: {last} ({schedule}).")
