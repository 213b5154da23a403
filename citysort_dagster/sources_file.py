"""Reads `sources.yaml` and finds everything that is wrong with it, with line numbers."""

from __future__ import annotations

import difflib
import keyword
import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, combinations
from pathlib import Path
from typing import Any, NamedTuple

from citysort_dagster import secrets
from citysort_dagster.quoting import dotted, legible, quoted
from citysort_dagster.yaml_lines import LineOf, YamlError, read_yaml

KEYS = (
    "name",
    "connector",
    "config",
    "schedule",
    "enabled",
    "description",
    "owners",
    "tags",
    "group",
    "partitions_per_run",
)
DEFAULT_GROUP = "sources"
MAX_NAME = 60
"""Run tags hold the name, and Dagster limits their values to 63 characters."""
MAX_PARTITIONS_PER_RUN = 100_000

_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TAKEN_NAMES = {"document_text", "document_classification", "department_queues", "io_manager", "sources"}
_PLACEHOLDER = "placeholder"


class Problem(NamedTuple):
    """What is wrong, and on which line (from 1); 0 if on none in particular."""

    line: int
    message: str


class SourcesInvalid(Exception):
    """The file cannot be applied: every problem, in the order of lines."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        self.path = path
        self.problems = sorted(set(problems))
        super().__init__(
            "\n".join(
                f"{path}, line {line}: {message}" if line else f"{path}: {message}"
                for line, message in self.problems
            )
        )


class Fault(NamedTuple):
    """What is wrong with a field, such as `schedule` or `config.host`."""

    field: str
    message: str


class SourceInvalid(Exception):
    """A source that was not written in a file cannot be saved: everything that is wrong with it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = faults
        super().__init__("; ".join(message for _, message in faults))


@dataclass(frozen=True)
class SourceEntry:
    """One source as the file describes it, valid. `line` is where it begins."""

    name: str
    connector_type: str
    config: dict[str, Any]
    secret_fields: frozenset[str]
    line: int
    schedule: str | None = None
    enabled: bool = True
    description: str | None = None
    owners: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    group_name: str = DEFAULT_GROUP
    partitions_per_run: int | None = None


def read_sources(path: Path, stored: Mapping[str, Mapping[str, Any]]) -> list[SourceEntry]:
    """The sources of a file, all of them valid.

    `stored` holds the configurations there are, by name: secrets stored in them count as given where
    the file leaves them out. Raises SourcesInvalid with every problem there is.
    """
    try:
        data, line_of = read_yaml(path)
    except YamlError as error:
        raise SourcesInvalid(path, [Problem(error.line or 0, error.message)]) from None
    reader = _Reader(line_of)
    entries = reader.read(data, stored)
    if reader.problems:
        raise SourcesInvalid(path, reader.problems)
    return entries


def check_source(source: Mapping[str, Any], stored: Mapping[str, Any]) -> SourceEntry:
    """The entry of a source that was not written in a file: with the keys of one, but secrets stand in
    it as they are, and it refers to no environment variable, which would be the server's.

    `stored` are the stored secrets that it keeps. Raises SourceInvalid with every fault there is.
    """
    reader = _ValueReader()
    for key in source:
        if key not in KEYS:
            reader.report((str(key),), f"unknown key {quoted(key)}{_nearest(key, KEYS)}")
    # However a kept secret is kept, it counts as given.
    kept = {key: {"encrypted": ""} for key in stored}
    entry = reader.entry((), source, {str(source.get("name")): kept})
    if entry is None or reader.faults:
        raise SourceInvalid(list(dict.fromkeys(reader.faults)))
    return replace(entry, config={**entry.config, **stored})


class _Reader:
    _secrets_may_follow = True
    """A secret of a source in a file is stored once the source is there."""

    def __init__(self, line_of: LineOf) -> None:
        self.problems: list[Problem] = []
        self._line_of = line_of

    def report(self, path: tuple[str | int, ...], message: str) -> None:
        self.problems.append(Problem(self._line_of(path), message))

    def read(self, data: Any, stored: Mapping[str, Mapping[str, Any]]) -> list[SourceEntry]:
        if not isinstance(data, dict) or not isinstance(data.get("sources"), list):
            self.report(("sources",), "the file must hold `sources:` and below it a list of sources")
            return []
        for key in data:
            if key != "sources":
                self.report((str(key),), f"unknown key {quoted(key)}; the only one here is 'sources'")
        entries = []
        lines: dict[str, int] = {}
        for index, source in enumerate(data["sources"]):
            at = ("sources", index)
            if not isinstance(source, dict):
                self.report(at, "a source is a mapping with the keys name, connector and config")
                continue
            for key in source:
                if key not in KEYS:
                    self.report((*at, str(key)), f"unknown key {quoted(key)}{_nearest(key, KEYS)}")
            entry = self.entry(at, source, stored)
            name = source.get("name")
            if isinstance(name, str):
                if name in lines:
                    self.report(
                        (*at, "name"), f"the name {quoted(name)} is taken by the source on line {lines[name]}"
                    )
                lines.setdefault(name, self._line_of(at))
            if entry is not None:
                entries.append(entry)
        return entries

    def entry(
        self, at: tuple[str | int, ...], source: Mapping[Any, Any], stored: Mapping[str, Mapping[str, Any]]
    ) -> SourceEntry | None:
        before = len(self.problems)
        name = self._name(at, source)
        connector = self._text(at, source, "connector", required=True)
        secret_fields: frozenset[str] = frozenset()
        config = source.get("config")
        if config is None:
            config = {}
        if not isinstance(config, dict):
            self.report((*at, "config"), "config must be a mapping of settings")
        elif connector is not None:
            secret_fields = self._config(at, connector, config, stored.get(name or "", {}))
            config = _without_empty(config, secret_fields)
        enabled = source.get("enabled", True)
        if not isinstance(enabled, bool):
            self.report((*at, "enabled"), "enabled must be true or false")
        per_run = source.get("partitions_per_run")
        if per_run is not None and (type(per_run) is not int or not 1 <= per_run <= MAX_PARTITIONS_PER_RUN):
            self.report(
                (*at, "partitions_per_run"),
                f"partitions_per_run must be a whole number from 1 to {MAX_PARTITIONS_PER_RUN}",
            )
        schedule = self._schedule(at, source)
        description = self._text(at, source, "description")
        self._no_secret((*at, "description"), "description", description)
        owners, tags, group = self._owners(at, source), self._tags(at, source), self._group(at, source)
        if len(self.problems) > before or name is None or connector is None:
            return None
        return SourceEntry(
            name=name,
            connector_type=connector,
            config=config,
            secret_fields=secret_fields,
            line=self._line_of(at),
            schedule=schedule,
            enabled=enabled,
            description=description,
            owners=owners,
            tags=tags,
            group_name=group,
            partitions_per_run=per_run,
        )

    def _text(
        self, at: tuple[str | int, ...], source: Mapping[Any, Any], key: str, required: bool = False
    ) -> str | None:
        value = source.get(key)
        if value is None:
            if required:
                self.report(at, f"the key {key} is missing")
            return None
        if not isinstance(value, str):
            self.report((*at, key), f"{key} must be text: put it in quotes")
            return None
        reason = not_storable(value)
        if reason:
            self.report((*at, key), f"{key} {reason}")
            return None
        return value

    def _no_secret(self, where: tuple[str | int, ...], key: str, text: object) -> None:
        from connectors.plain_secrets import plain_secret

        what = plain_secret(text) if isinstance(text, str) else None
        if what:
            self.report(where, f"{key} holds {what}, and everybody sees it: leave that out")

    def _name(self, at: tuple[str | int, ...], source: Mapping[Any, Any]) -> str | None:
        name = self._text(at, source, "name", required=True)
        if name is None:
            return None
        if not _NAME.fullmatch(name):
            problem = "must consist of lower-case letters, digits and _, and not begin with a digit"
        elif len(name) > MAX_NAME:
            problem = f"must not be longer than {MAX_NAME} characters"
        elif name in _TAKEN_NAMES or keyword.iskeyword(name):
            problem = "is reserved: choose another"
        else:
            return name
        self.report((*at, "name"), f"the name {quoted(name)} {problem}")
        return None

    def _config(
        self,
        at: tuple[str | int, ...],
        connector: str,
        config: Mapping[Any, Any],
        stored: Mapping[str, Any],
    ) -> frozenset[str]:
        from connectors.registry import CONNECTOR_TYPES, connector_class

        if connector not in CONNECTOR_TYPES:
            there_are = ", ".join(sorted(CONNECTOR_TYPES))
            self.report(
                (*at, "connector"),
                f"there is no connector {quoted(connector)}{_nearest(connector, CONNECTOR_TYPES)};"
                f" there are: {there_are}",
            )
            return frozenset()
        cls = connector_class(connector)
        secret_fields = secrets.secret_fields(cls)
        before = len(self.problems)
        for key, value in config.items():
            where = (*at, "config", str(key))
            if key not in cls.model_fields:
                nearest = _nearest(key, cls.model_fields)
                self.report(where, f"the connector {connector} has no setting {quoted(key)}{nearest}")
            else:
                self._value(where, key, value, key in secret_fields)
        if len(self.problems) == before:
            kept = {key: stored[key] for key in secret_fields if secrets.is_stored(stored.get(key))}
            self._try_settings(at, cls, {**kept, **_without_empty(config, secret_fields)}, secret_fields)
        return secret_fields

    def _value(self, where: tuple[str | int, ...], key: str, value: Any, is_secret: bool) -> None:
        name = secrets.variable(value)
        if name is not None:
            if is_secret and not secrets.may_name_a_variable(name):
                self.report(
                    where,
                    f"{key}: what follows `env:` must be the name of an environment variable, in capital letters,"
                    " digits and _, and never the secret itself",
                )
            elif not _VARIABLE.fullmatch(name):
                self.report(where, f"{key}: what follows `env:` must be the name of an environment variable")
        elif is_secret:
            if value is not None:
                self.report(
                    where,
                    f"{key} is a secret and must not stand in this file: write {{env: NAME}}, or leave it out"
                    f" and use `{secrets.HOW_TO_STORE}`",
                )
        else:
            reason = not_storable(value)
            if reason:
                self.report(where, f"{key} {reason}")

    def _try_settings(
        self,
        at: tuple[str | int, ...],
        cls: Any,
        config: Mapping[str, Any],
        secret_fields: Collection[str],
    ) -> None:
        from pydantic import ValidationError

        from connectors.secrecy import without

        values, unknown = dict(config), set()
        hidden = [value for key, value in config.items() if key in secret_fields]
        for key, value in config.items():
            name = secrets.variable(value)
            found = os.environ.get(name) if name else None
            if found:
                values[key] = found
                hidden.append(found)
            elif name is not None or secrets.is_stored(value):
                values[key] = _PLACEHOLDER
                unknown.add(key)
        try:
            cls(**values)
        except ValidationError as error:
            if self._secrets_may_follow and _lacks_a_secret_only(cls, values, secret_fields):
                return
            for fault in error.errors(include_input=False, include_url=False, include_context=False):
                key = str(fault["loc"][0]) if fault["loc"] else ""
                if key in unknown or (not key and unknown - set(secret_fields)):
                    continue  # a placeholder stands there: the real value is judged when it is used
                if key and key not in values:
                    self.report((*at, "config", key), f"the setting {key} of {cls.connector_type} is missing")
                    continue
                message = without(fault["msg"].removeprefix("Value error, "), hidden)
                where = (*at, "config", key) if key else at
                self.report(where, f"{key}: {message}" if key else message)

    def _schedule(self, at: tuple[str | int, ...], source: Mapping[Any, Any]) -> str | None:
        cron = self._text(at, source, "schedule")
        if cron is None:
            return None
        import dagster as dg
        from croniter import CroniterError, croniter

        try:
            dg.ScheduleDefinition(name="schedule", job_name="job", cron_schedule=cron)
            croniter(cron).get_next()  # the 31st of a February never comes round
        except (dg.DagsterInvalidDefinitionError, CroniterError):
            self.report(
                (*at, "schedule"),
                "schedule must be a cron schedule: minute, hour, day, month and day of the week (UTC),"
                " such as '0 6 * * 1-5'",
            )
            return None
        return cron

    def _owners(self, at: tuple[str | int, ...], source: Mapping[Any, Any]) -> list[str]:
        owners = source.get("owners")
        if owners is None:
            return []
        if not isinstance(owners, list):
            self.report((*at, "owners"), "owners must be a list")
            return []
        for index, owner in enumerate(owners):
            fault = not_storable(owner) if isinstance(owner, str) else "must be text"
            if fault or not _dagster_accepts(owners=[owner]):
                self.report(
                    (*at, "owners", index), "an owner must be an e-mail address or a team, as in team:permits"
                )
            self._no_secret((*at, "owners", index), "an owner", owner)
        return owners

    def _tags(self, at: tuple[str | int, ...], source: Mapping[Any, Any]) -> dict[str, str]:
        tags = source.get("tags")
        if tags is None:
            return {}
        if not isinstance(tags, dict):
            self.report((*at, "tags"), "tags must be a mapping")
            return {}
        for key, value in tags.items():
            if not isinstance(key, str) or not isinstance(value, str):
                self.report((*at, "tags", str(key)), "tags and their values must be text: put them in quotes")
            elif not _dagster_accepts(tags={key: value}):
                self.report(
                    (*at, "tags", key),
                    "a tag and its value consist of letters, digits, _, - and ., up to 63 of each",
                )
        return tags

    def _group(self, at: tuple[str | int, ...], source: Mapping[Any, Any]) -> str:
        group = self._text(at, source, "group")
        if group is None:
            return DEFAULT_GROUP
        if not _dagster_accepts(group_name=group):
            self.report((*at, "group"), "group must consist of letters, digits and _")
        return group


class _ValueReader(_Reader):
    """Tells faults by their fields."""

    _secrets_may_follow = False

    def __init__(self) -> None:
        super().__init__(lambda path: 0)
        self.faults: list[Fault] = []

    def report(self, path: tuple[str | int, ...], message: str) -> None:
        super().report(path, message)
        self.faults.append(Fault(dotted(path[:2]), message))

    def _value(self, where: tuple[str | int, ...], key: str, value: Any, is_secret: bool) -> None:
        if isinstance(value, Mapping):
            self.report(where, f"{key} must be a value: references are for sources.yaml")
        elif isinstance(value, list) and any(isinstance(item, (list, Mapping)) for item in value):
            self.report(where, f"{key} must be a value, or a list of values")
        elif is_secret and value is not None and (not isinstance(value, str) or not value):
            self.report(where, f"{key} must be text: leave it out to keep it, null removes it")
        elif reason := not_storable(value):
            self.report(where, f"{key} {reason}")


def _lacks_a_secret_only(cls: Any, values: Mapping[str, Any], secret_fields: Collection[str]) -> bool:
    """Whether the settings would do with one secret more, or two: a secret can only be stored for a
    source that is there."""
    from pydantic import ValidationError

    absent = sorted(set(secret_fields) - set(values))
    for given in chain(combinations(absent, 1), combinations(absent, 2)):
        try:
            cls(**values, **dict.fromkeys(given, _PLACEHOLDER))
        except ValidationError as error:
            if not all(fault["loc"] and fault["loc"][0] in given for fault in error.errors()):
                continue
        return True
    return False


def _without_empty(config: Mapping[Any, Any], secret_fields: Collection[str]) -> dict[Any, Any]:
    """The configuration without secrets that are null, which is as good as left out."""
    return {key: value for key, value in config.items() if value is not None or key not in secret_fields}


def _dagster_accepts(**attributes: Any) -> bool:
    """Whether an asset may have these attributes; Dagster has the rules."""
    import dagster as dg

    try:
        dg.AssetSpec("source", **attributes)
    except dg.DagsterInvalidDefinitionError:
        return False
    return True


def not_storable(value: Any) -> str | None:
    """Why a value cannot be kept as JSON in the database, None when it can."""
    if isinstance(value, str):
        if "\0" in value or any(0xD800 <= ord(char) <= 0xDFFF for char in value):
            return "holds a character that cannot be stored"
    elif isinstance(value, list):
        return next((reason for item in value if (reason := not_storable(item))), None)
    elif isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            return "must have text as its keys: put them in quotes"
        return next((reason for item in [*value, *value.values()] if (reason := not_storable(item))), None)
    elif isinstance(value, float):
        return None if math.isfinite(value) else "must be a number"
    elif isinstance(value, int):
        return None if abs(value) < 2**63 else "is too large a number"
    elif value is not None:
        return "must be text, a number, true, false, a list or a mapping: put a date in quotes"
    return None


def _nearest(key: Any, known: Collection[str]) -> str:
    found = difflib.get_close_matches(legible(key), known, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
