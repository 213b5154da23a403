"""The ten kinds of systems, as people call them."""

from __future__ import annotations

from typing import NamedTuple


class System(NamedTuple):
    """A kind of system; `family` is `databases` or `saas_and_cloud`."""

    connector_type: str
    title: str
    family: str


SYSTEMS = {
    connector_type: System(connector_type, title, family)
    for connector_type, title, family in (
        ("postgresql", "PostgreSQL", "databases"),
        ("mysql", "MySQL", "databases"),
        ("sqlite", "SQLite", "databases"),
        ("servicenow", "ServiceNow", "saas_and_cloud"),
        ("confluence", "Confluence", "saas_and_cloud"),
        ("salesforce", "Salesforce", "saas_and_cloud"),
        ("google_cloud_storage", "Google Cloud Storage", "saas_and_cloud"),
        ("amazon_s3", "Amazon S3", "saas_and_cloud"),
        ("jira", "Jira", "saas_and_cloud"),
        ("sharepoint", "SharePoint", "saas_and_cloud"),
    )
}
"""By connector type, in the order of pages."""

FAMILIES = {"databases": "Databases", "saas_and_cloud": "SaaS & cloud"}


def system_of(connector_type: str) -> System:
    """The system of a connector type, also of one that was not known when this was written."""
    return SYSTEMS.get(connector_type, System(connector_type, connector_type, "saas_and_cloud"))
