"""A clock that is wrong, for a whole process."""

from __future__ import annotations

import sys
import time
from datetime import datetime as right
from datetime import timedelta, tzinfo
from typing import Any


class _Kind(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, right)


def set_clock(ahead: timedelta) -> None:
    """Puts the clock of this process ahead (or back), for every module that is loaded."""
    right_time = time.time

    class Wrong(right, metaclass=_Kind):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return right.now(tz) + ahead

    for module in list(sys.modules.values()):
        if module.__dict__.get("datetime") is right:
            module.__dict__["datetime"] = Wrong
    time.time = lambda: right_time() + ahead.total_seconds()
