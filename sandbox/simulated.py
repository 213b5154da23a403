"""The framework of the simulated systems: real HTTP servers on loopback that hold documents, answer as
their vendors do, and can be told to misbehave.

A system is a class of routes:

    class SimulatedThings(SimulatedSystem):
        name = "things"

        @route("GET", "/api/things/{id}", parameters={"fields"})
        def thing(self, request: Request, id: str) -> Answer:
            ...

    with SimulatedThings() as system:
        system.add("permit.pdf", content)
        system.misbehave("throttle", route="thing", times=2, retry_after="date")
        requests.get(f"{system.url()}/api/things/1")
        assert system.requests["thing"] == 3

A system has one host or several, each on a port of its own. While it runs, `/_sandbox/` on its first
host does over HTTP what the methods do here, for whoever has `control_token`.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from functools import partial
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mimetypes import guess_type
from pathlib import Path
from struct import pack
from typing import Any, ClassVar, Literal, TypeVar, get_args
from urllib.parse import parse_qs, unquote, urlsplit

from sandbox.certificates import server_context

CONTROL = "/_sandbox/"
PIECE_BYTES = 1024 * 1024
CREDENTIAL_HEADERS = ("authorization", "cookie", "proxy-authorization")

Kind = Literal[
    "throttle",  # `status` (429), and `retry_after` that many `seconds`
    "fail",  # `status` (500)
    "reset",  # the connection, before the answer or after `at_byte` of its body
    "truncate",  # the body at `at_byte`, in the middle by default
    "corrupt",  # one byte of the body, of JSON so that it is none any more
    "login_page",  # 200 and a web page
    "slow",  # waits `seconds` before it answers
    "change",  # calls `then` before it answers
    "expire_tokens",  # all tokens that were given out, before it answers
    "thin_page",  # a page of a listing without rows, though more follow
    "repeat_token",  # a page of a listing leads to itself
    "cut_short",  # a page of a listing with half of its rows, or without what leads to the next
]
RetryAfter = Literal["none", "seconds", "date", "reset_epoch", "reset_iso"]

Handler = TypeVar("Handler", bound=Callable[..., "Answer"])
System = TypeVar("System", bound="SimulatedSystem")


@dataclass
class Request:
    """A request as it arrived; header names in lower case, `query` with the first value of each name."""

    host: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def form(self) -> dict[str, str]:
        """The fields of a form, empty when the body is none."""
        if not self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return {}
        return {
            name: values[0] for name, values in parse_qs(self.body.decode(), keep_blank_values=True).items()
        }

    def basic(self) -> tuple[str, str] | None:
        """User name and password of an Authorization header."""
        scheme, _, value = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        with suppress(ValueError):
            name, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
            return (name, password) if colon else None
        return None

    def bearer(self) -> str | None:
        """The token of an Authorization header."""
        scheme, _, value = self.headers.get("authorization", "").partition(" ")
        return value if scheme.lower() == "bearer" else None


@dataclass
class Answer:
    """What is sent back. Content-Length and Date are added."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, data: Any, status: int = 200, **headers: str) -> Answer:
        """Headers are named as in Python: `X_Total_Count="3"`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, json.dumps(data).encode(), {"Content-Type": "application/json", **named})


@dataclass
class Document:
    """A document that a system holds. `fields` are what only that system knows of it."""

    id: str
    name: str
    content: bytes
    content_type: str
    modified_at: datetime
    created_at: datetime
    version: int = 1
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass
class Misbehaviour:
    """What a system does to the next `times` requests of a route (`*`: any), after `spare` good ones."""

    kind: Kind
    route: str = "*"
    times: int = 1
    spare: int = 0
    status: int | None = None
    retry_after: RetryAfter = "seconds"
    seconds: float = 1
    at_byte: int | None = None
    then: Callable[[], object] | None = None


@dataclass
class Logged:
    """A request as the log keeps it, and the status of its answer (0: none was sent)."""

    route: str
    request: Request
    status: int = 0


@dataclass
class _Route:
    name: str
    host: str
    method: str
    pattern: re.Pattern[str]
    parameters: frozenset[str] | None
    public: bool
    handler: Callable[..., Answer]


def route(
    method: str,
    path: str,
    *,
    host: str = "api",
    parameters: set[str] | None = None,
    public: bool = False,
) -> Callable[[Handler], Handler]:
    """Makes a method answer requests; its name is the route's.

    `{part}` in the path is an argument (of one segment, `{part:path}` of several), unquoted. Only
    these `parameters` may stand in the query, None: any. `public`: without authentication.
    """

    def mark(handler: Handler) -> Handler:
        pieces = re.split(r"\{(\w+)(:path)?\}", path)
        pattern = ""
        for literal, name, several in zip(
            pieces[::3], [*pieces[1::3], None], [*pieces[2::3], None], strict=True
        ):
            pattern += re.escape(literal) + (f"(?P<{name}>{'.+' if several else '[^/]+'})" if name else "")
        allowed = None if parameters is None else frozenset(parameters)
        handler._routes = [  # type: ignore[attr-defined]
            *getattr(handler, "_routes", []),
            partial(_Route, handler.__name__, host, method, re.compile(pattern), allowed, public),
        ]
        return handler

    return mark


class SimulatedSystem:
    """A system that runs while its `with` block does. Thread-safe.

    `hosts` names its servers; those in `bare_hosts` stand for a vendor's media host: a request that
    brings credentials there is refused and kept in `leaks`. With `tls` they speak https, and clients
    must trust `ca_file`.
    """

    name: ClassVar[str]
    hosts: ClassVar[tuple[str, ...]] = ("api",)
    bare_hosts: ClassVar[frozenset[str]] = frozenset()
    tls: ClassVar[bool] = False
    credential_headers: ClassVar[tuple[str, ...]] = CREDENTIAL_HEADERS

    def __init__(self, ports: Mapping[str, int] | None = None) -> None:
        """`ports` of hosts; those it does not name get free ones."""
        self.lock = threading.RLock()
        self.documents: dict[str, Document] = {}
        self.control_token = secrets.token_urlsafe(24)
        self.log: list[Logged] = []
        self.requests: Counter[str] = Counter()
        """How often each route was asked; the name of an unknown one is `?`."""
        self.in_flight = 0
        self.most_in_flight = 0
        self.too_early = 0
        """Requests that came before the time that a Retry-After had named."""
        self.leaks: list[Logged] = []
        self.ca_file: Path | None = None
        self._ports = dict(ports or {})
        self._made_ids = 0
        self._closed_until = 0.0
        self._misbehaviours: list[Misbehaviour] = []
        self._servers: dict[str, _Server] = {}
        routes: list[_Route] = [
            make(getattr(self, name))
            for name in dir(type(self))
            for make in getattr(getattr(type(self), name, None), "_routes", ())
        ]
        self._routes = sorted(routes, key=lambda found: found.pattern.groups)

    # What a system overrides.

    def authenticate(self, request: Request) -> Answer | None:
        """The refusal of a request to a route that is not public, or None."""
        return None

    def problem(self, status: int, message: str) -> Answer:
        """An error as this vendor words it."""
        return Answer.json({"error": message}, status)

    def throttled(self, status: int) -> Answer:
        """A 429 or 503 as this vendor words it; headers about the time are added."""
        return self.problem(status, "Too many requests" if status == 429 else "Service unavailable")

    def new_id(self) -> str:
        """The id of a new document, the same in every run that adds the same documents."""
        self._made_ids += 1
        return blake2b(f"{self.name} {self._made_ids}".encode(), digest_size=16).hexdigest()

    def now(self) -> datetime:
        """The system's clock, with as much precision as its vendor keeps."""
        return datetime.now(timezone.utc)

    def expire_tokens(self) -> None:
        """Makes every access token given out so far invalid."""

    # Documents.

    def add(
        self,
        name: str,
        content: bytes,
        *,
        content_type: str | None = None,
        modified_at: datetime | None = None,
        **fields: Any,
    ) -> Document:
        """Puts a document in; `modified_at` is now if it is not given."""
        with self.lock:
            moment = modified_at or self.now()
            kind = content_type or guess_type(name)[0] or "application/octet-stream"
            document = Document(self.new_id(), name, content, kind, moment, moment, fields=fields)
            self.documents[document.id] = document
            return document

    def replace(self, id: str, content: bytes, *, modified_at: datetime | None = None) -> Document:
        """Gives a document new content, as a user of this system would. Raises KeyError."""
        with self.lock:
            document = self.documents[id]
            document.content = content
            document.modified_at = modified_at or self.now()
            document.version += 1
            return document

    def remove(self, id: str) -> None:
        """Takes a document out. Raises KeyError."""
        with self.lock:
            del self.documents[id]

    # Misbehaviour.

    def misbehave(self, kind: Kind, **how: Any) -> None:
        """From now on; see `Misbehaviour`. Several may be set at once. Raises ValueError."""
        if kind not in get_args(Kind):
            raise ValueError(f"there is no misbehaviour {kind!r}")
        if how.get("retry_after", "none") not in get_args(RetryAfter):
            raise ValueError(f"there is no retry_after {how['retry_after']!r}")
        with self.lock:
            self._misbehaviours.append(Misbehaviour(kind, **how))

    def behave(self) -> None:
        """Ends all misbehaviour."""
        with self.lock:
            self._misbehaviours.clear()

    def misbehaves(self, kind: Kind, route: str) -> bool:
        """Whether this answer should; for what only a handler can do (`thin_page`, `repeat_token`, `cut_short`)."""
        return self._due((kind,), route) is not None

    def forget_requests(self) -> None:
        """Starts counting anew."""
        with self.lock:
            self.log.clear()
            self.requests.clear()
            self.most_in_flight = self.in_flight
            self.too_early = 0

    def _due(self, kinds: tuple[Kind, ...], route: str) -> Misbehaviour | None:
        with self.lock:
            for one in self._misbehaviours:
                if one.kind in kinds and one.route in ("*", route):
                    if one.spare:
                        one.spare -= 1
                        continue
                    one.times -= 1
                    if one.times <= 0:
                        self._misbehaviours.remove(one)
                    return one
        return None

    # Serving.

    def __enter__(self: System) -> System:
        self._folder = Path(tempfile.mkdtemp(prefix=f"citysort-{self.name}-"))
        context = None
        if self.tls:
            self.ca_file = self._folder / "authority.pem"
            context = server_context(self.ca_file)
        for host in self.hosts:
            server = _Server(("127.0.0.1", self._ports.get(host, 0)), partial(_Connection, self, host))
            if context is not None:
                # The handshake is made by the connection's own thread.
                server.socket = context.wrap_socket(
                    server.socket, server_side=True, do_handshake_on_connect=False
                )
            self._servers[host] = server
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        for server in self._servers.values():
            server.shutdown()
            server.server_close()
            server.hang_up()
        self._servers.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, host: str = "api") -> str:
        """The address of a host, without a slash at its end."""
        port = self._servers[host].server_port
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{port}"

    def handle(self, request: Request) -> tuple[Logged, Answer, Misbehaviour | None]:
        """The answer, and what is to be done to it on its way."""
        if request.path.startswith(CONTROL) and request.host == self.hosts[0]:
            return Logged("control", request), self._control(request), None
        found, arguments = self._find(request)
        logged = Logged(found.name if found else "?", request)
        with self.lock:
            self.log.append(logged)
            self.requests[logged.route] += 1
            if time.monotonic() < self._closed_until and request.host not in self.bare_hosts:
                self.too_early += 1
        answer = self._leak(logged)
        if answer is None and found is not None:
            answer = self._before(found.name)
        if answer is None:
            answer = self._answer(found, request, arguments)
        logged.status = answer.status
        # What is refused is not also spoilt: each misbehaviour is seen by the client.
        spoilt = self._due(("reset", "truncate", "corrupt"), logged.route) if answer.status < 400 else None
        return logged, answer, spoilt

    def _find(self, request: Request) -> tuple[_Route | None, dict[str, str]]:
        for candidate in self._routes:
            match = candidate.pattern.fullmatch(request.path)
            if match and (candidate.host, candidate.method) == (request.host, request.method):
                return candidate, {name: unquote(value) for name, value in match.groupdict().items()}
        return None, {}

    def _leak(self, logged: Logged) -> Answer | None:
        brought = [header for header in self.credential_headers if header in logged.request.headers]
        if logged.request.host not in self.bare_hosts or not brought:
            return None
        with self.lock:
            self.leaks.append(logged)
        return Answer(400, f"CREDENTIALS DO NOT BELONG HERE: {', '.join(brought)}".encode())

    def _before(self, name: str) -> Answer | None:
        while due := self._due(("slow", "change", "expire_tokens"), name):
            if due.kind == "slow":
                time.sleep(due.seconds)
            elif due.kind == "change" and due.then is not None:
                due.then()
            elif due.kind == "expire_tokens":
                with self.lock:
                    self.expire_tokens()
        due = self._due(("throttle", "fail", "login_page"), name)
        if due is None:
            return None
        if due.kind == "throttle":
            return self._throttle(due)
        if due.kind == "fail":
            return self.problem(due.status or 500, "Internal server error")
        return Answer(
            200, b"<!doctype html><title>Log in</title><form>", {"Content-Type": "text/html; charset=utf-8"}
        )

    def _throttle(self, due: Misbehaviour) -> Answer:
        answer = self.throttled(due.status or 429)
        now = datetime.now(timezone.utc)
        opens = now + timedelta(seconds=due.seconds)
        if due.retry_after in ("date", "reset_epoch", "reset_iso"):  # these know whole seconds only
            opens = opens.replace(microsecond=0) + timedelta(seconds=1)
        answer.headers |= {
            "none": {},
            "seconds": {"Retry-After": f"{due.seconds:g}"},
            "date": {"Retry-After": format_datetime(opens, usegmt=True)},
            "reset_epoch": {"X-RateLimit-Reset": f"{opens.timestamp():.0f}"},
            "reset_iso": {"X-RateLimit-Reset": f"{opens:%Y-%m-%dT%H:%M:%SZ}"},
        }[due.retry_after]
        if due.retry_after != "none":
            with self.lock:
                self._closed_until = time.monotonic() + (opens - now).total_seconds()
        return answer

    def _answer(self, found: _Route | None, request: Request, arguments: dict[str, str]) -> Answer:
        with self.lock:
            if found is None:
                return self.problem(404, f"{request.method} {request.path} is not there")
            if not (found.public or found.host in self.bare_hosts):
                refusal = self.authenticate(request)
                if refusal is not None:
                    return refusal
            unknown = sorted(set(request.query) - found.parameters) if found.parameters is not None else []
            if unknown:
                return self.problem(400, f"unknown parameters: {', '.join(unknown)}")
            return found.handler(request, **arguments)

    # The same over HTTP.

    def _control(self, request: Request) -> Answer:
        if not secrets.compare_digest(
            request.headers.get("x-sandbox-token", "").encode(), self.control_token.encode()
        ):
            return Answer.json({"error": "X-Sandbox-Token is not the one of this run"}, 403)
        what, _, id = unquote(request.path.removeprefix(CONTROL)).partition("/")
        try:
            given = json.loads(request.body or b"{}")
            return self._controlled(request.method, what, id, given)
        except KeyError as error:
            return Answer.json({"error": f"there is no {error}"}, 404)
        except (TypeError, ValueError) as error:
            return Answer.json({"error": str(error)}, 400)

    def _controlled(self, method: str, what: str, id: str, given: dict[str, Any]) -> Answer:
        with self.lock:
            if (method, what) == ("GET", "state"):
                return Answer.json(
                    {
                        "system": self.name,
                        "documents": len(self.documents),
                        "requests": dict(self.requests),
                        "most_in_flight": self.most_in_flight,
                        "too_early": self.too_early,
                        "leaks": len(self.leaks),
                    }
                )
            if (method, what) == ("GET", "documents"):
                return Answer.json(
                    [
                        {"id": one.id, "name": one.name, "modified_at": one.modified_at.isoformat()}
                        for one in self.documents.values()
                    ]
                )
            if (method, what) == ("POST", "misbehaviour"):
                if "then" in given:
                    raise ValueError("then is for programs only")
                self.misbehave(**given)
                return Answer(204)
            if (method, what) == ("DELETE", "misbehaviour"):
                self.behave()
                return Answer(204)
            if (method, what) == ("DELETE", "documents"):
                self.remove(id)
                return Answer(204)
            if method not in ("POST", "PUT") or what != "documents":
                return Answer.json({"error": f"there is no {method} {CONTROL}{what}"}, 404)
            given["content"] = base64.b64decode(given.pop("content_base64"), validate=True)
            if given.get("modified_at"):
                moment = datetime.fromisoformat(str(given["modified_at"]).replace("Z", "+00:00"))
                given["modified_at"] = moment.astimezone(timezone.utc)
            document = self.add(**given) if method == "POST" else self.replace(id, **given)
            return Answer.json({"id": document.id}, 201)

    def begun(self) -> None:
        """A request is in flight."""
        with self.lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def ended(self) -> None:
        """It no longer is."""
        with self.lock:
            self.in_flight -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up, or one that does not trust the certificate, is none of our errors."""
        import sys

        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def hang_up(self) -> None:
        """Ends connections that clients keep alive."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, system: SimulatedSystem, host: str, *arguments: Any) -> None:
        self._system = system
        self._host = host
        super().__init__(*arguments)

    def _serve(self) -> None:
        self._system.begun()
        self._in_flight = True
        try:
            length = int(self.headers.get("Content-Length") or 0)
            parts = urlsplit(self.path)
            request = Request(
                self._host,
                self.command,
                parts.path,
                {n: values[0] for n, values in parse_qs(parts.query, keep_blank_values=True).items()},
                {name.lower(): value for name, value in self.headers.items()},
                self.rfile.read(length),
            )
            logged, answer, due = self._system.handle(request)
            if due is not None and due.kind == "reset" and due.at_byte is None:
                logged.status = 0
                self._ended()
                self._reset()
            else:
                self._send(answer, due)
        finally:
            self._ended()

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve

    def _ended(self) -> None:
        if self._in_flight:
            self._in_flight = False
            self._system.ended()

    def _send(self, answer: Answer, due: Misbehaviour | None) -> None:
        body, end = answer.body, len(answer.body)
        if due is not None and due.kind == "corrupt" and body:
            middle = len(body) // 2
            is_json = answer.headers.get("Content-Type") == "application/json"
            spoilt = 0 if is_json else body[middle] ^ 0x55
            body = body[:middle] + bytes([spoilt]) + body[middle + 1 :]
        elif due is not None and due.kind in ("truncate", "reset"):
            end = len(body) // 2 if due.at_byte is None else due.at_byte
        self.send_response_only(answer.status)
        headers = {"Date": self.date_time_string(), "Content-Length": str(len(body))} | answer.headers
        for name, value in headers.items():
            self.send_header(name, value)
        whole = memoryview(body)  # its pieces are no copies
        pieces = [whole[start : min(start + PIECE_BYTES, end)] for start in range(0, end, PIECE_BYTES)]
        # The client may ask again as soon as it has the last byte: until then it is counted.
        if not pieces:
            self._ended()
        self.end_headers()
        for number, piece in enumerate(pieces, 1):
            if number == len(pieces):
                self._ended()
            self.wfile.write(piece)
        if end < len(body):
            self.close_connection = True
            if due is not None and due.kind == "reset":
                self._reset()

    def _reset(self) -> None:
        """Ends the connection with a TCP reset instead of an orderly close."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
        socket.close(self.connection.detach())

    def log_message(self, format: str, *arguments: object) -> None:
        """The log is the system's."""
