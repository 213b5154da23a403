"""Which connector types there are, and where each lives.

Modules are imported when first asked for, so that loading definitions stays quick and a vendor's
library is only needed by those who use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from connectors.base import ConfigurationError, Connector

CONNECTOR_TYPES: Mapping[str, str] = {
    "amazon_s3": "connectors.amazon_s3:AmazonS3",
    "confluence": "connectors.confluence:Confluence",
    "google_cloud_storage": "connectors.google_cloud_storage:GoogleCloudStorage",
    "jira": "connectors.jira:Jira",
    "mysql": "connectors.mysql:MySQL",
    "postgresql": "connectors.postgresql:PostgreSQL",
    "salesforce": "connectors.salesforce:Salesforce",
    "servicenow": "connectors.servicenow:ServiceNow",
    "sharepoint": "connectors.sharepoint:SharePoint",
    "sqlite": "connectors.sqlite:SQLite",
}


def connector_class(connector_type: str) -> type[Connector]:
    """The class of a connector type. Raises ConfigurationError, naming those there are."""
    if connector_type not in CONNECTOR_TYPES:
        known = ", ".join(sorted(CONNECTOR_TYPES))
        raise ConfigurationError(f"there is no connector {connector_type!r}; there are: {known}")
    module, name = CONNECTOR_TYPES[connector_type].split(":")
    found: type[Connector] = getattr(import_module(module), name)
    return found


def get_connector(connector_type: str, config: Mapping[str, Any] | None = None) -> Connector:
    """A connector with these settings, not yet connected.

    Raises ConfigurationError for an unknown type, and for settings that are missing, unknown or
    invalid; the sentence names the settings and never their values.
    """
    cls = connector_class(connector_type)
    unknown = sorted(set(config or {}) - set(cls.model_fields))
    if unknown:
        raise ConfigurationError(f"{connector_type} has no setting {', '.join(unknown)}")
    missing = [
        name
        for name, field in cls.model_fields.items()
        if field.is_required() and (config or {}).get(name) is None
    ]
    if missing:
        raise ConfigurationError(f"{connector_type} needs the setting {', '.join(missing)}")
    try:
        return cls(**(config or {}))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'settings'}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False, include_context=False)
        )
        raise ConfigurationError(f"{connector_type}: {problems}") from None
