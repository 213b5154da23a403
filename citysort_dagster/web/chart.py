"""A small chart of the days of a source, drawn by the server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

WIDTH, HEIGHT = 300, 36


class Bar(NamedTuple):
    """A rectangle, in the units of the drawing."""

    x: float
    y: float
    width: float
    height: float


class Chart(NamedTuple):
    """The bars, and the same in words."""

    bars: Sequence[Bar]
    words: str


def chart_of(days: Sequence[tuple[date, int]]) -> Chart:
    """One bar for each day on which something arrived."""
    most = max((count for _, count in days), default=0)
    step = WIDTH / max(len(days), 1)
    bars = []
    for number, (_, count) in enumerate(days):
        if count:
            height = max(2.0, round((HEIGHT - 2) * count / most, 1))
            bars.append(
                Bar(round(number * step + 1, 1), round(HEIGHT - height, 1), round(step - 2, 1), height)
            )
    total = sum(count for _, count in days)
    if not total:
        return Chart([], f"Nothing arrived in the last {len(days)} days.")
    busiest = max(days, key=lambda one: one[1])
    return Chart(
        bars,
        f"{total:,} documents arrived in the last {len(days)} days, most of them ({busiest[1]:,}) on {busiest[0]}.",
    )
