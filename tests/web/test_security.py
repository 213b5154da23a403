"""Attempts to get in, or to have the server do what it should not: each refused with a clear answer."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
import sqlalchemy as sa

from citysort_dagster import api_tokens
from citysort_dagster.installation import open_installation
from citysort_dagster.store.models import ApiToken, Session
from citysort_dagster.web.defences import MAX_BODY
from tests.cli.conftest import Command
from tests.secrecy.canaries import Search, canary
from tests.web.console import Console, running

OPEN = {"/api/health", "/api/ready", "/", "/sign-in"}
CSRF = re.compile(r'name="csrf_token" value="([0-9a-f]{64})"')


@pytest.fixture
def guarded(console: Console) -> Console:
    """A console that asks everybody who they are; this one has no token."""
    console.as_role("admin", "admin")
    return console


@pytest.fixture
def signed_in(guarded: Console) -> Iterator[Console]:
    """Somebody with a browser and the role admin."""
    token = api_tokens.create(guarded.installation.database, "browser", "admin", "command line")
    with requests.Session() as session:
        browser = Console(guarded.url, guarded.installation, guarded.folder, session=session)
        answer = browser("POST", "/sign-in", data={"token": token, "next": "/sources"})
        assert answer.status_code == 303 and answer.headers["Location"] == "/sources"
        yield browser


def every_operation(console: Console) -> list[tuple[str, str]]:
    """Each endpoint and page with something in place of its parameters."""
    found = []
    for route in console.as_role("viewer", "lister")("GET", "/api/openapi.json").json()["paths"].items():
        path, methods = route
        found += [(method.upper(), re.sub(r"\{[^}]+\}", "x", path)) for method in methods]
    return [
        *found,
        ("GET", "/sources"),
        ("GET", "/sources/x"),
        ("POST", "/sources/x"),
        ("POST", "/sources/x/test"),
        ("POST", "/sources/x/import"),
        ("POST", "/sources/x/remove"),
        ("GET", "/new-source"),
        ("POST", "/new-source/jira"),
        ("GET", "/documents"),
        ("GET", "/review"),
        ("GET", "/api/openapi.json"),
        ("GET", "/api/docs"),
        ("POST", "/sign-out"),
    ]


def test_nothing_is_told_or_done_without_a_token(guarded: Console) -> None:
    operations = every_operation(guarded)
    assert len(operations) > 25
    for method, path in operations:
        if path in OPEN:
            continue
        for headers in (
            {},
            {"Authorization": "Bearer citysort_wrong"},
            {"Authorization": "Basic YTpi"},
            {"Cookie": "citysort_session=x"},
        ):
            answer = guarded(method, path, {}, headers=headers)
            if path.startswith(("/api", "/metrics")):
                assert answer.status_code == 401, (method, path, answer.text)
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert answer.json()["title"] == "Who are you?"
            else:
                assert answer.status_code == 303, (method, path, answer.status_code)
                assert answer.headers["Location"].startswith("/sign-in")


def test_each_role_may_do_what_is_its_own(console: Console, archive: dict[str, Any]) -> None:
    admin, operator, viewer = (console.as_role(role) for role in ("admin", "operator", "viewer"))
    source = {"name": "archive", "connector": "sqlite", "config": archive}
    for caller in (viewer, operator):
        problem = caller.refused(403, "POST", "/api/sources", source)
        assert "takes admin" in problem["detail"]
        caller.refused(403, "PUT", "/api/connectors/sqlite/config", archive)
    admin.well("POST", "/api/sources", source)
    for caller in (viewer, operator):
        for method, body in (("PUT", {"connector": "sqlite"}), ("PATCH", {}), ("DELETE", None)):
            caller.refused(403, method, "/api/sources/archive", body)
        caller.refused(403, "POST", "/api/sources/archive/test", {"config": archive})
        caller.refused(403, "POST", "/api/sources/archive/import", {"config": archive})
        caller.refused(403, "POST", "/api/connectors/sqlite/test", {"config": archive})
        assert caller.well("GET", "/api/sources/archive")["name"] == "archive"
    viewer.refused(403, "POST", "/api/sources/archive/test")
    viewer.refused(403, "POST", "/api/sources/archive/import")
    assert operator.well("POST", "/api/sources/archive/test")["ok"] is True
    assert viewer("GET", "/metrics").status_code == 200


def test_tokens_are_kept_as_hashes_and_revoked_at_once(console: Console) -> None:
    admin = console.as_role("admin", "leaver")
    database = console.installation.database
    assert admin("GET", "/api/sources").status_code == 200
    with database.read() as connection:
        row = connection.execute(sa.select(ApiToken)).one()
    assert admin.token not in str(row) and len(row.hash) == 64 and row.last_used_at is not None
    assert not Search([admin.token]).in_folder(console.installation.settings.data_dir)
    api_tokens.revoke(database, "leaver", "command line")
    admin.refused(401, "GET", "/api/sources")
    console.refused(401, "GET", "/api/sources")
    with pytest.raises(api_tokens.TokenError):
        api_tokens.create(database, "leaver", "viewer", "command line")


def test_a_session_ends_with_its_token_and_with_signing_out(signed_in: Console) -> None:
    cookie = signed_in.session.cookies["citysort_session"]
    shown = signed_in("GET", "/sources")
    assert shown.status_code == 200 and "browser" in shown.text
    with signed_in.installation.database.read() as connection:
        assert cookie not in str(connection.execute(sa.select(Session)).all())
    match = CSRF.search(shown.text)
    assert match
    assert signed_in("POST", "/sign-out", data={"csrf_token": match[1]}).status_code == 303
    again = signed_in("GET", "/sources", headers={"Cookie": f"citysort_session={cookie}"})
    assert again.status_code == 303, "the cookie itself is worth nothing any more"


def test_the_cookie_is_for_this_server_s_pages_only(guarded: Console) -> None:
    token = api_tokens.create(guarded.installation.database, "browser", "viewer", "command line")
    answer = guarded("POST", "/sign-in", data={"token": token})
    attributes = {part.strip().lower() for part in answer.headers["Set-Cookie"].split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= attributes and "secure" not in attributes
    with running(guarded.installation, guarded.folder, loopback=False, hosts=("city.example",)) as elsewhere:
        answer = elsewhere("POST", "/sign-in", data={"token": token}, headers={"Host": "city.example"})
        assert "secure" in answer.headers["Set-Cookie"].lower()


@pytest.mark.parametrize(
    "there",
    ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", "", "/\x01/x"],
)
def test_signing_in_leads_nowhere_else(guarded: Console, there: str) -> None:
    token = api_tokens.create(guarded.installation.database, "browser", "viewer", "command line")
    answer = guarded("POST", "/sign-in", data={"token": token, "next": there})
    assert answer.headers["Location"] == "/sources"


def test_forged_requests_of_a_browser_do_nothing(signed_in: Console, archive: dict[str, Any]) -> None:
    source = {"name": "archive", "connector": "sqlite", "config": archive}
    match = CSRF.search(signed_in("GET", "/sources").text)
    assert match
    token = {"X-CSRF-Token": match[1]}
    for headers in (
        {},
        {"X-CSRF-Token": "0" * 64},
        {**token, "Origin": "https://evil.example"},
        {**token, "Origin": "null"},
        {**token, "Sec-Fetch-Site": "cross-site"},
        {**token, "Sec-Fetch-Site": "same-site"},
        {"Content-Type": "text/plain"},
    ):
        problem = signed_in.refused(403, "POST", "/api/sources", source, headers=headers)
        assert problem["title"] in ("Forged or outdated", "From another site")
    assert signed_in("POST", "/new-source/sqlite", data={"name": "archive"}).status_code == 403
    assert signed_in.well("GET", "/api/sources") == []
    made = signed_in(
        "POST",
        "/api/sources",
        source,
        headers={**token, "Origin": signed_in.url, "Sec-Fetch-Site": "same-origin"},
    )
    assert made.status_code == 201


def test_other_sites_do_nothing_to_a_server_for_this_machine(
    console: Console, archive: dict[str, Any]
) -> None:
    """Whoever is on this machine is its admin; the pages that they visit are not."""
    source = {"name": "archive", "connector": "sqlite", "config": archive}
    for origin in ("https://evil.example", "null", "http://[", f"{console.url}.evil.example"):
        console.refused(403, "POST", "/api/sources", source, headers={"Origin": origin})
    console.refused(403, "POST", "/api/sources", source, headers={"Sec-Fetch-Site": "cross-site"})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        body = b"--x--\r\n" if "multipart" in kind else b"{}"
        answer = console("POST", "/api/sources/archive/import", data=body, headers={"Content-Type": kind})
        assert answer.status_code == 403, kind
    for host in (
        "evil.example",
        "evil.example:80",
        "",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::2]",
    ):
        problem = console.refused(421, "GET", "/api/sources", headers={"Host": host})
        assert problem["title"] == "Not this server", host
    for host in ("localhost", "127.0.0.1:8000", "[::1]:8000"):
        assert console("GET", "/api/sources", headers={"Host": host}).status_code == 200
    assert (
        "Access-Control-Allow-Origin"
        not in console("OPTIONS", "/api/sources", headers={"Origin": "https://evil.example"}).headers
    )


def test_signing_in_is_tried_ten_times_a_minute(guarded: Console) -> None:
    token = api_tokens.create(guarded.installation.database, "browser", "viewer", "command line")
    for _ in range(10):
        assert guarded("POST", "/sign-in", data={"token": "citysort_guess"}).status_code == 401
    refused = guarded("POST", "/sign-in", data={"token": token})
    assert refused.status_code == 429 and refused.headers["Retry-After"] == "60"
    assert "Set-Cookie" not in refused.headers
    forged = guarded("POST", "/sign-in", data={"token": token}, headers={"Origin": "https://evil.example"})
    assert forged.status_code == 403


def test_bodies_have_a_limit(console: Console) -> None:
    large = {"name": "x", "connector": "sqlite", "config": {"query": "x" * MAX_BODY}}
    console.refused(413, "POST", "/api/sources", large)
    host, port = console.url.removeprefix("http://").split(":")
    # In chunks, whose sum nobody has stated.
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    connection.putrequest("POST", "/api/sources")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    try:
        for _ in range(3 * MAX_BODY // 65_536):
            connection.send(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        connection.send(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        pass  # it hung up before it had read all
    else:
        assert connection.getresponse().status == 413
    connection.close()
    console.refused(413, "POST", "/api/sources", headers={"Content-Length": "9" * 15}, data=b"")
    assert console("GET", "/api/health").status_code == 200


def test_what_is_no_http_is_refused(console: Console) -> None:
    host, port = console.url.removeprefix("http://").split(":")
    for line in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\x00",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), timeout=30) as raw:
            raw.sendall(line + b"\r\n")
            raw.shutdown(socket.SHUT_WR)
            assert not raw.recv(100).startswith(b"HTTP/1.1 2")
    assert console("GET", "/api/health").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2fsettings.py",
        "/static/%2fetc%2fpasswd",
        "/static//etc/passwd",
        "/api/sources/..%2f..%2fetc%2fpasswd",
        "/api/sources/%00",
        "/api/imports/..%2f..%2fdata",
        "/api/imports/%27%3B%20DROP%20TABLE%20imports",
        "/api/documents/..%2f..%2fetc%2fpasswd/content",
        "/sources/..%2f..%2fetc",
        "/sources/x/imports/..%2fx",
    ],
)
def test_paths_lead_nowhere_else(console: Console, path: str) -> None:
    host, port = console.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    connection.request("GET", path)  # as it stands: requests would tidy it up
    answer = connection.getresponse()
    body = answer.read().decode()
    assert answer.status in (404, 422), (path, answer.status)
    assert "root:" not in body and "def create_app" not in body
    connection.close()


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7919 * 7907 }}", "'; --"]
)
def test_script_in_names_and_settings_is_text(console: Console, archive: dict[str, Any], text: str) -> None:
    console.refused(422, "POST", "/api/sources", {"name": text, "connector": "sqlite", "config": archive})
    config = {**archive, "query": f"SELECT * FROM documents -- {text}"}
    console.well(
        "POST",
        "/api/sources",
        {"name": "archive", "connector": "sqlite", "config": config, "description": text},
    )
    for path in ("/sources", "/sources/archive"):
        page = console("GET", path).text
        assert text not in page or (text == "{{ 7919 * 7907 }}" and "62615533" not in page)
        assert "<script>alert" not in page and "<img src=x" not in page
    for path in (
        f"/sources/{quote(text, safe='')}",
        f"/new-source/{quote(text, safe='')}",
    ):
        answer = console("GET", path)
        assert answer.status_code == 404
        assert "<script>alert" not in answer.text and "<img src=x" not in answer.text


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "\uffff", "x" * 5_000, "\u202e", " "])
def test_text_that_cannot_be_kept_is_refused(
    any_console: Console, archive: dict[str, Any], help_desk: dict[str, Any], text: str
) -> None:
    console = any_console
    quoted = quote(text.encode("utf-8", "surrogatepass"), safe="")
    for path in (
        "/api/sources/{}",
        "/api/imports/{}",
        "/sources/{}",
        "/sources/x/imports/{}",
        "/api/connectors/{}/config",
    ):
        assert console("GET", path.format(quoted)).status_code in (404, 422), path
    source = {"name": "archive", "connector": "sqlite", "config": archive}
    console.well("POST", "/api/sources", source)
    assert console("GET", f"/sources/archive?run={quoted}&said={quoted}").status_code == 200
    for change in (
        {"description": text},
        {"config": {"query": text}},
        {"schedule": text},
        {"tags": {"a": text}},
    ):
        answer = console("PATCH", "/api/sources/archive", change)
        assert answer.status_code in (200, 422), answer.text
    console.refused(401, "GET", "/api/sources", headers={"Authorization": "Bearer " + quoted})
    assert console("POST", "/sign-in", data={"token": text.encode("utf-8", "surrogatepass")}).status_code in (
        401,
        422,
    )
    answer = console("POST", "/api/connectors/servicenow/test", {"config": {**help_desk, "password": text}})
    assert answer.status_code in (200, 422) and "true" not in answer.text


@pytest.mark.parametrize("depth", [1, 2, 600])
def test_lists_in_lists_are_no_setting(console: Console, archive: dict[str, Any], depth: int) -> None:
    nested: Any = "SELECT 1"
    for _ in range(depth):
        nested = [nested]
    config = {**archive, "query": nested}
    source = {"name": "archive", "connector": "sqlite", "config": config}
    for path, body in (("/api/sources", source), ("/api/connectors/sqlite/test", {"config": config})):
        problem = console.refused(422, "POST", path, body)
        assert [error["field"] for error in problem["errors"]] == ["config.query"]


def test_every_answer_tells_browsers_to_load_nothing_from_elsewhere(console: Console) -> None:
    for path in (
        "/sources",
        "/api/sources",
        "/sign-in",
        "/static/style.css",
        "/nothing",
        "/api/docs",
        "/metrics",
    ):
        headers = console("GET", path).headers
        policy = headers["Content-Security-Policy"]
        assert (
            "default-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        )
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert "server" not in {name.lower() for name in headers} or "uvicorn" in headers["Server"]
    for path in ("/sources", "/new-source/jira", "/sign-in", "/api/docs"):
        page = console("GET", path).text
        assert not re.findall(r'(?:src|href|action)="(?:https?:)?//', page)
        assert not re.findall(r"<style|<script>| style=| onclick=", page)


ADDRESSES = [
    (
        "jira",
        {"base_url": "https://169.254.169.254", "email": "a@b.example", "api_token": "x"},
        "never asked",
    ),
    (
        "jira",
        {"base_url": "https://metadata.google.internal", "email": "a@b.example", "api_token": "x"},
        "never asked",
    ),
    (
        "confluence",
        {"base_url": "https://[fd00:ec2::254]", "email": "a@b.example", "api_token": "x"},
        "never asked",
    ),
    (
        "servicenow",
        {"instance_url": "https://10.1.2.3", "table_name": "incident", "username": "a", "password": "x"},
        "private",
    ),
    (
        "sharepoint",
        {
            "site_url": "https://city.example/sites/a",
            "tenant_id": "city.example",
            "client_id": "01234567-89ab-cdef-0123-456789abcdef",
            "client_secret": "x",
            "graph_url": "https://192.168.0.1",
        },
        "private",
    ),
    ("salesforce", {"instance_url": "https://172.16.0.1", "client_id": "x", "client_secret": "x"}, "private"),
    ("amazon_s3", {"bucket_name": "documents", "endpoint_url": "https://100.100.100.200"}, "never asked"),
    (
        "google_cloud_storage",
        {"bucket_name": "documents", "anonymous": True, "endpoint_url": "https://10.0.0.1"},
        "private",
    ),
    (
        "postgresql",
        {"host": "10.0.0.5", "database": "d", "username": "u", "query": "SELECT 1", "id_column": "id"},
        "private",
    ),
    (
        "mysql",
        {"host": "169.254.1.1", "database": "d", "username": "u", "query": "SELECT 1", "id_column": "id"},
        "never asked",
    ),
    (
        "sqlite",
        {"filepath": "/etc/passwd", "query": "SELECT 1", "id_column": "id"},
        "CITYSORT_ALLOWED_FOLDER",
    ),
]


@pytest.mark.parametrize(
    ("connector", "config", "said"),
    ADDRESSES,
    ids=[f"{one[0]}-{index}" for index, one in enumerate(ADDRESSES)],
)
def test_the_server_calls_nobody_it_should_not(
    console: Console, connector: str, config: dict[str, Any], said: str
) -> None:
    if connector in ("postgresql", "mysql", "sqlite"):
        config = {**config, "content_column": "content"}
    saved = console.refused(
        422, "POST", "/api/sources", {"name": "there", "connector": connector, "config": config}
    )
    assert said in saved["detail"], saved
    tested = console.refused(422, "POST", f"/api/connectors/{connector}/test", {"config": config})
    assert said in tested["detail"], tested
    assert console.well("GET", "/api/sources") == []


def test_an_allowed_network_is_allowed_no_longer(
    console: Console, environment: Path, help_desk: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was saved while it was allowed is looked at again whenever it is used."""
    console.well("POST", "/api/sources", {"name": "desk", "connector": "servicenow", "config": help_desk})
    monkeypatch.setenv("CITYSORT_ALLOWED_NETWORKS", "")
    with open_installation() as strict, running(strict, environment) as now:
        tested = now.well("POST", "/api/sources/desk/test")
        assert tested["ok"] is False and "CITYSORT_ALLOWED_NETWORKS" in tested["message"]
        imported = now.well("POST", "/api/sources/desk/import", {"wait": True})
        assert imported["status"] == "failed" and "CITYSORT_ALLOWED_NETWORKS" in imported["message"]
        assert now.well("PATCH", "/api/sources/desk", {"enabled": False})["state"] == "disabled"


def test_others_are_served_only_where_they_can_be_known(
    environment: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    citysort = Command(capfdbinary)
    for arguments in (("--host", "0.0.0.0"), ("--name", "citysort.city.example")):  # noqa: S104 - it refuses
        ran = citysort("serve", "--port", "65000", *arguments)
        assert ran.code == 2
        assert "citysort token create" in ran.err and ran.err.count("\n") <= 2
    made = citysort("token", "create", "robot", "--role", "operator")
    assert made.code == 0 and re.fullmatch(r"citysort_[\w-]{43}\n", made.out)
    listed = citysort("token", "list")
    assert "robot" in listed.out and made.out.strip() not in listed.out
    again = citysort("token", "create", "robot")
    assert again.code == 2 and "choose another name" in again.err
    assert citysort("token", "create", "Robot!").code == 2
    assert citysort("token", "create", "other", "--role", "king").code == 2
    with open_installation() as installation, running(installation, environment, loopback=False) as served:
        robot = Console(served.url, installation, environment, made.out.strip())
        robot.well("GET", "/api/sources")
        served.refused(401, "GET", "/api/sources")
        served.refused(421, "GET", "/api/health", headers={"Host": "evil.example"})
        assert citysort("token", "revoke", "robot").code == 0
        robot.refused(401, "GET", "/api/sources")
        ran = citysort("serve", "--port", "65000", "--name", "x.example")
        assert ran.code == 2, "a revoked token lets nobody in"
    assert citysort("token", "revoke", "nobody").code == 2


def test_what_nobody_foresaw_is_told_without_its_text(
    console: Console, help_desk: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    console.well("POST", "/api/sources", {"name": "desk", "connector": "servicenow", "config": help_desk})
    secret = canary()
    console.installation.database.write(
        lambda connection: connection.execute(
            sa.text("UPDATE connector_configs SET config_json = :broken"),
            {"broken": f'{{"password": {secret}'},
        )
    )
    problem = console.refused(500, "GET", "/api/sources")
    assert "its log says where" in problem["detail"] and secret not in str(problem)
    page = console("GET", "/sources")
    assert page.status_code == 500 and secret not in page.text
    assert "unexpected JSONDecodeError in" in caplog.text and secret not in caplog.text
    assert console.well("GET", "/api/health") == {"status": "ok"}
