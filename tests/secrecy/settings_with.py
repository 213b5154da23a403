"""Settings that make use of one secret of a connector, found by trying: the connector's own class
says which settings there are, which are secrets, and which go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from citysort_dagster.secrets import secret_fields
from connectors.base import Connector
from connectors.registry import CONNECTOR_TYPES, connector_class

# What is no name or text of its own choosing.
SHAPED = {
    "port": 1,
    "query": "SELECT 1 AS id",
    "role_arn": "arn:aws:iam::000000000000:role/reader",
    "files_root": "/",
    "timezone": "UTC",
}
MOST_MORE = 3
PLAIN = sorted(set(CONNECTOR_TYPES) - {"sharepoint"})
"""Connectors that speak to a server without TLS on loopback; SharePoint's own tests have one with TLS."""


def all_secrets() -> list[tuple[str, str]]:
    """Every secret setting there is, with its connector."""
    return [
        (connector_type, name)
        for connector_type in PLAIN
        for name in sorted(secret_fields(connector_class(connector_type)))
    ]


def settings_with(
    connector_type: str, secret: str, address: str, values: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Settings that the connector accepts, for each way to sign in, with this secret and such others
    as it needs, all from `values`. It finds its system at `address`, an http:// one of this machine."""
    cls = connector_class(connector_type)
    host, _, port = address.removeprefix("http://").partition(":")
    shaped = SHAPED | {"host": host, "port": int(port)}

    def plausible(name: str) -> Any:
        if name in values:
            return values[name]
        if name in shaped:
            return shaped[name]
        if name.endswith("url"):
            return address
        return "clerk@city.example" if "mail" in name else name.replace("_", "")

    fields = cls.model_fields
    required = {name: plausible(name) for name, field in fields.items() if field.is_required()}
    required |= {name: shaped[name] for name in ("host", "port") if name in fields}
    if "endpoint_url" in fields:
        required["endpoint_url"] = address
    optional = [name for name in fields if name not in required and name != secret and _is_text(cls, name)]
    tried = (
        [
            {**required, **choice, **{name: plausible(name) for name in more}, secret: values[secret]}
            for count in range(MOST_MORE + 1)
            for more in combinations(optional, count)
        ]
        for choice in _choices(cls)
    )
    found = [next((settings for settings in way if _accepted(cls, settings)), None) for way in tried]
    accepted = [settings for settings in found if settings is not None]
    assert accepted, (
        f"no settings of {connector_type} with {secret} were found: say in SHAPED how its settings look"
    )
    return accepted


def _accepted(cls: type[Connector], settings: Mapping[str, Any]) -> bool:
    try:
        cls(**settings)
    except ValidationError:
        return False
    return True


def _is_text(cls: type[Connector], name: str) -> bool:
    return cls.model_fields[name].annotation in (str, str | None) or name in secret_fields(cls)


def _choices(cls: type[Connector]) -> Iterator[dict[str, Any]]:
    """Every combination of ways to sign in."""
    ways: dict[str, Sequence[Any]] = {
        name: get_args(field.annotation)
        for name, field in cls.model_fields.items()
        if "auth" in name and get_origin(field.annotation) is not None and get_args(field.annotation)
    }
    for values in product(*ways.values()):
        yield dict(zip(ways, values, strict=True))
