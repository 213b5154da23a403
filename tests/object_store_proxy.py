"""An HTTP proxy on loopback, in front of an object store, that can be told to misbehave."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from threading import Lock, Thread
from urllib.parse import urlsplit


@dataclass
class Exchange:
    """One request, and what the server behind answered; a hook changes what goes on from here."""

    method: str
    path: str
    headers: dict[str, str]
    sent: bytes = b""
    status: int = 0
    answer_headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None
    """Send this many bytes of the body, then close the connection."""
    reset: bool = False
    """Close it the hard way."""
    hang_up: bool = False
    """Close it without an answer."""


def nothing(exchange: Exchange) -> None:
    """A hook that changes nothing."""


@dataclass
class Proxy:
    """`before` sees each request on its way (a status set there answers it at once), `after` each
    answer on its way back. `seen` lists all requests."""

    endpoint_url: str
    before: Callable[[Exchange], None] = nothing
    after: Callable[[Exchange], None] = nothing
    seen: list[Exchange] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """A proxy in front of an http:// address. The Host header goes through, so signatures hold."""
    found = urlsplit(upstream)
    host, port = str(found.hostname), int(found.port or 80)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            sent = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            exchange = Exchange(self.command, self.path, headers, sent)
            with passing.lock:
                passing.seen.append(exchange)
                passing.before(exchange)
            if not exchange.status:
                connection = http.client.HTTPConnection(host, port, timeout=60)
                connection.request(self.command, exchange.path, sent, exchange.headers)
                answer = connection.getresponse()
                exchange.status = answer.status
                exchange.answer_headers = {name.lower(): value for name, value in answer.getheaders()}
                exchange.body = answer.read()
                connection.close()
            with passing.lock:
                passing.after(exchange)
            self._answer(exchange)

        def _answer(self, exchange: Exchange) -> None:
            if exchange.hang_up:
                self.close_connection = True
                return
            self.send_response_only(exchange.status)
            headers = {name.lower(): value for name, value in exchange.answer_headers.items()}
            headers.pop("transfer-encoding", None)
            if self.command != "HEAD":
                headers.setdefault("content-length", str(len(exchange.body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if exchange.cut_after is None:
                self.wfile.write(exchange.body)
                return
            self.wfile.write(exchange.body[: exchange.cut_after])
            self.wfile.flush()
            if exchange.reset:
                self.connection.setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
            self.close_connection = True

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

        def log_message(self, format: str, *args: object) -> None:
            """Tests look at `seen`."""

    server = _Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    passing = Proxy(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield passing
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
