"""The form of a source, made from the JSON schema of its connector's settings, and read back.

Secrets go one way: a field shows whether one is stored, never what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import FormData

from citysort_dagster.sources_file import Fault
from connectors.base import Connector
from connectors.http import HttpConnector
from connectors.registry import connector_class

LIMITS = frozenset(Connector.model_fields) | frozenset(HttpConnector.model_fields)
"""The settings that most sources leave as they are."""

LINES = frozenset({"query", "service_account_key", "private_key", "certificate"})
"""The settings of several lines; a password field would swallow their line ends."""

TITLES = frozenset({"library_name"})
"""The lists of names that people chose, in which commas may stand."""

ON = frozenset({"true", "t", "yes", "y", "on", "1"})
"""What pydantic also takes for true: https://docs.pydantic.dev/latest/api/standard_library_types/#booleans"""

_WORDS = {
    "id": "ID",
    "url": "URL",
    "jql": "JQL",
    "ssl": "SSL",
    "ca": "CA",
    "arn": "ARN",
    "mb": "MB",
    "api": "API",
}


@dataclass(frozen=True)
class Field:
    """One field. `kind` is text, lines, number, choice, switch, list, titles, secret or secret_lines."""

    name: str
    label: str
    kind: str
    hint: str
    required: bool = False
    value: str = ""
    checked: bool = False
    choices: Sequence[str] = ()
    is_set: bool = False
    minimum: int | None = None
    maximum: int | None = None
    errors: Sequence[str] = field(default_factory=tuple)

    @property
    def id(self) -> str:
        """The id of its input."""
        return "field-" + self.name.replace(".", "-")


def fields_of(
    connector_type: str,
    config: Mapping[str, Any],
    secrets: Mapping[str, bool],
    faults: Iterable[Fault] = (),
) -> tuple[list[Field], list[Field]]:
    """The fields of a connector's settings with these values: the main ones, and the limits."""
    schema = connector_class(connector_type).model_json_schema()
    required = set(schema.get("required", ()))
    told: dict[str, list[str]] = {}
    for fault in faults:
        told.setdefault(fault.field, []).append(fault.message)
    main: list[Field] = []
    limits: list[Field] = []
    for name, described in schema["properties"].items():
        made = _field(
            name,
            described,
            name in required,
            config.get(name),
            bool(secrets.get(name)),
            told.get(f"config.{name}", ()),
        )
        (limits if name in LIMITS else main).append(made)
    # What must be given comes first, in the order of the connector.
    main.sort(key=lambda one: not one.required)
    return main, limits


def other_faults(faults: Iterable[Fault], fields: Iterable[Field], named: Iterable[str]) -> list[str]:
    """The faults that no field of the form shows, for its top."""
    shown = {one.name for one in fields} | set(named)
    return [fault.message for fault in faults if fault.field not in shown]


def config_from(connector_type: str, form: FormData) -> dict[str, Any]:
    """The configuration that a form holds: what is left empty is left out, a secret marked for removal
    is null."""
    found: dict[str, Any] = {}
    for name, described in connector_class(connector_type).model_json_schema()["properties"].items():
        kind = _kind(name, described)
        text = form.get(f"config.{name}", "")
        # Browsers end the lines of a text field like that, whatever it held.
        text = text.replace("\r\n", "\n") if isinstance(text, str) else ""
        default = described.get("default")
        if kind.startswith("secret"):
            if text:
                found[name] = text
            elif form.get(f"clear.{name}"):
                found[name] = None
        elif kind == "switch":
            if bool(text) != bool(default):
                found[name] = bool(text)
        elif kind in ("list", "titles"):
            lines = (text.replace(",", "\n") if kind == "list" else text).splitlines()
            values = [line.strip() for line in lines if line.strip()]
            if values != (default or []):
                found[name] = values
        elif text.strip():
            value: Any = text.strip()
            if kind == "number" and value.lstrip("-").isdecimal() and len(value) < 20:
                value = int(value)
            if value != default:
                found[name] = value
    return found


def _field(
    name: str, described: Mapping[str, Any], required: bool, value: Any, is_set: bool, errors: Sequence[str]
) -> Field:
    kind = _kind(name, described)
    default = described.get("default")
    shown = default if value is None else value
    number = _without_null(described)
    text = ""
    if kind in ("list", "titles"):
        # The API and connectors also take one name that is no list.
        text = shown if isinstance(shown, str) else "\n".join(str(item) for item in shown or ())
    elif not kind.startswith("secret") and kind != "switch" and shown is not None:
        text = str(shown)
    return Field(
        name=f"config.{name}",
        label=_label(name),
        kind=kind,
        hint=str(described.get("description", "")),
        required=required,
        value=text,
        checked=kind == "switch" and str(shown).lower() in ON,
        choices=number.get("enum", ()),
        is_set=is_set,
        minimum=number.get("minimum"),
        maximum=number.get("maximum"),
        errors=errors,
    )


def _kind(name: str, described: Mapping[str, Any]) -> str:
    described = {**described, **_without_null(described)}
    if described.get("writeOnly"):
        return "secret_lines" if name in LINES else "secret"
    if "enum" in described:
        return "choice"
    kinds = {"boolean": "switch", "integer": "number", "array": "titles" if name in TITLES else "list"}
    return kinds.get(str(described.get("type")), "lines" if name in LINES else "text")


def _without_null(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of a value that may be left out, of the value itself."""
    options = [one for one in described.get("anyOf", ()) if one.get("type") != "null"]
    return options[0] if options else described


def _label(name: str) -> str:
    words = [_WORDS.get(word, word) for word in name.split("_")]
    first = words[0]
    return " ".join([first if first.isupper() else first.capitalize(), *words[1:]])
