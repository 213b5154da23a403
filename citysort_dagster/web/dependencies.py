"""What every endpoint may ask for."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from citysort_dagster.installation import Installation
from citysort_dagster.pipeline.rules import PACKAGED, Rules, load_rules


def _installation(request: Request) -> Installation:
    found: Installation = request.app.state.installation
    return found


TheInstallation = Annotated[Installation, Depends(_installation)]
"""The installation that this server serves: `def endpoint(installation: TheInstallation)`."""


def _rules(installation: TheInstallation) -> Rules:
    path = installation.settings.rules_file or PACKAGED
    try:
        saved_at = path.stat().st_mtime_ns
    except OSError:
        saved_at = 0
    return _rules_as_saved(path, saved_at)


@lru_cache(maxsize=1)
def _rules_as_saved(path: Path, _saved_at: int) -> Rules:
    return load_rules(path)


TheRules = Annotated[Rules, Depends(_rules)]
"""The rules of document types and departments, as the file holds them now."""
