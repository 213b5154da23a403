"""A simulated Salesforce organisation: OAuth, queries and the bytes of files and attachments.
https://developer.salesforce.com/docs/platform/api-rest/guide/intro-rest-resources.html"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from functools import cached_property
from operator import eq, ge, gt, le, lt, ne
from typing import Any, ClassVar
from urllib.parse import urlencode

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sandbox.simulated import Answer, Document, Request, SimulatedSystem, route

DATA = "/services/data/v{version}"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
AUDIENCE = "https://login.salesforce.com"
NEWEST_VERSION = 68
OLDEST_VERSION = 31
LONGEST_ADDRESS = 16_384
LONG_SIZES_SINCE = 66
PREFIXES = {
    "file": "069",
    "attachment": "00P",
    "version": "068",
    "link": "06A",
    "query": "0r8",
    "User": "005",
    "Account": "001",
    "Case": "500",
}

Row = dict[str, Any]
"""A field of a related row is named with a dot: `Parent.Name`."""


class SimulatedSalesforce(SimulatedSystem):
    """A production organisation with one integration user.

    `add(name, content, kind="file" | "attachment" | "note" | "link", records=[id, ...])` hangs a file on
    records made by `add_record`, an attachment on one; without any they make an Account. With
    `library=True` only a user with Query All Files is shown the file. What is `archived`, or `deleted` and
    in the recycle bin, is shown by QueryAll alone.
    """

    name: ClassVar[str] = "salesforce"
    hosts: ClassVar[tuple[str, ...]] = ("api", "elsewhere")
    bare_hosts: ClassVar[frozenset[str]] = frozenset({"elsewhere"})
    """A host of somebody else."""

    username = "citysort@city.example"

    def __init__(self, ports: Mapping[str, int] | None = None) -> None:
        super().__init__(ports)
        self.client_id = "3MVG9" + secrets.token_urlsafe(40)
        self.client_secret = secrets.token_hex(32).upper()
        self.password = secrets.token_urlsafe(12)
        self.flows = {"client_credentials", JWT_BEARER}
        """The username-password flow is off until an administrator turns it on."""
        self.run_as_user = True
        self.approved = True
        self.query_all_files = True
        self.api_enabled = True
        self.hidden_objects: set[str] = set()
        """Objects that the user may not read."""
        self.requests_allowed = 100_000
        self.requests_used = 0
        self.rows_per_batch = 2_000
        self.links_to: str | None = None
        """The address in links to further rows; they have none by default."""
        self.other_instance: str | None = None
        """The instance_url that comes with a token, where it is not this address."""
        self.busy_for = 0
        """So many requests are refused because too many others are under way."""
        self.records: dict[str, tuple[str, str]] = {}
        """Type and name, by id."""
        self._tokens: set[str] = set()
        self._cursors: dict[str, list[Row]] = {}
        self._documents_of_versions: dict[str, str] = {}
        self._made = 0

    # Content.

    def add_record(self, type: str, name: str) -> str:
        """Makes a record of any object; returns its id."""
        with self.lock:
            id = self._id(type)
            self.records[id] = (type, name)
            return id

    def add(
        self,
        name: str,
        content: bytes,
        *,
        content_type: str | None = None,
        modified_at: datetime | None = None,
        **fields: Any,
    ) -> Document:
        """`fields`: `kind`, `records`, `library`, and for files `title` and `extension`."""
        with self.lock:
            fields.setdefault("kind", "file")
            if "records" not in fields:
                fields["records"] = [self.add_record("Account", f"Holder of {name}")]
            document = super().add(
                name, content, content_type=content_type, modified_at=modified_at, **fields
            )
            del self.documents[document.id]
            document.id = self._id("attachment" if fields["kind"] == "attachment" else "file")
            document.fields["versions"] = []
            self._add_version(document)
            self.documents[document.id] = document
            return document

    def replace(self, id: str, content: bytes, *, modified_at: datetime | None = None) -> Document:
        with self.lock:
            document = super().replace(id, content, modified_at=modified_at)
            self._add_version(document)
            return document

    def _add_version(self, document: Document) -> None:
        id = self._id("version")
        self._documents_of_versions[id] = document.id
        document.fields["versions"].append(
            {
                "id": id,
                "content": document.content,
                "modified_at": document.modified_at,
                "checksum": hashlib.md5(document.content, usedforsecurity=False).hexdigest(),
            }
        )

    def new_id(self) -> str:
        return self._id("file")

    def _id(self, kind: str) -> str:
        """Fifteen letters and digits of either case, and three that tell which are upper case."""
        self._made += 1
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
        number, tail = self._made, ""
        while number:
            number, digit = divmod(number, len(digits))
            tail = digits[digit] + tail
        short = f"{PREFIXES.get(kind, 'a00')}Qm{tail:0>10}"
        flags = [
            sum(1 << place for place, letter in enumerate(short[start : start + 5]) if letter.isupper())
            for start in (0, 5, 10)
        ]
        return short + "".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"[flag] for flag in flags)

    # Signing in.

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(65537, 2048)

    @property
    def private_key(self) -> str:
        """The key to the certificate that the app trusts, in PEM."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def authenticate(self, request: Request) -> Answer | None:
        token = request.bearer()
        if token is None or token not in self._tokens:
            return self._refused(401, "INVALID_SESSION_ID", "Session expired or invalid")
        if not self.api_enabled:
            return self._refused(
                403, "API_DISABLED_FOR_ORG", "API is not enabled for this Organization or Partner"
            )
        if len(f"{request.path}?{urlencode(request.query)}") + 2_000 > LONGEST_ADDRESS:
            return Answer(414, b"URI Too Long")
        if self.requests_used >= self.requests_allowed:
            return self._refused(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
        self.requests_used += 1
        if self.busy_for:
            self.busy_for -= 1
            return self._refused(
                403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
            )
        return None

    @route("POST", "/services/oauth2/token", parameters=set(), public=True)
    def token(self, request: Request) -> Answer:
        """Takes forms only."""
        form = request.form()
        grant = form.get("grant_type", "")
        if grant not in (*self.flows, JWT_BEARER, "client_credentials", "password"):
            return _no_token("unsupported_grant_type", "grant type not supported")
        problem = self._assertion_problem(form) if grant == JWT_BEARER else self._client_problem(form)
        if problem is not None:
            return problem
        if grant not in self.flows:
            what = "authentication failure" if grant == "password" else f"{grant} flow is not enabled"
            return _no_token("invalid_grant" if grant == "password" else "invalid_request", what)
        if grant == "client_credentials" and not self.run_as_user:
            return _no_token("invalid_grant", "no client credentials user enabled")
        if grant == "password" and (form.get("username"), form.get("password")) != (
            self.username,
            self.password,
        ):
            return _no_token("invalid_grant", "authentication failure")
        if not self.approved:
            return _no_token("invalid_grant", "user hasn't approved this consumer")
        made = f"00DQm0000000001!{secrets.token_urlsafe(72)}"
        self._tokens.add(made)
        return Answer.json(
            {
                "access_token": made,
                "signature": secrets.token_urlsafe(32),
                "scope": "api",
                "instance_url": self.other_instance or self.url(),
                "id": f"{AUDIENCE}/id/00DQm0000000001EAA/005Qm0000000001EAA",
                "token_type": "Bearer",
                "issued_at": str(int(time.time() * 1000)),
            }
        )

    def _client_problem(self, form: Mapping[str, str]) -> Answer | None:
        if form.get("client_id") != self.client_id:
            return _no_token("invalid_client_id", "client identifier invalid")
        if form.get("client_secret") != self.client_secret:
            return _no_token("invalid_client", "invalid client credentials")
        return None

    def _assertion_problem(self, form: Mapping[str, str]) -> Answer | None:
        """https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_jwt_flow.htm&type=5"""
        signed, _, signature = form.get("assertion", "").rpartition(".")
        try:
            head, claims = (json.loads(_decoded(part)) for part in signed.split("."))
            expires = int(claims["exp"])
        except (ValueError, KeyError, TypeError):
            return _no_token("invalid_grant", "invalid assertion")
        if claims.get("iss") != self.client_id:
            return _no_token("invalid_client_id", "client identifier invalid")
        try:
            self._key.public_key().verify(_decoded(signature), signed.encode(), PKCS1v15(), SHA256())
        except (InvalidSignature, ValueError):
            return _no_token("invalid_grant", "invalid assertion")
        if head.get("alg") != "RS256" or not time.time() < expires <= time.time() + 300:
            return _no_token("invalid_grant", "invalid assertion")
        if claims.get("aud") not in (AUDIENCE, self.url()):
            return _no_token("invalid_grant", "audience is invalid")
        if claims.get("sub") != self.username:
            return _no_token("invalid_grant", "user hasn't approved this consumer")
        return None

    def expire_tokens(self) -> None:
        self._tokens.clear()

    # The API.

    @route("GET", f"{DATA}/query", parameters={"q"})
    @route("GET", f"{DATA}/queryAll", parameters={"q"})
    def query(self, request: Request, version: str) -> Answer:
        """https://developer.salesforce.com/docs/platform/api-rest/guide/resources-queryall.html"""
        everything = request.path.endswith("/queryAll")
        try:
            self._check_version(version)
            fields = dict(FIELDS)
            if float(version) >= LONG_SIZES_SINCE:
                fields["ContentVersion"] = FIELDS["ContentVersion"] | {"ContentSizeLong"}
            found, counted = _evaluated(
                request.query.get("q", ""), lambda name: self._table(name, everything), fields
            )
        except _Refusal as refusal:
            return self._refused(refusal.status, refusal.code, refusal.message)
        if counted:
            return self._answered({"totalSize": len(found), "done": True, "records": []})
        cursor = self._id("query")
        self._cursors[cursor] = found
        return self._batch(version, cursor, 0, "query")

    @route("GET", f"{DATA}/query/{{locator}}", parameters=set())
    @route("GET", f"{DATA}/queryAll/{{locator}}", parameters=set())
    def query_more(self, request: Request, version: str, locator: str) -> Answer:
        cursor, _, start = locator.partition("-")
        if cursor not in self._cursors or not start.isdigit():
            return self._refused(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        return self._batch(version, cursor, int(start), "query_more")

    @route("GET", f"{DATA}/sobjects/{{type}}", parameters=set())
    def described(self, request: Request, version: str, type: str) -> Answer:
        names = {"Account", "Case", *(kind for kind, _ in self.records.values())}
        name = next((name for name in names if name.lower() == type.lower()), None)
        if name is None or name in self.hidden_objects:
            return self._refused(404, "NOT_FOUND", "The requested resource does not exist")
        return self._answered({"objectDescribe": {"name": name, "queryable": True}, "recentItems": []})

    @route("GET", f"{DATA}/sobjects/ContentVersion/{{id}}/VersionData", parameters=set())
    def version_data(self, request: Request, version: str, id: str) -> Answer:
        document = self.documents.get(self._documents_of_versions.get(id, ""))
        if document is None or document.fields["kind"] in ("attachment", "link"):
            return self._refused(404, "NOT_FOUND", "The requested resource does not exist")
        content = next(made["content"] for made in document.fields["versions"] if made["id"] == id)
        return self._blob(content, "application/octetstream")

    @route("GET", f"{DATA}/sobjects/Attachment/{{id}}/Body", parameters=set())
    def attachment_body(self, request: Request, version: str, id: str) -> Answer:
        document = self.documents.get(id)
        if document is None or document.fields["kind"] != "attachment":
            return self._refused(404, "NOT_FOUND", "The requested resource does not exist")
        return self._blob(document.content, document.content_type)

    def _batch(self, version: str, cursor: str, start: int, name: str) -> Answer:
        found = self._cursors[cursor]
        end = following = start + self.rows_per_batch
        if self.misbehaves("thin_page", name):
            end = following = start
            cursor = self._id("query")
            self._cursors[cursor] = found
        elif self.misbehaves("repeat_token", name):
            following = start
        body: dict[str, Any] = {
            "totalSize": len(found),
            "done": following >= len(found),
            "records": found[start:end],
        }
        if not body["done"]:
            link = f"/services/data/v{version}/query/{cursor}-{following}"
            body["nextRecordsUrl"] = (self.links_to or "") + link
        return self._answered(body)

    def _check_version(self, version: str) -> None:
        number = float(version) if re.fullmatch(r"\d+\.0", version) else 0.0
        if 0 < number < OLDEST_VERSION:
            raise _Refusal(410, "UNSUPPORTED_API_VERSION", "The API version is retired and unsupported")
        if not OLDEST_VERSION <= number <= NEWEST_VERSION:
            raise _Refusal(404, "NOT_FOUND", "The requested resource does not exist")

    # Tables.

    def _table(self, name: str, everything: bool) -> list[Row]:
        if name in self.hidden_objects or name not in FIELDS:
            raise _Refusal(400, "INVALID_TYPE", f"sObject type '{name}' is not supported.")
        if name == "UserPermissionAccess":
            return [{"PermissionsQueryAllFiles": self.query_all_files}]
        shown = [
            document
            for document in self.documents.values()
            if everything or not (document.fields.get("archived") or document.fields.get("deleted"))
        ]
        if name == "Attachment":
            return [
                self._attachment(document) for document in shown if document.fields["kind"] == "attachment"
            ]
        rows = self._versions if name == "ContentVersion" else self._links
        return [
            row | {"IsDeleted": bool(document.fields.get("deleted"))}
            for document in shown
            if document.fields["kind"] != "attachment"
            and (self.query_all_files or not document.fields.get("library"))
            for row in rows(document)
        ]

    def _versions(self, document: Document) -> Iterator[Row]:
        kind, versions = document.fields["kind"], document.fields["versions"]
        title, _, extension = document.name.rpartition(".")
        for number, made in enumerate(versions, 1):
            size = 0 if kind == "link" else len(made["content"])
            yield {
                "Id": made["id"],
                "ContentDocumentId": document.id,
                "Title": document.fields.get("title", title or document.name),
                "FileExtension": "snote"
                if kind == "note"
                else document.fields.get("extension", extension if title else None),
                "FileType": {"note": "SNOTE", "link": "LINK"}.get(kind, extension.upper() or "UNKNOWN"),
                "ContentSize": size if size < 2**31 else None,
                "ContentSizeLong": size,
                # Notes are kept in another form than they are sent in.
                "Checksum": None
                if kind == "link"
                else hashlib.md5(made["content"] + b"\0", usedforsecurity=False).hexdigest()
                if kind == "note"
                else made["checksum"],
                "VersionNumber": str(number),
                "IsLatest": number == len(versions),
                "ContentLocation": "E" if kind == "link" else "S",
                "CreatedDate": document.created_at,
                "ContentModifiedDate": made["modified_at"],
                "SystemModstamp": document.modified_at if number == len(versions) else made["modified_at"],
            }

    def _links(self, document: Document) -> Iterator[Row]:
        owner = {"LinkedEntity.Type": "User", "LinkedEntity.Name": "Integration User"}
        yield {"ContentDocumentId": document.id, "LinkedEntityId": "005Qm0000000001EAA", **owner}
        for id in document.fields["records"]:
            type, name = self.records[id]
            yield {
                "ContentDocumentId": document.id,
                "LinkedEntityId": id,
                "LinkedEntity.Type": type,
                "LinkedEntity.Name": name,
            }

    def _attachment(self, document: Document) -> Row:
        parent = document.fields["records"][0]
        type, name = self.records[parent]
        return {
            "Id": document.id,
            "Name": document.name,
            "ContentType": document.content_type,
            "BodyLength": len(document.content),
            "ParentId": parent,
            "Parent.Type": type,
            "Parent.Name": name,
            "IsDeleted": bool(document.fields.get("deleted")),
            "CreatedDate": document.created_at,
            "SystemModstamp": document.modified_at,
        }

    # Answers.

    def _answered(self, body: Any) -> Answer:
        return Answer.json(_rendered(body), Sforce_Limit_Info=self._usage())

    def _blob(self, content: bytes, content_type: str) -> Answer:
        return Answer(200, content, {"Content-Type": content_type, "Sforce-Limit-Info": self._usage()})

    def _usage(self) -> str:
        return f"api-usage={self.requests_used}/{self.requests_allowed}"

    def _refused(self, status: int, code: str, message: str) -> Answer:
        return Answer.json([{"message": message, "errorCode": code}], status)

    def problem(self, status: int, message: str) -> Answer:
        codes = {404: "NOT_FOUND", 500: "UNKNOWN_EXCEPTION", 503: "SERVER_UNAVAILABLE"}
        return self._refused(status, codes.get(status, "INVALID_REQUEST"), message)

    def now(self) -> datetime:
        return datetime.now(timezone.utc).replace(microsecond=0)


def _no_token(error: str, description: str) -> Answer:
    return Answer.json({"error": error, "error_description": description}, 400)


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _rendered(value: Any) -> Any:
    if isinstance(value, datetime):
        return f"{value.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03}+0000"
    if isinstance(value, list):
        return [_rendered(one) for one in value]
    if isinstance(value, dict):
        return {name: _rendered(one) for name, one in value.items()}
    return value


# SOQL: https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/sforce_api_calls_soql_select.htm


class _Refusal(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


_WORD = re.compile(
    r"""\s*(?:
        (?P<text>'(?:[^'\\]|\\.)*') |
        (?P<moment>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) |
        (?P<number>-?\d+) |
        (?P<name>[A-Za-z_][\w.]*) |
        (?P<sign>>=|<=|!=|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE,
)
_KEYWORDS = {"AND", "OR", "FROM", "WHERE", "ORDER", "BY", "LIMIT", "SELECT", "IN"}


class _Words:
    """The words of a query, taken one by one."""

    def __init__(self, query: str) -> None:
        self.words: list[tuple[str, str]] = []
        at = 0
        while query[at:].strip():
            match = _WORD.match(query, at)
            if match is None or match.lastgroup is None:
                raise _malformed(query[at : at + 20])
            self.words.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()

    def next(self, kind: str | None = None) -> tuple[str, str]:
        if not self.words or kind not in (None, self.words[0][0]):
            raise _malformed(self.words[0][1] if self.words else "<EOF>")
        return self.words.pop(0)

    def takes(self, *wanted: str) -> bool:
        """Whether these come next; if so they are gone."""
        if [word.upper() for _, word in self.words[: len(wanted)]] != list(wanted):
            return False
        del self.words[: len(wanted)]
        return True

    def needs(self, *wanted: str) -> None:
        if not self.takes(*wanted):
            self.next("the next")

    def name(self) -> str:
        word = self.next("name")[1]
        if word.upper() in _KEYWORDS:
            raise _malformed(word)
        return word

    def names(self) -> list[str]:
        found = [self.name()]
        while self.takes(","):
            found.append(self.name())
        return found


def _malformed(where: str) -> _Refusal:
    return _Refusal(400, "MALFORMED_QUERY", f"unexpected token: '{where}'")


def _evaluated(
    query: str, rows: Callable[[str], list[Row]], fields: Mapping[str, set[str]]
) -> tuple[list[Row], bool]:
    """The rows as they are sent, and whether only their number was asked for."""
    words = _Words(query)
    words.needs("SELECT")
    counted = words.takes("COUNT", "(", ")")
    selected = [] if counted else words.names()
    words.needs("FROM")
    table = words.name()
    found = rows(table)
    conditions: list[tuple[str, str, list[Any]]] = []
    if words.takes("WHERE"):
        conditions.append(_condition(words))
        while words.takes("AND"):
            conditions.append(_condition(words))
    sorting: list[tuple[str, bool]] = []
    if words.takes("ORDER", "BY"):
        sorting.append((words.name(), _descending(words)))
        while words.takes(","):
            sorting.append((words.name(), _descending(words)))
    limit = int(words.next("number")[1]) if words.takes("LIMIT") else None
    if words.words:
        raise _malformed(words.words[0][1])
    for name in (*selected, *(field for field, _, _ in conditions), *(field for field, _ in sorting)):
        if name not in fields[table]:
            raise _Refusal(400, "INVALID_FIELD", f"No such column '{name}' on entity '{table}'.")
    if table == "ContentDocumentLink" and not any(
        field in ("ContentDocumentId", "LinkedEntityId") and operator in ("=", "IN")
        for field, operator, _ in conditions
    ):
        raise _Refusal(
            400,
            "MALFORMED_QUERY",
            "Implementation restriction: ContentDocumentLink requires a filter by a single Id on"
            " ContentDocumentId or LinkedEntityId using the equals operator or multiple Id's using the IN"
            " operator.",
        )
    for field, operator, wanted in conditions:
        _check_types(field, wanted)
        test = _test(operator, wanted)
        found = [row for row in found if test(row.get(field))]
    for field, descending in reversed(sorting):
        found = sorted(found, key=lambda row, field=field: row[field], reverse=descending)  # type: ignore[misc]
    return [_sent(table, row, selected) for row in found[:limit]], counted


def _descending(words: _Words) -> bool:
    if words.takes("ASC"):
        return False
    return words.takes("DESC")


def _condition(words: _Words) -> tuple[str, str, list[Any]]:
    field = words.name()
    if words.takes("IN"):
        words.needs("(")
        wanted = [_literal(words)]
        while words.takes(","):
            wanted.append(_literal(words))
        words.needs(")")
        return field, "IN", wanted
    operator = words.next("sign")[1]
    if operator not in ("=", "!=", "<", "<=", ">", ">="):
        raise _malformed(operator)
    return field, operator, [_literal(words)]


def _literal(words: _Words) -> Any:
    kind, word = words.next()
    if kind == "text":
        return re.sub(r"\\(.)", r"\1", word[1:-1])
    if kind == "moment":
        return datetime.fromisoformat(word.replace("Z", "+00:00"))
    if kind == "number":
        return int(word)
    if kind == "name" and word.lower() in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[word.lower()]
    raise _malformed(word)


MOMENTS = {"SystemModstamp", "CreatedDate", "ContentModifiedDate"}
FIELDS = {
    "ContentVersion": {
        "Id",
        "ContentDocumentId",
        "Title",
        "FileExtension",
        "FileType",
        "ContentSize",
        "Checksum",
        "VersionNumber",
        "IsLatest",
        "IsDeleted",
        "ContentLocation",
        *MOMENTS,
    },
    "ContentDocumentLink": {
        "ContentDocumentId",
        "LinkedEntityId",
        "LinkedEntity.Type",
        "LinkedEntity.Name",
        "IsDeleted",
    },
    "Attachment": {
        "Id",
        "Name",
        "ContentType",
        "BodyLength",
        "ParentId",
        "Parent.Type",
        "Parent.Name",
        "IsDeleted",
        "CreatedDate",
        "SystemModstamp",
    },
    "UserPermissionAccess": {"PermissionsQueryAllFiles"},
}


def _check_types(field: str, wanted: list[Any]) -> None:
    kind = datetime if field in MOMENTS else bool if field in ("IsLatest", "IsDeleted") else str
    for value in wanted:
        if value is not None and field not in ("ContentSize", "BodyLength") and not isinstance(value, kind):
            raise _Refusal(
                400,
                "INVALID_FIELD",
                f"value of filter criterion for field '{field}' must be of type"
                f" {'dateTime and should not be enclosed in quotes' if kind is datetime else kind.__name__}",
            )


def _test(operator: str, wanted: list[Any]) -> Callable[[Any], bool]:
    if operator == "IN":
        among = set(wanted)
        return lambda value: value in among
    compare = {"=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}[operator]
    (other,) = wanted
    if operator in ("=", "!="):
        return lambda value: bool(compare(value, other))
    return lambda value: None not in (value, other) and bool(compare(value, other))


def _sent(table: str, row: Row, selected: list[str]) -> Row:
    sent: Row = {"attributes": {"type": table}}
    for name in selected:
        first, dot, rest = name.partition(".")
        if not dot:
            sent[name] = row.get(name)
        else:
            sent.setdefault(first, {"attributes": {"type": "Name"}})[rest] = row.get(name)
    return sent
