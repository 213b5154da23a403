"""The Jira connector against a simulated site, in each of its ways in."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from connectors import get_connector, http
from connectors.base import (
    ConfigurationError,
    DownloadFailed,
    ExternalDocument,
    ListingIncomplete,
    Window,
    download_verified,
)
from connectors.http_answers import RequestFailed
from connectors.jira import Jira
from sandbox.jira import SimulatedJira

UTC = timezone.utc
DAY = datetime(2026, 11, 2, tzinfo=UTC)
WAYS = ["token", "scoped_token", "client_credentials"]
HELL = [
    "../../etc/passwd",
    "a/b\\c.pdf",
    "con.pdf",
    "émigré.pdf",
    "e\u0301migre\u0301.pdf",
    "100% #1 'final' \"v2\".pdf",
    "tab\tnew\nline.pdf",
    "x" * 251 + ".pdf",
    "許可.pdf",
    " ",
]


@pytest.fixture
def site() -> Iterator[SimulatedJira]:
    with SimulatedJira() as system:
        yield system
        assert not system.leaks
        assert not system.too_early


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.01)


def settings(site: SimulatedJira, auth: str = "token", **more: Any) -> dict[str, Any]:
    way = {
        "token": {"email": site.email, "api_token": site.api_token},
        "scoped_token": {"email": site.email, "api_token": site.scoped_token},
        "client_credentials": {"client_id": site.client_id, "client_secret": site.client_secret},
    }[auth]
    hosts = {"base_url": site.url(), "gateway_url": site.url("gateway"), "login_url": site.url("login")}
    return {**hosts, "auth": auth, **way, **more}


def connect(site: SimulatedJira, auth: str = "token", **more: Any) -> Jira:
    connector = get_connector("jira", settings(site, auth, **more))
    assert isinstance(connector, Jira)
    return connector


def listed(connector: Jira, window: Window | None = None) -> dict[str, ExternalDocument]:
    documents = list(connector.list_documents(window))
    found = {document.external_id: document for document in documents}
    assert len(found) == len(documents)
    return found


def content(connector: Jira, document: ExternalDocument) -> bytes:
    into = io.BytesIO()
    download_verified(connector, document, into)
    return into.getvalue()


def fill(site: SimulatedJira, count: int = 3, **fields: Any) -> list[str]:
    return [
        site.add(f"{number:05}.txt", f"content {number}".encode(), modified_at=DAY, **fields).id
        for number in range(count)
    ]


# What is listed.


@pytest.mark.parametrize("auth", WAYS)
def test_a_listing_is_all_there_is_and_downloads_are_its_bytes(site: SimulatedJira, auth: str) -> None:
    issue = site.add_issue("HR", "Benefits of Ms Doe")
    first = site.add("form.pdf", b"%PDF-1.7 form", issue=issue, modified_at=DAY)
    fill(site, 250)
    connector = connect(site, auth)
    found = listed(connector)
    assert found.keys() == site.documents.keys()
    assert found[first.id] == ExternalDocument(
        external_id=first.id,
        version=first.id,
        filename="form.pdf",
        modified_at=DAY,
        size=13,
        content_type="application/pdf",
        source_url=f"{site.url()}/browse/{issue}",
        metadata={
            "issue": issue,
            "summary": "Benefits of Ms Doe",
            "project": "HR",
            "project_name": "Hr",
            "author": "Clara Clerk",
        },
    )
    for id_, document in found.items():
        assert content(connector, document) == site.documents[id_].content
    assert site.requests["search"] == 3


def test_a_second_listing_is_the_same(site: SimulatedJira) -> None:
    fill(site)
    connector = connect(site)
    assert listed(connector) == listed(connector)


def test_a_replaced_document_is_a_new_one(site: SimulatedJira) -> None:
    (id_,) = fill(site, 1)
    connector = connect(site)
    before = listed(connector)
    after = site.replace(id_, b"new")
    assert listed(connector).keys() == {after.id} != before.keys()
    with pytest.raises(DownloadFailed, match="gone since it was listed"):
        content(connector, before[id_])


@pytest.mark.parametrize("name", HELL)
def test_names_come_as_they_are(site: SimulatedJira, name: str) -> None:
    document = site.add(name, name.encode(), summary=name)
    connector = connect(site)
    (found,) = listed(connector).values()
    assert (found.filename, found.metadata["summary"]) == (name, name)
    assert content(connector, found) == document.content


def test_empty_and_large_documents(site: SimulatedJira) -> None:
    empty = site.add("empty.txt", b"")
    large = site.add("large.bin", bytes(range(256)) * 80_000)
    connector = connect(site)
    found = listed(connector)
    assert content(connector, found[empty.id]) == b""
    assert content(connector, found[large.id]) == large.content


def test_a_web_page_may_be_a_document(site: SimulatedJira) -> None:
    page = site.add("notice.html", b"<!doctype html><p>Notice")
    connector = connect(site)
    assert content(connector, listed(connector)[page.id]) == page.content


def test_several_attachments_of_an_issue(site: SimulatedJira) -> None:
    issue = site.add_issue("HR", "Two forms")
    ids = fill(site, 2, issue=issue)
    assert listed(connect(site)).keys() == set(ids)


def test_projects(site: SimulatedJira) -> None:
    human = fill(site, 2, project="HR")
    reserved = fill(site, 2, project="INT")
    fill(site, 2, project="OTHER")
    assert listed(connect(site, project_key="hr")).keys() == set(human)
    assert listed(connect(site, project_key="INT")).keys() == set(reserved)
    assert listed(connect(site, project_key="HR, INT")).keys() == {*human, *reserved}
    assert listed(connect(site, project_key=["HR", "INT"])).keys() == {*human, *reserved}


@pytest.mark.parametrize(
    "jql",
    [
        'summary ~ "order by"',
        'summary ~ "order by" ORDER BY updated DESC, key',
        'summary ~ "nothing" OR summary ~ "order by" order  by key',
        "summary ~ 'it\\'s ORDER BY nothing' OR key = HR-2",
    ],
)
def test_a_query_narrows_what_is_listed_and_its_order_is_left_out(site: SimulatedJira, jql: str) -> None:
    fill(site, 1, project="HR", summary="Parking")
    wanted = fill(site, 1, project="HR", summary="An order by the mayor")
    fill(site, 1, project="OTHER", summary="An order by the council")
    assert listed(connect(site, project_key="HR", jql_query=jql)).keys() == set(wanted)


def test_a_query_that_only_sorts_is_none(site: SimulatedJira) -> None:
    ids = fill(site)
    assert listed(connect(site, jql_query="ORDER BY created")).keys() == set(ids)


# Windows.


def test_windows_are_exact_whatever_the_time_zone_of_the_account(site: SimulatedJira) -> None:
    end = DAY + timedelta(days=1)
    step = timedelta(milliseconds=1)
    moments = [DAY - step, DAY, DAY, DAY + timedelta(hours=12), end - step, end, end + timedelta(days=3)]
    made = [site.add("a.txt", b"a", modified_at=moment) for moment in moments]
    found = listed(connect(site), Window(DAY, end))
    assert found.keys() == {document.id for document in made[1:5]}
    assert listed(connect(site), Window(end + timedelta(days=1), end + timedelta(days=2))) == {}
    assert len(listed(connect(site), Window(None, DAY))) == 1
    assert len(listed(connect(site), Window(end, None))) == 2


@pytest.mark.parametrize("day", [datetime(2026, 3, 8, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)])
def test_days_of_a_change_of_clocks(site: SimulatedJira, day: datetime) -> None:
    made = [site.add("a.txt", b"a", modified_at=day + timedelta(minutes=30 * n)) for n in range(-4, 52)]
    found = listed(connect(site), Window(day, day + timedelta(days=1)))
    assert found.keys() == {document.id for document in made[4:52]}


def test_an_issue_that_was_touched_later_still_holds_its_attachments(site: SimulatedJira) -> None:
    issue = site.add_issue("HR", "Discussed for long")
    old = site.add("a.txt", b"a", issue=issue, modified_at=DAY)
    site.touch(issue, updated=DAY + timedelta(days=90))
    assert listed(connect(site), Window(DAY, DAY + timedelta(days=1))).keys() == {old.id}


def test_an_issue_that_is_moved_here_later_brings_its_old_attachments(site: SimulatedJira) -> None:
    old = site.add("old.pdf", b"x", modified_at=DAY, project="OPS")
    new = site.add("new.pdf", b"y", modified_at=DAY + timedelta(days=1), project="HR")
    connector = connect(site, project_key="HR")
    assert listed(connector).keys() == {new.id}
    site.move(old.fields["issue"], "HR", updated=DAY + timedelta(days=9))
    assert listed(connector, Window(DAY + timedelta(days=2), None)).keys() == {old.id}
    assert listed(connector, Window(DAY + timedelta(days=2), DAY + timedelta(days=20))) == {}
    assert listed(connector, Window(DAY, DAY + timedelta(days=1))).keys() == {old.id}


def test_what_is_touched_during_a_listing_comes_once(site: SimulatedJira) -> None:
    fill(site, 250)
    first = next(iter(site.issues))
    site.misbehave("change", route="search", spare=1, then=lambda: site.touch(first))
    assert listed(connect(site)).keys() == site.documents.keys()


# Requests.


def test_the_refresh_of_an_unchanged_source_takes_two_requests(site: SimulatedJira) -> None:
    issues = [site.add_issue("HR", "Many", updated=DAY) for _ in range(100)]
    for issue in issues:
        fill(site, 100, issue=issue)
    connector = connect(site, project_key="HR")
    assert len(listed(connector)) == 10_000
    site.forget_requests()
    assert listed(connector, Window(DAY + timedelta(hours=1), None)) == {}
    assert site.requests == {"myself": 1, "search": 1}


def test_the_cloud_id_is_asked_for_once_and_not_at_all_where_it_is_set(site: SimulatedJira) -> None:
    fill(site)
    connector = connect(site, "client_credentials")
    listed(connector)
    listed(connector)
    assert site.requests == {"tenant_info": 1, "token": 1, "search": 2}
    site.forget_requests()
    listed(connect(site, "scoped_token", cloud_id=site.cloud_id))
    assert site.requests == {"myself": 1, "search": 1}


# Signing in.


@pytest.mark.parametrize("auth", WAYS)
def test_a_good_connection(site: SimulatedJira, auth: str) -> None:
    fill(site, 1, project="HR")
    status = connect(site, auth, project_key="HR").test_connection()
    assert status == (True, "Jira (127.0.0.1) answers, and attachments in project HR can be listed")


def test_a_connection_to_an_empty_project(site: SimulatedJira) -> None:
    site.add_project("HR", "Human Resources")
    status = connect(site, project_key="HR").test_connection()
    assert status.ok
    assert "no issue with attachments in project HR" in status.message


@pytest.mark.parametrize(
    ("auth", "wrong", "says"),
    [
        ("token", {"api_token": "wrong-canary"}, "check email and api_token"),
        ("token", {"email": "other@city.example"}, "check email and api_token"),
        ("scoped_token", {"api_token": "wrong-canary"}, "check email and api_token"),
        ("client_credentials", {"client_secret": "wrong-canary"}, "check client_id and client_secret"),
        ("scoped_token", {"cloud_id": "another"}, "check base_url and cloud_id"),
        ("token", {"project_key": "NONE"}, "no project NONE that this account may browse"),
        ("token", {"project_key": "HR,SECRET"}, "no project SECRET that this account may browse"),
        ("token", {"jql_query": "nonsense = 1"}, "check jql_query"),
        ("token", {"jql_query": "key in ("}, "check jql_query"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_document(
    site: SimulatedJira, auth: str, wrong: dict[str, str], says: str
) -> None:
    fill(site, 1, project="HR")
    fill(site, 1, project="SECRET")
    site.hidden.add("SECRET")
    given = settings(site, auth, **wrong)
    connector = get_connector("jira", given)
    status = connector.test_connection()
    assert not status.ok
    assert says in status.message
    with pytest.raises(ConfigurationError) as raised:
        list(connector.list_documents())
    assert says in str(raised.value)
    for text in (status.message, str(raised.value), repr(connector), str(connector)):
        for name in ("api_token", "client_secret"):
            assert name not in given or given[name] not in text


def test_a_token_of_the_other_kind(site: SimulatedJira) -> None:
    wrong = connect(site, "token", api_token=site.scoped_token)
    assert "a token with scopes needs auth: scoped_token" in wrong.test_connection().message
    wrong = connect(site, "scoped_token", api_token=site.api_token)
    assert "a token without scopes needs auth: token" in wrong.test_connection().message


def test_a_bad_token_that_is_served_as_a_visitor_is_not_an_empty_site(site: SimulatedJira) -> None:
    fill(site, 250)
    connector = connect(site)
    found = connector.list_documents()
    document = next(found)
    site.api_token = "renewed"
    with pytest.raises(ListingIncomplete, match="check email and api_token"):
        list(found)
    with pytest.raises(ConfigurationError, match="check email and api_token"):
        list(connector.list_documents())
    with pytest.raises(DownloadFailed, match="check email and api_token"):
        content(connector, document)


def test_read_jira_work_is_all_the_scope_it_takes(site: SimulatedJira) -> None:
    fill(site)
    site.scopes = {"read:jira-work"}
    for auth in ("scoped_token", "client_credentials"):
        connector = connect(site, auth)
        assert connector.test_connection().ok
        for document in listed(connector).values():
            content(connector, document)


@pytest.mark.parametrize("auth", ["scoped_token", "client_credentials"])
def test_a_token_that_lacks_the_scope(site: SimulatedJira, auth: str) -> None:
    site.scopes = {"read:jira-user"}
    status = connect(site, auth).test_connection()
    assert not status.ok
    assert "they lack a scope: make new ones with read:jira-work" in status.message


def test_a_captcha(site: SimulatedJira, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = site.authenticate

    def denied(request: Any) -> Any:
        refusal = answer(request)
        if refusal is not None:
            refusal.headers["X-Seraph-LoginReason"] = "AUTHENTICATION_DENIED"
        return refusal

    monkeypatch.setattr(site, "authenticate", denied)
    assert "captcha" in connect(site, api_token="wrong").test_connection().message


def test_a_token_that_expires_midway_is_renewed(site: SimulatedJira) -> None:
    fill(site, 250)
    site.misbehave("expire_tokens", route="search", spare=1)
    connector = connect(site, "client_credentials")
    documents = listed(connector)
    site.expire_tokens()
    for document in list(documents.values())[:3]:
        content(connector, document)
    assert documents.keys() == site.documents.keys()
    assert site.requests["token"] == 3


def test_a_host_that_is_not_there(site: SimulatedJira) -> None:
    status = connect(site, base_url="http://127.0.0.1:1").test_connection()
    assert not status.ok
    assert "cannot be reached: check base_url" in status.message
    status = connect(site, base_url=site.url("login")).test_connection()
    assert not status.ok
    assert "check base_url" in status.message


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"base_url": "http://city.atlassian.net"}, "base_url"),
        ({"base_url": "https://city.atlassian.net/jira"}, "address of the site alone"),
        ({"base_url": "https://a:b@city.atlassian.net"}, "base_url"),
        ({"gateway_url": "http://api.atlassian.com"}, "gateway_url"),
        ({"email": None}, "auth token needs email"),
        ({"auth": "client_credentials"}, "needs client_id, client_secret"),
        ({"project_key": 'HR" OR project = "X'}, "project_key"),
        ({"cloud_id": "../x"}, "cloud_id"),
        ({"project": "HR"}, "no setting project"),
    ],
)
def test_settings_that_cannot_work(site: SimulatedJira, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        get_connector("jira", settings(site) | wrong)
    assert says in str(raised.value)
    assert site.api_token not in str(raised.value)


# Misbehaviour.


@pytest.mark.parametrize(
    "how",
    [
        {"kind": "throttle", "retry_after": "seconds", "seconds": 0.05},
        {"kind": "throttle", "retry_after": "reset_iso", "seconds": 0},
        {"kind": "throttle", "retry_after": "none"},
        {"kind": "throttle", "status": 503, "retry_after": "seconds", "seconds": 0.05},
        {"kind": "fail", "times": 2},
        {"kind": "fail", "status": 502},
        {"kind": "reset"},
        {"kind": "truncate"},
        {"kind": "slow", "seconds": 0.01},
        {"kind": "thin_page"},
    ],
    ids=str,
)
def test_what_passes_is_waited_for(site: SimulatedJira, how: dict[str, Any]) -> None:
    fill(site, 250)
    connector = connect(site)
    site.misbehave(**how, route="search", spare=1)
    assert listed(connector).keys() == site.documents.keys()
    if how["kind"] != "thin_page":
        site.misbehave(**how, route="content")
        (document, *_) = listed(connector).values()
        assert content(connector, document) == site.documents[document.external_id].content


@pytest.mark.parametrize("kind", ["reset", "truncate", "fail"])
@pytest.mark.parametrize("at_byte", [0, 5, 5_000_000])
def test_a_media_host_that_breaks_off(site: SimulatedJira, kind: str, at_byte: int) -> None:
    document = site.add("large.bin", bytes(range(256)) * 40_000)
    connector = connect(site)
    (found,) = listed(connector).values()
    site.misbehave(kind, route="binary", at_byte=at_byte)  # type: ignore[arg-type]
    assert content(connector, found) == document.content


@pytest.mark.parametrize("kind", ["fail", "login_page", "reset", "truncate"])
def test_a_download_that_fails_is_that_documents_failure(site: SimulatedJira, kind: str) -> None:
    fill(site, 2)
    connector = connect(site)
    first, second = listed(connector).values()
    site.misbehave(kind, route="content", times=99)  # type: ignore[arg-type]
    site.misbehave("truncate", route="binary", times=99)
    with pytest.raises(DownloadFailed):
        content(connector, first)
    site.behave()
    assert content(connector, second) == site.documents[second.external_id].content
    assert content(connector, first) == site.documents[first.external_id].content


@pytest.mark.parametrize(
    "how",
    [
        {"kind": "fail", "times": 99},
        {"kind": "reset", "times": 99},
        {"kind": "truncate", "times": 99},
        {"kind": "login_page"},
        {"kind": "repeat_token"},
        {"kind": "cut_short"},
    ],
    ids=str,
)
def test_a_listing_that_breaks_off_is_never_taken_for_whole(site: SimulatedJira, how: dict[str, Any]) -> None:
    fill(site, 250)
    connector = connect(site)
    site.misbehave(**how, route="search", spare=1)
    found: list[ExternalDocument] = []
    with pytest.raises(ListingIncomplete):
        found.extend(connector.list_documents())
        pytest.fail("the listing passed for a whole one")
    site.behave()
    assert listed(connector).keys() == site.documents.keys()


def test_a_quota_that_is_used_up_ends_the_run_at_once(
    site: SimulatedJira, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(site)
    throttled = site.throttled

    def quota(status: int) -> Any:
        answer = throttled(status)
        answer.headers["RateLimit-Reason"] = "jira-quota-tenant-based"
        return answer

    monkeypatch.setattr(site, "throttled", quota)
    site.misbehave("throttle", route="search", seconds=1800)
    with pytest.raises(ListingIncomplete, match="its quota is used up for the next 30 minutes"):
        list(connect(site).list_documents())
    assert site.requests["search"] == 1


def test_a_long_wait_is_not_slept_through(site: SimulatedJira) -> None:
    site.misbehave("throttle", route="search", seconds=7200, retry_after="reset_iso")
    with pytest.raises(ListingIncomplete, match="takes no more requests before"):
        list(connect(site).list_documents())


def test_the_last_page_need_not_say_so(site: SimulatedJira) -> None:
    fill(site, 250)
    site.says_last = False
    assert listed(connect(site)).keys() == site.documents.keys()


def test_a_page_that_names_a_next_one_is_not_the_last_whatever_it_says(site: SimulatedJira) -> None:
    fill(site, 250)
    site.always_last = True
    assert listed(connect(site)).keys() == site.documents.keys()


def test_issues_whose_attachments_are_hidden_are_told(
    site: SimulatedJira, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(site, 2)
    whole = site._issue

    def without(issue: Any, fields: list[str]) -> Any:
        row = whole(issue, fields)
        if issue.number == 1:
            del row["fields"]["attachment"]
        return row

    monkeypatch.setattr(site, "_issue", without)
    documents = connect(site).list_documents()
    next(documents)
    with pytest.raises(ListingIncomplete, match="attachments of 1 issues"):
        next(documents)


@pytest.mark.parametrize("field", ["id", "created"])
def test_a_row_without_what_it_must_have_is_not_passed_over(
    site: SimulatedJira, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    fill(site, 1)
    whole = site._attachment
    monkeypatch.setattr(
        site, "_attachment", lambda document: {n: v for n, v in whole(document).items() if n != field}
    )
    with pytest.raises(ConfigurationError, match="not a listing"):
        list(connect(site).list_documents())


def test_no_secret_is_logged(site: SimulatedJira, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    fill(site)
    for auth in WAYS:
        connector = connect(site, auth)
        for document in listed(connector).values():
            content(connector, document)
    secrets = [site.api_token, site.scoped_token, site.client_secret, *site._tokens, *site._links]
    assert not [secret for secret in secrets if secret in caplog.text]


# The simulated site is as strict as the real one.


def test_what_the_site_refuses(site: SimulatedJira) -> None:
    fill(site)
    session = connect(site).session()

    def status(path: str, **params: str) -> int | None:
        try:
            session.json("GET", path, params=params)
        except RequestFailed as failure:
            return failure.status
        return 200

    search = "/rest/api/3/search/jql"
    assert status("/rest/api/3/search", jql="project = CITY") == 410
    assert status(search, jql="ORDER BY key") == 400
    assert status(search, jql="project = INT") == 400
    assert status(search, jql="project = CITY", maxResults="5001") == 400
    assert status(search, jql="project = CITY", startAt="1") == 400
    assert status(search, jql="project = CITY", nextPageToken="made-up") == 400
    assert status(search, jql='project = CITY AND updated >= "2026-11-02 00:00"') == 200
