"""Files and classic attachments of a Salesforce organisation."""

from __future__ import annotations

import base64
import io
import json
import re
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from heapq import merge
from operator import attrgetter
from typing import Any, BinaryIO, ClassVar, Literal
from urllib.parse import urlsplit

import requests
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import Field, PrivateAttr, field_validator, model_validator

from connectors.base import Download, ExternalDocument, NotImported, Window, secret
from connectors.http import HttpConnector, HttpSession, check_url, origin
from connectors.http_answers import Page, RequestFailed, is_html, rows
from connectors.http_auth import Bearer, Token

OBJECTS = ("files", "attachments")
IDS_PER_LOOKUP = 400
"""Address and headers of a request may have 16,384 bytes together:
https://help.salesforce.com/s/articleView?id=000386264&type=1"""
FILE_FIELDS = (
    "Id,ContentDocumentId,Title,FileExtension,FileType,Checksum,VersionNumber,ContentLocation,CreatedDate,"
    "ContentModifiedDate,SystemModstamp"
)
ATTACHMENT_FIELDS = (
    "Id,Name,ContentType,BodyLength,ParentId,Parent.Name,Parent.Type,CreatedDate,SystemModstamp"
)
LINK_FIELDS = "ContentDocumentId,LinkedEntityId,LinkedEntity.Name,LinkedEntity.Type"
NEWEST_FIRST = "ORDER BY SystemModstamp DESC, Id DESC"
QUERY = "queryAll"
"""Unlike the resource `query` it shows what is archived, too, and what is in the recycle bin, which is left out by a
condition: https://developer.salesforce.com/docs/platform/api-rest/guide/resources-queryall.html"""
NOT_DELETED = "IsDeleted = false"
RECORDS_KEPT = 100
"""Of the records that one file hangs on, in its metadata."""
FIRST_VERSION_WITH_LONG_SIZES = 66
ASSERTION_SECONDS = 180
BLIND = (
    "the user lacks the permission Query All Files, so files that are not shared with the user will be missing"
    " without notice"
)

NEEDED = {
    "client_credentials": ("client_id", "client_secret"),
    "jwt": ("client_id", "username", "private_key"),
    "password": ("client_id", "client_secret", "username", "password"),
}

NOT_ALLOWED = "does not allow the flow {flow}: enable it in the External Client App"
NOT_APPROVED = (
    "has not approved this client for {who}: in its policies, set Permitted Users to admin approved users"
    " and choose a permission set of the user"
)
UNKNOWN_CLIENT = "does not know this client: check client_id, the consumer key"
TOKEN_REFUSALS = {
    "no client credentials user": "has no user for this client: choose a Run As user in the policies"
    " of the External Client App",
    "approved this consumer": NOT_APPROVED,
    "admin approved": NOT_APPROVED,
    "invalid_app_access": NOT_APPROVED,
    "not supported on this domain": "does not serve this flow: set instance_url to the My Domain address",
    "not enabled": NOT_ALLOWED,
    "grant_type": NOT_ALLOWED,
    "grant type": NOT_ALLOWED,
    "invalid_client_id": UNKNOWN_CLIENT,
    "client identifier": UNKNOWN_CLIENT,
    "invalid_client": "does not accept the secret of the client: check client_secret, the consumer secret",
    "audience": "is not whom the signed request addresses: check login_url",
    "assertion": "does not accept the signed request: check that private_key belongs to the certificate"
    " of the app, and the clock of this machine",
    "inactive": "does not let the user in: the user or the organisation is not active",
    "ip restricted": "does not let the user in from here: check the login IP ranges of the user",
}
"""What the description of a refusal contains, and what it means:
https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_flow_errors.htm&type=5"""

Row = Mapping[str, Any]


class Salesforce(HttpConnector):
    """Every file (its latest version) and every classic attachment is a document, with the records that
    it hangs on.

    Both are listed by SOQL on SystemModstamp, two thousand at a time; the records of files are looked
    up for hundreds at once. https://developer.salesforce.com/docs/platform/api-rest/guide/resources-query.html
    """

    connector_type: ClassVar[str] = "salesforce"
    kind: ClassVar[str] = "salesforce"
    windowed: ClassVar[bool] = True
    newest_first: ClassVar[bool] = True

    instance_url: str = Field(
        description="My Domain address of the organisation, such as https://city.my.salesforce.com."
    )
    auth_flow: Literal["client_credentials", "jwt", "password"] = Field(
        default="client_credentials",
        description="How to get a token. password is the retired username-password flow.",
    )
    client_id: str = Field(description="Consumer key of the External Client App.")
    client_secret: str | None = secret("Consumer secret, for client_credentials and password.")
    username: str | None = Field(default=None, description="User name, for jwt and password.")
    password: str | None = secret("Password followed by the security token, for password.")
    private_key: str | None = secret("RSA private key of the app's certificate in PEM, for jwt.")
    login_url: str | None = Field(
        default=None,
        description="Whom a signed request (jwt) addresses. Empty: https://test.salesforce.com for the"
        " My Domain of a sandbox, else https://login.salesforce.com.",
    )
    api_version: str = Field(default="66.0", description="Version of the REST API.")
    objects: list[str] = Field(default=list(OBJECTS), description="What to import: files, attachments.")
    record_types: list[str] = Field(
        default_factory=list,
        description="Object types such as Case: only documents on their records. Empty: all documents.",
    )

    _exhausted: bool = PrivateAttr(default=False)

    @field_validator("instance_url")
    @classmethod
    def _my_domain(cls, url: str) -> str:
        url = check_url(url)
        host = urlsplit(url).hostname or ""
        if urlsplit(url).path or host.endswith(".lightning.force.com") or re.match(r"(login|test)\.", host):
            raise ValueError(
                "must be the My Domain address of the organisation, such as https://city.my.salesforce.com"
            )
        return url

    @field_validator("login_url")
    @classmethod
    def _usable_address(cls, url: str | None) -> str | None:
        return check_url(url) if url else None

    @field_validator("api_version")
    @classmethod
    def _version(cls, version: str) -> str:
        number = re.fullmatch(r"v?(\d{2,3})(\.0)?", version)
        if not number:
            raise ValueError("must be a version such as 66.0")
        return f"{number[1]}.0"

    @field_validator("objects")
    @classmethod
    def _known(cls, objects: list[str]) -> list[str]:
        if not objects or not set(objects) <= set(OBJECTS):
            raise ValueError("must name files, attachments or both")
        return objects

    @field_validator("record_types")
    @classmethod
    def _bare_names(cls, types: list[str]) -> list[str]:
        if not all(re.fullmatch(r"[A-Za-z]\w{0,79}", name, re.ASCII) for name in types):
            raise ValueError("must be API names of objects, such as Case or Permit__c")
        return types

    @model_validator(mode="after")
    def _enough_to_sign_in(self) -> Salesforce:
        missing = [name for name in NEEDED[self.auth_flow] if not getattr(self, name)]
        if missing:
            raise ValueError(f"auth_flow {self.auth_flow} needs {', '.join(missing)}")
        return self

    # What an HttpConnector needs.

    def _open(self) -> HttpSession:
        return HttpSession(
            self._system(),
            self.instance_url,
            setting="instance_url",
            auth=Bearer(self._token),
            judge=self._judge,
            **self.session_options(),
        )

    def _probe(self, http: HttpSession) -> str:
        self._exhausted = False
        sees_all_files = self._sees_all_files(http)
        types = self._object_types(http)
        shown = []
        queries = {
            "files": self._file_query(Window()),
            "attachments": self._attachment_query(types, Window()),
        }
        for what, query in queries.items():
            if what in self.objects:
                page = http.page("GET", self._path(QUERY), params={"q": f"{query} LIMIT 1"})
                shown.append(what if rows(page.body, "records") else f"no {what}")
        said = f"{http.system} answers and shows {' and '.join(shown)}"
        usage = re.search(r"api-usage=(\d+)/(\d+)", page.headers.get("Sforce-Limit-Info", ""))
        if usage:
            said += f"; {usage[1]} of {usage[2]} requests are used in 24 hours"
        return f"{said}; WARNING: {BLIND}" if sees_all_files is False else said

    def _documents(self, http: HttpSession, window: Window) -> Generator[ExternalDocument, None, None]:
        self._exhausted = False
        # Refreshes, which are many, do without this request.
        if window.start is None and self._sees_all_files(http) is False:
            self.warn(BLIND)
        types = self._object_types(http)
        listings = []
        if "files" in self.objects:
            listings.append(self._files(http, window, types))
        if "attachments" in self.objects:
            listings.append(self._attachments(http, window, types))
        yield from merge(*listings, key=attrgetter("modified_at"), reverse=True)

    def _download(self, http: HttpSession, document: ExternalDocument, into: BinaryIO) -> Download:
        if self._exhausted:
            raise RequestFailed(self._no_requests_left(), lasting=False)
        if document.metadata["object"] == "Attachment":
            path = self._path(f"sobjects/Attachment/{document.external_id}/Body")
        else:
            path = self._path(f"sobjects/ContentVersion/{document.metadata['version_id']}/VersionData")
        if document.metadata.get("file_type") == "SNOTE":
            return self._download_note(http, path, into)
        return http.download(path, into, html=is_html(document))

    def _download_note(self, http: HttpSession, path: str, into: BinaryIO) -> Download:
        """A note is a piece of HTML, without a frame: a whole page is something else, such as a login."""
        note = io.BytesIO()
        download = http.download(path, note, html=True)
        if note.getvalue().lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
            raise RequestFailed(f"{http.system} answered with a web page instead of the note", lasting=False)
        into.write(note.getvalue())
        return Download("text/html", download.size)

    # Signing in.

    def _token(self) -> Token:
        """https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_client_credentials_flow.htm&type=5"""
        http = HttpSession(
            self._system(),
            self.instance_url,
            setting="instance_url",
            judge=self._judge_token,
            **self.session_options(),
        )
        try:
            body = http.json("POST", "/services/oauth2/token", data=self._grant())
        finally:
            http.close()
        if not isinstance(body, dict) or not isinstance(body.get("access_token"), str):
            raise RequestFailed(
                f"{self._system()} answered the request for a token without one", lasting=True
            )
        self._check_home(body.get("instance_url"))
        return Token(body["access_token"])  # it does not say how long it lives

    def _grant(self) -> dict[str, str]:
        if self.auth_flow == "jwt":
            return {
                "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
                "assertion": self._assertion(),
            }
        grant = {
            "grant_type": self.auth_flow,
            "client_id": self.client_id,
            "client_secret": str(self.client_secret),
        }
        if self.auth_flow == "password":
            grant |= {"username": str(self.username), "password": str(self.password)}
        return grant

    def _assertion(self) -> str:
        """https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_jwt_flow.htm&type=5"""
        try:
            # Environment variables often hold the lines of a key with \n in between.
            key = load_pem_private_key(str(self.private_key).replace("\\n", "\n").encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, RSAPrivateKey):
            raise RequestFailed(
                "private_key must be an RSA private key in PEM without a passphrase", lasting=True
            )
        sandbox = (urlsplit(self.instance_url).hostname or "").endswith(".sandbox.my.salesforce.com")
        claims = {
            "iss": self.client_id,
            "sub": self.username,
            "aud": self.login_url or f"https://{'test' if sandbox else 'login'}.salesforce.com",
            "exp": int(time.time()) + ASSERTION_SECONDS,
        }
        parts = [_base64url(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims)]
        return ".".join([*parts, _base64url(key.sign(".".join(parts).encode(), PKCS1v15(), SHA256()))])

    def _check_home(self, url: Any) -> None:
        """Raises RequestFailed when the token is for another address than the configured one, which is
        the only one that it is sent to."""
        try:
            if url is None or origin(str(url)) == origin(self.instance_url):
                return
        except ValueError:
            pass
        known = re.fullmatch(r"https://[a-z0-9.-]+\.salesforce\.com", str(url))
        raise RequestFailed(
            f"{self._system()} belongs to an organisation that has another address"
            f"{', ' + known[0] if known else ''}: set instance_url to its My Domain address",
            lasting=True,
        )

    def _judge_token(self, answer: requests.Response) -> RequestFailed | None:
        if answer.status_code not in (400, 401, 403):
            return None
        try:
            body = answer.json()
        except ValueError:
            return None
        said = (
            f"{body.get('error')} {body.get('error_description')}".lower() if isinstance(body, dict) else ""
        )
        if "rate" in said and "exceeded" in said:
            return RequestFailed(
                f"{self._system()} has given out too many tokens: try again later", lasting=False
            )
        what = next(
            (meaning for words, meaning in TOKEN_REFUSALS.items() if words in said),
            "refuses a token: check {settings}, and that the user is active",
        ).format(
            flow=self.auth_flow,
            settings=", ".join(NEEDED[self.auth_flow]),
            who=f"the user {self.username}" if self.username else "the user",
        )
        return RequestFailed(f"{self._system()} {what}", lasting=True)

    # Errors.

    def _judge(self, answer: requests.Response) -> RequestFailed | None:
        """https://developer.salesforce.com/docs/platform/api-rest/guide/errorcodes.html"""
        if answer.status_code < 400:
            return None
        code, message = _error(answer)
        lasting, again = True, False
        if code == "REQUEST_LIMIT_EXCEEDED" and "concurrent" in message.lower():
            lasting, again, what = False, True, "is busy with too many requests at once: try again later"
        elif code == "REQUEST_LIMIT_EXCEEDED":
            self._exhausted = True
            return RequestFailed(self._no_requests_left(), lasting=False)
        elif code == "QUERY_TIMEOUT":
            lasting, again, what = False, True, "needs too long for the listing: try again later"
        elif code == "INVALID_QUERY_LOCATOR":
            lasting, what = False, "no longer knows the rest of the listing: start again"
        elif code == "INVALID_TYPE":
            name = re.search(r"sObject type '(\w{1,80})'", message)
            what = f"does not show {name[1] if name else 'an object'} to this user: give the right to read it"
        elif code == "INVALID_FIELD":
            name = re.search(r"column '([\w.]{1,80})'", message)
            field = name[1] if name else "of a query"
            what = f"does not show the field {field} to this user: give the right to read it"
        elif code.startswith("API_") and "DISABLED" in code:
            what = "does not let this user use the API: give the permission API Enabled"
        elif answer.status_code == 401:
            what = (
                "does not accept its own token: check that the user is active and may use the API from here"
            )
        elif answer.status_code == 403:
            what = "refuses access: give this user the rights to read files and attachments"
        elif answer.status_code == 404 and "/sobjects/" not in answer.url:
            what = (
                f"does not have what was asked for: check instance_url and api_version ({self.api_version})"
            )
        elif answer.status_code == 410:
            what = f"no longer serves version {self.api_version} of its API: set api_version to a newer one"
        else:
            return None
        return RequestFailed(f"{self._system()} {what}", lasting=lasting, again=again)

    def _no_requests_left(self) -> str:
        return (
            f"{self._system()} takes no more API requests, as the organisation has used up those of 24 hours:"
            " start again when it has some left"
        )

    def _system(self) -> str:
        return f"Salesforce ({urlsplit(self.instance_url).hostname})"

    # Queries.

    def _path(self, resource: str) -> str:
        return f"/services/data/v{self.api_version}/{resource}"

    def _file_query(self, window: Window) -> str:
        long_sizes = float(self.api_version) >= FIRST_VERSION_WITH_LONG_SIZES
        fields = f"{FILE_FIELDS},{'ContentSizeLong' if long_sizes else 'ContentSize'}"
        conditions = ("IsLatest = true", NOT_DELETED, *_within(window))
        return f"{_soql(fields, 'ContentVersion', *conditions)} {NEWEST_FIRST}"

    def _attachment_query(self, types: list[str], window: Window) -> str:
        on_these = [f"Parent.Type IN ({_quoted(types)})"] if types else []
        conditions = (NOT_DELETED, *on_these, *_within(window))
        return f"{_soql(ATTACHMENT_FIELDS, 'Attachment', *conditions)} {NEWEST_FIRST}"

    def _pages(self, http: HttpSession, query: str) -> Iterator[list[dict[str, Any]]]:
        """The rows of a query, a page at a time. The server keeps what is left of it for two days:
        https://developer.salesforce.com/docs/platform/salesforce-app-limits-cheatsheet/guide/salesforce-app-limits-platform-apicursors.html"""

        def next_page(page: Page) -> str | None:
            body = page.body if isinstance(page.body, dict) else {}
            if body.get("done") is True:
                return None
            # Only the name of the rest is taken from the link, not the address.
            rest = re.search(r"/query(?:All)?/([\w-]{1,80})$", str(body.get("nextRecordsUrl")), re.ASCII)
            if rest is None:
                raise RequestFailed(
                    "an answer is not a listing: it is not done, but does not say how it goes on",
                    lasting=True,
                )
            return self._path(f"{QUERY}/{rest[1]}")

        for page in http.pages(self._path(QUERY), {"q": query}, next_page=next_page):
            yield rows(page.body, "records")

    def _sees_all_files(self, http: HttpSession) -> bool | None:
        """Whether the user has Query All Files, None when that cannot be known or does not matter.
        https://help.salesforce.com/s/articleView?id=experience.collab_files_query.htm&type=5"""
        if "files" not in self.objects:
            return None
        query = _soql("PermissionsQueryAllFiles", "UserPermissionAccess")
        try:
            found = rows(http.json("GET", self._path("query"), params={"q": query}), "records")
        except RequestFailed as failure:
            if failure.status != 400:  # the permission is not known to every edition
                raise
            return None
        return bool(found[0].get("PermissionsQueryAllFiles")) if found else None

    def _object_types(self, http: HttpSession) -> list[str]:
        """The record types as the server spells them. Raises RequestFailed when it has no such: no
        document would be listed, as if there were none."""
        types = []
        for name in self.record_types:
            try:
                body = http.json("GET", self._path(f"sobjects/{name}"))
            except RequestFailed as failure:
                if failure.status != 404:
                    raise
                raise RequestFailed(
                    f"{http.system} has no object {name} that this user may see: check record_types"
                    f" and api_version ({self.api_version})",
                    lasting=True,
                ) from None
            described = body.get("objectDescribe") if isinstance(body, dict) else None
            types.append(str(described.get("name", name)) if isinstance(described, dict) else name)
        return types

    # Documents.

    def _files(
        self, http: HttpSession, window: Window, types: list[str]
    ) -> Generator[ExternalDocument, None, None]:
        for found in self._pages(http, self._file_query(window)):
            ours = [row for row in found if window.includes(_modified(row))]
            records = self._records(http, [_id(row, "ContentDocumentId") for row in ours])
            for row in ours:
                of_file = records.get(row["ContentDocumentId"], [])
                if not types or any(record["type"] in types for record in of_file):
                    yield self._file(row, of_file)

    def _records(self, http: HttpSession, files: list[str]) -> dict[str, list[dict[str, Any]]]:
        """What the files hang on, by ContentDocumentId. The users that they are shared with are left out."""
        held: dict[str, list[dict[str, Any]]] = {}
        for start in range(0, len(files), IDS_PER_LOOKUP):
            among = f"ContentDocumentId IN ({_quoted(files[start : start + IDS_PER_LOOKUP])})"
            for found in self._pages(http, _soql(LINK_FIELDS, "ContentDocumentLink", among, NOT_DELETED)):
                for row in found:
                    entity = row.get("LinkedEntity") or {}
                    if entity.get("Type") != "User":
                        held.setdefault(str(row.get("ContentDocumentId")), []).append(
                            {
                                "id": row.get("LinkedEntityId"),
                                "type": entity.get("Type"),
                                "name": entity.get("Name"),
                            }
                        )
        return held

    def _attachments(
        self, http: HttpSession, window: Window, types: list[str]
    ) -> Generator[ExternalDocument, None, None]:
        for found in self._pages(http, self._attachment_query(types, window)):
            for row in found:
                if window.includes(_modified(row)):
                    yield self._attachment(row)

    def _file(self, row: Row, records: list[dict[str, Any]]) -> ExternalDocument:
        note = row.get("FileType") == "SNOTE"
        elsewhere = row.get("ContentLocation") not in ("S", None) or row.get("FileType") == "LINK"
        checksum = str(row.get("Checksum") or "").lower()
        size = _size(row, "ContentSizeLong", "ContentSize")
        title = row.get("Title") or row["ContentDocumentId"]
        ending = "html" if note else row.get("FileExtension")
        return ExternalDocument(
            external_id=_id(row, "ContentDocumentId"),
            version=f"{_id(row, 'Id')} {checksum or size}",
            filename=title
            if not ending or title.lower().endswith(f".{ending.lower()}")
            else f"{title}.{ending}",
            modified_at=_modified(row),
            # What is said of notes need not be about the HTML that is sent.
            size=None if note else size,
            content_type="text/html" if note else None,
            source_url=f"{self.instance_url}/lightning/r/ContentDocument/{row['ContentDocumentId']}/view",
            checksums={"md5": checksum} if re.fullmatch("[0-9a-f]{32}", checksum) and not note else {},
            metadata={
                "object": "ContentVersion",
                "version_id": row["Id"],
                "version_number": row.get("VersionNumber"),
                "file_type": row.get("FileType"),
                "created_at": row.get("CreatedDate"),
                "content_modified_at": row.get("ContentModifiedDate"),
                "records": records[:RECORDS_KEPT],
            },
            not_imported=NotImported(
                "the file is kept outside Salesforce, which has only a link", refused=True
            )
            if elsewhere
            else None,
        )

    def _attachment(self, row: Row) -> ExternalDocument:
        id_ = _id(row, "Id")
        parent = row.get("Parent") or {}
        record = {"id": row.get("ParentId"), "type": parent.get("Type"), "name": parent.get("Name")}
        # An attachment has no page of its own in Lightning.
        page = f"lightning/r/{record['type']}/{record['id']}/view" if record["type"] else id_
        return ExternalDocument(
            external_id=id_,
            version=f"{row['SystemModstamp']} {_size(row, 'BodyLength')}",
            filename=row.get("Name") or id_,
            modified_at=_modified(row),
            size=_size(row, "BodyLength"),
            content_type=row.get("ContentType") or None,
            source_url=f"{self.instance_url}/{page}",
            metadata={
                "object": "Attachment",
                "created_at": row.get("CreatedDate"),
                "records": [record],
            },
        )


def _within(window: Window) -> list[str]:
    """Conditions in whole seconds; literals of time stand without quotes:
    https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/sforce_api_calls_soql_select_dateformats.htm"""
    conditions = []
    if window.start is not None:
        conditions.append(f"SystemModstamp >= {window.start.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}")
    if window.end is not None:
        end = window.end.astimezone(timezone.utc)
        end += timedelta(microseconds=-end.microsecond % 1_000_000)
        conditions.append(f"SystemModstamp < {end:%Y-%m-%dT%H:%M:%SZ}")
    return conditions


def _soql(fields: str, table: str, *conditions: str) -> str:
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    # SOQL in REST has no parameters: texts go through `_quoted`.
    return f"SELECT {fields} FROM {table}{where}"  # noqa: S608


def _quoted(values: Iterable[str]) -> str:
    return ",".join("'" + re.sub(r"([\\'])", r"\\\1", value) + "'" for value in values)


def _id(row: Row, name: str) -> str:
    """An id in its long form, which tells upper from lower case by three letters more."""
    value = row.get(name)
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9]{18}", value):
        raise RequestFailed(f"an answer is not a listing: it has a row without {name}", lasting=True)
    return value


def _size(row: Row, *names: str) -> int | None:
    return next((row[name] for name in names if isinstance(row.get(name), int)), None)


def _modified(row: Row) -> datetime:
    try:
        moment = datetime.strptime(str(row.get("SystemModstamp")), "%Y-%m-%dT%H:%M:%S.%f%z")
    except ValueError:
        raise RequestFailed("an answer is not a listing: it has a row without a date", lasting=True) from None
    return moment.astimezone(timezone.utc)


def _error(answer: requests.Response) -> tuple[str, str]:
    """Code and message of an error; the message is for telling errors apart, never for a sentence."""
    try:
        body = answer.json()
    except ValueError:
        return "", ""
    first = body[0] if isinstance(body, list) and body else body
    if not isinstance(first, dict):
        return "", ""
    return str(first.get("errorCode", "")), str(first.get("message", ""))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
