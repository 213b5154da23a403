"""What every endpoint may ask for."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from citysort_dagster.installation import Installation


def _installation(request: Request) -> Installation:
    found: Installation = request.app.state.installation
    return found


TheInstallation = Annotated[Installation, Depends(_installation)]
"""The installation that this server serves: `def endpoint(installation: TheInstallation)`."""
