"""Days as people write them."""

from __future__ import annotations

from datetime import date

FIRST, LAST = date(1900, 1, 1), date(2999, 12, 31)
"""Further off, neither every database nor Python can count a day more or less."""


def parse_day(text: str) -> date:
    """The day. Raises ValueError with a sentence."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a day: write YYYY-MM-DD") from None
    if not FIRST <= day <= LAST:
        raise ValueError(f"{text} is out of reach: give a day from {FIRST} to {LAST}")
    return day
