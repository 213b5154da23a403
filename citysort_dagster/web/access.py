"""Who is calling, and what they may do.

Callers show a token (`Authorization: Bearer …`) or the cookie of a browser session. Where no token
was ever made and the server listens on this machine alone, whoever is on it is its admin, as with
the Dagster UI beside it. What browsers send by themselves proves nothing: a request that changes
something must come from the console's own pages.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from citysort_dagster import api_tokens
from citysort_dagster.api_tokens import Role
from citysort_dagster.installation import Installation
from citysort_dagster.web.problems import Problem

COOKIE = "citysort_session"
CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf_token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
"""What a page of any other site can send without asking first."""


@dataclass(frozen=True)
class Caller:
    """Somebody who may do something. `actor` is what audit events call them."""

    name: str
    role: Role

    @property
    def actor(self) -> str:
        return self.name


LOCAL = Caller("this machine", Role.admin)


@dataclass(frozen=True)
class Doorway:
    """How this server is reached. `open_to_this_machine`: without a token while there is none."""

    open_to_this_machine: bool
    secure_cookie: bool
    key: str


def new_doorway(loopback: bool) -> Doorway:
    """The doorway of a server that listens on loopback alone, or elsewhere as well."""
    return Doorway(loopback, not loopback, secrets.token_hex(32))


class Guard:
    """ASGI middleware that lets nobody in who is not known, before anything of a request is read."""

    def __init__(self, app: ASGIApp, installation: Installation, doorway: Doorway) -> None:
        self._app = app
        self._database = installation.database
        self._doorway = doorway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope["path"]):
            request = Request(scope)
            request.state.caller, request.state.csrf_token = await self._known(request)
            if request.state.csrf_token and request.method not in SAFE_METHODS:
                refuse_other_sites(request)
        await self._app(scope, receive, send)

    async def _known(self, request: Request) -> tuple[Caller, str]:
        """The caller, and what their forms send along: nothing for those who show a token, which no
        browser does by itself. Raises Problem 401."""
        header = request.headers.get("Authorization")
        if header is not None:
            scheme, _, token = header.partition(" ")
            found = await run_in_threadpool(api_tokens.by_token, self._database, token.strip())
            if scheme.lower() != "bearer" or found is None:
                raise _unknown()
            return Caller(found.name, Role[found.role]), ""
        cookie = request.cookies.get(COOKIE, "")
        found = await run_in_threadpool(api_tokens.by_session, self._database, cookie)
        if found is not None:
            return Caller(found.name, Role[found.role]), csrf_token(self._doorway, cookie)
        if self._doorway.open_to_this_machine and not await run_in_threadpool(
            api_tokens.exist, self._database
        ):
            return LOCAL, csrf_token(self._doorway, "")
        raise _unknown()


def _is_open(path: str) -> bool:
    """Whether everybody may ask for this."""
    return path in ("/", "/sign-in", "/api/health", "/api/ready") or path.startswith("/static/")


def csrf_token(doorway: Doorway, cookie: str) -> str:
    """What the forms of this browser session send along; another site cannot know it."""
    key = hashlib.sha256(cookie.encode()).digest() + doorway.key.encode()
    return hmac.new(key, b"csrf", hashlib.sha256).hexdigest()


async def _caller(request: Request) -> Caller:
    """The caller of a request that their own pages, or they themselves, have sent. Raises Problem 403."""
    caller: Caller = request.state.caller
    expected: str = request.state.csrf_token
    if not expected or request.method in SAFE_METHODS:
        return caller
    content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    sent = request.headers.get(CSRF_HEADER)
    if sent is None and content_type in FORMS[:2]:
        field = (await request.form()).get(CSRF_FIELD)
        sent = field if isinstance(field, str) else None
    if sent is None and caller is LOCAL and content_type not in FORMS:
        return caller  # no browser sends this for another site's page without asking first
    if not hmac.compare_digest((sent or "").encode(), expected.encode()):
        raise Problem(403, "Forged or outdated", "This form is out of date: load the page again.")
    return caller


def refuse_other_sites(request: Request) -> None:
    """Raises Problem 403 when a browser says that the page of another site sends this request.

    https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site
    """
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    host = request.headers.get("Host", "").lower()
    if (site is not None and site not in ("same-origin", "none")) or (
        origin is not None and origin.partition("://")[2].lower() != host
    ):
        raise Problem(403, "From another site", "This request comes from a page of another site.")


def _unknown() -> Problem:
    return Problem(
        401,
        "Who are you?",
        "A token is needed: `citysort token create` makes one, Authorization: Bearer TOKEN sends it.",
        headers={"WWW-Authenticate": "Bearer"},
    )


TheCaller = Annotated[Caller, Depends(_caller)]


def _at_least(role: Role, caller: Caller) -> Caller:
    if caller.role < role:
        raise Problem(
            403, "Not allowed", f"{caller.name} is {caller.role.name} here; this takes {role.name}."
        )
    return caller


def _viewer(caller: TheCaller) -> Caller:
    return _at_least(Role.viewer, caller)


def _operator(caller: TheCaller) -> Caller:
    return _at_least(Role.operator, caller)


def _admin(caller: TheCaller) -> Caller:
    return _at_least(Role.admin, caller)


Viewer = Annotated[Caller, Depends(_viewer)]
Operator = Annotated[Caller, Depends(_operator)]
Admin = Annotated[Caller, Depends(_admin)]
"""What an endpoint asks of its caller: `def endpoint(caller: Operator)`."""
