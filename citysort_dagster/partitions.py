"""The partitions that documents belong to: stretches of time of their last modification, UTC."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Literal

from connectors.base import Window

if TYPE_CHECKING:
    import dagster as dg

Length = Literal["monthly", "weekly", "daily"]


_FUTURE = datetime.max.replace(tzinfo=timezone.utc)


class Calendar:
    """The partitions from the first to the one that `now` (UTC) is in.

    The first also holds everything older, the last everything dated later.
    """

    def __init__(self, length: Length, start: date, now: datetime | None = None) -> None:
        self.length = length
        self._start = datetime(start.year, start.month, start.day, tzinfo=timezone.utc)
        self._starts: list[datetime] = []
        moment = _beginning(length, self._start)
        if moment < self._start:
            moment = _next(length, moment)
        while not self._starts or moment <= (now or datetime.now(timezone.utc)):
            self._starts.append(moment)
            moment = _next(length, moment)
        self.keys: Sequence[str] = [f"{moment:%Y-%m-%d}" for moment in self._starts]
        self._last = (_FUTURE, _FUTURE, "")
        """The partition asked for last, which mostly is the one that is asked for next."""

    def key_of(self, moment: datetime) -> str:
        """The key of the partition that a document modified at this moment belongs to."""
        start, end, key = self._last
        if not start <= moment < end:
            index = max(bisect_right(self._starts, moment) - 1, 0)
            key = self.keys[index]
            is_last = index == len(self.keys) - 1
            self._last = (self._starts[index], _FUTURE if is_last else self._starts[index + 1], key)
        return key

    def holding(self, keys: Iterable[str]) -> Sequence[str]:
        """The partitions, ascending, that hold what was assigned to these keys, which need not be among them:
        a clock that was ahead, or another setting of the partitions, named some that there are not."""
        moments = (datetime.fromisoformat(key).replace(tzinfo=timezone.utc) for key in keys)
        return sorted({self.key_of(moment) for moment in moments})

    def reach(self, keys: Sequence[str]) -> tuple[str | None, str | None]:
        """From which key on, and before which, everything assigned belongs into the partitions from the
        first to the last of these; None is without bound."""
        first, last = min(keys), max(keys)
        following = next((key for key in self.keys if key > last), None)
        return (first if first > self.keys[0] else None, following)

    def window(self, keys: Sequence[str]) -> Window:
        """The window from the first to the last of these keys (ascending).

        Raises ValueError for a key that there is not.
        """
        indexes = []
        for key in keys:
            if key not in self.keys:
                raise ValueError(
                    f"there is no partition {key}; the {self.length} partitions run from "
                    f"{self.keys[0]} to {self.keys[-1]}"
                )
            indexes.append(self.keys.index(key))
        first, last = min(indexes), max(indexes)
        return Window(
            None if first == 0 else self._starts[first],
            None if last == len(self.keys) - 1 else self._starts[last + 1],
        )

    def between(self, window: Window) -> Sequence[str]:
        """The keys of all partitions that a window touches, ascending."""
        first = 0 if window.start is None else max(bisect_right(self._starts, window.start) - 1, 0)
        if window.end is None:
            return self.keys[first:]
        last = bisect_right(self._starts, window.end - timedelta(microseconds=1))
        return self.keys[first : max(last, 1)]

    def definition(self) -> dg.TimeWindowPartitionsDefinition:
        """The same partitions for Dagster, the present one included."""
        import dagster as dg

        start = f"{self._start:%Y-%m-%d}"
        if self.length == "daily":
            return dg.DailyPartitionsDefinition(start_date=start, end_offset=1)
        if self.length == "weekly":
            return dg.WeeklyPartitionsDefinition(start_date=start, day_offset=1, end_offset=1)
        return dg.MonthlyPartitionsDefinition(start_date=start, end_offset=1)


def _beginning(length: Length, moment: datetime) -> datetime:
    if length == "daily":
        return moment
    if length == "weekly":
        return moment - timedelta(days=moment.weekday())
    return moment.replace(day=1)


def _next(length: Length, moment: datetime) -> datetime:
    if length == "daily":
        return moment + timedelta(days=1)
    if length == "weekly":
        return moment + timedelta(days=7)
    return (moment.replace(day=1) + timedelta(days=32)).replace(day=1)
