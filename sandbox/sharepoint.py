"""A simulated SharePoint Online site: the login host, Microsoft Graph and the host that files come from, as
far as document libraries are concerned. https://learn.microsoft.com/en-us/graph/api/driveitem-delta"""

from __future__ import annotations

import json
import re
import secrets
import time
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import quote

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from connectors.quickxorhash import QuickXorHash
from sandbox.simulated import Answer, Document, Request, SimulatedSystem, route

HOST = "city.sharepoint.com"
SITE_PATH = "/sites/permits"
TOKEN_SECONDS = 3599
LINK_SECONDS = 300
MOST_ITEMS_PER_PAGE = 1_000
DEFAULT_ITEMS_PER_PAGE = 200
CHANGES_KEPT = timedelta(days=60)
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
PROPERTIES = {
    *("id", "name", "size", "eTag", "cTag", "createdDateTime", "lastModifiedDateTime", "webUrl", "root"),
    *("file", "folder", "package", "deleted", "malware", "parentReference", "fileSystemInfo", "shared"),
    *("createdBy", "lastModifiedBy", "specialFolder"),
}
DELTA_PARAMETERS = {"$top", "$select", "token"}

Row = dict[str, Any]


@dataclass
class Library:
    """A document library; `segment` is its name in addresses."""

    id: str
    name: str
    segment: str
    root: str


@dataclass
class Folder:
    """A folder, or the root of a library."""

    id: str
    name: str
    library: str
    parent: str | None
    created_at: datetime


@dataclass
class Change:
    """The latest change of an item: changes are numbered, and `at` is when this one was made."""

    library: str
    number: int
    at: datetime
    deleted: bool = False


class SimulatedSharePoint(SimulatedSystem):
    """A site with libraries, and an application that signs in with its secret or its certificate.

    `add(name, content, library="Documents", folder="2026/March")` makes the folders that are missing.
    Other fields: `package` (a OneNote notebook), `malware`, `hash` (False: none is stated), `promoted`
    (the bytes that are sent are not those that size and hash are of), `ends_early` (half of them are
    sent), `changed_at` (when it came here, if not when it was modified).
    """

    name: ClassVar[str] = "sharepoint"
    hosts: ClassVar[tuple[str, ...]] = ("api", "login", "media")
    bare_hosts: ClassVar[frozenset[str]] = frozenset({"media"})
    tls: ClassVar[bool] = True

    def __init__(self, ports: Mapping[str, int] | None = None) -> None:
        super().__init__(ports)
        self.site_url = f"https://{HOST}{SITE_PATH}"
        """Another one below this host may be set."""
        self.tenant_id = str(uuid.uuid4())
        self.client_id = str(uuid.uuid4())
        self.client_secret = secrets.token_urlsafe(30)
        self.secret_expired = False
        self.granted = True
        """Whether the application may read the site."""
        self.locked = False
        self.default_page = DEFAULT_ITEMS_PER_PAGE
        self.libraries: dict[str, Library] = {}
        self.folders: dict[str, Folder] = {}
        self.changes: dict[str, Change] = {}
        self._counted = 0
        self._epoch = 0
        self._tokens: dict[str, tuple[str, float]] = {}
        self._by_certificate: set[str] = set()
        self._links: dict[str, tuple[str, float]] = {}
        self.add_library("Documents", "Shared Documents")

    # Content.

    def add_library(self, name: str, segment: str | None = None) -> Library:
        """Makes a library and its root."""
        with self.lock:
            library = Library(f"b!{self.new_id()}{self.new_id()}", name, segment or name, self.new_id())
            self.libraries[library.id] = library
            self.folders[library.root] = Folder(library.root, "root", library.id, None, self.now())
            self._changed(library.root, library.id, self.now())
            return library

    def add_folder(self, path: str, library: str = "Documents") -> str:
        """The id of a folder, which is made with those above it if need be."""
        with self.lock:
            held = self._named(library)
            at = held.root
            for name in filter(None, path.split("/")):
                found = [one.id for one in self.folders.values() if (one.parent, one.name) == (at, name)]
                if not found:
                    folder = Folder(self.new_id(), name, held.id, at, self.now())
                    self.folders[folder.id] = folder
                    self._changed(folder.id, held.id, folder.created_at)
                    found = [folder.id]
                at = found[0]
            return at

    def add(
        self,
        name: str,
        content: bytes,
        *,
        content_type: str | None = None,
        modified_at: datetime | None = None,
        **fields: Any,
    ) -> Document:
        with self.lock:
            library = self._named(fields.setdefault("library", "Documents"))
            fields["parent"] = self.add_folder(fields.get("folder") or "", library.name)
            document = super().add(
                name, content, content_type=content_type, modified_at=modified_at, **fields
            )
            self._changed(document.id, library.id, fields.get("changed_at") or document.modified_at)
            return document

    def replace(self, id: str, content: bytes, *, modified_at: datetime | None = None) -> Document:
        with self.lock:
            document = super().replace(id, content, modified_at=modified_at)
            self._changed(id, self.changes[id].library, document.modified_at)
            return document

    def remove(self, id: str) -> None:
        with self.lock:
            super().remove(id)
            self._changed(id, self.changes[id].library, self.now(), deleted=True)

    def forget_changes(self) -> None:
        """Makes all links to changes invalid that were given out so far."""
        with self.lock:
            self._epoch += 1

    def _named(self, name: str) -> Library:
        return next(library for library in self.libraries.values() if library.name == name)

    def _changed(self, id: str, library: str, at: datetime, deleted: bool = False) -> None:
        self._counted += 1
        self.changes[id] = Change(library, self._counted, at, deleted)

    def now(self) -> datetime:
        return datetime.now(timezone.utc).replace(microsecond=0)

    def new_id(self) -> str:
        return "01" + super().new_id().upper()

    def item(self, id: str) -> Row:
        """A driveItem as Graph describes it: https://learn.microsoft.com/en-us/graph/api/resources/driveitem.
        Raises KeyError."""
        if self.changes[id].deleted:
            return {"id": id, "deleted": {"state": "deleted"}, "parentReference": {}}
        library = self.libraries[self.changes[id].library]
        folder = self.folders.get(id)
        parent = folder.parent if folder else self.documents[id].fields["parent"]
        row: Row = {
            "id": id,
            "parentReference": {"driveType": "documentLibrary", "driveId": library.id}
            | ({"id": parent} if parent else {}),
        }
        if folder is not None:
            stamps = (folder.created_at, folder.created_at)
            row |= {"name": folder.name, "size": 0, "folder": {"childCount": 0}}
            row |= {} if parent else {"root": {}}
            version = 1
        else:
            document = self.documents[id]
            stamps = (document.created_at, document.modified_at)
            version = document.version
            row |= {"name": document.name, "size": len(document.content)}
            if document.fields.get("package"):
                row["package"] = {"type": "oneNote"}
            else:
                row["file"] = {"mimeType": document.content_type, "hashes": self._hashes(document)}
            if document.fields.get("malware"):
                row["malware"] = {"description": "EICAR"}
        key = uuid.uuid5(uuid.NAMESPACE_URL, id)
        row["webUrl"] = f"{self.site_url}/{quote(library.segment)}{quote(self._path(id), safe='/')}"
        row["eTag"] = f'"{{{str(key).upper()}}},{version}"'
        row["createdDateTime"], row["lastModifiedDateTime"] = map(_stamp, stamps)
        return row

    def _hashes(self, document: Document) -> Row:
        if document.fields.get("hash") is False:
            return {}
        if document.fields.get("_hashed") != document.version:
            document.fields["_hashed"] = document.version
            document.fields["_hash"] = QuickXorHash(document.content).base64()
        return {"quickXorHash": document.fields["_hash"]}

    def sent(self, document: Document) -> bytes:
        """The bytes that a download brings."""
        body = document.content + (b"<columns/>" if document.fields.get("promoted") else b"")
        return body[: len(body) // 2] if document.fields.get("ends_early") else body

    def _path(self, id: str) -> str:
        names = []
        document = self.documents.get(id)
        if document is not None:
            names.append(document.name.replace("/", "_"))
            id = document.fields["parent"]
        folder = self.folders[id]
        while folder.parent:
            names.append(folder.name)
            folder = self.folders[folder.parent]
        return "".join(f"/{name}" for name in reversed(names))

    # Signing in.

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(65537, 2048)

    @property
    def private_key(self) -> str:
        """The key to the certificate that was uploaded, in PEM."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    @cached_property
    def _uploaded(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "citysort")])
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(datetime.now(timezone.utc) - timedelta(days=1))
            .not_valid_after(datetime.now(timezone.utc) + timedelta(days=30))
            .sign(self._key, hashes.SHA256())
        )

    @property
    def certificate(self) -> str:
        """The certificate that was uploaded, in PEM."""
        return self._uploaded.public_bytes(Encoding.PEM).decode()

    @property
    def thumbprint(self) -> str:
        return self._uploaded.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303

    @route(
        "GET", "/{tenant}/v2.0/.well-known/openid-configuration", host="login", parameters=set(), public=True
    )
    def discovery(self, request: Request, tenant: str) -> Answer:
        if tenant != self.tenant_id:
            return _no_token(400, "invalid_tenant", 90002, f"Tenant '{tenant}' not found.")
        base = f"{self.url('login')}/{tenant}"
        return Answer.json(
            {
                "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "jwks_uri": f"{base}/discovery/v2.0/keys",
            }
        )

    @route("POST", "/{tenant}/oauth2/v2.0/token", host="login", parameters=set(), public=True)
    def token(self, request: Request, tenant: str) -> Answer:
        """https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow"""
        form = request.form()
        if tenant != self.tenant_id:
            return _no_token(400, "invalid_request", 90002, f"Tenant '{tenant}' not found.")
        if form.get("grant_type") != "client_credentials":
            return _no_token(400, "unsupported_grant_type", 70003, "The grant type is not supported.")
        if form.get("client_id") != self.client_id:
            return _no_token(
                400, "unauthorized_client", 700016, "Application was not found in the directory."
            )
        refusal = self._assertion_problem(form) if "client_assertion" in form else self._secret_problem(form)
        if refusal is not None:
            return refusal
        resource, _, scope = form.get("scope", "").rpartition("/")
        if scope != ".default":
            return _no_token(400, "invalid_scope", 1002012, "The scope must be a resource and /.default.")
        if resource not in self.resources():
            return _no_token(400, "invalid_resource", 500011, "The resource principal was not found.")
        made = secrets.token_urlsafe(60)
        self._tokens[made] = (resource, time.monotonic() + TOKEN_SECONDS)
        if "client_assertion" in form:
            self._by_certificate.add(made)
        return Answer.json(
            {
                "token_type": "Bearer",
                "expires_in": TOKEN_SECONDS,
                "ext_expires_in": TOKEN_SECONDS,
                "access_token": made,
            }
        )

    def resources(self) -> tuple[str, ...]:
        """What there are tokens for."""
        return self.url(), f"https://{HOST}"

    def _secret_problem(self, form: Mapping[str, str]) -> Answer | None:
        if form.get("client_secret") != self.client_secret:
            return _no_token(401, "invalid_client", 7000215, "Invalid client secret provided.")
        if self.secret_expired:
            return _no_token(401, "invalid_client", 7000222, "The provided client secret keys are expired.")
        return None

    def _assertion_problem(self, form: Mapping[str, str]) -> Answer | None:
        """https://learn.microsoft.com/en-us/entra/identity-platform/certificate-credentials"""
        assertion = form["client_assertion"]
        if form.get("client_assertion_type") != JWT_BEARER:
            return _no_token(400, "invalid_request", 900144, "client_assertion_type is missing.")
        try:
            header = jwt.get_unverified_header(assertion)
            if str(header.get("x5t", header.get("x5t#S256"))).rstrip("=") not in self._fingerprints():
                raise jwt.InvalidSignatureError
            claims = jwt.decode(
                assertion,
                self._key.public_key(),
                algorithms=["RS256", "PS256"],
                options={"require": ["aud", "exp", "iss", "jti", "sub"], "verify_aud": False},
            )
        except jwt.ExpiredSignatureError:
            return _no_token(
                401, "invalid_client", 700024, "Client assertion is not within its valid time range."
            )
        except jwt.InvalidTokenError:
            return _no_token(401, "invalid_client", 700027, "Client assertion failed signature validation.")
        if claims["aud"] != f"{self.url('login')}/{self.tenant_id}/oauth2/v2.0/token":
            return _no_token(401, "invalid_client", 700023, "Client assertion audience claim does not match.")
        if not claims["iss"] == claims["sub"] == self.client_id:
            return _no_token(
                401, "invalid_client", 700021, "Client assertion application identifier differs."
            )
        return None

    def _fingerprints(self) -> set[str]:
        kinds = (hashes.SHA1(), hashes.SHA256())  # noqa: S303
        return {_base64url(self._uploaded.fingerprint(kind)) for kind in kinds}

    def authenticate(self, request: Request) -> Answer | None:
        audience, expires_at = self._tokens.get(request.bearer() or "", ("", 0.0))
        if not audience:
            return self._refused(401, "InvalidAuthenticationToken", "Access token is empty or not known.")
        if expires_at < time.monotonic():
            return self._refused(401, "InvalidAuthenticationToken", "Lifetime validation failed.")
        if audience != self.url():
            return self._refused(
                401, "InvalidAuthenticationToken", "Access token validation failure. Invalid audience."
            )
        if not self.granted:
            return self._refused(403, "accessDenied", "Access denied")
        if self.locked:
            return self._refused(423, "notAllowed", "Access to this site has been blocked.")
        return None

    def expire_tokens(self) -> None:
        self._tokens.clear()

    # Graph.

    @route("GET", "/v1.0/sites/{host}/drives", parameters={"$select"})
    @route("GET", "/v1.0/sites/{host}:/{path:path}:/drives", parameters={"$select"})
    def drives(self, request: Request, host: str, path: str = "") -> Answer:
        if host.partition(":")[0] != HOST:
            return self._refused(400, "invalidRequest", "Invalid hostname for this tenancy")
        if quote(f"https://{HOST}/{path}".rstrip("/"), safe=":/") != self.site_url:
            return self._refused(404, "itemNotFound", "Requested site could not be found")
        found = [
            {
                "id": library.id,
                "driveType": "documentLibrary",
                "name": library.name,
                "webUrl": f"{self.site_url}/{quote(library.segment)}",
            }
            for library in self.libraries.values()
        ]
        return Answer.json({"value": found})

    @route("GET", "/v1.0/drives/{drive}/items/{item}", parameters={"$select"})
    def drive_item(self, request: Request, drive: str, item: str) -> Answer:
        if item not in self.changes or self.changes[item].library != drive or self.changes[item].deleted:
            return self._refused(404, "itemNotFound", "The resource could not be found.")
        return self._selected(request, [self.item(item)], one=True)

    @route("GET", "/v1.0/drives/{drive}/root:/{path:path}", parameters={"$select"})
    def item_by_path(self, request: Request, drive: str, path: str) -> Answer:
        for id, change in self.changes.items():
            if (
                change.library == drive
                and not change.deleted
                and self._path(id).lower() == f"/{path}".lower()
            ):
                return self._selected(request, [self.item(id)], one=True)
        return self._refused(404, "itemNotFound", "The resource could not be found.")

    @route("GET", "/v1.0/drives/{drive}/root/delta", parameters=DELTA_PARAMETERS)
    @route("GET", "/v1.0/drives/{drive}/root/delta(token='{link}')", parameters=DELTA_PARAMETERS)
    @route("GET", "/v1.0/drives/{drive}/items/{item}/delta", parameters=DELTA_PARAMETERS)
    @route("GET", "/v1.0/drives/{drive}/items/{item}/delta(token='{link}')", parameters=DELTA_PARAMETERS)
    def delta(self, request: Request, drive: str, item: str = "", link: str = "") -> Answer:
        library = self.libraries.get(drive)
        if library is None or (item and item not in self.folders):
            return self._refused(404, "itemNotFound", "The resource could not be found.")
        top = request.query.get("$top", str(self.default_page))
        if not top.isdigit() or not 1 <= int(top) <= MOST_ITEMS_PER_PAGE:
            return self._refused(400, "invalidRequest", "Invalid value for $top")
        start = item or library.root
        token = link or request.query.get("token", "")
        position, since, told = 0, "", self._counted
        if token == "latest":  # noqa: S105
            position = self._counted
        elif re.match(r"\d{4}-\d\d-\d\d", token):
            try:
                moment = datetime.fromisoformat(token.replace("Z", "+00:00"))
            except ValueError:
                return self._refused(400, "invalidRequest", "The token is malformed")
            if moment.tzinfo is None or self.now() - moment > CHANGES_KEPT:
                return self._resync(request, start)
            since, told = token, 0
        elif token:
            try:
                epoch, position, since, told, _ = json.loads(urlsafe_b64decode(token))
            except ValueError:
                return self._refused(400, "invalidRequest", "The token is malformed")
            if epoch != self._epoch:
                return self._resync(request, start)
        return self._page(request, start, position, since, told, int(top))

    def _page(self, request: Request, start: str, position: int, since: str, told: int, top: int) -> Answer:
        """What changed after `position` and `since`. A client that begins anew is not told of items that
        were removed before: only of those whose change has a number above `told`."""
        after = datetime.fromisoformat(since.replace("Z", "+00:00")) if since else None
        library = self.folders[start].library
        found = sorted(
            (change.number, id)
            for id, change in self.changes.items()
            if change.library == library
            and change.number > position
            and (after is None or change.at >= after)
            and (not change.deleted or change.number > told)
            and self._below(id, start)
        )
        page, more = [id for _, id in found[:top]], len(found) > top
        reached = found[len(page) - 1][0] if more else self._counted
        if more and self.misbehaves("thin_page", "delta"):
            page, reached = [], position
        ids = [*dict.fromkeys([*(folder for id in page for folder in self._above(id, start)), *page])]
        token = _base64url(
            json.dumps([self._epoch, reached, since, told, secrets.token_hex(4)]).encode(), padded=True
        )
        path = request.path.partition("(")[0] + f"(token='{token}')"
        if more and self.misbehaves("repeat_token", "delta"):
            path = request.path
        query = "&".join(
            f"{name}={quote(request.query[name], safe=',')}"
            for name in ("$select", "$top")
            if name in request.query
        )
        answer = self._selected(request, [self.item(id) for id in ids])
        if answer.status == 200:
            body = json.loads(answer.body)
            body["@odata.nextLink" if more else "@odata.deltaLink"] = f"{self.url()}{path}?{query}"
            answer.body = json.dumps(body).encode()
        return answer

    def _above(self, id: str, start: str) -> list[str]:
        """The folders of an item, from the one that a listing starts at."""
        folder = self.folders.get(id)
        if self.changes[id].deleted:
            return [start]
        at = folder.parent if folder else self.documents[id].fields["parent"]
        found = [id] if id == start else []
        while at is not None and start not in found:
            found.append(at)
            at = self.folders[at].parent
        return found[::-1]

    def _below(self, id: str, start: str) -> bool:
        """Of a removed item nobody knows any more where it was."""
        return self.changes[id].deleted or start in self._above(id, start)

    def _resync(self, request: Request, start: str) -> Answer:
        answer = self._refused(410, "resyncRequired", "Resync required.", "resyncChangesApplyDifferences")
        fresh = _base64url(
            json.dumps([self._epoch, 0, "", self._counted, secrets.token_hex(4)]).encode(), padded=True
        )
        answer.headers["Location"] = f"{self.url()}{request.path.partition('(')[0]}(token='{fresh}')"
        return answer

    @route("GET", "/v1.0/drives/{drive}/items/{item}/content", parameters=set())
    def content(self, request: Request, drive: str, item: str) -> Answer:
        """https://learn.microsoft.com/en-us/graph/api/driveitem-get-content"""
        document = self.documents.get(item)
        if document is None or self.changes[item].library != drive or document.fields.get("package"):
            return self._refused(404, "itemNotFound", "The resource could not be found.")
        if document.fields.get("malware"):
            return self._refused(403, "accessDenied", "Malware detected", "malwareDetected")
        link = secrets.token_urlsafe(40)
        self._links[link] = (item, time.monotonic() + LINK_SECONDS)
        return Answer(
            302, headers={"Location": f"{self.url('media')}/_layouts/15/download.aspx?tempauth={link}"}
        )

    @route("GET", "/_layouts/15/download.aspx", host="media", parameters={"tempauth"})
    def media(self, request: Request) -> Answer:
        item, expires_at = self._links.get(request.query.get("tempauth", ""), ("", 0.0))
        document = self.documents.get(item)
        if document is None or expires_at < time.monotonic():
            return Answer(401, b"Unauthorized", {"Content-Type": "text/plain"})
        body = self.sent(document)
        headers = {
            "Content-Type": document.content_type,
            "Content-Disposition": "attachment",
            "ETag": json.dumps(f"{item},{document.version}"),
            "Accept-Ranges": "bytes",
        }
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        if wanted and request.headers.get("if-range", headers["ETag"]) == headers["ETag"]:
            start = int(wanted[1])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            return Answer(206, body[start:], headers)
        return Answer(200, body, headers)

    def _selected(self, request: Request, found: list[Row], one: bool = False) -> Answer:
        wanted = set(filter(None, request.query.get("$select", "").split(",")))
        if wanted - PROPERTIES:
            return self._refused(
                400, "BadRequest", f"Could not find a property named '{min(wanted - PROPERTIES)}'"
            )
        kept = [{k: v for k, v in row.items() if not wanted or k in wanted or k == "id"} for row in found]
        return Answer.json(kept[0] if one else {"value": kept})

    # Errors.

    def problem(self, status: int, message: str) -> Answer:
        code = {400: "BadRequest", 404: "itemNotFound"}.get(status, "generalException")
        return self._refused(status, code, message)

    def throttled(self, status: int) -> Answer:
        return self._refused(status, "activityLimitReached", "The request has been throttled")

    def _refused(self, status: int, code: str, message: str, inner: str | None = None) -> Answer:
        within: Row = {
            "date": f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S}",
            "request-id": str(uuid.uuid4()),
        }
        if inner is not None:
            within["code"] = inner
        return Answer.json({"error": {"code": code, "message": message, "innerError": within}}, status)


def _no_token(status: int, error: str, code: int, message: str) -> Answer:
    return Answer.json(
        {
            "error": error,
            "error_description": f"AADSTS{code}: {message} Trace ID: {uuid.uuid4()}",
            "error_codes": [code],
            "timestamp": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%SZ}",
            "trace_id": str(uuid.uuid4()),
            "correlation_id": str(uuid.uuid4()),
            "error_uri": f"https://login.microsoftonline.com/error?code={code}",
        },
        status,
    )


def _base64url(data: bytes, padded: bool = False) -> str:
    made = urlsafe_b64encode(data).decode()
    return made if padded else made.rstrip("=")


def _stamp(moment: datetime) -> str:
    return f"{moment.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
