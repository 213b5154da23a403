"""The systems of the sandbox city: each is started, filled with documents, and described as a source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sandbox.city import build_archive, fill_bucket
from sandbox.confluence import SimulatedConfluence
from sandbox.documents import CityDocument
from sandbox.gcs import gcs_server
from sandbox.jira import SimulatedJira
from sandbox.mariadb import mariadb_server
from sandbox.postgresql import postgresql_server
from sandbox.s3 import s3_server
from sandbox.salesforce import SimulatedSalesforce
from sandbox.servicenow import SimulatedServiceNow
from sandbox.sharepoint import SimulatedSharePoint
from sandbox.simulated import SimulatedSystem

BUCKET = "permits"
PREFIX = "scans/"

ROWS = {
    "query": "SELECT record_no, file_name, mime_type, body, received_at FROM records",
    "id_column": "record_no",
    "filename_column": "file_name",
    "content_column": "body",
    "content_type_column": "mime_type",
    "modified_column": "received_at",
}


@dataclass(frozen=True)
class RunningSystem:
    """A system that runs: the entry of sources.yaml that describes it, the values of the environment
    variables that the entry refers to, and, for a simulated one, the address and token that control it, and
    whom its certificate is signed by."""

    source: Mapping[str, Any]
    secrets: Mapping[str, str]
    control: Mapping[str, str] = field(default_factory=dict)


Start = Callable[[Sequence[CityDocument], Path], AbstractContextManager[RunningSystem]]


def _described(name: str, connector: str, config: Mapping[str, Any], **secrets: str) -> RunningSystem:
    variables = {setting: f"SANDBOX_{name}_{setting}".upper() for setting in secrets}
    references = {setting: {"env": variable} for setting, variable in variables.items()}
    return RunningSystem(
        {"name": name, "connector": connector, "config": {**config, **references}},
        {variables[setting]: value for setting, value in secrets.items()},
    )


def _controlled(system: SimulatedSystem, described: RunningSystem) -> RunningSystem:
    control = {"url": system.url(), "token": system.control_token, "ca_file": str(system.ca_file or "")}
    return RunningSystem(described.source, described.secrets, control)


def _filled(system: SimulatedSystem, documents: Sequence[CityDocument], **fields: Any) -> None:
    for document in documents:
        system.add(
            document.name,
            document.content,
            content_type=document.content_type,
            modified_at=document.modified_at,
            **fields,
        )


@contextmanager
def city_archive(documents: Sequence[CityDocument], folder: Path) -> Iterator[RunningSystem]:
    """A SQLite records archive; one that is there already stays as it is."""
    archive = folder / "archive.db"
    if not archive.exists():
        build_archive(archive, documents)
    yield _described("city_archive", "sqlite", {"filepath": str(archive), **ROWS})


@contextmanager
def permit_scans(documents: Sequence[CityDocument], folder: Path) -> Iterator[RunningSystem]:
    """A bucket on an S3 protocol server."""
    with s3_server() as server:
        server.create_bucket(BUCKET)
        fill_bucket(server.client(), BUCKET, documents, PREFIX)
        config = {"bucket_name": BUCKET, "region": server.region, "prefix": PREFIX}
        yield _described(
            "permit_scans",
            "amazon_s3",
            {**config, "endpoint_url": server.endpoint_url},
            access_key_id=server.access_key,
            secret_access_key=server.secret_key,
        )


@contextmanager
def planning_bucket(documents: Sequence[CityDocument], folder: Path) -> Iterator[RunningSystem]:
    """A bucket on a server that speaks the protocol of Google Cloud Storage."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.storage import Client  # type: ignore[import-untyped]

    with gcs_server() as server:
        server.create_bucket(BUCKET)
        client = Client(
            project="sandbox",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": server.endpoint_url},
        )
        for document in documents:
            blob = client.bucket(BUCKET).blob(f"{document.folder}/{document.name}")
            blob.upload_from_string(document.content, content_type=document.content_type)
        yield _described(
            "planning_bucket",
            "google_cloud_storage",
            {"bucket_name": BUCKET, "anonymous": True, "endpoint_url": server.endpoint_url},
        )


@contextmanager
def court_records(documents: Sequence[CityDocument], folder: Path) -> Iterator[RunningSystem]:
    """A table of a PostgreSQL server."""
    with postgresql_server() as server:
        url = server.create_database("courts")
        _fill_table(url, documents)
        yield _sql_source("court_records", "postgresql", url)


@contextmanager
def licensing(documents: Sequence[CityDocument], folder: Path) -> Iterator[RunningSystem]:
    """A table of a MariaDB server."""
    with mariadb_server() as server:
        url = server.create_database("licensing")
        _fill_table(url, documents)
        yield _sql_source("licensing", "mysql", url)


def _sql_source(name: str, connector: str, url: sa.URL) -> RunningSystem:
    config = {"host": url.host, "port": url.port, "database": url.database, "username": url.username}
    return _described(name, connector, {**config, **ROWS}, password=str(url.password or ""))


def _fill_table(url: sa.URL, documents: Sequence[CityDocument]) -> None:
    records = sa.Table(
        "records",
        sa.MetaData(),
        sa.Column("record_no", sa.String(20), primary_key=True),
        sa.Column("file_name", sa.String(255)),
        sa.Column("mime_type", sa.String(100)),
        sa.Column("body", sa.LargeBinary(16_000_000)),
        sa.Column("received_at", sa.DateTime(timezone=True), index=True),
    )
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        records.create(connection)
        connection.execute(
            sa.insert(records),
            [
                {
                    "record_no": f"R-{number:06}",
                    "file_name": document.name,
                    "mime_type": document.content_type,
                    "body": document.content,
                    "received_at": document.modified_at,
                }
                for number, document in enumerate(documents, 1)
            ],
        )
    engine.dispose()


@contextmanager
def resident_requests(documents: Sequence[CityDocument], folder: Path) -> Iterator[RunningSystem]:
    """Attachments of incidents of a simulated ServiceNow."""
    with SimulatedServiceNow() as system:
        _filled(system, documents)
        config = {"instance_url": system.url(), "table_name": "incident", "username": system.username}
        yield _controlled(
            system, _described("resident_requests", "servicenow", config, password=system.password)
        )


@contextmanager
def public_works(documents: Sequence[CityDocument], folder: Path) -> Iterator[RunningSystem]:
    """Attachments of issues of a simulated Jira."""
    with SimulatedJira() as system:
        _filled(system, documents, project="WORKS")
        config = {"base_url": system.url(), "email": system.email, "project_key": ["WORKS"]}
        yield _controlled(system, _described("public_works", "jira", config, api_token=system.api_token))


@contextmanager
def city_wiki(documents: Sequence[CityDocument], folder: Path) -> Iterator[RunningSystem]:
    """Attachments of pages of a simulated Confluence."""
    with SimulatedConfluence() as system:
        _filled(system, documents, space="CITY")
        config = {"base_url": system.url(), "email": system.email, "space_key": ["CITY"]}
        yield _controlled(system, _described("city_wiki", "confluence", config, api_token=system.api_token))


@contextmanager
def human_services(documents: Sequence[CityDocument], folder: Path) -> Iterator[RunningSystem]:
    """Files of a simulated Salesforce."""
    with SimulatedSalesforce() as system:
        _filled(system, documents)
        config = {"instance_url": system.url(), "client_id": system.client_id}
        yield _controlled(
            system, _described("human_services", "salesforce", config, client_secret=system.client_secret)
        )


@contextmanager
def planning_library(documents: Sequence[CityDocument], folder: Path) -> Iterator[RunningSystem]:
    """The document library of a simulated SharePoint site."""
    with SimulatedSharePoint() as system:
        _filled(system, documents)
        config = {
            "site_url": system.site_url,
            "tenant_id": system.tenant_id,
            "client_id": system.client_id,
            "authority_url": system.url("login"),
            "graph_url": system.url(),
            "ca_file": str(system.ca_file),
        }
        yield _controlled(
            system,
            _described("planning_library", "sharepoint", config, client_secret=system.client_secret),
        )


SYSTEMS: Mapping[str, Start] = {
    "city_archive": city_archive,
    "permit_scans": permit_scans,
    "planning_bucket": planning_bucket,
    "court_records": court_records,
    "licensing": licensing,
    "resident_requests": resident_requests,
    "public_works": public_works,
    "city_wiki": city_wiki,
    "human_services": human_services,
    "planning_library": planning_library,
}
"""By the names of their sources."""

NEED_A_SERVER = frozenset({"court_records", "licensing"})
"""Left out where PostgreSQL or MariaDB is not installed."""
