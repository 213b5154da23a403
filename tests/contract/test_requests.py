"""Refreshes of unchanged sources make no more calls than docs/requests.md says.

With a few hundred documents, to keep the tests quick: the figures do not depend on how many there are,
but for object stores, which are asked once for each thousand. That they hold for 10,000 is tested
with each connector.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

from connectors.base import Window
from connectors.registry import CONNECTOR_TYPES
from tests.contract.systems import System
from tests.importer.conftest import City

TABLE = Path(__file__).parents[2] / "docs" / "requests.md"
NOON = datetime(2026, 3, 8, 12, tzinfo=timezone.utc)
OVERLAP = timedelta(minutes=10)


def table() -> Mapping[tuple[str, str], tuple[str, int, int]]:
    """By connector type and way in: what is counted, the fewest calls, and those of a refresh that lists the
    newest documents again."""
    rows = re.findall(
        r"^\| `(\w+)`(?:, `([^`]+)`)? \| (\w+) \| (\d+)[^|]* \| (\d+)[^|]* \|",
        TABLE.read_text(),
        re.MULTILINE,
    )
    return {(name, way): (counted, int(fewest), int(usual)) for name, way, counted, fewest, usual in rows}


def test_the_table_names_every_connector() -> None:
    assert {connector_type for connector_type, _ in table()} == CONNECTOR_TYPES.keys()


def test_a_refresh_makes_no_more_calls_than_the_table_says(system: System, city: City) -> None:
    counted, fewest, usual = table()[system.connector_type, system.way_in]
    assert counted == system.counts
    count = 300 if system.dates_can_be_set and counted == "requests" else 60
    ids = [system.add(f"{n}.txt", b"content", NOON - timedelta(hours=n)) for n in range(count)]
    connector = system.connector()
    _, summary = city.refresh(connector) if connector.keeps_checkpoint else city.run(connector)
    assert (summary.counts.imported, summary.problems) == (count, [])
    newest = max(system.modified_at(id) for id in ids)
    for calls, start in ((fewest, newest + OVERLAP), (usual, newest - OVERLAP)):
        system.calls()
        if connector.keeps_checkpoint:
            _, summary = city.refresh(connector)
        else:
            _, summary = city.run(connector, window=Window(start) if connector.windowed else None)
        assert (summary.counts.imported, summary.problems, summary.incomplete) == (0, [], None)
        assert system.calls() == calls
