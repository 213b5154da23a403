"""A simulated ServiceNow instance: the attachment and table APIs, and OAuth, as far as documents are
concerned. https://www.servicenow.com/docs/r/api-reference/rest-apis/c_AttachmentAPI.html"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, ClassVar
from urllib.parse import quote

from sandbox.simulated import (
    CREDENTIAL_HEADERS,
    Answer,
    Document,
    Request,
    SimulatedSystem,
    route,
)

LISTING_PARAMETERS = {"sysparm_query", "sysparm_limit", "sysparm_offset"}
TABLE_PARAMETERS = LISTING_PARAMETERS | {
    "sysparm_fields",
    "sysparm_exclude_reference_link",
    "sysparm_display_value",
    "sysparm_no_count",
}
TOKEN_SECONDS = 1800

Row = dict[str, str]


class SimulatedServiceNow(SimulatedSystem):
    """An instance with one account, which signs in in any of four ways.

    `add(name, content, record=sys_id)` attaches a document to a record made by `add_record`; without
    one it makes a record of `incident`. Rows whose sys_id is in `hidden` exist but the account's ACLs
    do not let it read them.
    """

    name: ClassVar[str] = "servicenow"
    credential_headers: ClassVar[tuple[str, ...]] = (*CREDENTIAL_HEADERS, "x-sn-apikey")

    username = "citysort.reader"

    def __init__(self, ports: Mapping[str, int] | None = None) -> None:
        super().__init__(ports)
        self.password = secrets.token_urlsafe(16)
        self.client_id = secrets.token_hex(16)
        self.client_secret = secrets.token_urlsafe(16)
        self.api_key = secrets.token_urlsafe(32)
        self.tables: dict[str, dict[str, Row]] = {"incident": {}}
        self.hidden: set[str] = set()
        self.grants = {"password"}
        """Client credentials are off until an administrator turns them on."""
        self.locked_out = False
        self.basic_allowed = True
        self.no_rows_is_404 = False
        """As version 1 of the API has it."""
        self.most_rows: int | None = None
        """Of a page, where the instance takes less than it is asked for."""
        self.invalid_query_returns_no_rows = False
        """The property glide.invalid_query.returns_no_rows; False is ServiceNow's own default."""
        self._tokens: set[str] = set()
        self._former: dict[str, Answer] = {}

    # Content.

    def add_record(self, table: str, number: str, short_description: str, **fields: str) -> str:
        """Makes a record, and its table if need be; returns its sys_id."""
        sys_id = self.new_id()
        stamp = _stamp(self.now())
        with self.lock:
            self.tables.setdefault(table, {})[sys_id] = {
                "sys_id": sys_id,
                "number": number,
                "short_description": short_description,
                "sys_created_on": stamp,
                "sys_updated_on": stamp,
                **fields,
            }
        return sys_id

    def add(
        self,
        name: str,
        content: bytes,
        *,
        content_type: str | None = None,
        modified_at: datetime | None = None,
        **fields: Any,
    ) -> Document:
        """`fields`: `record` (sys_id), `table` (where the record is, `incident`), `hash` ("sha256",
        "md5" or "none")."""
        with self.lock:
            table = fields.setdefault("table", "incident")
            if "record" not in fields:
                number = f"INC{len(self.tables.setdefault(table, {})) + 1:07}"
                fields["record"] = self.add_record(table, number, name)
            return super().add(name, content, content_type=content_type, modified_at=modified_at, **fields)

    def attachment(self, document: Document) -> Row:
        """The row of sys_attachment: all values are strings."""
        kind = document.fields.get("hash", "sha256")
        key = f"{kind}:{document.version}"
        if document.fields.get("_digested") != key:
            document.fields["_digested"] = key
            digest = "" if kind == "none" else hashlib.new(kind, document.content).hexdigest()
            document.fields["_digest"] = digest
        row = {
            "sys_id": document.id,
            "table_name": document.fields["table"],
            "table_sys_id": document.fields["record"],
            "file_name": document.name,
            "content_type": document.content_type,
            "size_bytes": str(len(document.content)),
            "size_compressed": str(len(document.content)),
            "compressed": "true",
            "download_link": f"{self.url()}/api/now/attachment/{document.id}/file",
            "hash": document.fields["_digest"],
            "state": "available",
            "sys_created_on": _stamp(document.created_at),
            "sys_updated_on": _stamp(document.modified_at),
            "sys_mod_count": str(document.version - 1),
            "sys_created_by": self.username,
        }
        if kind == "none":
            del row["hash"]
        return row

    # Signing in.

    def authenticate(self, request: Request) -> Answer | None:
        if "accept" not in request.headers:
            return self.problem(400, "Requested URI does not represent any resource")
        token, key = request.bearer(), request.headers.get("x-sn-apikey")
        known = (
            (self.basic_allowed and request.basic() == (self.username, self.password))
            or (token is not None and token in self._tokens)
            or (key is not None and key == self.api_key)
        )
        if not known or self.locked_out:
            answer = self.problem(401, "User is not authenticated", "Required to provide Auth information")
            answer.headers["WWW-Authenticate"] = 'BASIC realm="Service-now"'
            return answer
        return None

    @route("POST", "/oauth_token.do", parameters=set(), public=True)
    def token(self, request: Request) -> Answer:
        """Takes forms only."""
        form = request.form()
        if (form.get("client_id"), form.get("client_secret")) != (self.client_id, self.client_secret):
            return Answer.json({"error": "invalid_client", "error_description": "access_denied"}, 401)
        grant = form.get("grant_type")
        if grant not in self.grants:
            return Answer.json({"error": "unsupported_grant_type", "error_description": "access_denied"}, 401)
        user = (form.get("username"), form.get("password"))
        if self.locked_out or (grant == "password" and user != (self.username, self.password)):
            return Answer.json({"error": "server_error", "error_description": "access_denied"}, 401)
        made = secrets.token_urlsafe(40)
        self._tokens.add(made)
        return Answer.json(
            {
                "access_token": made,
                "refresh_token": secrets.token_urlsafe(40),
                "scope": "useraccount",
                "token_type": "Bearer",
                "expires_in": TOKEN_SECONDS,
            }
        )

    def expire_tokens(self) -> None:
        self._tokens.clear()

    # The two APIs.

    @route("GET", "/api/now/attachment", parameters=LISTING_PARAMETERS)
    def attachments(self, request: Request) -> Answer:
        found = [self.attachment(document) for document in self.documents.values()]
        return self._listing(request, "attachments", found, default_limit=1000)

    @route("GET", "/api/now/attachment/{sys_id}/file", parameters=set())
    def attachment_file(self, request: Request, sys_id: str) -> Answer:
        document = self.documents.get(sys_id)
        if document is None or sys_id in self.hidden:
            return self.problem(404, "No Record found", "Record doesn't exist or ACL restricts the record")
        return Answer(
            200,
            document.content,
            {
                "Content-Type": document.content_type,
                "X-Attachment-Metadata": json.dumps(self.attachment(document)),
            },
        )

    @route("GET", "/api/now/table/{table}", parameters=TABLE_PARAMETERS)
    def table(self, request: Request, table: str) -> Answer:
        if table not in self.tables:
            return self.problem(400, f"Invalid table {table}")
        answer = self._listing(request, "table", self.tables[table].values(), default_limit=10_000)
        if request.query.get("sysparm_no_count") == "true":
            answer.headers.pop("X-Total-Count", None)
        fields = [name for name in request.query.get("sysparm_fields", "").split(",") if name]
        if fields and answer.status == 200:
            body = json.loads(answer.body)
            body["result"] = [{name: row[name] for name in fields if name in row} for row in body["result"]]
            answer.body = json.dumps(body).encode()
        return answer

    def _listing(self, request: Request, name: str, stored: Iterable[Row], default_limit: int) -> Answer:
        if self.misbehaves("repeat_token", name) and name in self._former:
            return self._former[name]
        try:
            limit = int(request.query.get("sysparm_limit", default_limit))
            offset = int(request.query.get("sysparm_offset", 0))
        except ValueError:
            return self.problem(400, "Invalid pagination parameter")
        limit = min(limit, self.most_rows or limit)
        found = _evaluated(
            request.query.get("sysparm_query", ""), list(stored), self.invalid_query_returns_no_rows
        )
        # Access is decided row by row, after the page has been cut.
        visible = [row for row in found[offset : offset + limit] if row["sys_id"] not in self.hidden]
        if self.misbehaves("thin_page", name):
            visible = []
        headers = {
            "X-Total-Count": str(len(found)),
            "Link": _links(request, self.url(), limit, offset, found),
        }
        if not visible and self.no_rows_is_404:
            answer = self.problem(404, "No Record found", "Record doesn't exist or ACL restricts the record")
            answer.headers |= headers
            return answer
        answer = Answer.json({"result": visible})
        if self.misbehaves("cut_short", name):
            # https://support.servicenow.com/kb?id=kb_article_view&sysparm_article=KB1297438
            message = "Transaction cancelled: maximum execution time exceeded"
            error = {"message": message, "detail": f"{message} Check logs for error trace"}
            half = visible[: len(visible) // 2]
            answer = Answer.json({"result": half, "error": error, "status": "failure"})
        answer.headers |= headers
        self._former[name] = answer
        return Answer(200, answer.body, dict(answer.headers))

    # Errors.

    def problem(self, status: int, message: str, detail: str | None = None) -> Answer:
        return Answer.json({"error": {"message": message, "detail": detail}, "status": "failure"}, status)

    def throttled(self, status: int) -> Answer:
        answer = self.problem(status, "Rate limit exceeded", "Maximum number of requests per hour reached")
        answer.headers |= {"X-RateLimit-Limit": "1000", "X-RateLimit-Rule": "0" * 32}
        return answer

    def now(self) -> datetime:
        return datetime.now(timezone.utc).replace(microsecond=0)


# Encoded queries: https://www.servicenow.com/docs/r/platform-user-interface/r_OpAvailableFiltersQueries.html

_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "ISNOTEMPTY": lambda value, wanted: value != "",
    "ISEMPTY": lambda value, wanted: value == "",
    "STARTSWITH": lambda value, wanted: value.lower().startswith(wanted.lower()),
    "NOT IN": lambda value, wanted: value not in wanted.split(","),
    "LIKE": lambda value, wanted: wanted.lower() in value.lower(),
    "IN": lambda value, wanted: value in wanted.split(","),
    ">=": lambda value, wanted: value >= wanted,
    "<=": lambda value, wanted: value <= wanted,
    "!=": lambda value, wanted: value.lower() != wanted.lower(),
    ">": lambda value, wanted: value > wanted,
    "<": lambda value, wanted: value < wanted,
    "=": lambda value, wanted: value.lower() == wanted.lower(),
}
_CONDITION = re.compile(f"([a-z][a-z0-9_.]*)({'|'.join(map(re.escape, _OPERATORS))})(.*)", re.DOTALL)


def _evaluated(query: str, stored: list[Row], invalid_returns_nothing: bool) -> list[Row]:
    """The rows that match, in order. A condition that is not understood is left out, as ServiceNow does."""
    fields = {name for row in stored for name in row}
    sorting: list[tuple[str, bool]] = []
    groups: list[list[list[Callable[[Row], bool]]]] = []
    for part in query.split("^NQ"):
        group: list[list[Callable[[Row], bool]]] = []
        for condition in part.split("^"):
            ordered = re.fullmatch(r"ORDERBY(DESC)?([a-z][a-z0-9_.]*)", condition)
            alternative = condition.startswith("OR") and not condition.startswith("ORDERBY")
            match = _CONDITION.fullmatch(condition[2:] if alternative else condition)
            if ordered:
                sorting += [(ordered[2], bool(ordered[1]))] if ordered[2] in fields else []
            elif match and (match[1] in fields or not stored):
                test = _test(match[1], match[2], match[3])
                if alternative and group:
                    group[-1].append(test)
                else:
                    group.append([test])
            elif condition not in ("", "EQ") and invalid_returns_nothing:
                return []
        groups.append(group)
    found = [
        row
        for row in stored
        if any(all(any(test(row) for test in either) for either in group) for group in groups)
    ]
    for name, descending in reversed(sorting):
        found.sort(key=lambda row, name=name: row.get(name, ""), reverse=descending)  # type: ignore[misc]
    return found


def _test(field: str, operator: str, wanted: str) -> Callable[[Row], bool]:
    compare = _OPERATORS[operator]
    return lambda row: compare(row.get(field, ""), wanted)


def _links(request: Request, url: str, limit: int, offset: int, found: list[Row]) -> str:
    last = max(0, (len(found) - 1) // limit * limit) if limit else 0
    offsets = {"first": 0, "last": last}
    if offset + limit < len(found):
        offsets["next"] = offset + limit
    if offset:
        offsets["prev"] = max(0, offset - limit)
    query = quote(request.query.get("sysparm_query", ""), safe="")
    return ",".join(
        f'<{url}{request.path}?sysparm_query={query}&sysparm_limit={limit}&sysparm_offset={at}>;rel="{rel}"'
        for rel, at in offsets.items()
    )


def _stamp(moment: datetime) -> str:
    """UTC, in whole seconds."""
    return f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S}"
