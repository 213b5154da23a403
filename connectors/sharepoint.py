"""Files of the document libraries of a SharePoint Online site."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, BinaryIO, ClassVar, Literal, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import requests
from pydantic import Field, field_validator, model_validator

from connectors.addresses import OutOfReach, Reach
from connectors.base import (
    ConfigurationError,
    Download,
    DownloadFailed,
    DownloadRefused,
    ExternalDocument,
    ListingIncomplete,
    NotImported,
    Reached,
    Window,
    secret,
)
from connectors.http import HttpConnector, HttpSession, check_url
from connectors.http_answers import Page, RequestFailed, json_of, link_in, rows
from connectors.http_auth import Bearer
from connectors.quickxorhash import QuickXorHash
from connectors.sharepoint_files import REWRITTEN, Sent, ending, named, utc
from connectors.sharepoint_login import Login, credential_of, names_a_file
from connectors.sharepoint_rest import OwnApi

ITEMS_PER_PAGE = 1_000
LONGEST_LOOK_BACK = timedelta(days=30)
"""Delta takes a time instead of a token, for two months back or four, depending on whom one asks."""
MOST_STARTS = 3
MOST_LEVELS = 400
"""Folders inside folders: an address has 400 characters."""
PROPERTIES = (
    "id,name,size,eTag,createdDateTime,lastModifiedDateTime,webUrl,"
    "root,file,folder,package,deleted,malware,parentReference"
)

Row = dict[str, Any]


class Library(NamedTuple):
    """A document library. `start` is the item that a listing starts at: the root, or a folder."""

    id: str
    name: str
    segment: str
    start: str = "root"

    def path(self, item: str | None = None) -> str:
        """The path of an item, None: of the one to start at."""
        item = item or self.start
        return f"/drives/{quote(self.id, safe='!')}/" + ("root" if item == "root" else f"items/{quote(item)}")


class SharePoint(HttpConnector):
    """Every file of the document libraries of a site, through Microsoft Graph or the site's own API.

    Listings of Graph are delta queries, the only ones that are complete while others write:
    https://learn.microsoft.com/en-us/graph/api/driveitem-delta
    """

    connector_type: ClassVar[str] = "sharepoint"
    kind: ClassVar[str] = "sharepoint"
    windowed: ClassVar[bool] = True

    site_url: str = Field(description="Address of the site: https://TENANT.sharepoint.com/sites/NAME.")
    tenant_id: str = Field(description="Directory (tenant) id, or a domain of the tenant.")
    client_id: str = Field(description="Application (client) id.")
    api: Literal["graph", "sharepoint"] = Field(
        default="graph",
        description="What is asked: graph is Microsoft Graph, sharepoint the site's own API (/_api), for applications"
        " that have no permission of Graph. It takes a certificate only.",
    )
    client_secret: str | None = secret("Client secret of the application. A certificate is safer.")
    certificate: str | None = secret(
        "Private key in PEM, or a file with it. With its certificate after it, no thumbprint is needed."
    )
    thumbprint: str | None = Field(
        default=None, description="SHA-1 thumbprint of the certificate, as the portal shows it."
    )
    library_name: list[str] = Field(
        default_factory=list,
        description="Name of the document library, or of several. Empty: all of the site.",
    )
    folder: str | None = Field(
        default=None, description="Folder in the library, such as Permits/2026. Empty: the whole library."
    )
    authority_url: str = Field(
        default="https://login.microsoftonline.com",
        description="Where the application signs in; another in national clouds.",
    )
    graph_url: str = Field(
        default="https://graph.microsoft.com",
        description="Address of Microsoft Graph; another in national clouds.",
    )

    @field_validator("site_url", "authority_url", "graph_url")
    @classmethod
    def _usable_address(cls, url: str) -> str:
        url = check_url(url)
        if not url.startswith("https://"):
            raise ValueError("must be an https:// address")
        return url

    @field_validator("tenant_id")
    @classmethod
    def _one_tenant(cls, tenant: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}", tenant) or tenant.lower() in (
            "common",
            "organizations",
            "consumers",
        ):
            raise ValueError("must be the id of one tenant, or a domain of it")
        return tenant

    @field_validator("client_id")
    @classmethod
    def _an_id(cls, client_id: str) -> str:
        if not re.fullmatch(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", client_id):
            raise ValueError(
                "must be the application (client) id, such as 01234567-89ab-cdef-0123-456789abcdef"
            )
        return client_id

    @field_validator("thumbprint")
    @classmethod
    def _sha1(cls, thumbprint: str | None) -> str | None:
        thumbprint = re.sub(r"[\s:]", "", thumbprint or "").upper()
        if thumbprint and not re.fullmatch("[0-9A-F]{40}", thumbprint):
            raise ValueError("must be the SHA-1 thumbprint of the certificate: 40 hex digits")
        return thumbprint or None

    @field_validator("library_name", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value or []

    @field_validator("folder")
    @classmethod
    def _inside(cls, folder: str | None) -> str | None:
        folder = (folder or "").strip("/")
        if any(part in ("", ".", "..") for part in folder.split("/")) and folder:
            raise ValueError("must be the path of a folder inside the library, such as Permits/2026")
        return folder or None

    @model_validator(mode="after")
    def _one_way_in(self) -> SharePoint:
        if bool(self.client_secret) == bool(self.certificate):
            raise ValueError("needs either client_secret or certificate")
        if self.api == "sharepoint" and self.client_secret:
            raise ValueError(
                "api sharepoint needs a certificate: SharePoint's own API takes no client_secret"
            )
        return self

    @property
    def keeps_checkpoint(self) -> bool:  # type: ignore[override]  # the site's own API has no delta
        """Whether there is `list_changes`."""
        return self.api == "graph"

    def keep_to(self, reach: Reach) -> None:
        """Whoever configures a source of the console does not choose the file of a key."""
        super().keep_to(reach)
        if self.certificate and names_a_file(self.certificate):
            try:
                reach.check_file(self.certificate)
            except OutOfReach as error:
                raise ConfigurationError(f"{self.connector_type}: certificate: {error}") from None

    # What an HttpConnector needs.

    def _open(self) -> HttpSession:
        credential = credential_of(self.client_secret, self.certificate, self.thumbprint)
        own = self._own_api()
        resource, settings = (own.host, "site_url") if own else (self.graph_url, "graph_url")
        login = Login(
            self.authority_url, self.tenant_id, self.client_id, resource, f"{settings} and authority_url"
        )
        auth = Bearer(lambda: login.token(credential, self.session_options()))
        if own:
            return own.session(auth, self.session_options())
        return HttpSession(
            f"Microsoft Graph ({urlsplit(self.graph_url).hostname})",
            f"{self.graph_url}/v1.0",
            setting="graph_url",
            auth=auth,
            judge=self._judge,
            **self.session_options(),
        )

    def _own_api(self) -> OwnApi | None:
        """The site's own API where that is asked, None where it is Graph."""
        return OwnApi(self.site_url, self.library_name, self.folder) if self.api == "sharepoint" else None

    def _probe(self, http: HttpSession) -> str:
        if own := self._own_api():
            return own.probe(http)
        libraries = self._libraries(http)
        for library in libraries:
            http.json("GET", f"{library.path()}/delta", params={"token": "latest", "$select": "id"})
        where = f" the folder {self.folder} of" if self.folder else ""
        names = ", ".join(library.name for library in libraries)
        return f"{http.system} answers and lists{where} {names} of {self.site_url}"

    def _documents(self, http: HttpSession, window: Window) -> Generator[ExternalDocument, None, None]:
        if own := self._own_api():
            yield from own.documents(http, window)
            return
        for library in self._libraries(http):
            yield from self._of_library(http, library, window)

    def list_changes(self, checkpoint: str | None) -> Generator[ExternalDocument, None, Reached]:
        """The checkpoint holds the link of each library that leads to what changes next.

        Deleted items, which these links tell as well, are passed over: that a document is gone is for a
        listing of everything to show. Libraries are looked up anew, as there may be one more or
        another folder of that name, unless `library_name` says which and there is no `folder`: then
        an unchanged library takes one request.
        """
        return (yield from self._told(lambda http: self._changes(http, checkpoint)))

    def _changes(
        self, http: HttpSession, checkpoint: str | None
    ) -> Generator[ExternalDocument, None, Reached]:
        former = _links(checkpoint)
        known = former and self.library_name and not self.folder
        links: dict[Library, str] = {}
        started_over = False
        for library in [*former] if known else self._libraries(http):
            try:
                reached = yield from self._of_library(http, library, Window(), former.get(library))
            except RequestFailed as failure:
                if failure.status != 404 or checkpoint is None:
                    raise
                # It is gone, and another may have its name.
                anew = yield from self._changes(http, None)
                return anew._replace(started_over=True)
            links[library] = reached.checkpoint
            started_over |= reached.started_over
        return Reached(json.dumps([[*library, link] for library, link in links.items()]), started_over)

    def _download(self, http: HttpSession, document: ExternalDocument, into: BinaryIO) -> Download:
        if own := self._own_api():
            return own.download(http, document, into)
        drive, _, item = document.external_id.partition("/")
        path = Library(drive, "", "").path(item)
        sent = Sent(into)
        digested = _Digested(sent)
        try:
            download = http.download(f"{path}/content", digested)  # type: ignore[arg-type]
        except RequestFailed as failure:
            if _code(failure.body) == "malwareDetected":
                raise DownloadRefused("SharePoint has found malware in it") from None
            if digested.begun or failure.status not in (401, 403, 404, 410):
                raise
            # The address that Graph leads to lives for minutes, and may have ended on the way.
            download = http.download(f"{path}/content", digested)  # type: ignore[arg-type]
        stated = document.metadata.get("quick_xor_hash")
        if stated == digested.hash.base64():
            return download
        if stated and ending(document.filename) not in REWRITTEN:
            raise DownloadFailed("the quickXorHash of the bytes that arrived is not the stated one")
        found = http.json("GET", path, params={"$select": PROPERTIES})
        if _version(found) != document.version:
            raise DownloadFailed("changed since it was listed")
        if found.get("size") != sent.size:
            sent.check()
        return download

    # What answers mean.

    def _judge(self, answer: requests.Response) -> RequestFailed | None:
        """https://learn.microsoft.com/en-us/graph/errors"""
        status = answer.status_code
        of_site = "/v1.0/sites/" in urlsplit(answer.url).path
        if status == 401:
            what = (
                "does not accept the token: give the application Sites.Selected with consent of an administrator,"
                " and check that tenant_id is the tenant of site_url and graph_url the Graph of its cloud"
            )
        elif status == 403 and _code(json_of(answer)) != "malwareDetected":
            what = (
                f"refuses access to {self.site_url}: grant the application this site (Sites.Selected and the"
                " role read), or give it Sites.Read.All"
            )
        elif status == 423:
            what = f"says that {self.site_url} is locked: a SharePoint administrator must unlock it"
        elif status == 404 and of_site:
            what = (
                f"has no site {self.site_url}, or the application may not know it: check site_url,"
                " the address of the site and not of a library, and the grant"
            )
        elif status == 400 and of_site:
            what = f"does not take {self.site_url} for a site of this tenant: check site_url and tenant_id"
        elif status == 404 and not answer.url.endswith("/content"):
            what = "no longer has what was listed"
        else:
            return None
        return RequestFailed(
            f"Microsoft Graph ({urlsplit(self.graph_url).hostname}) {what}", lasting=True, status=status
        )

    # Libraries.

    def _libraries(self, http: HttpSession) -> Sequence[Library]:
        """Those to import, by the title that people see or by their name in addresses."""
        site = urlsplit(self.site_url)
        path = f":{quote(unquote(site.path))}:" if site.path else ""
        found = [
            Library(_id(row), str(row.get("name")), unquote(str(row.get("webUrl")).rpartition("/")[2]))
            for page in http.pages(
                f"/sites/{site.hostname}{path}/drives",
                {"$select": "id,name,webUrl"},
                next_page=link_in("@odata.nextLink"),
            )
            for row in rows(page.body, "value")
        ]
        chosen = named(found, self.library_name, found, self.site_url)
        return chosen if self.folder is None else self._folders(http, chosen)

    def _folders(self, http: HttpSession, libraries: Sequence[Library]) -> Sequence[Library]:
        """Those that have the folder, starting there."""
        having = []
        for library in libraries:
            try:
                item = http.json(
                    "GET", f"{library.path()}:/{quote(str(self.folder))}", params={"$select": "id,folder"}
                )
            except RequestFailed as failure:
                if failure.status != 404:
                    raise
                continue
            if item.get("folder") is not None:
                having.append(library._replace(start=_id(item)))
        if not having:
            raise RequestFailed(
                f"there is no folder {self.folder} in {', '.join(one.name for one in libraries)}",
                lasting=True,
            )
        return having

    # Listing.

    def _of_library(
        self, http: HttpSession, library: Library, window: Window, link: str | None = None
    ) -> Generator[ExternalDocument, None, Reached]:
        """An item may come several times, and the last time counts: so all are awaited. With the link of
        a former listing, those that have changed since; the checkpoint is such a link."""
        items: dict[str, Row] = {}
        broken: RequestFailed | ListingIncomplete | None = None
        try:
            reached = self._enumerate(http, library, window.start, link, items)
        except (RequestFailed, ListingIncomplete) as error:
            if not items:
                raise
            broken = error
        for item in items.values():
            if item.get("deleted") is not None or (item.get("file") is None and item.get("package") is None):
                continue
            document = _document(library, item, items)
            if window.includes(document.modified_at):
                yield document
        if broken is not None:
            raise broken
        return reached

    def _enumerate(
        self,
        http: HttpSession,
        library: Library,
        since: datetime | None,
        link: str | None,
        items: dict[str, Row],
    ) -> Reached:
        """Fills in the latest state of every item, of those changed since then where Graph still knows."""
        whole = {"$top": str(ITEMS_PER_PAGE), "$select": PROPERTIES}
        path, params = f"{library.path()}/delta", whole
        if link is not None:
            path, params = http.link(link), {}
        elif since is not None and datetime.now(timezone.utc) - since < LONGEST_LOOK_BACK:
            params = whole | {"token": f"{since.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"}
        resumed = params != whole
        started_over = False
        starts_left = MOST_STARTS
        while True:
            starts_left -= 1
            items.clear()
            try:
                for page in http.pages(path, params, next_page=_next_page):
                    items |= {_id(row): row for row in rows(page.body, "value")}
                return Reached(_without_host(page), started_over)
            except RequestFailed as failure:
                forgotten = failure.status == 410 or (failure.status == 400 and resumed)
                if not forgotten or not starts_left:
                    raise
                resumed, started_over = False, link is not None
                # Changes since then are no longer known: everything is listed anew.
                anew = failure.headers.get("Location")
                path = http.link(anew) if anew else f"{library.path()}/delta"
                params = {} if anew else whole


class _Digested:
    """Passes bytes on and digests them."""

    def __init__(self, into: Sent) -> None:
        self._into = into
        self.hash = QuickXorHash()
        self.begun = False

    def write(self, data: bytes) -> int:
        self.begun = True
        self.hash.update(data)
        return self._into.write(data)


def _next_page(page: Page) -> str | None:
    link = page.body.get("@odata.nextLink")
    if not link and not page.body.get("@odata.deltaLink"):
        raise ListingIncomplete(
            "the listing broke off: Microsoft Graph sent a page that is neither last nor not"
        )
    return link or None


def _without_host(page: Page) -> str:
    """The link to what changes after this last page, to be followed as it is but for its host, which is
    always the configured one."""
    link = urlsplit(str(page.body["@odata.deltaLink"]))
    return f"{link.path}?{link.query}"


def _links(checkpoint: str | None) -> dict[Library, str]:
    """The links of a checkpoint; of one that cannot be read none, so that everything is listed."""
    try:
        return {Library(*of_library): str(link) for *of_library, link in json.loads(checkpoint or "[]")}
    except (TypeError, ValueError):
        return {}


def _document(library: Library, item: Row, items: Mapping[str, Row]) -> ExternalDocument:
    name = str(item.get("name") or item["id"])
    not_imported = None
    if item.get("package") is not None:
        not_imported = NotImported(
            "a OneNote notebook, which is no file: export it to import it", refused=True
        )
    elif item.get("malware") is not None:
        not_imported = NotImported("SharePoint has found malware in it", refused=True)
    modified = item.get("lastModifiedDateTime")
    return ExternalDocument(
        external_id=f"{library.id}/{item['id']}",
        version=_version(item),
        filename=name,
        modified_at=utc(modified) if modified else None,
        size=None if ending(name) in REWRITTEN or item.get("package") is not None else item.get("size"),
        content_type=(item.get("file") or {}).get("mimeType"),
        source_url=item.get("webUrl"),
        metadata={
            "library": library.name,
            "folder": _folder(item, items),
            "quick_xor_hash": _hash(item),
            "created_at": item.get("createdDateTime"),
        },
        not_imported=not_imported,
    )


def _folder(item: Row, items: Mapping[str, Row]) -> str | None:
    """The path of its folder, None where a listing of changes did not bring all of them."""
    names: list[str] = []
    for _ in range(MOST_LEVELS):
        parent = items.get(str((item.get("parentReference") or {}).get("id")))
        if parent is None:
            return None
        if parent.get("root") is not None:
            return "/".join(reversed(names))
        names.append(str(parent.get("name")))
        item = parent
    return None


def _version(item: Row) -> str:
    """The hash stays when only columns are edited, the eTag does not."""
    return _hash(item) or f"{item.get('eTag')} {item.get('size')} {item.get('lastModifiedDateTime')}"


def _hash(item: Row) -> str | None:
    found = ((item.get("file") or {}).get("hashes") or {}).get("quickXorHash")
    return str(found) if found else None


def _id(row: Row) -> str:
    if not row.get("id"):
        raise RequestFailed("an answer is not a listing: it has items without an id", lasting=True)
    return str(row["id"])


def _code(body: Any) -> str:
    """Graph's name of an error, the innermost where there are several."""
    error = body.get("error") if isinstance(body, dict) else None
    code = ""
    while isinstance(error, dict):
        code = str(error.get("code") or code)
        error = error.get("innerError") or error.get("innererror")
    return code
