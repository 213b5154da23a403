"""Values as databases return them, made into ids, names and UTC times."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any

from dateutil.parser import isoparse

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_STARTS_WITH_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def is_blank(value: Any) -> bool:
    """Whether a value says nothing: NULL, no bytes, or text of nothing but spaces."""
    if isinstance(value, str):
        return not value.strip(" ")  # the blanks that databases trim, and no others
    return value is None or (isinstance(value, (bytes, bytearray, memoryview)) and len(value) == 0)


def as_text(value: Any) -> str | None:
    """A value as text that is the same every time: bytes in hex, dates in ISO format; None for NULL."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    return str(value)


def as_utc(value: Any, zone: tzinfo, *, second: bool = False) -> datetime | None:
    """The moment a value stands for, None for a blank one.

    Dates and times without an offset are local to `zone`: a time that occurs twice when clocks are
    set back is the first of the two, or the `second`; one that is skipped when they are set forward
    counts from before the change, or from after it. Dates are their midnight. Text is read as
    ISO 8601, numbers as seconds since 1970 (UTC). Raises ValueError for anything else.
    """
    if is_blank(value):
        return None
    try:
        if isinstance(value, str):
            value = _from_text(value)
        if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
            return _EPOCH + timedelta(microseconds=round(Decimal(value) * 1_000_000))
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)  # noqa: DTZ001 - gets its zone below
        if isinstance(value, datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=zone, fold=second)
            return aware.astimezone(timezone.utc)
    except (ValueError, ArithmeticError):
        pass
    raise ValueError(f"{str(value)[:60]!r} is not a date")


def _from_text(text: str) -> datetime:
    text = text.strip(" ")
    if not _STARTS_WITH_DATE.match(text):
        raise ValueError
    date_part, _, time_part = text.replace("T", " ").partition(" ")
    return isoparse(f"{date_part}T{time_part.replace(' ', '')}" if time_part else date_part)
