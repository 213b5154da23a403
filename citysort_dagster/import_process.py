"""The process of one import that the API has launched: `python -m citysort_dagster.import_process`.

What to import comes as JSON on standard input, where no list of processes shows it.
"""

from __future__ import annotations

import json
import sys
from datetime import date
from typing import Any

from citysort_dagster import launch
from citysort_dagster.settings import SettingsError
from citysort_dagster.source_configs import UnknownSource
from citysort_dagster.store.database import DatabaseError
from connectors.base import ConfigurationError


def main() -> int:
    """Runs it; the exit code is 0 unless it could not be launched, which a sentence on stderr explains."""
    order: dict[str, Any] = json.load(sys.stdin)
    try:
        launch.import_source(
            order["source"],
            date_from=_day(order["date_from"]),
            date_to=_day(order["date_to"]),
            limit=order["limit"],
            run_id=order["run_id"],
            override=order["override"],
        )
    except (ConfigurationError, DatabaseError, SettingsError, UnknownSource) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


if __name__ == "__main__":
    sys.exit(main())
