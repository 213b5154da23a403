"""Connecting to a source, to see whether that works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from citysort_dagster.settings import Settings
from citysort_dagster.source_configs import SourceConfig, connector_for

if TYPE_CHECKING:
    from connectors.base import ConnectionStatus


def try_connection(source: SourceConfig, settings: Settings) -> ConnectionStatus:
    """What came of real calls to the source, in one sentence without any secret. Raises nothing."""
    from connectors.base import ConfigurationError, ConnectionStatus, unexpected

    try:
        connector = connector_for(source, settings)
        try:
            return connector.test_connection()
        finally:
            connector.close()
    except ConfigurationError as error:
        return ConnectionStatus(False, str(error))
    except Exception as error:  # noqa: BLE001 - its text may hold anything, a secret too
        return ConnectionStatus(False, unexpected(error))
