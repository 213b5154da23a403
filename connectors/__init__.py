"""Connectors: one file per system that documents come from."""

from connectors.registry import CONNECTOR_TYPES, connector_class, get_connector

__all__ = ["CONNECTOR_TYPES", "connector_class", "get_connector"]
