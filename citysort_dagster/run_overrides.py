"""Configurations for one run only: sealed, opened once by the run that was launched with them.

A run knows the id of its override by a tag, and nothing else of it: run configuration, tags and
event logs can be read by whoever sees the Dagster UI.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from citysort_dagster import secrets
from citysort_dagster.settings import Settings
from citysort_dagster.source_configs import CONSOLE, SourceConfig
from citysort_dagster.store.database import Database
from citysort_dagster.store.models import RunOverride
from citysort_dagster.store.sync_log import now

OVERRIDE_TAG = "citysort/override"
LASTS = timedelta(hours=6)
"""How long a run may wait in the queue before its override is forgotten."""


class OverrideGone(Exception):
    """The override has been used, or has expired; one sentence."""


def keep_override(database: Database, settings: Settings, source: str, config: Mapping[str, Any]) -> str:
    """Seals a configuration, whose secrets are encrypted already, and returns the id it is kept under.

    Raises SecretUnavailable, DatabaseError.
    """
    override = str(uuid.uuid4())
    sealed = secrets.encrypt(json.dumps(dict(config)), settings)["encrypted"]

    def work(connection: sa.Connection) -> None:
        forget_expired(connection)
        if connection.execute(sa.select(RunOverride.id).where(RunOverride.id == override)).first() is None:
            connection.execute(
                sa.insert(RunOverride).values(
                    id=override, source=source, sealed=sealed, expires_at=now() + LASTS
                )
            )

    database.write(work)
    return override


def opened(database: Database, settings: Settings, source: SourceConfig, override: str) -> SourceConfig:
    """The source with the configuration of an override, which is gone with that.

    It reaches what the console's sources may. Raises OverrideGone, SecretUnavailable, DatabaseError.
    """
    found: list[str] = []

    def work(connection: sa.Connection) -> None:
        forget_expired(connection)
        sealed = connection.execute(
            sa.delete(RunOverride)
            .where(RunOverride.id == override, RunOverride.source == source.name)
            .returning(RunOverride.sealed)
        ).scalar()
        if sealed is not None:
            found.append(sealed)

    database.write(work)
    if not found:
        raise OverrideGone(
            "the configuration that this run was launched with served it once, or has expired: launch a new one"
        )
    config = json.loads(secrets.decrypt({"encrypted": found[-1]}, settings))
    return replace(source, config=config, origin=CONSOLE)


def drop_override(database: Database, override: str) -> None:
    """Forgets an override whose run was never launched. Raises DatabaseError."""
    database.write(
        lambda connection: connection.execute(sa.delete(RunOverride).where(RunOverride.id == override))
    )


def forget_expired(connection: sa.Connection) -> None:
    """Removes the overrides of runs that never came."""
    connection.execute(sa.delete(RunOverride).where(RunOverride.expires_at < now()))
