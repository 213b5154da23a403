"""Connectors and the systems that they are tried against are as the vendors describe their APIs.

What there is of descriptions, and what is not held against any, stands in CONTRIBUTING.md.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from botocore.exceptions import ParamValidationError

from connectors import amazon_s3
from connectors.base import (
    ConfigurationError,
    Connector,
    DownloadFailed,
    DownloadRefused,
    ListingIncomplete,
    Window,
)
from sandbox.atlassian import CLOUD_ID
from sandbox.simulated import Answer, Logged, Misbehaviour, Request
from tests.contract.systems import (
    ConfluenceSystem,
    GCSSystem,
    JiraSystem,
    S3System,
    SharePointSystem,
    SimulatedOne,
    System,
    started,
)
from tests.descriptions.description import Description, Exchange, of_google_cloud_storage, restated

NOON = datetime(2026, 11, 2, 12, tzinfo=timezone.utc)
GATEWAY = f"/ex/[a-z]+/{CLOUD_ID}"
GRAPH_ADDRESSES = {
    # https://learn.microsoft.com/en-us/graph/api/site-getbypath
    r"/sites/([^/:]+)(:/[^:]+:)?/drives": r"/sites/\1/drives",
    # https://learn.microsoft.com/en-us/graph/onedrive-addressing-driveitems
    r"/drives/([^/]+)/root:/.+": r"/drives/\1/items/root",
    r"/drives/([^/]+)/root(/.+)?": r"/drives/\1/items/root\2",
}
"""Other addresses of what is described by id."""


@pytest.fixture
def system(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> Iterator[System]:
    with started(request.param, request, monkeypatch, tmp_path) as made:
        yield made


def recorded(system: SimulatedOne, monkeypatch: pytest.MonkeyPatch) -> list[Exchange]:
    """What is asked and answered from now on, but for hosts and routes that the API is not of: login,
    media, and how to find out where a site is."""
    exchanges: list[Exchange] = []
    handle = system.system.handle

    def handled(request: Request) -> tuple[Logged, Answer, Misbehaviour | None]:
        logged, answer, spoilt = handle(request)
        if request.host in ("api", "gateway") and logged.route not in (
            "token",
            "tenant_info",
            "unknown_site",
        ):
            exchanges.append(_exchange(request, answer))
        return logged, answer, spoilt

    monkeypatch.setattr(system.system, "handle", handled)
    return exchanges


def _exchange(request: Request, answer: Answer) -> Exchange:
    path, query = request.path, dict(request.query)
    if request.host == "gateway":
        path = re.sub(f"^{GATEWAY}", "", path)
    if path.startswith("/v1.0/"):
        of_token = re.fullmatch(r"(.+)\(token='(.*)'\)", path)
        if of_token:
            path, query["token"] = of_token[1], unquote(of_token[2])
        for address, by_id in GRAPH_ADDRESSES.items():
            path = re.sub(f"^/v1.0{address}$", f"/v1.0{by_id}", path)
    return Exchange(
        request.method,
        path,
        query,
        answer.status,
        answer.headers.get("Content-Type", ""),
        answer.body,
    )


def everything(connector: Connector) -> None:
    """What an import does: a test, a listing of all, one of a window, changes and downloads."""
    connector.test_connection()
    for window in (None, Window(NOON - timedelta(hours=3), NOON)):
        for document in connector.list_documents(window):
            if document.not_imported is None:
                connector.download_document(document, io.BytesIO())
    if connector.keeps_checkpoint:
        checkpoint = None
        for _ in range(2):
            changes = connector.list_changes(checkpoint)
            try:
                while True:
                    next(changes)
            except StopIteration as reached:
                checkpoint = reached.value.checkpoint


def refused(system: System) -> None:
    """Settings that cannot work, and a document that is gone."""
    for settings, _ in system.wrong.values():
        connector = system.connector(**settings)
        connector.test_connection()
        with pytest.raises((ConfigurationError, ListingIncomplete)):
            list(connector.list_documents())
    id = system.add("gone.txt", b"content", NOON)
    connector = system.connector()
    document = next(one for one in connector.list_documents() if one.external_id == id)
    system.remove(id)
    with pytest.raises(DownloadFailed, match="gone since it was listed"):
        connector.download_document(document, io.BytesIO())


def assert_as_described(description: Description, exchanges: list[Exchange], operations: set[str]) -> None:
    """And that these operations were among them, no more and no less."""
    problems = {problem for exchange in exchanges for problem in description.problems(exchange)}
    assert sorted(problems) == []
    assert description.used == operations


@pytest.mark.parametrize("system", ["jira"], indirect=True)
def test_jira(system: JiraSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    exchanges = recorded(system, monkeypatch)
    for hour in range(10):
        system.add(f"{hour}.txt", b"content", NOON - timedelta(hours=hour))
    site = system.site
    hosts = {"gateway_url": site.url("gateway"), "login_url": site.url("login")}
    everything(system.connector())
    everything(system.connector(auth="scoped_token", api_token=site.scoped_token, **hosts))
    client = {"client_id": site.client_id, "client_secret": site.client_secret}
    everything(system.connector(auth="client_credentials", email=None, api_token=None, **client, **hosts))
    refused(system)
    assert {exchange.status for exchange in exchanges} >= {200, 303, 400, 401, 404}
    description = restated("jira")
    assert_as_described(description, exchanges, description.ids())


@pytest.mark.parametrize("system", ["confluence"], indirect=True)
def test_confluence(system: ConfluenceSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    exchanges = recorded(system, monkeypatch)
    site = system.site
    kinds: Any = ("page", "blogpost", "custom")
    for hour in range(10):
        place = site.add_place("CITY", f"Place {hour}", kind=kinds[hour % 3])
        site.add(f"{hour}.txt", b"content", modified_at=NOON - timedelta(hours=hour), place=place)
    everything(system.connector())
    everything(system.connector(space_key=None))
    refused(system)
    site.v2_status = 410
    everything(system.connector())
    assert {exchange.status for exchange in exchanges} >= {200, 302, 404, 410}
    description = restated("confluence")
    assert_as_described(description, exchanges, description.ids())


@pytest.mark.parametrize("system", ["sharepoint"], indirect=True)
def test_sharepoint(system: SharePointSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    exchanges = recorded(system, monkeypatch)
    site = system.site
    for hour in range(10):
        site.add(f"{hour}.txt", b"content", modified_at=NOON - timedelta(hours=hour), folder="2026/March")
    site.add("notes.one", b"content", modified_at=NOON, package=True)
    site.add("unhashed.docx", b"content", modified_at=NOON, hash=False)
    site.remove(site.add("gone.txt", b"content", modified_at=NOON).id)
    everything(system.connector())
    everything(system.connector(library_name=None, folder="2026/March"))
    refused(system)
    connector = system.connector()
    infected = site.add("infected.txt", b"content", malware=True)
    document = next(one for one in connector.list_documents() if one.external_id.endswith(infected.id))
    with pytest.raises(DownloadRefused, match="malware"):
        connector.download_document(document, io.BytesIO())
    checkpoint = _reached(connector, None)
    site.forget_changes()
    _reached(connector, checkpoint)
    assert {exchange.status for exchange in exchanges} >= {200, 302, 403, 404, 410}
    description = restated("graph")
    assert_as_described(description, exchanges, description.ids())


def _reached(connector: Connector, checkpoint: str | None) -> str | None:
    changes = connector.list_changes(checkpoint)
    try:
        while True:
            next(changes)
    except StopIteration as reached:
        return str(reached.value.checkpoint)


@pytest.mark.parametrize("system", ["google_cloud_storage"], indirect=True)
def test_google_cloud_storage(system: GCSSystem) -> None:
    system.small_pages()
    for number in range(10):
        system.add(f"permits/{number}.txt", b"content")
    everything(system.connector())
    everything(system.connector(prefix="permits/"))
    exchanges = []
    for seen in system.front.seen:
        address = urlsplit(seen.path)
        query = dict(parse_qsl(address.query, keep_blank_values=True))
        content_type = seen.answer_headers.get("content-type", "")
        exchanges.append(Exchange(seen.method, address.path, query, seen.status, content_type, seen.body))
    asked = {"storage.objects.list", "storage.objects.get", "storage.objects.get as bytes"}
    assert_as_described(of_google_cloud_storage(), exchanges, asked)


@pytest.mark.parametrize("system", ["amazon_s3"], indirect=True)
def test_amazon_s3(system: S3System) -> None:
    """Its client holds each request against the description that comes with it, and reads answers by it."""
    connector = system.connector()
    assert isinstance(connector, amazon_s3.AmazonS3)
    client = connector._client()
    with pytest.raises(ParamValidationError, match="Nonsense"):
        client.list_objects_v2(Bucket=system.bucket, Nonsense="x")  # type: ignore[call-arg]


# What the tests above would not see, if it were not seen here.

SEARCH = Exchange(
    "GET",
    "/rest/api/3/search/jql",
    {"jql": "project = CITY", "maxResults": "100", "fields": "summary,attachment"},
    200,
    "application/json",
    b'{"isLast": true, "issues": []}',
)
PAGES = Exchange(
    "GET",
    "/wiki/api/v2/pages",
    {"id": "1,2", "limit": "250"},
    200,
    "application/json",
    b'{"results": [{"id": "1", "status": "current"}]}',
)
OBJECTS = Exchange(
    "GET",
    "/storage/v1/b/city/o",
    {"projection": "noAcl", "maxResults": "7"},
    200,
    "application/json",
    b'{"kind": "storage#objects", "items": [{"name": "a", "size": "7"}]}',
)
UNLIKE: list[tuple[str, Exchange, dict[str, Any], str]] = [
    ("jira", SEARCH, {"path": "/rest/api/3/searches"}, "is not described"),
    ("jira", SEARCH, {"method": "POST"}, "is not described"),
    ("jira", SEARCH, {"query": {"startAt": "7"}}, "there is no parameter startAt"),
    ("jira", SEARCH, {"query": {"maxResults": "many"}}, "many"),
    ("jira", SEARCH, {"query": {"maxResults": "5001"}}, "5000"),
    ("jira", SEARCH, {"status": 302}, "302"),
    ("jira", SEARCH, {"content_type": "text/html"}, "text/html"),
    ("jira", SEARCH, {"body": b"<html>"}, "json"),
    ("jira", SEARCH, {"body": b'{"isLast": "yes"}'}, "isLast"),
    ("jira", SEARCH, {"body": b'{"total": 7}'}, "total"),
    ("jira", SEARCH, {"body": b'{"issues": [{"id": 7}]}'}, "issues[0].id"),
    ("confluence", PAGES, {"query": {"id": "1,x"}}, "x"),
    ("confluence", PAGES, {"query": {"limit": "251"}}, "250"),
    ("confluence", PAGES, {"body": b'{"results": [{"status": "lost"}]}'}, "results[0].status"),
    ("google", OBJECTS, {"query": {"projection": "half"}}, "half"),
    ("google", OBJECTS, {"query": {"pageSize": "7"}}, "there is no parameter pageSize"),
    ("google", OBJECTS, {"body": b'{"items": [{"size": 7}]}'}, "items[0].size"),
]


@pytest.mark.parametrize(("vendor", "like", "change", "word"), UNLIKE)
def test_what_is_not_as_described_is_told(
    vendor: str, like: Exchange, change: dict[str, Any], word: str
) -> None:
    description = of_google_cloud_storage() if vendor == "google" else restated(vendor)
    assert list(description.problems(like)) == []
    (problem,) = description.problems(replace(like, **change))
    assert word.lower() in problem.lower()
