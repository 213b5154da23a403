"""What the simulated Jira and Confluence have in common: a site, the gateway, the login host and the
media host of Atlassian Cloud, and the ways to sign in."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import ClassVar, TypeVar

from sandbox.simulated import Answer, Document, Request, SimulatedSystem, route

CLOUD_ID = "5f2d7a10-3c44-4b7e-9d1e-c17950127ea1"
TOKEN_SECONDS = 3600
LINK_SECONDS = 600

Handler = TypeVar("Handler", bound=Callable[..., Answer])


def on_both_hosts(
    product: str, method: str, path: str, parameters: set[str] | None = None
) -> Callable[[Handler], Handler]:
    """A route of the site that the gateway has as well."""

    def mark(handler: Handler) -> Handler:
        route(method, path, parameters=parameters)(handler)
        return route(method, f"/ex/{product}/{CLOUD_ID}{path}", host="gateway", parameters=parameters)(
            handler
        )

    return mark


class SimulatedAtlassian(SimulatedSystem):
    """A site with one account: a classic token that is good at the site, a scoped one and a service
    account's client that are good at the gateway.

    `scopes` are those of the scoped token and the client; `needed_scopes` says which one a route
    wants, any of them.
    """

    hosts: ClassVar[tuple[str, ...]] = ("api", "gateway", "login", "media")
    bare_hosts: ClassVar[frozenset[str]] = frozenset({"media"})
    needed_scopes: ClassVar[Mapping[str, frozenset[str]]]

    email = "citysort@city.example"
    cloud_id = CLOUD_ID

    def __init__(self, ports: Mapping[str, int] | None = None) -> None:
        super().__init__(ports)
        self.api_token = f"ATATT3x{secrets.token_urlsafe(40)}"
        self.scoped_token = f"ATATT3x{secrets.token_urlsafe(40)}"
        self.client_id = secrets.token_hex(16)
        self.client_secret = f"ATOA{secrets.token_urlsafe(32)}"
        self.scopes = {scope for needed in self.needed_scopes.values() for scope in needed}
        self.visitors_allowed = True
        """Whoever is not recognised is served as a visitor, who sees nothing."""
        self._tokens: set[str] = set()
        self._links: dict[str, tuple[Document, bytes]] = {}
        self._last_id = 10_000

    # Signing in.

    def authenticate(self, request: Request) -> Answer | None:
        if request.host == "gateway":
            if request.basic() != (self.email, self.scoped_token) and request.bearer() not in self._tokens:
                return Answer.json({"code": 401, "message": "Unauthorized"}, 401)
            name = self._find(request)[0]
            needed = self.needed_scopes.get(name.name if name else "", frozenset())
            if needed and not needed & self.scopes:
                return Answer.json({"code": 401, "message": "Unauthorized; scope does not match"}, 401)
            return None
        if self.recognised(request):
            return None
        name = self._find(request)[0]
        if self.visitors_allowed and name is not None and name.name in self.for_visitors():
            return None
        answer = self.problem(401, "Client must be authenticated to access this resource.")
        answer.headers |= {
            "WWW-Authenticate": 'Basic realm="Protected"',
            "X-Seraph-LoginReason": "AUTHENTICATED_FAILED",
        }
        return answer

    def recognised(self, request: Request) -> bool:
        """Whether the request comes from the account rather than from a visitor."""
        return request.host == "gateway" or request.basic() == (self.email, self.api_token)

    def for_visitors(self) -> frozenset[str]:
        """The routes that answer visitors."""
        return frozenset()

    @route("GET", "/_edge/tenant_info", parameters=set(), public=True)
    def tenant_info(self, request: Request) -> Answer:
        return Answer.json({"cloudId": CLOUD_ID})

    @route("POST", "/oauth/token", host="login", parameters=set(), public=True)
    def token(self, request: Request) -> Answer:
        """Takes JSON and forms."""
        try:
            given = request.form() or json.loads(request.body)
        except ValueError:
            given = {}
        if given.get("grant_type") != "client_credentials":
            return Answer.json({"error": "unsupported_grant_type"}, 400)
        if (given.get("client_id"), given.get("client_secret")) != (self.client_id, self.client_secret):
            return Answer.json({"error": "access_denied", "error_description": "Unauthorized"}, 401)
        made = f"ey{secrets.token_urlsafe(60)}"
        self._tokens.add(made)
        return Answer.json(
            {
                "access_token": made,
                "expires_in": TOKEN_SECONDS,
                "scope": " ".join(sorted(self.scopes)),
                "token_type": "Bearer",
            }
        )

    def expire_tokens(self) -> None:
        self._tokens.clear()

    @route("GET", "/ex/{product}/{cloud_id}/{rest:path}", host="gateway", public=True)
    def unknown_site(self, request: Request, product: str, cloud_id: str, rest: str) -> Answer:
        if cloud_id == CLOUD_ID:
            return self.problem(404, "null for uri")
        return Answer.json({"code": 404, "message": "Not Found"}, 404)

    # The media host.

    def media_link(self, document: Document, content: bytes) -> str:
        """An address at the media host that needs no credentials for some minutes: it is one."""
        key = secrets.token_urlsafe(40)
        self._links[key] = (document, content)
        return f"{self.url('media')}/file/{document.id}/binary?token={key}&client=citysort&name=file"

    @route("GET", "/file/{id}/binary", host="media", parameters={"token", "client", "name"}, public=True)
    def binary(self, request: Request, id: str) -> Answer:
        document, content = self._links.get(request.query.get("token", ""), (None, b""))
        if document is None:
            return Answer(403, b"token expired")
        headers = {
            "Content-Type": document.content_type,
            "Content-Disposition": "attachment",
            "Accept-Ranges": "bytes",
            "ETag": f'"{document.id}-{len(content)}"',
        }
        asked = request.headers.get("range", "")
        if asked.startswith("bytes=") and request.headers.get("if-range") == headers["ETag"]:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= len(content):
                return Answer(416)
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return Answer(206, content[start:], headers)
        return Answer(200, content, headers)

    # Common.

    def new_id(self) -> str:
        self._last_id += 1
        return str(self._last_id)

    def now(self) -> datetime:
        moment = datetime.now(timezone.utc)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def throttled(self, status: int) -> Answer:
        answer = self.problem(status, "Rate limit exceeded")
        answer.headers |= {"RateLimit-Reason": "jira-burst-based", "X-RateLimit-NearLimit": "true"}
        return answer


def milliseconds(moment: datetime) -> str:
    """As both products write dates, but for the zone."""
    return f"{moment.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}"
