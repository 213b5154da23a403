"""The configured sources: rows of `connector_configs`, written from `sources.yaml` or one by one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from citysort_dagster import secrets
from citysort_dagster.quoting import quoted
from citysort_dagster.settings import Settings
from citysort_dagster.sources_file import Problem, SourceEntry, SourcesInvalid, read_sources
from citysort_dagster.store.database import Database
from citysort_dagster.store.models import ConnectorConfig, Document, ImportFailure
from citysort_dagster.store.sync_log import audit, now

if TYPE_CHECKING:
    from connectors.base import Connector

T = TypeVar("T")

COMMAND_LINE = "command line"
"""The actor of audit events that a person at the command line caused."""

FILE, CONSOLE = "file", "console"
"""Where a source was configured: what a file says, only a file changes."""


class UnknownSource(Exception):
    """There is no source of that name; the sentence says which there are."""


class SourceUnchangeable(Exception):
    """What was asked of a source cannot be done; one sentence."""


@dataclass(frozen=True)
class SourceConfig:
    """One configured source, as its row has it. Secrets in `config` are encrypted or references."""

    id: int
    name: str
    connector_type: str
    config: Mapping[str, Any]
    enabled: bool
    schedule: str | None
    description: str | None
    owners: list[str]
    tags: Mapping[str, str]
    group_name: str
    partitions_per_run: int | None
    origin: str
    watermark: datetime | None
    last_sync_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass
class ApplyResult:
    """What applying a file did, by the names of the sources. `disabled` are those it no longer names."""

    created: list[str] = field(default_factory=list)
    changed: dict[str, list[str]] = field(default_factory=dict)
    """With the keys that changed, such as `schedule` or `config.prefix`."""
    unchanged: list[str] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)


def load_sources(database: Database) -> list[SourceConfig]:
    """Every source, by name, in one query. Raises DatabaseError."""
    with database.read() as connection:
        return list(_sources(connection))


def get_source(database: Database, name: str) -> SourceConfig | None:
    """The source of that name, None when there is none. Raises DatabaseError."""
    with database.read() as connection:
        return next((source for source in _sources(connection) if source.name == name), None)


def known_source(database: Database, name: str) -> SourceConfig:
    """The source of that name. Raises UnknownSource, which suggests another name, and DatabaseError."""
    with database.read() as connection:
        return _source(connection, name)


def connector_for(source: SourceConfig, settings: Settings) -> Connector:
    """The connector of a source with its secrets, not yet connected. What the console configured
    reaches only what the operator allows.

    Raises ConfigurationError, in one sentence that names the source, when a secret cannot be had or
    the configuration cannot work.
    """
    from connectors.addresses import EVERYWHERE
    from connectors.base import ConfigurationError
    from connectors.registry import get_connector
    from connectors.secrecy import without

    try:
        config = secrets.resolve(source.config, settings)
    except secrets.SecretUnavailable as error:
        raise ConfigurationError(f"source {source.name}: {error}") from None
    try:
        connector = get_connector(source.connector_type, config)
        connector.keep_to(settings.console_reach if source.origin == CONSOLE else EVERYWHERE)
        return connector
    except ConfigurationError as error:
        hidden = [value for key, value in config.items() if value != source.config[key]]
        raise ConfigurationError(f"source {source.name}: {without(str(error), hidden)}") from None


def apply(path: Path, database: Database, prune: bool = False) -> ApplyResult:
    """Makes the configured sources what the file says, all or nothing.

    The file is the whole truth about a source it names: a key that it leaves out has its default.
    Only secrets stored by other means stay where the file leaves their setting out. With `prune`,
    sources of files that it does not name are disabled. A source whose connector or settings change is listed
    whole the next time. Raises SourcesInvalid, DatabaseError.
    """
    entries = read_sources(path, {source.name: source.config for source in load_sources(database)})
    result = ApplyResult()

    def work(connection: sa.Connection) -> None:
        existing = {source.name: source for source in _sources(connection)}
        problems = [
            Problem(entry.line, fault)
            for entry in entries
            if (fault := _connector_fault(connection, entry, existing.get(entry.name)))
        ]
        if problems:
            raise SourcesInvalid(path, problems)
        # A call after a commit whose answer was lost finds everything done: the first report stands.
        reported = {*result.created, *result.changed, *result.unchanged, *result.disabled}
        for entry in entries:
            changed = _save(connection, entry, existing.get(entry.name))
            if entry.name in reported:
                continue
            if changed is None:
                result.created.append(entry.name)
            elif changed:
                result.changed[entry.name] = changed
            else:
                result.unchanged.append(entry.name)
        if prune:
            from_files = {name for name, source in existing.items() if source.origin == FILE}
            for name in sorted(from_files - {entry.name for entry in entries}):
                disabled = _set_enabled(
                    connection, existing[name], False, COMMAND_LINE, why="no longer in the file"
                )
                if disabled and name not in reported:
                    result.disabled.append(name)

    _write(database, work)
    return result


def set_enabled(database: Database, name: str, enabled: bool, actor: str = COMMAND_LINE) -> bool:
    """Enables or disables a source; False when it was so already. Raises UnknownSource, DatabaseError."""
    return _write(
        database, lambda connection: _set_enabled(connection, _source(connection, name), enabled, actor)
    )


def check_secret(source: SourceConfig, setting: str) -> None:
    """Raises SourceUnchangeable when the connector of the source has no such secret setting."""
    from connectors.registry import connector_class

    known = secrets.secret_fields(connector_class(source.connector_type))
    if setting not in known:
        # Not quoted: some give the secret itself here.
        there_are = ", ".join(sorted(known)) or "none"
        raise SourceUnchangeable(
            f"that is not a secret setting of {source.name}; its secret settings are: {there_are}"
        )


def set_secret(
    database: Database, settings: Settings, name: str, setting: str, value: str, actor: str = COMMAND_LINE
) -> None:
    """Stores a secret of a source, encrypted.

    Raises UnknownSource, SourceUnchangeable when its connector has no such secret,
    SecretUnavailable when the key cannot be used, DatabaseError.
    """
    check_secret(known_source(database, name), setting)
    stored = secrets.encrypt(value, settings)

    def work(connection: sa.Connection) -> None:
        source = _source(connection, name)
        if source.config.get(setting) == stored:
            return
        _update(connection, source, config_json={**source.config, setting: stored}, watermark=None)
        _audit(connection, "source changed", name, actor, changed=[f"config.{setting}"])

    _write(database, work)


def save_source(
    database: Database, entry: SourceEntry, seen: SourceConfig | None, actor: str
) -> SourceConfig:
    """Writes a source that the console or the API describes, its configuration whole and sealed, and
    returns it as it is now. `seen` is the source that the change was made from, None for a new one.

    Raises SourceUnchangeable when there is such a source already, when somebody else has changed it
    meanwhile, or when its documents came by another connector; DatabaseError.
    """
    # Nothing is kept that the entry leaves out: it holds all that stays.
    whole = replace(entry, secret_fields=frozenset())
    attempts = 0

    def work(connection: sa.Connection) -> SourceConfig:
        nonlocal attempts
        attempts += 1
        existing = next((source for source in _sources(connection) if source.name == entry.name), None)
        if attempts > 1 and existing is not None and existing.config == whole.config:
            pass  # a commit whose answer was lost
        elif existing is not None and seen is None:
            raise SourceUnchangeable(f"there is a source {entry.name} already: choose another name")
        elif seen is not None and (existing is None or existing.updated_at != seen.updated_at):
            raise SourceUnchangeable(
                f"the source {entry.name} was changed by somebody else meanwhile: look at it again"
            )
        fault = _connector_fault(connection, entry, existing)
        if fault:
            raise SourceUnchangeable(fault)
        _save(connection, whole, existing, actor, CONSOLE)
        return _source(connection, entry.name)

    return _write(database, work)


def remove_source(database: Database, name: str, actor: str = COMMAND_LINE) -> int:
    """Forgets a source's configuration, its stored secrets and its open failures.

    Its documents, their history and the sync log stay: a source that comes back under this name
    imports nothing twice. Returns the number of documents that stay. Raises UnknownSource,
    DatabaseError.
    """
    removed = False

    def work(connection: sa.Connection) -> int:
        nonlocal removed
        documents = connection.execute(
            sa.select(sa.func.count()).select_from(Document).where(Document.source == name)
        ).scalar_one()
        found = next((source for source in _sources(connection) if source.name == name), None)
        if found is None:
            if not removed:
                raise _unknown(connection, name)
            return documents
        removed = True
        failures = connection.execute(sa.delete(ImportFailure).where(ImportFailure.source == name)).rowcount
        connection.execute(sa.delete(ConnectorConfig).where(ConnectorConfig.name == name))
        _audit(connection, "source removed", name, actor, open_failures=failures, documents=documents)
        return documents

    return _write(database, work)


def _write(database: Database, work: Callable[[sa.Connection], T]) -> T:
    """What `work` returns, done in a transaction while nobody else writes to the configured sources."""

    def alone(connection: sa.Connection) -> T:
        if not database.is_sqlite:  # which has one writer at a time as it is
            connection.execute(sa.text("LOCK TABLE connector_configs IN SHARE ROW EXCLUSIVE MODE"))
        return work(connection)

    return database.write(alone)


def _sources(connection: sa.Connection) -> Iterator[SourceConfig]:
    for row in connection.execute(sa.select(ConnectorConfig).order_by(ConnectorConfig.name)):
        values = dict(row._mapping)
        if row.watermark is not None and row.watermark > now():
            values["watermark"] = None  # set while the clock was wrong: it says nothing about the source
        yield SourceConfig(config=values.pop("config_json"), **values)


def _source(connection: sa.Connection, name: str) -> SourceConfig:
    for source in _sources(connection):
        if source.name == name:
            return source
    raise _unknown(connection, name)


def _unknown(connection: sa.Connection, name: str) -> UnknownSource:
    names = connection.execute(sa.select(ConnectorConfig.name).order_by(ConnectorConfig.name)).scalars().all()
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = (
        f"did you mean {nearest[0]}?"
        if nearest
        else f"there are: {', '.join(names)}"
        if names
        else "none is configured yet, see `citysort sources apply`"
    )
    return UnknownSource(f"there is no source {quoted(name)}; {hint}")


def _connector_fault(
    connection: sa.Connection, entry: SourceEntry, existing: SourceConfig | None
) -> str | None:
    if existing is not None and existing.connector_type == entry.connector_type:
        return None
    imported_by = connection.execute(
        sa.select(Document.connector_type).where(Document.source == entry.name).limit(1)
    ).scalar()
    if imported_by in (None, entry.connector_type):
        return None
    return (
        f"the source {entry.name} has documents imported by the connector {imported_by}:"
        f" give a source with the connector {entry.connector_type} another name"
    )


def _save(
    connection: sa.Connection,
    entry: SourceEntry,
    existing: SourceConfig | None,
    actor: str = COMMAND_LINE,
    origin: str = FILE,
) -> list[str] | None:
    """Writes a source; returns the keys that changed, None for a new one."""
    values: dict[str, Any] = {
        "connector_type": entry.connector_type,
        "enabled": entry.enabled,
        "schedule": entry.schedule,
        "description": entry.description,
        "owners": entry.owners,
        "tags": entry.tags,
        "group_name": entry.group_name,
        "partitions_per_run": entry.partitions_per_run,
        "origin": origin,
    }
    if existing is None:
        at = now()
        connection.execute(
            sa.insert(ConnectorConfig).values(
                name=entry.name, config_json=entry.config, created_at=at, updated_at=at, **values
            )
        )
        details = {"connector": entry.connector_type, "settings": sorted(entry.config)}
        _audit(connection, "source created", entry.name, actor, **details)
        return None
    kept = {
        key: existing.config[key]
        for key in sorted(entry.secret_fields - set(entry.config))
        if secrets.is_stored(existing.config.get(key))
    }
    config = {**entry.config, **kept}
    names = {"connector_type": "connector", "group_name": "group"}
    changed = [names.get(key, key) for key, value in values.items() if getattr(existing, key) != value]
    absent = object()
    changed_settings = [
        f"config.{key}"
        for key in sorted({*config, *existing.config})
        if config.get(key, absent) != existing.config.get(key, absent)
    ]
    if changed or changed_settings:
        if changed_settings or "connector" in changed:
            values["watermark"] = None
        _update(connection, existing, config_json=config, **values)
        _audit(connection, "source changed", entry.name, actor, changed=[*changed, *changed_settings])
    return [*changed, *changed_settings]


def _set_enabled(
    connection: sa.Connection, source: SourceConfig, enabled: bool, actor: str, **details: Any
) -> bool:
    if source.enabled == enabled:
        return False
    _update(connection, source, enabled=enabled)
    event = "source enabled" if enabled else "source disabled"
    _audit(connection, event, source.name, actor, **details)
    return True


def _update(connection: sa.Connection, source: SourceConfig, **values: Any) -> None:
    connection.execute(
        sa.update(ConnectorConfig).where(ConnectorConfig.id == source.id).values(updated_at=now(), **values)
    )


def _audit(connection: sa.Connection, event: str, source: str, actor: str, **details: Any) -> None:
    audit(connection, [{"event": event, "source": source, "details": details}], actor=actor)
