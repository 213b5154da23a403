"""What the connectors of HTTP systems have in common: one session that keeps credentials at home,
repeats what may be repeated, stays within the tenant's budget and follows pages to their end.

    http = HttpSession("ServiceNow", "https://city.service-now.com", auth=basic(user, password))
    for page in http.pages("/api/things", next_page=token_in("nextToken", "token")):
        yield from rows(page.body, "things")

Authentication (http_auth.py) and paging (http_answers.py) are small objects that are handed in. Every
failure is a `RequestFailed`, which `HttpConnector` tells as the error that belongs to what was under way.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from datetime import datetime, timezone
from http.cookiejar import DefaultCookiePolicy
from ipaddress import ip_address
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import tenacity
import urllib3
from pydantic import Field, PrivateAttr, model_validator
from requests.auth import AuthBase

from connectors.addresses import EVERYWHERE, OutOfReach, Reach, adapter_within
from connectors.base import (
    ConfigurationError,
    ConnectionStatus,
    Connector,
    ConnectorError,
    Download,
    DownloadFailed,
    ExternalDocument,
    ListingIncomplete,
    Window,
)
from connectors.http_answers import NextPage, Page, RequestFailed, json_of, sends_html
from connectors.http_auth import Bearer
from connectors.http_budget import (
    LONGEST_PAUSE,
    LONGEST_WAIT,
    LONGEST_WAIT_OF_A_TEST,
    THROTTLED,
    Budget,
    Closed,
    wait_asked_for,
)
from connectors.http_download import Body, continues, download_of

ATTEMPTS = 5
FIRST_PAUSE = 0.5
LONGEST_REQUEST = 60 * 60.0
"""Seconds that one request may take with all its repetitions."""
MOST_PAGES = 100_000
MOST_REDIRECTS = 3
PIECE_BYTES = 256 * 1024

REPEATED = {408, 429, 502, 503, 504}
REDIRECTS = {301, 302, 303, 307, 308}

# It logs the addresses of requests, and the query of a download link is a credential.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)

T = TypeVar("T")


# Addresses.


def check_url(url: str) -> str:
    """The address without a slash at its end, for the validators of settings.

    Raises ValueError unless it is https:// (http:// for loopback only) without credentials, a query
    or a fragment.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
        usable = bool(parts.hostname) and re.fullmatch(r"[!-~]+", url) is not None
    except ValueError:
        usable = False
    if (
        not usable
        or not (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts)))
        or parts.username is not None
        or parts.password is not None
        or "?" in url
        or "#" in url
        or "\\" in url
    ):
        raise ValueError(
            "must be an https:// address without credentials or a query; http:// is for this machine only"
        )
    return url.rstrip("/")


def _is_loopback(parts: SplitResult) -> bool:
    try:
        return parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port. Raises ValueError when the address has none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http address")
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


# The session.


class HttpSession:
    """Requests to one system. Thread-safe.

    `system` names it in sentences and `setting` the setting that holds its address. Paths are
    appended to `base_url`. Credentials go to its origin (scheme, host, port) and nowhere else.
    Neither redirects nor cookies, proxies or .netrc of the environment are followed. Nothing beyond
    `reach` is connected to, wherever the system redirects.

    `judge` is asked about every answer of the system, before the rules here: it returns what the
    vendor means by it, None when the rules are right. The answer's body is there from status 400 on.
    `judge_body` is asked the same about the JSON of every answer that the rules take for a good one.
    `requests_sent` counts.
    """

    def __init__(
        self,
        system: str,
        base_url: str,
        *,
        setting: str = "base_url",
        auth: AuthBase | None = None,
        headers: Mapping[str, str] | None = None,
        judge: Callable[[requests.Response], RequestFailed | None] = lambda answer: None,
        judge_body: Callable[[Any], RequestFailed | None] = lambda body: None,
        timeout_seconds: float = 60,
        in_flight: int = 8,
        requests_per_minute: int | None = None,
        ca_file: str | None = None,
        reach: Reach = EVERYWHERE,
        patient: bool = True,
    ) -> None:
        if ca_file is not None and not Path(ca_file).is_file():
            raise ConfigurationError(f"there is no file {ca_file} (setting ca_file)")
        self.system = system
        self.base_url = check_url(base_url)
        self.setting = setting
        self.patient = patient
        """False while somebody waits: two attempts, and no long waits."""
        self.requests_sent = 0
        self._origin = origin(self.base_url)
        self._auth = auth
        self._judge = judge
        self._judge_body = judge_body
        self._timeout = (10, timeout_seconds)
        self._budget = Budget(in_flight, requests_per_minute, FIRST_PAUSE)
        self._counting = threading.Lock()
        self._own = _session(in_flight, ca_file, reach)
        self._own.auth = auth
        self._own.headers.update(headers or {})
        self._bare = _session(in_flight, ca_file, reach)

    def close(self) -> None:
        """Closes all connections."""
        self._own.close()
        self._bare.close()

    def json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        json: Any = None,
    ) -> Any:
        """The JSON of the answer; see `page`."""
        return self.page(method, path, params=params, headers=headers, data=data, json=json).body

    def page(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        json: Any = None,
    ) -> Page:
        """The JSON of an answer of status 2xx, with its headers. Raises RequestFailed.

        POST is repeated like GET (but for status 500): use it for what asks, not for what changes.
        """
        url = self.url(path)

        def read(answer: requests.Response) -> Page:
            if sends_html(answer):
                raise self._web_page()
            try:
                page = Page(answer.json(), answer.headers, url)
            except ValueError:
                raise RequestFailed(
                    f"{self.system} sent an answer that cannot be read; try again later",
                    lasting=False,
                    again=True,
                ) from None
            if failure := self._judge_body(page.body):
                raise failure
            return page

        return self._repeat(
            lambda: self._exchange(self._request(method, url, params, headers, data, json), read)
        )

    def pages(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        next_page: NextPage,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[Page]:
        """All pages of a listing, until `next_page` finds no further one.

        Raises ListingIncomplete when the pages lead in a circle, to another host, or are too many;
        RequestFailed when one cannot be had.
        """
        url, current = self.url(path), dict(params or {})
        seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
        while True:
            seen.add((url, tuple(sorted(current.items()))))
            page = self.page("GET", url, params=current, headers=headers)
            yield page
            following = next_page(page)
            if following is None:
                return
            if isinstance(following, str):
                url, current = self.link(following, page.url), {}
            else:
                current = {**current, **following}
            if (url, tuple(sorted(current.items()))) in seen:
                raise ListingIncomplete(f"the listing broke off: {self.system} repeats a page it sent before")
            if len(seen) >= MOST_PAGES:
                raise ListingIncomplete(f"the listing broke off after {MOST_PAGES} pages: narrow the source")

    def url(self, path: str) -> str:
        """The address of a path of the system; of an address, itself. Raises RequestFailed when it
        is one of another host."""
        if path.startswith("/"):
            return self.base_url + path
        return self._at_home(path)

    def link(self, link: str, page_url: str | None = None) -> str:
        """The address that a link of the server means, relative to its page.

        Raises ListingIncomplete when it leads away from the configured origin.
        """
        try:
            return self._at_home(urljoin(page_url or self.base_url, link))
        except (ValueError, RequestFailed):
            raise ListingIncomplete(
                f"the listing broke off: {self.system} names a next page on another host, which is not followed"
            ) from None

    def download(
        self,
        path: str,
        into: BinaryIO,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        html: bool = False,
    ) -> Download:
        """Writes the document to `into`, in pieces, and returns what the server says about it.

        A redirect is followed over https and without credentials. A body that breaks off is asked
        for again from its start, or, where more than a few megabytes have gone to `into`, from where
        it broke off, if the server can do that. A web page in place of a document counts as a
        failure unless it is an attachment, or `html` says that the document is one.

        Raises RequestFailed. Errors that `into.write` raises pass through.
        """
        body = Body(into)
        return self._repeat(lambda: self._fetch(self.url(path), params, dict(headers or {}), body, html))

    def _fetch(
        self,
        url: str,
        params: Mapping[str, str] | None,
        headers: dict[str, str],
        body: Body,
        html: bool,
    ) -> Download:
        # Sizes and checksums are of the document's own bytes.
        plain = {"Accept": "*/*", "Accept-Encoding": "identity"}
        first = plain | headers | ({} if body.redirected else body.range())

        def receive(answer: requests.Response) -> Download | _Redirect:
            if answer.status_code in REDIRECTS:
                body.redirected = True
                return _Redirect(self._target(answer))
            return self._receive(answer, body, html)

        found = self._exchange(self._request("GET", url, params, first), receive, redirects=True)
        for _ in range(MOST_REDIRECTS):
            if isinstance(found, Download):
                return found
            onward = requests.Request("GET", found.url, headers=plain | body.range())
            found = self._exchange(onward, receive, redirects=True, bare=True)
        if isinstance(found, Download):
            return found
        raise RequestFailed(f"{self.system} redirects the download too often", lasting=True)

    def _receive(self, answer: requests.Response, body: Body, html: bool) -> Download:
        start = body.written
        if start and not continues(answer, start, body.etag):
            raise self._broken_off(start)
        if not start and answer.status_code != 200:
            raise RequestFailed(
                f"{self.system} answered the download with status {answer.status_code}", lasting=False
            )
        if not html and sends_html(answer) and "Content-Disposition" not in answer.headers:
            raise self._web_page()
        if not start:
            body.drop()
            etag = answer.headers.get("ETag", "")
            resumable = etag.startswith('"') and answer.headers.get("Accept-Ranges") == "bytes"
            body.etag = etag if resumable and not answer.headers.get("Content-Encoding") else None
        try:
            for piece in answer.iter_content(PIECE_BYTES):
                body.take(piece)
        except requests.RequestException:
            if body.written and not body.etag:
                raise self._broken_off(body.written) from None
            raise RequestFailed(
                f"the connection to {self.system} broke off while the document was read",
                lasting=False,
                again=True,
            ) from None
        body.write_on()
        return download_of(answer)

    def _broken_off(self, written: int) -> RequestFailed:
        return RequestFailed(
            f"the connection to {self.system} broke off after {written} bytes of the document,"
            " and it cannot go on from there",
            lasting=False,
        )

    def _web_page(self) -> RequestFailed:
        return RequestFailed(
            f"{self.system} answered with a web page, such as a login page: check {self.setting} and the credentials",
            lasting=True,
        )

    def _target(self, answer: requests.Response) -> str:
        """Where a redirect leads. Never part of a sentence: its query is a credential."""
        try:
            target = urljoin(answer.url, answer.headers.get("Location", ""))
            there, here = urlsplit(target), urlsplit(answer.url)
            plain_here = there.scheme == here.scheme == "http" and _is_loopback(there) and _is_loopback(here)
            followed = (
                "Location" in answer.headers
                and bool(there.hostname)
                and (there.scheme == "https" or plain_here)
                and there.username is None
            )
        except ValueError:
            followed = False
        if not followed:
            raise RequestFailed(
                f"{self.system} redirects to an address that is not followed: it must be https", lasting=True
            )
        return target

    def _request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        json: Any = None,
    ) -> requests.Request:
        return requests.Request(
            method, self.url(path), params=params, headers=headers, data=data or None, json=json
        )

    def _repeat(self, attempt: Callable[[], T]) -> T:
        """What `attempt` returns, after as many attempts as it takes and is allowed. One more, at
        once, where a token was refused. What the server was too busy for counts as no attempt, unless
        somebody waits: many threads may share a budget that is enough for few."""
        renewed = False
        counted = 0

        def enough(state: tenacity.RetryCallState) -> bool:
            nonlocal counted
            error = state.outcome.exception() if state.outcome else None
            if not (self.patient and isinstance(error, RequestFailed) and error.throttled):
                counted += 1
            too_late = tenacity.stop_before_delay(LONGEST_REQUEST)
            return counted >= (ATTEMPTS if self.patient else 2) or too_late(state)

        def with_a_valid_token() -> T:
            nonlocal renewed
            try:
                return attempt()
            except RequestFailed as failure:
                if renewed or not failure.token_refused:
                    raise
                renewed = True
                return attempt()

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, RequestFailed) and error.again),
            wait=_pause,
            stop=enough,
            reraise=True,
        )(with_a_valid_token)

    def _exchange(
        self,
        request: requests.Request,
        receive: Callable[[requests.Response], T],
        *,
        redirects: bool = False,
        bare: bool = False,
    ) -> T:
        """One request. The answer keeps its place in the budget until `receive` has read it."""
        session = self._bare if bare else self._own
        try:
            prepared = session.prepare_request(request)
        except requests.RequestException:
            raise self._unsendable() from None
        try:
            with self._budget.turn(self._longest_wait()) as turn:
                with self._counting:
                    self.requests_sent += 1
                try:
                    answer = session.send(prepared, stream=True, allow_redirects=False, timeout=self._timeout)
                except ValueError:  # http.client quotes the header that it does not like
                    raise self._unsendable() from None
                with closing(answer):
                    if not bare or answer.status_code >= 400:
                        self._check(answer, turn, redirects, bare)
                    self._budget.succeeded()
                    return receive(answer)
        except Closed as closed:
            raise self._closed(closed.seconds) from None
        except OutOfReach as error:
            raise RequestFailed(f"{self.system} is not asked: {error}", lasting=True) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise self._unreachable(error) from None

    def _check(self, answer: requests.Response, turn: int, redirects: bool, bare: bool) -> None:
        """Raises RequestFailed unless the answer is what was asked for."""
        status = answer.status_code
        if status >= 400:
            _ = answer.content
        failure = None if bare else self._judge(answer)
        if failure is None and (status < 300 or (redirects and status in REDIRECTS)):
            return
        if failure is None:
            failure = self._failure(answer, bare)
        else:
            failure.judged = True
            failure.status = failure.status or status
        failure.headers = answer.headers
        if failure.body is None and status >= 400:
            failure.body = json_of(answer)
        if status == 401 and isinstance(self._auth, Bearer) and not bare:
            self._auth.forget(answer.request.headers.get("Authorization"))
            failure.token_refused = True
        if status in THROTTLED:
            wait = wait_asked_for(answer.headers)
            too_long = wait is not None and wait > self._longest_wait()
            if failure.again or too_long:
                self._budget.close(turn, wait)
            if failure.again and wait is not None and too_long:
                raise self._closed(wait, status)
            failure.throttled = failure.again and (status == 429 or wait is not None)
        raise failure

    def _longest_wait(self) -> float:
        return LONGEST_WAIT if self.patient else LONGEST_WAIT_OF_A_TEST

    def _closed(self, seconds: float, status: int | None = None) -> RequestFailed:
        when = datetime.fromtimestamp(time.time() + seconds, timezone.utc)
        return RequestFailed(
            f"{self.system} takes no more requests before {when:%Y-%m-%d %H:%M} UTC: start again then",
            lasting=False,
            status=status,
        )

    def _failure(self, answer: requests.Response, bare: bool) -> RequestFailed:
        status = answer.status_code
        who = f"the host that {self.system} redirects to" if bare else self.system
        again = status in REPEATED or (status == 500 and answer.request.method == "GET")
        if status in REDIRECTS:
            what = f"redirects (status {status}), which is not followed: check {self.setting}"
        elif status == 401:
            what = "does not accept the credentials: check them, and whether they have expired"
        elif status == 403:
            what = "refuses access (status 403): give the account the rights that it needs"
        elif status in (404, 410):
            what = f"does not have what was asked for (status {status}): check {self.setting}"
        elif status == 429:
            what = "takes no more requests for now: try again later, or set requests_per_minute"
        elif again or status >= 500:
            what = f"is out of order (status {status}): try again later"
        else:
            what = f"does not accept the request (status {status})"
        return RequestFailed(
            f"{who} {what}",
            lasting=not again and status < 500,
            status=status,
            again=again,
        )

    def _unsendable(self) -> RequestFailed:
        return RequestFailed(
            f"the request to {self.system} cannot be made: check {self.setting}, and the credentials"
            " for characters that do not belong there",
            lasting=True,
        )

    def _unreachable(self, error: Exception) -> RequestFailed:
        """What happened, in words of our own: the error's hold the address with its query."""
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return RequestFailed(
                f"{self.system} has no certificate that this machine trusts: check {self.setting},"
                " or name the authority that issued it in ca_file",
                lasting=True,
            )
        if isinstance(error, requests.exceptions.ReadTimeout):
            what = "does not answer in time (setting timeout_seconds)"
        elif isinstance(
            error, requests.exceptions.ChunkedEncodingError | requests.exceptions.ContentDecodingError
        ):
            what = "broke off its answer"
        else:
            what = "cannot be reached"
        return RequestFailed(
            f"{self.system} {what}: check {self.setting} and the network", lasting=False, again=True
        )

    def _at_home(self, url: str) -> str:
        try:
            home = origin(url) == self._origin and urlsplit(url).username is None
        except ValueError:
            home = False
        if not home:
            raise RequestFailed(
                f"{self.system} names an address on another host, which is not asked", lasting=True
            )
        return url


class _Redirect(NamedTuple):
    url: str


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Keeps requests from preparing for a redirect, even where it does not follow it."""


def _session(connections: int, ca_file: str | None, reach: Reach) -> requests.Session:
    session = _Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.verify = ca_file or True
    session.headers.update({"User-Agent": "citysort", "Accept": "application/json"})
    adapter = adapter_within(reach, connections)
    for scheme in ("https://", "http://"):
        session.mount(scheme, adapter)
    return session


def _pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, RequestFailed) and error.throttled:
        return 0.0  # the budget lets nobody through before it is time
    growing = tenacity.wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE)
    return growing(state) + random.uniform(0, FIRST_PAUSE)  # noqa: S311


class HttpConnector(Connector):
    """A connector of an HTTP system. What differs is in `_open`, `_probe`, `_documents` and `_download`,
    which may raise RequestFailed: here it is told as the error that fits."""

    timeout_seconds: int = Field(
        default=60, ge=1, description="Seconds to wait for the next piece of an answer."
    )
    requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Requests sent in a minute at most. Empty: as many as the system takes.",
    )
    ca_file: str | None = Field(
        default=None,
        description="PEM file with the certificate authority of the system, where it is not a public one.",
    )

    @model_validator(mode="after")
    def _can_be_sent(self) -> HttpConnector:
        """Python reads a byte that is no UTF-8 from the environment as half a character, which cannot be sent."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, str) and re.search("[\ud800-\udfff]", value):
                raise ValueError(f"{name} holds characters that are not text in UTF-8: store it anew")
        return self

    _patient: bool = PrivateAttr(default=True)
    _opened: HttpSession | None = PrivateAttr(default=None)
    _opening: Any = PrivateAttr(default_factory=threading.Lock)

    @abstractmethod
    def _open(self) -> HttpSession:
        """The session with its authentication; sends nothing yet."""

    @abstractmethod
    def _probe(self, http: HttpSession) -> str:
        """Makes real calls; returns the sentence for a connection that works."""

    @abstractmethod
    def _documents(self, http: HttpSession, window: Window) -> Generator[ExternalDocument, None, None]:
        """A generator of the documents modified in the window, lazily."""

    @abstractmethod
    def _download(self, http: HttpSession, document: ExternalDocument, into: BinaryIO) -> Download:
        """Writes a document."""

    def session(self) -> HttpSession:
        """The session, always the same one. Raises ConfigurationError."""
        with self._opening:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def session_options(self) -> dict[str, Any]:
        """The common settings as arguments of HttpSession; those for tokens, too, are opened with them."""
        return {
            "timeout_seconds": self.timeout_seconds,
            "in_flight": self.concurrency,
            "requests_per_minute": self.requests_per_minute,
            "ca_file": self.ca_file,
            "reach": self._reach,
            "patient": self._patient,
        }

    def test_connection(self) -> ConnectionStatus:
        self._patient = False
        try:
            http = self.session()
            http.patient = False
            try:
                return ConnectionStatus(True, self._probe(http))
            finally:
                http.patient = True
        except ConnectorError as error:
            return ConnectionStatus(False, str(error))
        finally:
            self._patient = True

    def list_documents(self, window: Window | None = None) -> Iterator[ExternalDocument]:
        yield from self._told(lambda http: self._documents(http, window or Window()))

    def _told(
        self, begin: Callable[[HttpSession], Generator[ExternalDocument, None, T]]
    ) -> Generator[ExternalDocument, None, T]:
        """A listing, its failures told as the errors that fit."""
        begun = False
        try:
            with closing(begin(self.session())) as documents:
                while True:
                    try:
                        document = next(documents)
                    except StopIteration as end:
                        reached: T = end.value
                        return reached
                    begun = True
                    yield document
        except (RequestFailed, ConfigurationError) as error:
            lasting = error.lasting if isinstance(error, RequestFailed) else True
            if lasting and not begun:
                raise ConfigurationError(str(error)) from None
            raise ListingIncomplete(f"the listing broke off: {error}") from None

    def download_document(self, document: ExternalDocument, into: BinaryIO) -> Download:
        try:
            return self._download(self.session(), document, into)
        except RequestFailed as error:
            gone = error.status == 404 and not error.judged
            raise DownloadFailed("gone since it was listed" if gone else str(error)) from None

    def close(self) -> None:
        with self._opening:
            if self._opened is not None:
                self._opened.close()
                self._opened = None
