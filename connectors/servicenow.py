"""Attachments of the records of a ServiceNow table."""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, BinaryIO, ClassVar, Literal, NamedTuple
from urllib.parse import quote, urlsplit

import requests
from pydantic import Field, field_validator, model_validator
from requests.auth import AuthBase

from connectors.base import (
    Download,
    ExternalDocument,
    ListingIncomplete,
    Window,
    secret,
)
from connectors.http import HttpConnector, HttpSession, check_url
from connectors.http_answers import Page, RequestFailed, is_html, link_header, rows
from connectors.http_auth import Bearer, HeaderKey, Token, basic, oauth_token

ATTACHMENTS = "/api/now/attachment"
ATTACHMENTS_PER_PAGE = 1_000
RECORDS_PER_PAGE = 10_000
"""The defaults of the two APIs; ServiceNow warns of larger pages."""
RECORDS_PER_LOOKUP = 150
"""Ids in one request: its address stays below 8 kB."""
MOST_RECORDS_HELD = 100_000
MOST_STEPS_BACK = 100

NEWEST_FIRST = ("sys_updated_on", "sys_id")
HIDDEN = "ZZ_YY"
"""Stands before the name of the table where the list of a record hides an attachment."""

NEEDED = {
    "basic": ("username", "password"),
    "oauth_password": ("client_id", "client_secret", "username", "password"),
    "client_credentials": ("client_id", "client_secret"),
    "api_key": ("api_key",),
}
REFUSED = {
    "basic": "check username and password, that the account is active and not locked out,"
    " and that no API access policy forbids basic authentication",
    "oauth_password": "check that the user of the token is active and not locked out",
    "client_credentials": "check the OAuth application user of the client: active, not locked out",
    "api_key": "check api_key, that it is active and not expired, and that the API access policies of"
    " the table and attachment APIs accept API keys",
}

Row = Mapping[str, Any]


class Answered(NamedTuple):
    """Rows of one answer, how many there are that match, among them those one may not see, and the
    offset of what follows."""

    rows: list[dict[str, Any]]
    total: int
    following: int


class ServiceNow(HttpConnector):
    """Every attachment on the records of a table is a document, with its record's number and short
    description.

    Attachments are listed by themselves, so a listing takes a call for a thousand of them and few
    more for their records. https://www.servicenow.com/docs/r/api-reference/rest-apis/c_AttachmentAPI.html
    """

    connector_type: ClassVar[str] = "servicenow"
    kind: ClassVar[str] = "servicenow"
    windowed: ClassVar[bool] = True
    newest_first: ClassVar[bool] = True

    instance_url: str = Field(description="https:// address of the instance.")
    table_name: str = Field(
        description="Table whose records hold the attachments, such as incident: the class itself, not a parent."
    )
    query: str | None = Field(
        default=None,
        description="Encoded query on the table. Only attachments of records that match it are imported.",
    )
    include_hidden: bool = Field(
        default=True,
        description="Also attachments that the list of a record hides: files given in variables of the service"
        " catalog, and images in rich text.",
    )
    auth: Literal["basic", "oauth_password", "client_credentials", "api_key"] = Field(
        default="basic", description="How to sign in."
    )
    username: str | None = Field(default=None, description="User name, for basic and oauth_password.")
    password: str | None = secret("Password, for basic and oauth_password.")
    client_id: str | None = Field(default=None, description="Client id, for the two kinds of OAuth.")
    client_secret: str | None = secret("Client secret, for the two kinds of OAuth.")
    api_key: str | None = secret("API key, for api_key.")

    @field_validator("instance_url")
    @classmethod
    def _usable_address(cls, url: str) -> str:
        return check_url(url)

    @field_validator("table_name")
    @classmethod
    def _bare_name(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,79}", name):
            raise ValueError("must be the name of a table, such as incident, not its label")
        return name

    @field_validator("query")
    @classmethod
    def _harmless_query(cls, query: str | None) -> str | None:
        query = (query or "").strip().removesuffix("^EQ").strip("^")
        if re.search(r"javascript\s*:", query, re.IGNORECASE):
            raise ValueError("must not hold javascript:, which the instance would run")
        if re.match(r"OR|NQ", query) or "ORDERBY" in query or "GROUPBY" in query:
            raise ValueError("must begin with a condition, and neither sort nor group")
        return query or None

    @model_validator(mode="after")
    def _enough_to_sign_in(self) -> ServiceNow:
        missing = [name for name in NEEDED[self.auth] if not getattr(self, name)]
        if missing:
            raise ValueError(f"auth {self.auth} needs {', '.join(missing)}")
        return self

    # What an HttpConnector needs.

    def _open(self) -> HttpSession:
        return HttpSession(
            f"ServiceNow ({urlsplit(self.instance_url).hostname})",
            self.instance_url,
            setting="instance_url",
            auth=self._credentials(),
            judge=self._judge,
            judge_body=self._judge_body,
            **self.session_options(),
        )

    def _probe(self, http: HttpSession) -> str:
        records, total, _ = self._asked(http, self._table(), self.query or "", 1, sysparm_fields="sys_id")
        what = f"{total} records of {self.table_name}" + (" that match the query" if self.query else "")
        if total and not records:
            records, *_ = self._asked(http, self._table(), self.query or "", 200, sysparm_fields="sys_id")
            if not records:
                raise RequestFailed(
                    f"{http.system} holds {what}, but this account may not read them:"
                    f" give it a role that the read ACLs of {self.table_name} accept",
                    lasting=True,
                )
        self._check_fields_of_query(http, self.query or "")
        conditions = f"{self._conditions(Window())}^ORDERBYDESCsys_updated_on"
        found, attachments, _ = self._asked(http, ATTACHMENTS, conditions, 1)
        if attachments and not found:
            found, *_ = self._asked(http, ATTACHMENTS, conditions, 200)
            if not found:
                raise RequestFailed(
                    f"{http.system} holds attachments of {self.table_name}, but this account may not read them:"
                    " give it a role that the read ACLs of sys_attachment and of the table accept",
                    lasting=True,
                )
        if not attachments:
            return (
                f"{http.system} answers and has {what}; there are no attachments on them,"
                " or this account may not see them"
            )
        return f"{http.system} answers and has {what}; there are {attachments} attachments in the table"

    def _documents(self, http: HttpSession, window: Window) -> Generator[ExternalDocument, None, None]:
        records: dict[str, Row] | None = None
        first = nothing_seen = True
        unseen: int | None = None
        for found, total in self._pages(
            http, ATTACHMENTS, self._conditions(window), NEWEST_FIRST, ATTACHMENTS_PER_PAGE
        ):
            nothing_seen = nothing_seen and not found
            unseen = (total if unseen is None else unseen) - len(found)
            # ServiceNow leaves out what it does not understand of a query: the answer may hold more.
            ours = [
                row
                for row in found
                if row.get("table_name") in self._table_names()
                and window.includes(_utc(row["sys_updated_on"]))
            ]
            if first and ours:
                first = False
                newest = sorted(_ids(row.get("table_sys_id") for row in ours[:RECORDS_PER_LOOKUP]))
                self._check_fields_of_query(http, f"sys_idIN{','.join(newest)}")
                if total > RECORDS_PER_LOOKUP:
                    records = self._all_records(http, fewer_calls_than=total / RECORDS_PER_LOOKUP)
            of_page = records
            if of_page is None:
                of_page = self._records(http, {str(row.get("table_sys_id")) for row in ours})
            for row in ours:
                record = of_page.get(str(row.get("table_sys_id")))
                if record is not None or not self.query:
                    yield self._document(row, record)
        if window.start is not None:
            return
        if nothing_seen:
            self.warn(self._probe(http))  # an unknown table, or missing rights, look like this too
        elif unseen and unseen > 0:
            self.warn(
                f"{http.system} holds {unseen} attachments of {self.table_name} that this account may not read: where"
                " they are wanted, give it a role that the read ACLs of sys_attachment and of the table accept"
            )

    def _download(self, http: HttpSession, document: ExternalDocument, into: BinaryIO) -> Download:
        return http.download(
            f"{ATTACHMENTS}/{quote(document.external_id, safe='')}/file", into, html=is_html(document)
        )

    # Signing in.

    def _credentials(self) -> AuthBase:
        if self.auth == "basic":
            return basic(str(self.username), str(self.password))
        if self.auth == "api_key":
            return HeaderKey("x-sn-apikey", str(self.api_key))
        return Bearer(self._token)

    def _token(self) -> Token:
        """https://www.servicenow.com/docs/r/platform-security/authentication/c_OAuthApplications.html"""
        form = {
            "grant_type": "password",
            "client_id": str(self.client_id),
            "client_secret": str(self.client_secret),
        }
        if self.auth == "oauth_password":
            form |= {"username": str(self.username), "password": str(self.password)}
        else:
            form["grant_type"] = "client_credentials"
        http = HttpSession(
            f"ServiceNow ({urlsplit(self.instance_url).hostname})",
            self.instance_url,
            setting="instance_url",
            judge=self._judge_token,
            **self.session_options(),
        )
        try:
            return oauth_token(http, "/oauth_token.do", form)
        finally:
            http.close()

    def _judge_token(self, answer: requests.Response) -> RequestFailed | None:
        if answer.status_code not in (400, 401, 403):
            return None
        error = _error(answer)
        if "grant" in error or "unauthorized_client" in error:
            what = f"does not allow the grant {self.auth}: an administrator must enable it for this client"
        elif "invalid_client" in error:
            what = "does not know this client: check client_id and client_secret"
        else:
            what = (
                f"refuses a token: check {', '.join(NEEDED[self.auth])}, and that client and user are active"
            )
        return RequestFailed(f"ServiceNow ({urlsplit(self.instance_url).hostname}) {what}", lasting=True)

    def _judge(self, answer: requests.Response) -> RequestFailed | None:
        where = f"ServiceNow ({urlsplit(self.instance_url).hostname})"
        if answer.status_code == 401:
            return RequestFailed(
                f"{where} does not accept the credentials: {REFUSED[self.auth]}", lasting=True
            )
        if answer.status_code == 403:
            return RequestFailed(
                f"{where} refuses access: allow this account the REST APIs for tables and attachments"
                f" (role snc_platform_rest_api_access), and the table {self.table_name} web services",
                lasting=True,
            )
        if answer.status_code == 400 and "invalid table" in _error(answer):
            return RequestFailed(
                f"{where} has no table {self.table_name}: check the setting table_name", lasting=True
            )
        return None

    def _judge_body(self, body: Any) -> RequestFailed | None:
        """A transaction that the instance cancels ends with status 200, the rows so far and an error:
        https://support.servicenow.com/kb?id=kb_article_view&sysparm_article=KB1297438"""
        if not isinstance(body, dict) or not ("error" in body or body.get("status") == "failure"):
            return None
        return RequestFailed(
            f"ServiceNow ({urlsplit(self.instance_url).hostname}) broke off its answer, as it does with what"
            " takes it too long: try again later, or have its transaction quota rules raised",
            lasting=False,
            again=True,
        )

    # Queries.

    def _table(self) -> str:
        return f"/api/now/table/{self.table_name}"

    def _table_names(self) -> Sequence[str]:
        """What attachments of the records say for their table."""
        return [self.table_name, *([HIDDEN + self.table_name] if self.include_hidden else [])]

    def _conditions(self, window: Window) -> str:
        """Dates in plain text are UTC, and whole seconds."""
        conditions = f"table_nameIN{','.join(self._table_names())}"
        if window.start is not None:
            conditions += f"^sys_updated_on>={window.start.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S}"
        if window.end is not None:
            end = window.end.astimezone(timezone.utc)
            end += timedelta(microseconds=-end.microsecond % 1_000_000)
            conditions += f"^sys_updated_on<{end:%Y-%m-%d %H:%M:%S}"
        return conditions

    def _asked(
        self, http: HttpSession, path: str, query: str, limit: int, offset: int = 0, **more: str
    ) -> Answered:
        if path != ATTACHMENTS:
            more |= {"sysparm_exclude_reference_link": "true", "sysparm_display_value": "false"}
        params = {"sysparm_query": query, "sysparm_limit": str(limit), **more}
        if offset:
            params["sysparm_offset"] = str(offset)
        try:
            page = http.page("GET", path, params=params)
            found, headers = rows(page.body, "result"), page.headers
        except RequestFailed as failure:
            # So the first version of the API says that there are no rows.
            if failure.status != 404 or "no record" not in _message(failure.body):
                raise
            found, headers = [], {"X-Total-Count": "0", **failure.headers}
        total = headers.get("X-Total-Count", "")
        if "sysparm_no_count" in params:
            return Answered(found, len(found), limit)
        if not total.isdigit():
            raise RequestFailed(
                f"{http.system} does not say how many rows there are (header X-Total-Count),"
                " so a listing could end early unnoticed",
                lasting=True,
            )
        following = offset + limit
        link = link_header(Page(None, headers, http.url(path))) or ""
        named = re.search(r"sysparm_offset=(\d{1,12})", link)
        if named and offset < int(named[1]) < following:  # the instance has a lower limit
            following = int(named[1])
        return Answered(found, int(total), following)

    def _pages(
        self,
        http: HttpSession,
        path: str,
        conditions: str,
        order: tuple[str, ...],
        limit: int,
        **more: str,
    ) -> Iterator[tuple[list[dict[str, Any]], int]]:
        """All rows, in descending order, a page at a time, and how many match altogether at first.

        A page begins after the last row of the one before: rows that come and go meanwhile shift
        nothing. The limit counts rows that one may not see, and the instance may have a lower one, so
        a short or empty page is not the end:
        https://support.servicenow.com/kb?id=kb_article_view&sysparm_article=KB3047115.
        """
        sorting = "".join(f"^ORDERBYDESC{name}" for name in order)
        last: tuple[str, ...] | None = None
        offset = matching = steps_back = 0
        while True:
            after = "" if last is None else _after(order, last)
            # ^NQ begins a query of its own, which a condition of another one does not bind.
            groups = [f"{group}{after}".strip("^") for group in conditions.split("^NQ")]
            found, total, following = self._asked(
                http,
                path,
                ("^NQ".join(groups) + sorting).strip("^"),
                limit,
                offset,
                **more,
            )
            if offset and total < matching:
                # Rows that one may not see are gone, and others have moved up into the pages gone past.
                steps_back += 1
                if steps_back > MOST_STEPS_BACK:
                    raise ListingIncomplete(
                        f"the listing broke off: too much is removed from {http.system} meanwhile"
                    )
                offset, matching = max(0, offset - (matching - total)), total
                continue
            matching = total
            for row in found:
                key = _key(row, order)
                if last is not None and key >= last:
                    raise ListingIncomplete(
                        f"the listing broke off: {http.system} repeats rows or does not keep the order asked for"
                    )
                last = key
            yield found, total
            # After some rows, the next page tells what is left beside those that one may not see.
            if offset + len(found) >= total or (not found and following >= total):
                return
            offset = 0 if found else following

    def _all_records(self, http: HttpSession, fewer_calls_than: float) -> dict[str, Row] | None:
        """Number and short description of all records that match the query, None where looking them
        up by their ids takes fewer calls."""
        held: dict[str, Row] = {}
        for found, total in self._pages(
            http,
            self._table(),
            self.query or "",
            ("sys_id",),
            RECORDS_PER_PAGE,
            sysparm_fields="sys_id,number,short_description",
        ):
            if total > min(fewer_calls_than * RECORDS_PER_PAGE, MOST_RECORDS_HELD) and not held:
                return None
            held.update((row["sys_id"], row) for row in found)
        return held

    def _records(self, http: HttpSession, ids: Collection[str]) -> dict[str, Row]:
        """The same of those among these ids that match the query."""
        groups = (self.query or "").split("^NQ")
        size = max(1, RECORDS_PER_LOOKUP // len(groups))
        wanted = sorted(_ids(ids))
        held: dict[str, Row] = {}
        for start in range(0, len(wanted), size):
            among = f"sys_idIN{','.join(wanted[start : start + size])}"
            query = "^NQ".join(f"{among}^{group}".strip("^") for group in groups)
            found, *_ = self._asked(
                http,
                self._table(),
                query,
                size,
                sysparm_fields="sys_id,number,short_description",
                sysparm_no_count="true",
            )
            held.update((row["sys_id"], row) for row in found if row["sys_id"] in ids)
        return held

    def _check_fields_of_query(self, http: HttpSession, among: str) -> None:
        """Raises RequestFailed when the query names a field that the table does not have: ServiceNow
        would leave the condition out and return more. Looks at the table's first record, or, where the
        account may not read that one, at those that match `among`."""
        own = re.sub(r"RLQUERY.*?ENDRLQUERY", "", self.query or "")  # names another table's fields
        conditions = re.split(r"\^NQ|\^OR|\^", own)
        named = {
            match[1] for one in conditions if (match := re.match(r"([a-z][a-z0-9_.]*)(?=[A-Z=!<>])", one))
        }
        if not named:
            return
        fields = ",".join(sorted(named))
        found, total, _ = self._asked(http, self._table(), "", 1, sysparm_fields=fields)
        if total and not found:
            found, *_ = self._asked(http, self._table(), among, 200, sysparm_fields=fields)
        if total and not found:
            self.warn(
                f"{http.system} shows this account no record of {self.table_name} by which to tell whether the"
                " fields that the query names exist: were one misspelt, more would be imported than is wanted"
            )
        unknown = sorted(named - set().union(*found)) if found else []
        if unknown:
            raise RequestFailed(
                f"{http.system}: the table {self.table_name} has no field {', '.join(unknown)} that this account"
                " may read (setting query)",
                lasting=True,
            )

    def _document(self, row: Row, record: Row | None) -> ExternalDocument:
        digest = str(row.get("hash") or "").lower()
        kind = {64: "sha256", 32: "md5"}.get(len(digest)) if re.fullmatch("[0-9a-f]+", digest) else None
        size = str(row.get("size_bytes") or "")
        return ExternalDocument(
            external_id=row["sys_id"],
            version=digest if kind else f"{row['sys_updated_on']} {size}",
            filename=row.get("file_name") or row["sys_id"],
            modified_at=_utc(row["sys_updated_on"]),
            size=int(size) if size.isdigit() else None,
            content_type=row.get("content_type") or None,
            source_url=f"{self.instance_url}/sys_attachment.do?sys_id={quote(row['sys_id'])}",
            checksums={kind: digest} if kind else {},
            metadata={
                "table": self.table_name,
                "record_id": row.get("table_sys_id"),
                "record": record and record.get("number"),
                "short_description": record and record.get("short_description"),
                "created_at": row.get("sys_created_on"),
            },
        )


def _after(order: tuple[str, ...], last: tuple[str, ...]) -> str:
    """Conditions for what comes after a row. `^OR` binds to the condition just before it:
    https://servicenow.github.io/sdk/guides/encoded-query-guide"""
    if len(order) == 1:
        return f"^{order[0]}<{last[0]}"
    (first, then), (value, id_) = order, last
    return f"^{first}<={value}^{first}<{value}^OR{then}<{id_}"


def _ids(values: Iterable[Any]) -> set[str]:
    """Those that can be ids, and change nothing else in a query."""
    return {str(value) for value in values if re.fullmatch(r"\w{1,40}", str(value))}


def _key(row: Row, order: tuple[str, ...]) -> tuple[str, ...]:
    values = tuple(str(row.get(name, "")).lower() for name in order)
    if not all(re.fullmatch(r"[\w :-]{1,40}", value) for value in values):
        raise RequestFailed("an answer is not a listing: it has rows without id or date", lasting=True)
    return values


def _utc(value: str) -> datetime:
    try:
        return datetime.strptime(value, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        raise RequestFailed("an answer is not a listing: it has a row without a date", lasting=True) from None


def _error(answer: requests.Response) -> str:
    try:
        return _message(answer.json())
    except ValueError:
        return ""


def _message(body: Any) -> str:
    """What an error says, for telling errors apart; never for a sentence."""
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        return f"{error.get('message')} {error.get('detail')}".lower()
    return f"{error} {body.get('error_description')}".lower() if isinstance(body, dict) else ""
