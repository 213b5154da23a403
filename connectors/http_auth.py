"""Ways to authenticate to HTTP systems: objects that put credentials into a request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from connectors.http_answers import RequestFailed

if TYPE_CHECKING:
    from connectors.http import HttpSession


def basic(username: str, password: str) -> AuthBase:
    """User name and password, in UTF-8 (requests itself would take Latin-1)."""
    return HTTPBasicAuth(username.encode(), password.encode())


class HeaderKey(AuthBase):
    """A key that travels in a header of its own."""

    def __init__(self, header: str, key: str) -> None:
        self._header = header
        self._key = key.encode()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[self._header] = self._key  # type: ignore[assignment]  # bytes go as they are
        return request


class Token(NamedTuple):
    """An access token and how many seconds it lives, None where the server does not say."""

    value: str
    expires_in: float | None = None

    def __repr__(self) -> str:
        return "Token(…)"


class Bearer(AuthBase):
    """A token that `fetch` obtains: once for all threads, and anew before it expires.

    The session forgets a token that is refused with 401 and repeats the request once. `fetch` may
    raise RequestFailed. https://datatracker.ietf.org/doc/html/rfc6750
    """

    def __init__(self, fetch: Callable[[], Token]) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._header: str | None = None
        self._expires_at: float | None = None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        with self._lock:
            if self._header is None or (self._expires_at is not None and time.monotonic() > self._expires_at):
                try:
                    token = self._fetch()
                except RequestFailed as failure:
                    failure.again = False  # repeated already, as often as it may be
                    raise
                self._header = f"Bearer {token.value}"
                self._expires_at = None
                if token.expires_in is not None:
                    margin = min(60.0, token.expires_in / 10)
                    self._expires_at = time.monotonic() + token.expires_in - margin
            request.headers["Authorization"] = self._header
        return request

    def forget(self, header: str | bytes | None) -> None:
        """Drops the token of this Authorization header, unless another thread has replaced it already."""
        with self._lock:
            if header == self._header:
                self._header = None


def oauth_token(http: HttpSession, path: str, form: Mapping[str, str]) -> Token:
    """A token from an OAuth 2.0 token endpoint, https://datatracker.ietf.org/doc/html/rfc6749#section-5.

    `http` is a session of its own for the host of the endpoint: its `auth` may identify the client.
    Raises RequestFailed; `status` and `body["error"]` say what the server did not like.
    """
    body = http.json("POST", path, data=form)
    if not isinstance(body, dict) or not isinstance(body.get("access_token"), str):
        raise RequestFailed(
            f"{http.system} answered the request for a token without one: check the settings of the client",
            lasting=True,
        )
    expires = str(body.get("expires_in", ""))
    return Token(body["access_token"], float(expires) if expires.isdigit() else None)
