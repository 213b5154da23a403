"""Pages of the console: signing in with a token, and out again."""

from __future__ import annotations

import time
from collections import deque
from threading import Lock
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from citysort_dagster import api_tokens
from citysort_dagster.web.access import COOKIE, Doorway, Viewer, refuse_other_sites
from citysort_dagster.web.dependencies import TheInstallation
from citysort_dagster.web.problems import Problem
from citysort_dagster.web.templating import page

router = APIRouter(include_in_schema=False)

START = "/sources"


class Attempts:
    """How often it was tried in the last minute, by each address and by all together."""

    EACH, ALL, SECONDS = 10, 100, 60.0

    def __init__(self) -> None:
        self._lock = Lock()
        self._failed: deque[tuple[float, str]] = deque()

    def refuse_too_many(self, address: str) -> None:
        """Raises Problem 429."""
        with self._lock:
            self._forget()
            here = sum(who == address for _, who in self._failed)
            if here >= self.EACH or len(self._failed) >= self.ALL:
                raise Problem(
                    429,
                    "Too many attempts",
                    "Wait a minute, then try again.",
                    headers={"Retry-After": str(int(self.SECONDS))},
                )

    def failed(self, address: str) -> None:
        """Counts one."""
        with self._lock:
            self._failed.append((time.monotonic(), address))

    def _forget(self) -> None:
        while self._failed and time.monotonic() - self._failed[0][0] > self.SECONDS:
            self._failed.popleft()


@router.get("/")
def start() -> RedirectResponse:
    """The first page."""
    return RedirectResponse(START, status_code=303)


@router.get("/sign-in")
def show_sign_in(request: Request, next: str = START) -> HTMLResponse:
    """The form that takes a token."""
    return page(request, "sign_in.html", next=_local(next), error=None)


@router.post("/sign-in")
def sign_in(
    request: Request,
    installation: TheInstallation,
    token: Annotated[str, Form(max_length=200)] = "",
    next: Annotated[str, Form(max_length=500)] = START,
) -> Response:
    """Opens a session for whoever has the token."""
    refuse_other_sites(request)
    attempts: Attempts = request.app.state.sign_in_attempts
    address = request.client.host if request.client else ""
    attempts.refuse_too_many(address)
    found = api_tokens.by_token(installation.database, token.strip())
    if found is None:
        attempts.failed(address)
        response: Response = page(
            request,
            "sign_in.html",
            next=_local(next),
            error="This token is not known here, or was revoked.",
        )
        response.status_code = 401
        return response
    doorway: Doorway = request.app.state.doorway
    response = RedirectResponse(_local(next), status_code=303)
    response.set_cookie(
        COOKIE,
        api_tokens.open_session(installation.database, found),
        max_age=int(api_tokens.SESSION_LASTS.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=doorway.secure_cookie,
    )
    return response


@router.post("/sign-out")
def sign_out(request: Request, caller: Viewer, installation: TheInstallation) -> RedirectResponse:
    """Ends the session."""
    api_tokens.close_session(installation.database, request.cookies.get(COOKIE, ""))
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(COOKIE)
    return response


def _local(path: str) -> str:
    """The path if it is one of this server, else the first page: a link may lead anywhere."""
    if not path.startswith("/") or path.startswith("//") or "\\" in path or not path.isprintable():
        return START
    return path
