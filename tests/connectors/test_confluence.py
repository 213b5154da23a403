"""The Confluence connector against a simulated site, in each of its ways in, on both versions of the API."""

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
    DownloadRefused,
    ExternalDocument,
    ListingIncomplete,
    Window,
    download_verified,
)
from connectors.confluence import Confluence
from connectors.http_answers import RequestFailed
from sandbox.confluence import SimulatedConfluence

UTC = timezone.utc
DAY = datetime(2026, 11, 2, tzinfo=UTC)
WAYS = ["token", "scoped_token", "client_credentials"]
LEAST_SCOPES = {
    "read:attachment:confluence",
    "read:page:confluence",
    "read:custom-content:confluence",
    "read:space:confluence",
    "readonly:content.attachment:confluence",
}
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
def site() -> Iterator[SimulatedConfluence]:
    with SimulatedConfluence() as system:
        yield system
        assert not system.leaks
        assert not system.too_early


@pytest.fixture(params=[None, 404, 410], ids=["v2", "v1 for 404", "v1 for 410"])
def either(request: pytest.FixtureRequest, site: SimulatedConfluence) -> SimulatedConfluence:
    """A site with the second version of the API, and sites where it is not there."""
    site.v2_status = request.param
    return site


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.01)


def settings(site: SimulatedConfluence, auth: str = "token", **more: Any) -> dict[str, Any]:
    way = {
        "token": {"email": site.email, "api_token": site.api_token},
        "scoped_token": {"email": site.email, "api_token": site.scoped_token},
        "client_credentials": {"client_id": site.client_id, "client_secret": site.client_secret},
    }[auth]
    hosts = {"base_url": site.url(), "gateway_url": site.url("gateway"), "login_url": site.url("login")}
    return {**hosts, "auth": auth, **way, **more}


def connect(site: SimulatedConfluence, auth: str = "token", **more: Any) -> Confluence:
    connector = get_connector("confluence", settings(site, auth, **more))
    assert isinstance(connector, Confluence)
    return connector


def listed(connector: Confluence, window: Window | None = None) -> dict[str, ExternalDocument]:
    documents = list(connector.list_documents(window))
    found = {document.external_id: document for document in documents}
    assert len(found) == len(documents)
    return found


def content(connector: Confluence, document: ExternalDocument) -> bytes:
    into = io.BytesIO()
    download_verified(connector, document, into)
    return into.getvalue()


def fill(site: SimulatedConfluence, count: int = 3, **fields: Any) -> list[str]:
    return [
        site.add(
            f"{number:05}.txt",
            f"content {number}".encode(),
            modified_at=DAY + timedelta(seconds=number),
            **fields,
        ).id
        for number in range(count)
    ]


# What is listed.


@pytest.mark.parametrize("auth", WAYS)
def test_a_listing_is_all_there_is_and_downloads_are_its_bytes(
    either: SimulatedConfluence, auth: str
) -> None:
    page = either.add_place("HR", "Forms")
    first = either.add("form.pdf", b"%PDF-1.7 form", place=page, modified_at=DAY)
    fill(either, 520)
    connector = connect(either, auth)
    found = listed(connector)
    assert found.keys() == either.documents.keys()
    assert found[first.id] == ExternalDocument(
        external_id=first.id,
        version="2026-11-02T00:00:00.000+00:00 13",
        filename="form.pdf",
        modified_at=DAY,
        size=13,
        content_type="application/pdf",
        source_url=f"{either.url()}/wiki/pages/viewpageattachments.action?pageId={page}",
        metadata={
            "space": "HR",
            "title": "Forms",
            "container_id": page,
            "container_type": "page",
            "version_number": "1",
            "status": "current",
        },
    )
    for id_ in list(found)[::10]:
        assert content(connector, found[id_]) == either.documents[id_].content
    dates = [document.modified_at for document in found.values() if document.modified_at]
    assert dates == sorted(dates, reverse=True)


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("version", [None, 404])
def test_links_to_the_next_page_behind_the_gateway(
    site: SimulatedConfluence, prefix: bool, version: int | None
) -> None:
    fill(site, 520)
    site.gateway_prefix, site.v2_status = prefix, version
    assert listed(connect(site, "scoped_token")).keys() == site.documents.keys()


def test_a_second_listing_is_the_same(either: SimulatedConfluence) -> None:
    fill(either)
    connector = connect(either)
    assert listed(connector) == listed(connector)


def test_a_replaced_document_is_a_new_version(either: SimulatedConfluence) -> None:
    (id_,) = fill(either, 1)
    connector = connect(either)
    (before,) = listed(connector).values()
    either.replace(id_, b"something new")
    (after,) = listed(connector).values()
    assert (before.external_id, before.metadata["version_number"]) == (after.external_id, "1")
    assert after.metadata["version_number"] == "2"
    assert before.version != after.version
    assert content(connector, before) == b"content 0"
    assert content(connector, after) == b"something new"


def test_versions_that_are_numbered_anew_are_told_apart(either: SimulatedConfluence) -> None:
    """As Confluence does with those after one that somebody deletes."""
    (id_,) = fill(either, 1)
    either.replace(id_, b"the second", modified_at=DAY + timedelta(hours=1))
    connector = connect(either)
    (before,) = listed(connector).values()
    either.delete_version(id_, 1)
    (same,) = listed(connector).values()
    assert same.version == before.version
    assert content(connector, same) == b"the second"
    either.replace(id_, b"the third.", modified_at=DAY + timedelta(hours=2))
    (after,) = listed(connector).values()
    assert after.metadata["version_number"] == before.metadata["version_number"]
    assert after.version != before.version
    assert content(connector, after) == b"the third."


def test_a_document_that_went_is_told(either: SimulatedConfluence) -> None:
    (id_,) = fill(either, 1)
    connector = connect(either)
    (document,) = listed(connector).values()
    either.remove(id_)
    assert listed(connector) == {}
    with pytest.raises(DownloadFailed, match="gone since it was listed"):
        content(connector, document)


def test_a_page_that_may_not_be_read_any_more_is_its_documents_failure(site: SimulatedConfluence) -> None:
    fill(site, 2)
    connector = connect(site)
    found = listed(connector)
    hidden, seen = found.values()
    site.places[hidden.metadata["container_id"]].readable = False
    with pytest.raises(DownloadFailed, match="gone since it was listed"):
        content(connector, hidden)
    assert content(connector, seen) == site.documents[seen.external_id].content


@pytest.mark.parametrize("name", HELL)
def test_names_come_as_they_are(either: SimulatedConfluence, name: str) -> None:
    document = either.add(name, name.encode(), title=name)
    connector = connect(either)
    (found,) = listed(connector).values()
    assert (found.filename, found.metadata["title"]) == (name, name)
    assert content(connector, found) == document.content


def test_empty_and_large_documents_and_web_pages(site: SimulatedConfluence) -> None:
    empty = site.add("empty.txt", b"")
    large = site.add("large.bin", bytes(range(256)) * 80_000)
    page = site.add("notice.html", b"<!doctype html><p>Notice")
    connector = connect(site)
    found = listed(connector)
    for document in (empty, large, page):
        assert content(connector, found[document.id]) == document.content


def test_spaces(either: SimulatedConfluence) -> None:
    human = fill(either, 2, space="HR")
    law = fill(either, 2, space="~71202LAW")
    fill(either, 300, space="OTHER")
    assert listed(connect(either, space_key="HR")).keys() == set(human)
    assert listed(connect(either, space_key="HR, ~71202LAW")).keys() == {*human, *law}
    assert listed(connect(either, space_key=["HR", "~71202LAW"])).keys() == {*human, *law}
    assert len(listed(connect(either))) == 304


@pytest.mark.parametrize("lists", ["refused", "first"])
def test_a_site_that_does_not_look_up_several_at_a_time(site: SimulatedConfluence, lists: Any) -> None:
    wanted = fill(site, 3, space="HR") + fill(site, 2, space="LAW", kind="blogpost")
    fill(site, 2, space="OTHER")
    site.lists_in_parameters = lists
    assert listed(connect(site, space_key="HR,LAW")).keys() == set(wanted)
    assert {document.metadata["space"] for document in listed(connect(site)).values()} == {
        "HR",
        "LAW",
        "OTHER",
    }


def test_blog_posts_and_custom_content(either: SimulatedConfluence) -> None:
    (page,) = fill(either, 1)
    (post,) = fill(either, 1, kind="blogpost", space="HR")
    (custom,) = fill(either, 1, kind="custom", space="HR")
    connector = connect(either)
    found = listed(connector)
    assert found.keys() == {page, post, custom}
    for document in found.values():
        assert content(connector, document) == b"content 0"
    assert listed(connect(either, space_key="HR")).keys() == {post, custom}
    assert listed(connect(either, include_blog_posts=False)).keys() == {page, custom}


def test_archived_spaces_and_pages(site: SimulatedConfluence) -> None:
    site.add_space("OLD", "Old", status="archived")
    (current,) = fill(site, 1)
    (space,) = fill(site, 1, space="OLD")
    (page,) = fill(site, 1, place=site.add_place("CITY", "Old page", status="archived"))
    connector = connect(site)
    found = listed(connector)
    assert found.keys() == {current, space, page}
    assert [content(connector, document) for document in found.values()] == [b"content 0"] * 3
    assert listed(connect(site, space_key="OLD")).keys() == {space}
    assert listed(connect(site, include_archived=False)).keys() == {current}
    site.v2_status = 404
    assert space in listed(connect(site))
    assert space not in listed(connect(site, include_archived=False))


def test_what_hangs_on_nothing_is_reported_and_left(site: SimulatedConfluence) -> None:
    (id_,) = fill(site, 1, place=None)
    connector = connect(site)
    document = listed(connector)[id_]
    assert document.not_imported is not None
    assert document.not_imported.refused
    with pytest.raises((DownloadFailed, DownloadRefused)):
        content(connector, document)
    site.add_space("HR", "Human Resources")
    assert listed(connect(site, space_key="HR")) == {}


# Windows.


def test_windows_are_exact_whatever_the_time_zone_of_the_search(either: SimulatedConfluence) -> None:
    end = DAY + timedelta(days=1)
    step = timedelta(milliseconds=1)
    moments = [DAY - step, DAY, DAY, DAY + timedelta(hours=12), end - step, end, end + timedelta(days=3)]
    made = [either.add("a.txt", b"a", modified_at=moment) for moment in moments]
    for hours in (-12, 0, 14):
        either.time_zone = timezone(timedelta(hours=hours))
        found = listed(connect(either), Window(DAY, end))
        assert found.keys() == {document.id for document in made[1:5]}
    assert listed(connect(either), Window(end + timedelta(days=1), end + timedelta(days=2))) == {}
    assert len(listed(connect(either), Window(None, DAY))) == 1
    assert len(listed(connect(either), Window(end, None))) == 2


@pytest.mark.parametrize("day", [datetime(2026, 3, 8, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)])
def test_days_of_a_change_of_clocks(either: SimulatedConfluence, day: datetime) -> None:
    made = [either.add("a.txt", b"a", modified_at=day + timedelta(minutes=30 * n)) for n in range(-4, 52)]
    found = listed(connect(either), Window(day, day + timedelta(days=1)))
    assert found.keys() == {document.id for document in made[4:52]}


def test_a_new_version_moves_a_document_to_another_day(either: SimulatedConfluence) -> None:
    (id_,) = fill(either, 1)
    either.replace(id_, b"later", modified_at=DAY + timedelta(days=5))
    assert listed(connect(either), Window(DAY, DAY + timedelta(days=1))) == {}
    assert listed(connect(either), Window(DAY + timedelta(days=5), None)).keys() == {id_}


def test_one_row_out_of_order_does_not_end_a_listing(
    site: SimulatedConfluence, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(site, 600)
    whole = site._attachment
    odd = list(site.documents)[-250]  # the last row of the first page

    def row(document: Any) -> Any:
        made = whole(document)
        if document.id == odd:
            made["version"]["createdAt"] = "2020-01-01T00:00:00.000Z"
        return made

    monkeypatch.setattr(site, "_attachment", row)
    # What follows it is in the window.
    found = listed(connect(site), Window(DAY, None))
    assert found.keys() == site.documents.keys() - {odd}


def test_what_is_replaced_during_a_listing_is_listed_at_the_latest_by_the_next(
    site: SimulatedConfluence,
) -> None:
    ids = fill(site, 600)
    begun = site.now()
    site.misbehave("change", route="attachments", spare=1, then=lambda: site.replace(ids[0], b"new"))
    connector = connect(site)
    found = listed(connector)
    assert found.keys() >= site.documents.keys() - {ids[0]}
    again = listed(connector, Window(begun, None))
    assert again[ids[0]].metadata["version_number"] == "2"


# Requests.


def test_the_refresh_of_an_unchanged_source(site: SimulatedConfluence) -> None:
    pages = [site.add_place("HR", "Many") for _ in range(100)]
    for page in pages:
        fill(site, 100, place=page)
    connector = connect(site, space_key="HR")
    assert len(listed(connector)) == 10_000
    assert site.requests["attachments"] == 40
    assert sum(site.requests.values()) <= 40 + 40 + 1
    later = Window(DAY + timedelta(hours=1), None)
    site.forget_requests()
    new = site.replace(next(iter(site.documents)), b"new")
    later = Window(max(later.start or DAY, new.modified_at + timedelta(seconds=1)), None)
    for either in (connector, connect(site)):
        site.forget_requests()
        assert listed(either, later) == {}
        assert site.requests == {"attachments": 1}
        # One document is new: what it hangs on, and in which space.
        assert listed(either, Window(new.modified_at, None)).keys() == {new.id}
        assert site.requests == {"attachments": 2, "pages": 1, "spaces": 1}


def test_a_space_that_is_not_there_is_told_by_a_listing_of_everything_and_by_what_is_new(
    site: SimulatedConfluence,
) -> None:
    fill(site)
    connector = connect(site, space_key="NOTHING")
    assert listed(connector, Window(DAY + timedelta(days=9), None)) == {}
    for window in (None, Window(), Window(None, DAY - timedelta(days=9)), Window(DAY, None)):
        with pytest.raises(ConfigurationError, match="has no space NOTHING"):
            listed(connector, window)


def test_the_cloud_id_is_asked_for_once_and_not_at_all_where_it_is_set(site: SimulatedConfluence) -> None:
    fill(site)
    connector = connect(site, "client_credentials")
    listed(connector)
    listed(connector)
    assert (site.requests["tenant_info"], site.requests["token"]) == (1, 1)
    site.forget_requests()
    listed(connect(site, "scoped_token", cloud_id=site.cloud_id))
    assert site.requests == {"attachments": 1, "pages": 1, "spaces": 1}


# Signing in.


@pytest.mark.parametrize("auth", WAYS)
def test_a_good_connection(either: SimulatedConfluence, auth: str) -> None:
    fill(either, 1, space="HR")
    status = connect(either, auth, space_key="HR").test_connection()
    assert status == (True, "Confluence (127.0.0.1) answers, and attachments in space HR can be listed")


def test_the_address_may_end_in_wiki(site: SimulatedConfluence) -> None:
    fill(site)
    assert len(listed(connect(site, base_url=f"{site.url()}/wiki/"))) == 3


def test_an_empty_site(site: SimulatedConfluence) -> None:
    status = connect(site).test_connection()
    assert status.ok
    assert "no attachments in any space" in status.message
    assert listed(connect(site)) == {}


@pytest.mark.parametrize(
    ("auth", "wrong", "says"),
    [
        ("token", {"api_token": "wrong-canary"}, "check email and api_token"),
        ("token", {"email": "other@city.example"}, "check email and api_token"),
        ("scoped_token", {"api_token": "wrong-canary"}, "check email and api_token"),
        ("client_credentials", {"client_secret": "wrong-canary"}, "check client_id and client_secret"),
        ("scoped_token", {"cloud_id": "another"}, "check base_url and cloud_id"),
        ("token", {"space_key": "NONE"}, "no space NONE that this account may view"),
        ("token", {"space_key": "HR,SECRET"}, "no space SECRET that this account may view"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_document(
    site: SimulatedConfluence, auth: str, wrong: dict[str, str], says: str
) -> None:
    fill(site, 1, space="HR")
    fill(site, 1, space="SECRET")
    site.hidden.add("SECRET")
    given = settings(site, auth, **wrong)
    connector = get_connector("confluence", given)
    status = connector.test_connection()
    assert not status.ok
    assert says in status.message
    with pytest.raises(ConfigurationError) as raised:
        list(connector.list_documents())
    assert says in str(raised.value)
    for text in (status.message, str(raised.value), repr(connector), str(connector)):
        for name in ("api_token", "client_secret"):
            assert name not in given or given[name] not in text


def test_a_token_of_the_other_kind(site: SimulatedConfluence) -> None:
    wrong = connect(site, "token", api_token=site.scoped_token)
    assert "check email and api_token" in wrong.test_connection().message
    site.visitors_allowed = False
    assert "a token with scopes needs auth: scoped_token" in wrong.test_connection().message
    wrong = connect(site, "scoped_token", api_token=site.api_token)
    assert "a token without scopes needs auth: token" in wrong.test_connection().message


def test_the_documented_scopes_are_all_it_takes(site: SimulatedConfluence) -> None:
    fill(site, 1, kind="custom")
    fill(site, 1, kind="blogpost")
    fill(site, 1)
    site.scopes = set(LEAST_SCOPES)
    for auth in ("scoped_token", "client_credentials"):
        connector = connect(site, auth, space_key="CITY")
        assert connector.test_connection().ok
        assert len(listed(connector)) == 3
        for document in listed(connector).values():
            content(connector, document)


@pytest.mark.parametrize("missing", sorted(LEAST_SCOPES))
def test_a_token_that_lacks_a_scope(site: SimulatedConfluence, missing: str) -> None:
    fill(site, 1, kind="custom")
    fill(site, 1)
    site.scopes = LEAST_SCOPES - {missing, "read:attachment:confluence"} | (
        set() if "attachment" in missing else {"read:attachment:confluence"}
    )
    connector = connect(site, "client_credentials")
    with pytest.raises((ConfigurationError, ListingIncomplete, DownloadFailed)) as raised:
        for document in connector.list_documents():
            content(connector, document)
    assert "they lack a scope: make new ones with read:attachment:confluence" in str(raised.value)


def test_a_token_that_expires_midway_is_renewed(site: SimulatedConfluence) -> None:
    fill(site, 520)
    site.misbehave("expire_tokens", route="attachments", spare=1)
    connector = connect(site, "client_credentials")
    documents = listed(connector)
    site.expire_tokens()
    for document in list(documents.values())[:3]:
        content(connector, document)
    assert documents.keys() == site.documents.keys()
    assert site.requests["token"] == 3


def test_a_host_that_is_not_there(site: SimulatedConfluence) -> None:
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
        ({"base_url": "https://city.atlassian.net/wiki/spaces/HR"}, "address of the site alone"),
        ({"email": None}, "auth token needs email"),
        ({"space_key": 'HR" or space = "X'}, "space_key"),
        ({"space": "HR"}, "no setting space"),
    ],
)
def test_settings_that_cannot_work(site: SimulatedConfluence, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        get_connector("confluence", settings(site) | wrong)
    assert says in str(raised.value)
    assert site.api_token not in str(raised.value)


# Misbehaviour.


@pytest.mark.parametrize(
    "how",
    [
        {"kind": "throttle", "retry_after": "seconds", "seconds": 0.05},
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
def test_what_passes_is_waited_for(site: SimulatedConfluence, how: dict[str, Any]) -> None:
    fill(site, 520)
    connector = connect(site)
    site.misbehave(**how, route="attachments", spare=1)
    if how["kind"] != "thin_page":
        site.misbehave(**how, route="pages")
        site.misbehave(**how, route="download")
    found = listed(connector)
    assert found.keys() == site.documents.keys()
    (document, *_) = found.values()
    assert content(connector, document) == site.documents[document.external_id].content


@pytest.mark.parametrize("kind", ["reset", "truncate", "fail"])
@pytest.mark.parametrize("at_byte", [0, 5, 5_000_000])
def test_a_media_host_that_breaks_off(site: SimulatedConfluence, kind: str, at_byte: int) -> None:
    document = site.add("large.bin", bytes(range(256)) * 40_000)
    connector = connect(site)
    (found,) = listed(connector).values()
    site.misbehave(kind, route="binary", at_byte=at_byte)  # type: ignore[arg-type]
    assert content(connector, found) == document.content


@pytest.mark.parametrize("kind", ["fail", "login_page", "reset", "truncate"])
def test_a_download_that_fails_is_that_documents_failure(site: SimulatedConfluence, kind: str) -> None:
    fill(site, 2)
    connector = connect(site)
    first, second = listed(connector).values()
    site.misbehave(kind, route="download", times=99)  # type: ignore[arg-type]
    site.misbehave("truncate", route="binary", times=99)
    with pytest.raises(DownloadFailed):
        content(connector, first)
    site.behave()
    for document in (second, first):
        assert content(connector, document) == site.documents[document.external_id].content


@pytest.mark.parametrize("route", ["attachments", "pages", "spaces"])
@pytest.mark.parametrize(
    "how",
    [
        {"kind": "fail", "times": 99},
        {"kind": "reset", "times": 99},
        {"kind": "truncate", "times": 99},
        {"kind": "login_page"},
        {"kind": "repeat_token", "times": 2},
    ],
    ids=str,
)
def test_a_listing_that_breaks_off_is_never_taken_for_whole(
    site: SimulatedConfluence, how: dict[str, Any], route: str
) -> None:
    for number in range(520):
        fill(site, 1, space=f"S{number}")
    connector = connect(site)
    site.misbehave(**how, route=route, spare=1)
    with pytest.raises(ListingIncomplete):
        list(connector.list_documents())
        pytest.fail("the listing passed for a whole one")
    site.behave()
    assert listed(connector).keys() == site.documents.keys()


def test_the_second_version_that_goes_away_midway_does_not_start_over(site: SimulatedConfluence) -> None:
    fill(site, 520)

    def retire() -> None:
        site.v2_status = 410

    site.misbehave("change", route="attachments", spare=1, then=retire)
    with pytest.raises(ListingIncomplete):
        list(connect(site).list_documents())


@pytest.mark.parametrize("field", ["id", "version"])
def test_a_row_without_what_it_must_have_is_not_passed_over(
    site: SimulatedConfluence, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    fill(site, 1)
    whole = site._attachment
    monkeypatch.setattr(
        site, "_attachment", lambda document: {n: v for n, v in whole(document).items() if n != field}
    )
    with pytest.raises(ConfigurationError, match="not a listing"):
        list(connect(site).list_documents())


def test_no_secret_is_logged(site: SimulatedConfluence, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    fill(site)
    for auth in WAYS:
        connector = connect(site, auth)
        for document in listed(connector).values():
            content(connector, document)
    secrets = [site.api_token, site.scoped_token, site.client_secret, *site._tokens, *site._links]
    assert not [secret for secret in secrets if secret in caplog.text]


# The simulated site is as strict as the real one.


def test_what_the_site_refuses(site: SimulatedConfluence) -> None:
    (id_,) = fill(site, 1)
    place = site.documents[id_].fields["place"]
    session = connect(site).session()

    def status(path: str, **params: str) -> int | None:
        try:
            session.json("GET", path, params=params)
        except RequestFailed as failure:
            return failure.status
        return 200

    assert status("/wiki/rest/api/content", spaceKey="CITY") == 410
    assert status(f"/wiki/download/attachments/{place}/00000.txt") == 401
    assert status("/wiki/api/v2/attachments", limit="251") == 400
    assert status("/wiki/api/v2/attachments", sort="modified") == 400
    assert status("/wiki/api/v2/attachments", cursor="made-up") == 400
    assert status("/wiki/api/v2/attachments", start="1") == 400
    assert status("/wiki/api/v2/pages", id="att1") == 400
    assert status("/wiki/rest/api/search", cql="nonsense = 1") == 400
    assert status("/wiki/rest/api/search", cql="") == 400
    download = f"/wiki/rest/api/content/{place}/child/attachment/{id_}/download"
    assert status(download, version="2") == 400
