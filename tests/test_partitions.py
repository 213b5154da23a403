"""Partitions, held against Dagster's own."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citysort_dagster.partitions import Calendar, Length
from connectors.base import Window

LENGTHS = get_args(Length)
FIRST = datetime(2022, 1, 1, tzinfo=timezone.utc)
LAST = datetime(2026, 12, 31, tzinfo=timezone.utc)

lengths = st.sampled_from(LENGTHS)
moments = st.integers(0, int((LAST - FIRST).total_seconds())).map(lambda s: FIRST + timedelta(seconds=s))
calendars = st.builds(
    lambda length, start, days, seconds: Calendar(
        length, start.date(), start + timedelta(days=days, seconds=seconds)
    ),
    lengths,
    moments,
    st.integers(0, 800),
    st.integers(0, 86_400),
)
windows = st.tuples(st.none() | moments, st.none() | moments).filter(
    lambda bounds: bounds[0] is None or bounds[1] is None or bounds[0] < bounds[1]
)


@given(lengths, moments, st.integers(0, 800), st.integers(0, 86_400))
def test_the_keys_are_dagsters(length: Length, start: datetime, days: int, seconds: int) -> None:
    midnight = start.replace(hour=0, minute=0, second=0)
    now = midnight + timedelta(days=days, seconds=seconds)
    calendar = Calendar(length, start.date(), now)
    assert calendar.keys == calendar.definition().get_partition_keys(current_time=now)


@pytest.mark.parametrize("length", LENGTHS)
def test_the_present_partition_is_there_from_its_first_moment(length: Length) -> None:
    beginning = datetime(2026, 6, 1, tzinfo=timezone.utc)  # a Monday
    before = Calendar(length, date(2026, 1, 1), beginning - timedelta(microseconds=1))
    assert before.keys[-1] < "2026-06-01"
    assert Calendar(length, date(2026, 1, 1), beginning).keys[-1] == "2026-06-01"


def test_a_start_that_is_yet_to_come_is_one_partition() -> None:
    calendar = Calendar("monthly", date(2027, 1, 1), datetime(2026, 6, 15, tzinfo=timezone.utc))
    assert calendar.keys == ["2027-01-01"]
    assert calendar.key_of(datetime(2026, 6, 15, tzinfo=timezone.utc)) == "2027-01-01"


@given(calendars, moments)
def test_a_moment_lies_in_the_window_of_its_partition_and_in_no_other(
    calendar: Calendar, moment: datetime
) -> None:
    key = calendar.key_of(moment)
    assert [other for other in calendar.keys if calendar.window([other]).includes(moment)] == [key]


@given(calendars, st.data())
def test_a_window_reaches_from_the_first_to_the_last_key(calendar: Calendar, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(calendar.keys) - 1))
    last = data.draw(st.integers(first, len(calendar.keys) - 1))
    window = calendar.window(calendar.keys[first : last + 1])
    assert window == Window(
        calendar.window([calendar.keys[first]]).start, calendar.window([calendar.keys[last]]).end
    )
    assert calendar.between(window) == calendar.keys[first : last + 1]


@given(calendars, windows)
def test_between_finds_every_partition_that_a_window_touches(
    calendar: Calendar, bounds: tuple[datetime | None, datetime | None]
) -> None:
    window = Window(*bounds)

    def touches(other: Window) -> bool:
        begins_before = window.end is None or other.start is None or other.start < window.end
        ends_after = window.start is None or other.end is None or other.end > window.start
        return begins_before and ends_after

    assert calendar.between(window) == [key for key in calendar.keys if touches(calendar.window([key]))]


def test_an_unknown_key_is_refused() -> None:
    calendar = Calendar("monthly", date(2026, 1, 1), datetime(2026, 6, 15, tzinfo=timezone.utc))
    with pytest.raises(
        ValueError,
        match=r"there is no partition 2026-03-02; the monthly partitions run from 2026-01-01 to 2026-06-01",
    ):
        calendar.window(["2026-03-01", "2026-03-02"])


@given(calendars, st.lists(moments, min_size=1, max_size=5), lengths, st.integers(-60, 60))
def test_what_another_calendar_assigned_belongs_to_exactly_one_partition(
    calendar: Calendar, when: list[datetime], length: Length, days: int
) -> None:
    former = Calendar(length, date(2021, 1, 1), LAST + timedelta(days=days))
    keys = {former.key_of(moment) for moment in when}
    holding = calendar.holding(keys)
    assert list(holding) == sorted(set(holding)) and set(holding) <= set(calendar.keys)
    for key in keys:
        (partition,) = calendar.holding([key])
        within = [one for one in calendar.keys if _is_within(key, calendar.reach([one]))]
        assert within == [partition]
    assert all(_is_within(key, calendar.reach(holding)) for key in keys)


def _is_within(key: str, bounds: tuple[str | None, str | None]) -> bool:
    first, following = bounds
    return (first is None or key >= first) and (following is None or key < following)
