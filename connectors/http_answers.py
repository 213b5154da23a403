"""What answers of HTTP systems mean: a failure, a page of a listing and what leads to the next one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import requests

from connectors.base import ConnectorError, ExternalDocument


class RequestFailed(ConnectorError):
    """A request that did not succeed, in one sentence without addresses' queries or secrets.

    `status` and `headers` are the server's (None and empty when it did not answer), `body` is the JSON
    of its refusal, None when it sent none.
    `lasting` when only a person can end it. `again` when the same request may well succeed soon.
    `judged` when the sentence is the vendor's own meaning of the answer, and not that of its status.
    """

    def __init__(
        self,
        sentence: str,
        *,
        lasting: bool,
        status: int | None = None,
        body: Any = None,
        again: bool = False,
    ) -> None:
        super().__init__(sentence)
        self.lasting = lasting
        self.status = status
        self.body = body
        self.again = again
        self.headers: Mapping[str, str] = {}
        self.judged = False
        self.throttled = False
        self.token_refused = False


# Paging: functions that find in a page what leads to the next.


class Page(NamedTuple):
    """A page as it came: parsed JSON, headers, and the address that it was asked for at."""

    body: Any
    headers: Mapping[str, str]
    url: str


NextPage = Callable[[Page], "str | Mapping[str, str] | None"]
"""A link to the next page, or the parameters that change for it, or None at the end."""


def token_in(key: str, parameter: str) -> NextPage:
    """The page holds a token under `key`, which goes into `parameter`."""

    def next_page(page: Page) -> Mapping[str, str] | None:
        token = _inside(page.body, key)
        return {parameter: str(token)} if token else None

    return next_page


def link_in(key: str) -> NextPage:
    """The page holds a link under `key`; a dot leads inside: `_links.next`. Graph's own names, such as
    `@odata.nextLink`, are tried whole first."""

    def next_page(page: Page) -> str | None:
        link = _inside(page.body, key)
        return str(link) if link else None

    return next_page


def link_header(page: Page) -> str | None:
    """The header Link names the next page, https://datatracker.ietf.org/doc/html/rfc8288."""
    for link in requests.utils.parse_header_links(page.headers.get("Link", "")):
        if link.get("rel") == "next":
            return link.get("url")
    return None


def _inside(body: Any, key: str) -> Any:
    if isinstance(body, dict) and key in body:
        return body[key]
    for part in key.split("."):
        body = body.get(part) if isinstance(body, dict) else None
    return body


def rows(body: Any, key: str) -> list[dict[str, Any]]:
    """The list of objects under `key` of a page. Raises RequestFailed when there is none: an answer
    of another shape must not pass for an empty page."""
    found = _inside(body, key)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise RequestFailed(f"an answer is not a listing: it has no list {key!r}", lasting=True)
    return found


# Web pages, and JSON.


def sends_html(answer: requests.Response) -> bool:
    """Whether the answer is a web page."""
    return answer.headers.get("Content-Type", "").partition(";")[0].strip().lower() in (
        "text/html",
        "application/xhtml+xml",
    )


def is_html(document: ExternalDocument) -> bool:
    """Whether the document itself is a web page, so that one in its place is no login page."""
    return (document.content_type or "").startswith("text/html") or document.filename.lower().endswith(
        (".htm", ".html")
    )


def json_of(answer: requests.Response) -> Any:
    """The JSON of an answer that has been read, None when it is none."""
    try:
        return answer.json()
    except ValueError:
        return None
