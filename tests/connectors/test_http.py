"""The common ground of the HTTP connectors, against real servers on loopback that misbehave."""

from __future__ import annotations

import gzip
import io
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import pytest
import requests

from connectors import http, http_auth, http_budget
from connectors.base import (
    ConfigurationError,
    Download,
    DownloadFailed,
    ExternalDocument,
    ListingIncomplete,
    Window,
)
from connectors.http import HttpConnector, HttpSession, check_url
from connectors.http_answers import RequestFailed, link_header, link_in, rows, token_in
from connectors.http_auth import Bearer, HeaderKey, Token, basic, oauth_token
from connectors.http_budget import LONGEST_WAIT, Budget, wait_asked_for
from sandbox.simulated import CREDENTIAL_HEADERS, Answer, Request, SimulatedSystem, route

CANARY = "canary-never-to-be-seen"
USER, PASSWORD = "zoë", f"pä§€:{CANARY}"
PAGES = 4
SMALL = b"small " * 1000
LARGE = bytes(range(256)) * 4 * 8192  # 8 MiB: more than is held back


class Things(SimulatedSystem):
    """A vendor with every way of paging and of handing out files."""

    name: ClassVar[str] = "things"
    hosts: ClassVar[tuple[str, ...]] = ("api", "media")
    bare_hosts: ClassVar[frozenset[str]] = frozenset({"media"})
    credential_headers: ClassVar[tuple[str, ...]] = (*CREDENTIAL_HEADERS, "x-key")

    def __init__(self) -> None:
        super().__init__()
        self.tokens: set[str] = set()
        self.tokens_made = 0
        self.next_host = ""
        self.redirect_to: str | None = None
        self.headers: dict[str, str] = {}

    def authenticate(self, request: Request) -> Answer | None:
        known = (
            request.basic() == (USER, PASSWORD)
            or request.headers.get("x-key") == CANARY
            or request.bearer() in self.tokens
        )
        return None if known else self.problem(401, f"{CANARY} is not known")

    @route("POST", "/token", public=True)
    def token(self, request: Request) -> Answer:
        if request.form().get("secret") != CANARY:
            return Answer.json({"error": "invalid_client", "error_description": CANARY}, 401)
        self.tokens_made += 1
        made = f"{CANARY}-{self.tokens_made}"
        self.tokens.add(made)
        return Answer.json({"access_token": made, "expires_in": 3600})

    def expire_tokens(self) -> None:
        self.tokens.clear()

    def _page(self, number: int) -> tuple[list[dict[str, int]], int | None]:
        following = number if self.misbehaves("repeat_token", "page") else number + 1
        found = [] if self.misbehaves("thin_page", "page") else [{"number": number}]
        return found, following if following < PAGES else None

    @route("GET", "/by-token", parameters={"token", "size"})
    def by_token(self, request: Request) -> Answer:
        assert request.query["size"] == "1"
        found, following = self._page(int(request.query.get("token", 0)))
        return Answer.json({"things": found, "page": {"next": None if following is None else str(following)}})

    @route("GET", "/by-link", parameters={"at", "size"})
    def by_link(self, request: Request) -> Answer:
        found, following = self._page(int(request.query.get("at", 0)))
        more = {} if following is None else {"@odata.nextLink": f"{self.next_host}/by-link?at={following}"}
        return Answer.json({"things": found, **more})

    @route("GET", "/by-header", parameters={"at"})
    def by_header(self, request: Request) -> Answer:
        found, following = self._page(int(request.query.get("at", 0)))
        answer = Answer.json({"things": found})
        links = ['</by-header>; rel="first"']
        if following is not None:
            links.append(f'</by-header?at={following}>; rel="next"')
        answer.headers["Link"] = ", ".join(links)
        return answer

    @route("GET", "/echo")
    @route("POST", "/echo")
    def echo(self, request: Request) -> Answer:
        return Answer.json({"headers": request.headers}, Set_Cookie="session=1; Path=/")

    @route("GET", "/file/{id}")
    def file(self, request: Request, id: str) -> Answer:
        if id not in self.documents:
            return self.problem(404, "gone")
        return self._bytes(request, id)

    @route("GET", "/redirected/{id}")
    def redirected(self, request: Request, id: str) -> Answer:
        target = self.redirect_to or f"{self.url('media')}/blob/{id}?signature={CANARY}"
        return Answer(302, headers={"Location": target})

    @route("GET", "/blob/{id}", host="media", parameters={"signature"})
    def blob(self, request: Request, id: str) -> Answer:
        return self._bytes(request, id)

    def _bytes(self, request: Request, id: str) -> Answer:
        document = self.documents[id]
        headers = {"Content-Type": document.content_type, **self.headers}
        asked = request.headers.get("range")
        if asked and "Accept-Ranges" in headers and request.headers.get("if-range") == headers.get("ETag"):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            size = len(document.content)
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            return Answer(206, document.content[start:], headers)
        return Answer(200, document.content, headers)


@pytest.fixture
def things() -> Iterator[Things]:
    with Things() as system:
        yield system


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.001)


def session(system: SimulatedSystem, **options: Any) -> HttpSession:
    options = {"auth": basic(USER, PASSWORD)} | options
    return HttpSession("Things", system.url(), **options)


def ask(system: SimulatedSystem, **options: Any) -> Any:
    return session(system, **options).json("GET", "/by-token", params={"size": "1"})


def numbers(http_session: HttpSession, path: str = "/by-token", **how: Any) -> list[int]:
    how = how or {"next_page": token_in("page.next", "token")}
    params = {"size": "1"} if path != "/by-header" else {}
    found = http_session.pages(path, params, **how)
    return [row["number"] for page in found for row in rows(page.body, "things")]


def fetched(http_session: HttpSession, path: str, **how: Any) -> bytes:
    into = io.BytesIO()
    http_session.download(path, into, **how)
    return into.getvalue()


# Addresses.


@pytest.mark.parametrize(
    ("url", "usable"),
    [
        ("https://city.example.com/", "https://city.example.com"),
        ("https://api.example.com/ex/jira/1", "https://api.example.com/ex/jira/1"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_usable_addresses(url: str, usable: str) -> None:
    assert check_url(url) == usable


@pytest.mark.parametrize(
    "url",
    [
        "http://city.example.com",
        "http://127.0.0.1.example.com",
        "ftp://city.example.com",
        "city.example.com",
        "https://",
        "https://user@city.example.com",
        "https://user:password@city.example.com",
        "https://:password@city.example.com",
        "https://city.example.com?x=1",
        "https://city.example.com/#x",
        "https://city.example.com\\@evil.example.com",
        "https://city.example.com:99999",
        "https://city.example.com/ x",
        "https://city.example.com\r\nHost: evil",
        "https://[city",
        "",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="https:// address"):
        check_url(url)


def test_credentials_are_sent_to_the_configured_origin_only(things: Things) -> None:
    with pytest.raises(RequestFailed, match="another host"):
        session(things).json("GET", things.url("media") + "/blob/1")
    with pytest.raises(RequestFailed, match="another host"):
        session(things).json("GET", things.url().replace("://", "://user:password@") + "/echo")
    assert things.requests.total() == 0


def test_the_environment_adds_nothing(
    things: Things, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none"))
    opened = session(things, auth=HeaderKey("X-Key", CANARY))
    sent = opened.json("GET", "/echo")["headers"]
    assert "authorization" not in sent
    assert sent["x-key"] == CANARY
    assert "cookie" not in opened.json("GET", "/echo")["headers"]  # though the first answer set one


# Repeating.


@pytest.mark.parametrize("kind", ["reset", "truncate"])
def test_answers_that_break_off_are_asked_for_again(things: Things, kind: Any) -> None:
    things.misbehave(kind, times=2)
    assert rows(ask(things), "things") == [{"number": 0}]
    assert things.requests["by_token"] == 3


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_troubles_are_repeated(things: Things, status: int) -> None:
    things.misbehave("fail", times=2, status=status)
    opened = session(things)
    opened.json("GET", "/echo")
    assert (things.requests["echo"], opened.requests_sent) == (3, 3)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 422, 501])
def test_lasting_troubles_are_not(things: Things, status: int) -> None:
    things.misbehave("fail", times=9, status=status)
    with pytest.raises(RequestFailed) as caught:
        session(things).json("GET", "/echo")
    assert (caught.value.status, caught.value.lasting) == (status, status != 501)
    assert caught.value.body == {"error": "Internal server error"}
    assert things.requests["echo"] == 1


def test_a_post_is_not_repeated_after_500(things: Things) -> None:
    things.misbehave("fail")
    with pytest.raises(RequestFailed, match="out of order"):
        session(things).json("POST", "/echo", json={})
    assert things.requests["echo"] == 1
    things.misbehave("fail", status=502)
    session(things).json("POST", "/echo", json={})
    assert things.requests["echo"] == 3


def test_attempts_are_limited(things: Things) -> None:
    things.misbehave("fail", times=99, status=503)
    with pytest.raises(RequestFailed, match="try again later") as caught:
        session(things).json("GET", "/echo")
    assert not caught.value.lasting
    assert things.requests["echo"] == http.ATTEMPTS
    impatient = session(things)
    impatient.patient = False
    with pytest.raises(RequestFailed):
        impatient.json("GET", "/echo")
    assert things.requests["echo"] == http.ATTEMPTS + 2


def test_a_host_that_is_not_there() -> None:
    opened = HttpSession("Things", "http://127.0.0.1:1", setting="instance_url")
    with pytest.raises(RequestFailed, match="cannot be reached: check instance_url") as caught:
        opened.json("GET", f"/?secret={CANARY}")
    assert not caught.value.lasting
    assert CANARY not in str(caught.value)


def test_a_server_that_does_not_answer_in_time(things: Things) -> None:
    things.misbehave("slow", seconds=1)
    opened = session(things, timeout_seconds=0.2)
    assert rows(opened.json("GET", "/by-token", params={"size": "1"}), "things")
    assert things.requests["by_token"] == 2


# Throttling.

NOW = datetime(2026, 11, 1, 12, 0, 0, tzinfo=timezone.utc)
LATER = NOW + timedelta(seconds=90)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "90"}, 90),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": format_datetime(LATER, usegmt=True)}, 90),
        ({"Retry-After": format_datetime(NOW - timedelta(days=1), usegmt=True)}, 0),
        ({"Retry-After": "soon"}, None),
        ({"X-RateLimit-Reset": str(int(LATER.timestamp()))}, 90),
        ({"X-RateLimit-Reset": str(int(LATER.timestamp() * 1000))}, 90),
        ({"X-RateLimit-Reset": "2026-11-01T12:01:30Z"}, 90),
        ({"X-RateLimit-Reset": "2026-11-01T12:02Z"}, 120),
        ({"X-RateLimit-Reset": "2026-11-01T13:01:30+01:00"}, 90),
        ({"Retry-After": "90", "X-RateLimit-Reset": "2026-11-01T13:00Z"}, 90),
        ({"Retry-After": "soon", "X-RateLimit-Reset": "2026-11-01T12:02Z"}, 120),
        ({"Retry-After": "10", "RateLimit-Reset": "90"}, 90),
        ({"Retry-After": "90", "RateLimit-Reset": "10"}, 90),
        ({"RateLimit-Reset": "7"}, 7),
    ],
)
def test_the_wait_that_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    by_the_servers_clock = {"Date": format_datetime(NOW, usegmt=True)} | headers
    assert wait_asked_for(by_the_servers_clock) == seconds


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("retry_after", ["seconds", "date", "reset_epoch", "reset_iso", "none"])
def test_a_throttled_request_comes_back_in_time(things: Things, status: int, retry_after: str) -> None:
    things.misbehave("throttle", status=status, retry_after=retry_after, seconds=0.3)
    ask(things)
    assert (things.requests["by_token"], things.too_early) == (2, 0)


def test_all_threads_wait_together(things: Things) -> None:
    """With one request in flight at a time, none may begin between the refusal and the end of the wait."""
    opened = session(things, in_flight=1)
    things.misbehave("throttle", times=3, spare=2, seconds=0.4)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: opened.json("GET", "/echo"), range(24)))
    assert (things.requests["echo"], things.too_early, things.most_in_flight) == (27, 0, 1)


def test_requests_in_flight_reach_the_budget_and_never_exceed_it(things: Things) -> None:
    opened = session(things, in_flight=3)
    together = threading.Barrier(3)
    # The first three answers are given only once three requests are there at the same time.
    things.misbehave("change", times=3, then=lambda: together.wait(30))
    things.misbehave("fail", times=4, status=502)
    document = things.add("a.bin", SMALL)
    work: list[Callable[[], object]] = [
        lambda: opened.json("GET", "/echo"),
        lambda: fetched(opened, f"/redirected/{document.id}"),
    ]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda number: work[number % 2](), range(60)))
    assert things.most_in_flight == 3


def test_a_wait_that_is_too_long_ends_the_run(things: Things) -> None:
    things.misbehave("throttle", times=9, seconds=LONGEST_WAIT + 60)
    with pytest.raises(
        RequestFailed, match=r"no more requests before \d{4}-\d\d-\d\d \d\d:\d\d UTC"
    ) as caught:
        ask(things)
    assert (caught.value.status, caught.value.lasting, things.requests["by_token"]) == (429, False, 1)


def test_nothing_is_sent_during_a_wait_that_is_too_long(
    things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(http_budget, "time", clock)
    opened = session(things)
    things.misbehave("throttle", seconds=3 * LONGEST_WAIT)
    for _ in range(5):
        with pytest.raises(RequestFailed, match="no more requests before") as caught:
            opened.json("GET", "/echo")
        assert not caught.value.lasting
    assert things.requests["echo"] == 1
    clock.now += 2 * LONGEST_WAIT + 1
    opened.json("GET", "/echo")
    assert (things.requests["echo"], clock.now) == (2, 1_000 + 3 * LONGEST_WAIT)


@pytest.mark.parametrize("how", [{"retry_after": "none"}, {"seconds": 0}, {"seconds": 0, "status": 503}])
def test_being_throttled_is_no_attempt(
    things: Things, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    clock = Clock()
    monkeypatch.setattr(http_budget, "time", clock)
    monkeypatch.setattr(http_budget, "LONGEST_PAUSE", 0.004)
    things.misbehave("throttle", times=12, **how)
    ask(things)
    assert things.requests["by_token"] == 13
    assert clock.now - 1_000 >= 0.75 * (0.002 + 11 * 0.004)


def test_being_throttled_ends_before_the_request_takes_too_long(
    things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "LONGEST_REQUEST", 0.05)
    things.misbehave("throttle", times=99, seconds=0.02)
    with pytest.raises(RequestFailed, match="no more requests for now"):
        ask(things)
    assert things.requests["by_token"] < 99


class Clock:
    """Stands in for the module `time`: sleeping moves it on."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_requests_per_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(http_budget, "time", clock)
    budget, begun = Budget(8, 30, first_pause=1), []
    for _ in range(5):
        with budget.turn():
            begun.append(clock.now)
    assert begun == [1000, 1002, 1004, 1006, 1008]


@pytest.mark.parametrize("named", [None, 0.0, 1.0])
def test_waits_grow_until_the_server_is_content(monkeypatch: pytest.MonkeyPatch, named: float | None) -> None:
    clock = Clock()
    monkeypatch.setattr(http_budget, "time", clock)
    budget, waits = Budget(8, None, first_pause=1), []
    for _ in range(9):
        before = clock.now
        with budget.turn() as turn:
            waits.append(clock.now - before)
            for _ in range(8):  # refusals of what was under way together count once
                budget.close(turn, named)
    growing = [0.0, 2, 4, 8, 16, 32, 60, 60, 60]
    assert all(0.75 * full <= wait <= full for wait, full in zip(waits, growing, strict=True))
    budget.succeeded()
    with budget.turn() as turn:
        budget.close(turn, None)
    before = clock.now
    with budget.turn():
        assert clock.now - before <= 2


# Tokens.


def bearer(things: Things, secret: str = CANARY) -> Bearer:
    http_session = HttpSession("Things", things.url())
    return Bearer(lambda: oauth_token(http_session, "/token", {"secret": secret}))


def test_one_token_for_all_threads(things: Things) -> None:
    opened = session(things, auth=bearer(things))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: opened.json("GET", "/echo"), range(40)))
    assert things.tokens_made == 1


def test_a_token_that_expires_midway_is_renewed_once(things: Things) -> None:
    opened = session(things, auth=bearer(things), in_flight=8)
    opened.json("GET", "/echo")
    together = threading.Barrier(8)
    things.misbehave("change", times=8, route="echo", then=lambda: together.wait(30))
    things.expire_tokens()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: opened.json("GET", "/echo"), range(8)))
    assert (things.tokens_made, things.requests["echo"]) == (2, 1 + 16)


def test_a_token_that_is_always_refused_is_renewed_only_once_a_request(things: Things) -> None:
    opened = session(things, auth=bearer(things))
    things.misbehave("fail", times=9, status=401, route="echo")
    with pytest.raises(RequestFailed, match="does not accept the credentials"):
        opened.json("GET", "/echo")
    assert (things.requests["echo"], things.tokens_made) == (2, 2)


def test_a_token_is_renewed_before_it_expires(things: Things, monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter(["first", "second"])
    things.tokens |= {"first", "second"}
    clock = Clock()
    opened = session(things, auth=Bearer(lambda: Token(next(made), 600)))
    monkeypatch.setattr(http_auth, "time", clock)
    sent = [opened.json("GET", "/echo")["headers"]["authorization"]]
    for _ in range(2):
        clock.now += 300
        sent.append(opened.json("GET", "/echo")["headers"]["authorization"])
    assert sent == ["Bearer first", "Bearer first", "Bearer second"]


def test_no_token(things: Things) -> None:
    opened = session(things, auth=bearer(things, secret="wrong"))
    with pytest.raises(RequestFailed, match="does not accept the credentials") as caught:
        opened.json("GET", "/echo")
    assert caught.value.lasting
    assert caught.value.body["error"] == "invalid_client"
    assert things.requests == {"token": 1}
    things.misbehave("login_page")
    with pytest.raises(RequestFailed, match="web page"):
        opened.json("GET", "/echo")


def test_secrets_are_in_no_representation() -> None:
    for shown in (
        basic("u", CANARY),
        HeaderKey("X-Key", CANARY),
        Token(CANARY),
        Bearer(lambda: Token(CANARY)),
    ):
        assert CANARY not in repr(shown) + str(shown)


def test_a_key_that_cannot_be_sent_is_not_quoted(things: Things) -> None:
    with pytest.raises(RequestFailed, match="characters") as caught:
        session(things, auth=HeaderKey("X-Key", f"{CANARY}\r\nHost: evil")).json("GET", "/echo")
    assert CANARY not in str(caught.value)


# Pages.

NEXT = [
    ("/by-token", {"next_page": token_in("page.next", "token")}),
    ("/by-link", {"next_page": link_in("@odata.nextLink")}),
    ("/by-header", {"next_page": link_header}),
]


@pytest.mark.parametrize(("path", "how"), NEXT)
def test_pages_are_followed_to_their_end(things: Things, path: str, how: dict[str, Any]) -> None:
    assert numbers(session(things), path, **how) == [0, 1, 2, 3]


@pytest.mark.parametrize(("path", "how"), NEXT)
def test_an_empty_page_is_not_the_end(things: Things, path: str, how: dict[str, Any]) -> None:
    things.misbehave("thin_page", spare=1)
    assert numbers(session(things), path, **how) == [0, 2, 3]


@pytest.mark.parametrize(("path", "how"), NEXT)
def test_pages_in_a_circle(things: Things, path: str, how: dict[str, Any]) -> None:
    things.misbehave("repeat_token", spare=2)
    with pytest.raises(ListingIncomplete, match="repeats a page"):
        numbers(session(things), path, **how)
    assert things.requests.total() == 3


def test_links_to_the_own_origin_may_be_whole(things: Things) -> None:
    things.next_host = things.url()
    assert numbers(session(things), "/by-link", next_page=link_in("@odata.nextLink")) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "elsewhere",
    ["{media}", "https://evil.example.com", "//evil.example.com", "http://user:pw@{host}", "http://[evil"],
)
def test_links_to_other_hosts_are_not_followed(things: Things, elsewhere: str) -> None:
    things.next_host = elsewhere.format(media=things.url("media"), host=things.url().removeprefix("http://"))
    with pytest.raises(ListingIncomplete, match="another host") as caught:
        numbers(session(things), "/by-link", next_page=link_in("@odata.nextLink"))
    assert "evil" not in str(caught.value)
    assert things.requests == {"by_link": 1}
    assert things.leaks == []


def test_endless_pages(things: Things, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_PAGES", 3)
    with pytest.raises(ListingIncomplete, match="3 pages"):
        numbers(session(things))


def test_an_answer_of_another_shape_is_no_empty_page() -> None:
    assert rows({"things": []}, "things") == []
    others: list[Any] = [{}, [], None, {"things": None}, {"things": {}}, {"things": [1]}]
    for body in others:
        with pytest.raises(RequestFailed, match="not a listing"):
            rows(body, "things")


def test_a_redirect_of_a_listing_is_not_followed(things: Things) -> None:
    document = things.add("a.bin", SMALL)
    with pytest.raises(RequestFailed, match="redirects") as caught:
        session(things).json("GET", f"/redirected/{document.id}")
    assert CANARY not in str(caught.value)
    assert things.requests == {"redirected": 1}


# Downloads.


@pytest.mark.parametrize("content", [b"", b"x", SMALL, LARGE], ids=["empty", "one", "small", "large"])
@pytest.mark.parametrize("path", ["/file/{}", "/redirected/{}"])
def test_downloads(things: Things, content: bytes, path: str) -> None:
    document = things.add("a.pdf", content)
    into = io.BytesIO()
    download = session(things).download(path.format(document.id), into)
    assert into.getvalue() == content
    assert download == Download("application/pdf", len(content))
    assert things.leaks == []


@pytest.mark.parametrize("auth", [basic(USER, PASSWORD), HeaderKey("X-Key", CANARY)], ids=["basic", "key"])
def test_a_redirect_to_another_host_brings_no_credentials(things: Things, auth: Any) -> None:
    document = things.add("a.pdf", SMALL)
    opened = session(things, auth=auth, headers={"X-Key": CANARY})
    assert fetched(opened, f"/redirected/{document.id}", headers={"X-Key": CANARY}) == SMALL
    assert things.requests == {"redirected": 1, "blob": 1}
    assert things.leaks == []


@pytest.mark.parametrize("kind", ["reset", "truncate"])
@pytest.mark.parametrize("path", ["/file/{}", "/redirected/{}"])
def test_short_bodies_that_break_off_are_fetched_again(things: Things, kind: Any, path: str) -> None:
    document = things.add("a.pdf", SMALL)
    route_name = "file" if "file" in path else "blob"
    things.misbehave(kind, route=route_name, times=2, at_byte=1000)
    assert fetched(session(things), path.format(document.id)) == SMALL
    assert things.requests[route_name] == 3


@pytest.mark.parametrize("path", ["/file/{}", "/redirected/{}"])
def test_long_bodies_go_on_where_they_broke_off(things: Things, path: str) -> None:
    document = things.add("a.pdf", LARGE)
    things.headers = {"ETag": '"one"', "Accept-Ranges": "bytes"}
    route_name = "file" if "file" in path else "blob"
    # A reset may take away what has arrived and was not read yet.
    things.misbehave("truncate", route=route_name, at_byte=len(LARGE) - 1000)
    into = io.BytesIO()
    download = session(things).download(path.format(document.id), into)
    assert into.getvalue() == LARGE
    assert download == Download("application/pdf", len(LARGE))
    # The range is for the host that has the bytes, https://learn.microsoft.com/en-us/graph/api/driveitem-get-content.
    asked = {logged.route: "range" in logged.request.headers for logged in things.log}
    assert asked == {route_name: True, **({} if route_name == "file" else {"redirected": False})}


@pytest.mark.parametrize(
    "headers",
    [{}, {"ETag": '"one"'}, {"ETag": 'W/"one"', "Accept-Ranges": "bytes"}],
    ids=["nothing", "no ranges", "weak"],
)
def test_long_bodies_that_cannot_go_on(things: Things, headers: dict[str, str]) -> None:
    document = things.add("a.pdf", LARGE)
    things.headers = headers
    things.misbehave("truncate", at_byte=len(LARGE) - 1000)
    with pytest.raises(RequestFailed, match="broke off after"):
        fetched(session(things), f"/file/{document.id}")
    assert things.requests["file"] == 1


def test_the_rest_of_other_bytes_is_not_taken(things: Things) -> None:
    document = things.add("a.pdf", LARGE)
    things.headers = {"ETag": '"one"', "Accept-Ranges": "bytes"}
    things.misbehave("truncate", at_byte=len(LARGE) - 1000)

    def replace() -> None:
        things.replace(document.id, LARGE[::-1])
        things.headers["ETag"] = '"two"'

    things.misbehave("change", spare=1, then=replace)
    with pytest.raises(RequestFailed, match="broke off after"):
        fetched(session(things), f"/file/{document.id}")


def test_a_body_that_never_arrives_whole(things: Things) -> None:
    document = things.add("a.pdf", SMALL)
    things.misbehave("truncate", times=99)
    into = io.BytesIO()
    with pytest.raises(RequestFailed, match="broke off"):
        session(things).download(f"/file/{document.id}", into)
    assert (into.getvalue(), things.requests["file"]) == (b"", http.ATTEMPTS)


def test_a_login_page_is_no_document(things: Things) -> None:
    document = things.add("a.pdf", SMALL)
    things.misbehave("login_page")
    with pytest.raises(RequestFailed, match="login page"):
        fetched(session(things), f"/file/{document.id}")
    assert fetched(session(things), f"/file/{document.id}") == SMALL


def test_html_documents(things: Things) -> None:
    document = things.add("a.html", b"<p>", content_type="text/html")
    with pytest.raises(RequestFailed, match="login page"):
        fetched(session(things), f"/file/{document.id}")
    assert fetched(session(things), f"/file/{document.id}", html=True) == b"<p>"
    things.headers = {"Content-Disposition": "attachment; filename=a.html"}
    assert fetched(session(things), f"/file/{document.id}") == b"<p>"


def test_bytes_come_as_they_are(things: Things) -> None:
    packed = gzip.compress(SMALL)
    document = things.add("a.gz", packed, content_type="application/gzip")
    assert fetched(session(things), f"/file/{document.id}") == packed
    (asked,) = things.log
    assert asked.request.headers["accept-encoding"] == "identity"
    # A server that compresses all the same says so, and its Content-Length is not the document's.
    things.headers = {"Content-Encoding": "gzip"}
    into = io.BytesIO()
    assert session(things).download(f"/file/{document.id}", into).size is None
    assert into.getvalue() == SMALL


@pytest.mark.parametrize(
    "target",
    [
        "http://files.example.com/x",
        "https://user:password@files.example.com/x",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "https://",
        "https://[x",
    ],
)
def test_redirects_that_are_not_followed(things: Things, target: str) -> None:
    things.redirect_to = f"{target}?signature={CANARY}"
    with pytest.raises(RequestFailed, match="must be https") as caught:
        fetched(session(things), "/redirected/1")
    assert "example" not in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_redirect_from_https_to_http_is_not_followed(things: Things) -> None:
    document = things.add("a.pdf", SMALL)

    class SecureThings(Things):
        tls: ClassVar[bool] = True

    with SecureThings() as secure:
        trusting = session(secure, ca_file=str(secure.ca_file))
        secure.redirect_to = f"{things.url('media')}/blob/{document.id}"
        with pytest.raises(RequestFailed, match="must be https"):
            fetched(trusting, "/redirected/1")
        assert things.requests.total() == 0
        secure.redirect_to = None
        own = secure.add("a.pdf", SMALL)
        assert fetched(trusting, f"/redirected/{own.id}") == SMALL
        with pytest.raises(RequestFailed, match="certificate") as caught:
            ask(secure)
        assert caught.value.lasting


def test_redirects_without_end(things: Things) -> None:
    things.redirect_to = things.url() + "/redirected/1"
    with pytest.raises(RequestFailed):
        fetched(session(things), "/redirected/1")
    # The second and all further ones come without credentials.
    assert things.requests["redirected"] == 2


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_media_host_that_refuses(things: Things, status: int) -> None:
    document = things.add("a.pdf", SMALL)
    things.misbehave("fail", route="blob", times=99, status=status)
    with pytest.raises(RequestFailed, match="the host that Things redirects to") as caught:
        fetched(session(things), f"/redirected/{document.id}")
    assert CANARY not in str(caught.value)


def test_errors_of_whom_it_is_written_to_pass_through(things: Things) -> None:
    document = things.add("a.pdf", SMALL)

    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        session(things).download(f"/file/{document.id}", Full())
    assert things.requests["file"] == 1


def test_memory_does_not_grow_with_the_document(things: Things) -> None:
    document = things.add("a.bin", bytes(20_000_000))
    pieces: list[int] = []

    class Counting(io.BytesIO):
        def write(self, data: Any) -> int:
            pieces.append(len(data))
            return len(data)

    session(things).download(f"/file/{document.id}", Counting())
    assert sum(pieces) == 20_000_000
    assert max(pieces) <= http.PIECE_BYTES


def test_addresses_are_not_logged(things: Things, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    document = things.add("a.pdf", SMALL)
    things.misbehave("reset", route="blob")
    fetched(session(things), f"/redirected/{document.id}")
    assert CANARY not in caplog.text


# A vendor's own words.


def test_a_vendors_own_rules_come_first(things: Things) -> None:
    def judge(answer: requests.Response) -> RequestFailed | None:
        if answer.status_code == 403 and answer.json()["error"] == "Internal server error":
            return RequestFailed("the quota of the day is used up", lasting=False)
        if answer.headers.get("Set-Cookie"):
            return RequestFailed("an answer to nobody in particular", lasting=True)
        return None

    opened = session(things, judge=judge)
    things.misbehave("fail", status=403)
    with pytest.raises(RequestFailed, match="quota") as caught:
        opened.json("GET", "/by-token", params={"size": "1"})
    assert (caught.value.status, caught.value.lasting) == (403, False)
    with pytest.raises(RequestFailed, match="nobody"):  # although its status is 200
        opened.json("GET", "/echo")
    assert numbers(opened) == [0, 1, 2, 3]


# A connector.


class ThingsConnector(HttpConnector):
    """The documents are the rows of `/by-token`."""

    connector_type: ClassVar[str] = "things"
    kind: ClassVar[str] = "things"
    url: str

    def _open(self) -> HttpSession:
        return HttpSession("Things", self.url, auth=basic(USER, PASSWORD), **self.session_options())

    def _probe(self, http: HttpSession) -> str:
        http.json("GET", "/echo")
        return "Things answer"

    def _documents(self, http: HttpSession, window: Window) -> Generator[ExternalDocument, None, None]:
        for page in http.pages("/by-token", {"size": "1"}, next_page=token_in("page.next", "token")):
            for row in rows(page.body, "things"):
                yield ExternalDocument(external_id=str(row["number"]), version="1", filename="a.pdf")

    def _download(self, http: HttpSession, document: ExternalDocument, into: BinaryIO) -> Download:
        return http.download(f"/file/{document.external_id}", into)


@pytest.fixture
def connector(things: Things) -> ThingsConnector:
    return ThingsConnector(url=things.url())


def test_a_connection_that_works_and_one_that_does_not(things: Things, connector: ThingsConnector) -> None:
    assert connector.test_connection() == (True, "Things answer")
    things.misbehave("fail", status=403)
    ok, message = connector.test_connection()
    assert (ok, "refuses access" in message) == (False, True)
    things.misbehave("throttle", times=9, seconds=30)  # nobody waits for that long
    assert "no more requests before" in connector.test_connection().message
    things.behave()
    assert "no more requests before" in connector.test_connection().message
    connector.close()
    assert connector.test_connection().ok
    missing = ThingsConnector(url=things.url(), ca_file="none.pem").test_connection()
    assert (missing.ok, "ca_file" in missing.message) == (False, True)


@pytest.mark.parametrize(
    ("kind", "how"),
    [("login_page", {}), ("fail", {"status": 403}), ("fail", {"status": 410}), ("fail", {"status": 401})],
)
def test_lasting_trouble_with_the_first_page_and_with_a_later_one(
    things: Things, connector: ThingsConnector, kind: Any, how: dict[str, Any]
) -> None:
    things.misbehave(kind, **how)
    with pytest.raises(ConfigurationError):
        list(connector.list_documents())
    things.misbehave(kind, spare=2, **how)
    listed = []
    with pytest.raises(ListingIncomplete, match="broke off"):
        for document in connector.list_documents():
            listed.append(document.external_id)
    assert listed == ["0", "1"]
    assert len(list(connector.list_documents())) == PAGES


@pytest.mark.parametrize(
    ("kind", "how"), [("corrupt", {}), ("reset", {}), ("fail", {"status": 503}), ("fail", {"status": 500})]
)
def test_passing_trouble_leaves_a_listing_incomplete(
    things: Things, connector: ThingsConnector, kind: Any, how: dict[str, Any]
) -> None:
    things.misbehave(kind, times=http.ATTEMPTS, **how)
    with pytest.raises(ListingIncomplete, match="broke off"):
        list(connector.list_documents())
    things.behave()
    assert len(list(connector.list_documents())) == PAGES


def test_a_listing_is_lazy_and_can_be_given_up(things: Things, connector: ThingsConnector) -> None:
    listing = connector.list_documents()
    assert isinstance(listing, Generator)
    assert things.requests.total() == 0
    next(listing)
    listing.close()
    assert things.requests.total() == 1


def test_a_document_that_is_gone(things: Things, connector: ThingsConnector) -> None:
    document = things.add("a.pdf", SMALL)
    listed = ExternalDocument(external_id=document.id, version="1", filename="a.pdf")
    into = io.BytesIO()
    assert connector.download_document(listed, into) == Download("application/pdf", len(SMALL))
    things.remove(document.id)
    with pytest.raises(DownloadFailed, match="gone since it was listed"):
        connector.download_document(listed, into)


def test_what_the_vendor_means_by_404_is_told(things: Things) -> None:
    class Judging(ThingsConnector):
        def _open(self) -> HttpSession:
            return HttpSession(
                "Things", self.url, auth=basic(USER, PASSWORD), judge=_closed, **self.session_options()
            )

    def _closed(answer: requests.Response) -> RequestFailed | None:
        return RequestFailed("Things is closed", lasting=True) if answer.status_code == 404 else None

    listed = ExternalDocument(external_id="none", version="1", filename="a.pdf")
    with pytest.raises(DownloadFailed, match="Things is closed"):
        Judging(url=things.url()).download_document(listed, io.BytesIO())


def test_sessions_for_tokens_are_no_more_patient_than_a_test_of_the_connection(things: Things) -> None:
    class WithToken(ThingsConnector):
        def _open(self) -> HttpSession:
            return HttpSession("Things", self.url, auth=Bearer(self._token), **self.session_options())

        def _token(self) -> Token:
            login = HttpSession("Login", self.url, **self.session_options())
            with closing(login):
                return oauth_token(login, "/token", {"secret": CANARY})

    connector = WithToken(url=things.url())
    things.misbehave("fail", route="token", times=99, status=503)
    assert not connector.test_connection().ok
    assert things.requests["token"] == 2
    with pytest.raises(ListingIncomplete):
        list(connector.list_documents())
    assert things.requests["token"] == 2 + http.ATTEMPTS
    connector.close()
