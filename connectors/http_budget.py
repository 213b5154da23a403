"""The budget of a tenant, which all requests to it share, and how long a server wants to be left alone."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

LONGEST_PAUSE = 60.0
LONGEST_WAIT = 15 * 60.0
"""Seconds. A server that asks for a longer wait ends the run instead of making it sleep for hours."""
LONGEST_WAIT_OF_A_TEST = 5.0
"""Seconds. Somebody sits before a test of a connection."""
THROTTLED = {429, 503}


class Closed(Exception):
    """The tenant takes no requests for so many seconds, longer than anybody waits."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Budget:
    """What a tenant is asked at most, by all threads together: so many requests in flight, so many a
    minute, and none before the time that the server named. `first_pause`, in seconds, is the first of
    the growing ones for a server that names none."""

    def __init__(self, in_flight: int, per_minute: int | None, first_pause: float) -> None:
        self._places = threading.BoundedSemaphore(in_flight)
        self._lock = threading.Lock()
        self._interval = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._first_pause = first_pause
        self._opens_at = 0.0
        self._closures = 0
        self._in_a_row = 0

    @contextmanager
    def turn(self, longest_wait: float = LONGEST_WAIT) -> Iterator[int]:
        """Waits for a place and for the time; yields what `close` wants to know. Raises Closed."""
        with self._places:
            while True:
                with self._lock:
                    now = time.monotonic()
                    if self._opens_at - now > longest_wait:
                        raise Closed(self._opens_at - now)
                    wait = max(self._opens_at, self._next) - now
                    if wait <= 0:
                        self._next = now + self._interval
                        closures = self._closures
                        break
                time.sleep(wait)
            yield closures

    def close(self, turn: int, seconds: float | None) -> None:
        """Lets nobody begin for so many seconds, and no less than a time that grows as it happens again:
        servers name times that are over, or none (None)."""
        with self._lock:
            if turn == self._closures:  # the others that were under way do not count again
                self._closures += 1
                self._in_a_row += 1
            growing = min(self._first_pause * 2**self._in_a_row, LONGEST_PAUSE)
            growing *= random.uniform(0.75, 1)  # noqa: S311
            self._opens_at = max(self._opens_at, time.monotonic() + max(seconds or 0.0, growing))

    def succeeded(self) -> None:
        """The server is content again."""
        with self._lock:
            self._in_a_row = 0


def wait_asked_for(headers: Mapping[str, str]) -> float | None:
    """How many seconds the server wants to be left alone, None when it does not say.

    Retry-After in seconds or as a date (https://datatracker.ietf.org/doc/html/rfc9110#field.retry-after),
    else X-RateLimit-Reset: Unix time (ServiceNow) or ISO 8601 (Jira). RateLimit-Reset, in seconds,
    counts where it is longer
    (https://learn.microsoft.com/en-us/sharepoint/dev/general-development/how-to-avoid-getting-throttled-or-blocked-in-sharepoint-online).
    """
    now = _moment(headers.get("Date", "")) or datetime.now(timezone.utc)
    asked = _seconds(headers.get("Retry-After", ""), now)
    if asked is None:
        asked = _seconds(headers.get("X-RateLimit-Reset", ""), now)
    reset = _seconds(headers.get("RateLimit-Reset", ""), now)
    return asked if reset is None else max(asked or 0.0, reset)


def _seconds(value: str, now: datetime) -> float | None:
    value = value.strip()
    if re.fullmatch(r"\d{1,15}(\.\d+)?", value):
        number = float(value)
        if number > 1e11:  # milliseconds since 1970
            number /= 1000
        # Nobody means thirty years: it is a time, not a while.
        return max(0.0, number - now.timestamp()) if number > 1e9 else number
    moment = _moment(value)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def _moment(value: str) -> datetime | None:
    for read in (parsedate_to_datetime, lambda text: datetime.fromisoformat(text.replace("Z", "+00:00"))):
        try:
            moment = read(value)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return None
