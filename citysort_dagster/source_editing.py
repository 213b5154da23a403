"""Sources configured one at a time, in the console and through the API.

Secrets go in and never come out: one that is left out stays as it is. But a stored secret goes to
the address that it was given for, as encrypted as it was: where that changes, it must be given again,
or whoever may change a source could have its credentials sent to a server of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from citysort_dagster import secrets
from citysort_dagster.installation import Installation
from citysort_dagster.source_configs import (
    CONSOLE,
    SourceConfig,
    SourceUnchangeable,
    known_source,
    save_source,
    set_enabled,
    set_secret,
)
from citysort_dagster.sources_file import Fault, SourceEntry, SourceInvalid, check_source, not_storable
from citysort_dagster.store.sync_log import now

if TYPE_CHECKING:
    from connectors.base import Connector

_WAYS = frozenset({"host", "port", "sslmode", "sslrootcert", "ssl_mode", "ssl_ca", "ca_file"})
"""Settings that say, as addresses do, whom a secret reaches."""


def create_source(installation: Installation, values: Mapping[str, Any], actor: str) -> SourceConfig:
    """A new source with these values, which have the keys of `sources.yaml`.

    Raises SourceInvalid with every fault, SourceUnchangeable when the name is taken,
    SecretUnavailable, DatabaseError.
    """
    entry = _checked(installation, values, {})
    return save_source(installation.database, _sealed(entry, installation), None, actor)


def change_source(
    installation: Installation,
    name: str,
    values: Mapping[str, Any],
    actor: str,
    part_of_config: bool = False,
) -> SourceConfig:
    """The source with these values in place of those it has; the keys of `sources.yaml` that are left
    out stay. A `config` is the whole of it, but for secrets, which stay where they are left out; or a
    part of it, in which null takes a setting back to its default.

    A source that a file describes is changed there; only a stored secret of it, and whether it is
    enabled, are not the file's alone. Raises as `create_source` does, and UnknownSource.
    """
    source = known_source(installation.database, name)
    if source.origin != CONSOLE:
        return _change_source_of_file(installation, source, values, actor)
    if set(values) == {"enabled"}:
        # Also one with settings that are no longer accepted, above all to disable it.
        set_enabled(installation.database, name, values["enabled"], actor)
        return known_source(installation.database, name)
    whole = {**as_values(source), "config": shown_config(source), **values, "name": name}
    if part_of_config:
        whole["config"] = {**shown_config(source), **values.get("config", {})}
    stored = source.config if whole["connector"] == source.connector_type else {}
    entry = _checked(installation, whole, stored)
    return save_source(installation.database, _sealed(entry, installation), source, actor)


def configured(
    installation: Installation, source: SourceConfig, config: Mapping[str, Any] | None
) -> SourceConfig:
    """The source with another configuration, unsaved: for one test, or one run.

    Its secrets are sealed and it reaches what the console's sources may. Raises SourceInvalid,
    SecretUnavailable.
    """
    if config is None:
        return source
    values = {**as_values(source), "config": config}
    entry = _sealed(_checked(installation, values, source.config), installation)
    return replace(source, config=entry.config, origin=CONSOLE)


def unsaved_source(
    installation: Installation, connector_type: str, config: Mapping[str, Any], name: str | None = None
) -> SourceConfig:
    """A source that there is not yet, for a test. Raises SourceInvalid, SecretUnavailable."""
    values = {"name": name or connector_type, "connector": connector_type, "config": config}
    entry = _sealed(_checked(installation, values, {}), installation)
    at = now()
    return SourceConfig(
        id=0,
        name=entry.name,
        connector_type=entry.connector_type,
        config=entry.config,
        enabled=True,
        schedule=None,
        description=None,
        owners=[],
        tags={},
        group_name=entry.group_name,
        partitions_per_run=None,
        origin=CONSOLE,
        watermark=None,
        last_sync_at=None,
        created_at=at,
        updated_at=at,
    )


def as_values(source: SourceConfig) -> dict[str, Any]:
    """What is configured of a source besides its connector's settings, by the keys of `sources.yaml`."""
    return {
        "name": source.name,
        "connector": source.connector_type,
        "schedule": source.schedule,
        "enabled": source.enabled,
        "description": source.description,
        "owners": list(source.owners),
        "tags": dict(source.tags),
        "group": source.group_name,
        "partitions_per_run": source.partitions_per_run,
    }


def shown_config(source: SourceConfig) -> dict[str, Any]:
    """The settings of a source that are no secrets: none of a connector that is not known."""
    from connectors.registry import CONNECTOR_TYPES

    if source.connector_type not in CONNECTOR_TYPES:
        return {}
    hidden = secret_settings(source.connector_type)
    return {
        key: value
        for key, value in source.config.items()
        if key not in hidden and not secrets.is_stored(value)
    }


def secrets_set(source: SourceConfig) -> dict[str, bool]:
    """The secret settings of the source's connector, and whether each is set."""
    return {
        name: source.config.get(name) is not None for name in sorted(secret_settings(source.connector_type))
    }


def secret_settings(connector_type: str) -> frozenset[str]:
    """The secret settings of a connector, none of one that is not known."""
    from connectors.registry import CONNECTOR_TYPES, connector_class

    if connector_type not in CONNECTOR_TYPES:
        return frozenset()
    return secrets.secret_fields(connector_class(connector_type))


def _change_source_of_file(
    installation: Installation, source: SourceConfig, values: Mapping[str, Any], actor: str
) -> SourceConfig:
    hidden = secret_settings(source.connector_type)
    config = values.get("config", {})
    if set(values) - {"enabled", "config"} or not set(config) <= hidden:
        raise SourceUnchangeable(
            f"the source {source.name} is described in sources.yaml: change it there, and say"
            " `citysort sources apply sources.yaml`"
        )
    for key, value in config.items():
        if secrets.variable(source.config.get(key)) is not None:
            raise SourceUnchangeable(
                f"{key} of the source {source.name} is an environment variable that sources.yaml names:"
                " set that variable, or change the file"
            )
        if not isinstance(value, str) or not value:
            raise SourceInvalid([Fault(f"config.{key}", f"{key} must be text")])
        if reason := not_storable(value):
            raise SourceInvalid([Fault(f"config.{key}", f"{key} {reason}")])
    for key, value in config.items():
        set_secret(installation.database, installation.settings, source.name, key, value, actor)
    if isinstance(values.get("enabled"), bool):
        set_enabled(installation.database, source.name, values["enabled"], actor)
    return known_source(installation.database, source.name)


def _checked(installation: Installation, values: Mapping[str, Any], stored: Mapping[str, Any]) -> SourceEntry:
    """The entry with the stored secrets that it keeps. Raises SourceInvalid."""
    connector_type, config = values.get("connector"), values.get("config")
    hidden = secret_settings(connector_type) if isinstance(connector_type, str) else frozenset()
    given = config if isinstance(config, Mapping) else {}
    kept = {key: value for key, value in stored.items() if key in hidden and key not in given}
    if kept:
        moved = _moved(str(connector_type), stored, given)
        if moved:
            raise SourceInvalid(
                [
                    Fault(
                        f"config.{key}",
                        f"{key} must be given again: {moved[0]} has changed, and it is for the former",
                    )
                    for key in sorted(kept)
                ]
            )
    entry = check_source(
        {**values, "config": {k: v for k, v in given.items() if v is not None}}
        if isinstance(config, Mapping)
        else values,
        kept,
    )
    faults = installation.settings.console_reach.faults(entry.config.items())
    if faults:
        raise SourceInvalid([Fault(f"config.{name}", f"{name}: {why}") for name, why in faults])
    return entry


def _moved(connector_type: str, stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """The settings that say where secrets are sent to, and how safely, and say something else now."""
    from connectors.registry import connector_class

    cls: type[Connector] = connector_class(connector_type)
    found = []
    for name, field in cls.model_fields.items():
        if name not in _WAYS and not name.endswith("_url"):
            continue
        before, after = stored.get(name), given.get(name)
        if (field.default if before is None else before) != (field.default if after is None else after):
            found.append(name)
    return found


def _sealed(entry: SourceEntry, installation: Installation) -> SourceEntry:
    """The entry with its secrets encrypted."""
    return replace(
        entry,
        config={
            key: secrets.encrypt(value, installation.settings)
            if key in entry.secret_fields and isinstance(value, str)
            else value
            for key, value in entry.config.items()
        },
    )
