"""What stands before every request: known hosts only, bodies of a bearable size, answers that tell
browsers to load nothing from elsewhere."""

from __future__ import annotations

import socket
from collections.abc import Collection
from ipaddress import ip_address

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from citysort_dagster.web.problems import Problem, answer, log, unforeseen
from connectors.base import unexpected

MAX_BODY = 1_000_000
"""Bytes. The largest thing anybody sends is the key file of a service account."""

HEADERS = {
    b"content-security-policy": (
        b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}


class BrokenOff(Exception):
    """An answer could not be given whole; the log says where."""


class Defences:
    """ASGI middleware around the whole application.

    `hosts` are names that the server is reached by, besides those of this machine. On loopback, a
    request for any other name comes from a page that had its name point here (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, loopback: bool, hosts: Collection[str] = ()) -> None:
        self._app = app
        self._loopback = loopback
        self._hosts = {"localhost", *(host.lower() for host in hosts)}
        if not loopback:
            self._hosts |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        begun = replaced = False
        taken = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal begun, replaced
            if replaced:
                return
            if taken > MAX_BODY and not begun:
                # Whatever the application made of the interruption.
                begun = True
                await answer(request, _too_large())(scope, receive, send_with_headers)
                replaced = True
                return
            if message["type"] == "http.response.start":
                begun = True
                present = {name.lower() for name, _ in message["headers"]}
                added = [(name, value) for name, value in HEADERS.items() if name not in present]
                if b"cache-control" not in present and not scope["path"].startswith("/static/"):
                    added.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        async def receive_within_limit() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY:
                raise _too_large()
            return message

        try:
            if not self._is_known(request.headers.get("Host", "")):
                raise Problem(
                    421,
                    "Not this server",
                    "This server is not known by that name: see `citysort serve --help`.",
                )
            stated = request.headers.get("Content-Length", "0")
            if not (stated.isascii() and stated.isdecimal()) or int(stated[:20]) > MAX_BODY:
                raise _too_large()
            await self._app(scope, receive_within_limit, send_with_headers)
        except Problem as problem:
            if begun:
                raise
            await answer(request, problem)(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001 - told without its text
            if begun:
                log.error("%s %s broke off: %s", request.method, request.url.path, unexpected(error))
                # Ends the connection; the server would print the error itself, which may hold anything.
                raise BrokenOff from None
            await unforeseen(request, error)(scope, receive, send_with_headers)

    def _is_known(self, host: str) -> bool:
        name = host.lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        try:
            address = ip_address(name)
        except ValueError:
            return name in self._hosts
        # An address is no name: nobody can have it point elsewhere.
        return address.is_loopback or not self._loopback or name in self._hosts


def _too_large() -> Problem:
    # What is left of the body would be taken for the next request.
    headers = {"Connection": "close"}
    return Problem(413, detail=f"A request may have {MAX_BODY:,} bytes at most.", headers=headers)
