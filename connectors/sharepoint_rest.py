"""The libraries of a site through SharePoint's own API, which takes an application with a certificate.

It has no delta: what is new is found by its date. Files are known by their UniqueId, which stays when they
are renamed or moved inside the site.
https://learn.microsoft.com/en-us/sharepoint/dev/sp-add-ins/working-with-lists-and-list-items-with-rest
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote, unquote, urlencode, urlsplit

import requests
from requests.auth import AuthBase

from connectors.base import Download, DownloadFailed, ExternalDocument, NotImported, Window
from connectors.http import HttpSession
from connectors.http_answers import RequestFailed, json_of, link_in, rows
from connectors.sharepoint_files import REWRITTEN, Sent, ending, named, utc

ITEMS_PER_PAGE = 2_000
"""What Microsoft advises.
https://learn.microsoft.com/en-us/previous-versions/office/developer/sharepoint-2010/ee557257(v=office.14)"""
WHOLE_SECOND = timedelta(seconds=1)
JSON = {"Accept": "application/json;odata=nometadata"}
LIBRARIES = {
    "$filter": "BaseTemplate eq 101 and Hidden eq false",
    "$select": "Id,Title,IsSystemList,RootFolder/ServerRelativeUrl",
    "$expand": "RootFolder",
}
VERSION = ("ContentTag", "ETag", "Length")
ITEMS = {
    "$select": ",".join(
        (
            *("Id", "UniqueId", "FileSystemObjectType", "FileLeafRef", "FileRef", "Created", "Modified"),
            *(f"File/{name}" for name in VERSION),
        )
    ),
    "$expand": "File",
}
NEXT = link_in("odata.nextLink")
FOLDER = 1
TOO_MANY = "SPQueryThrottledException"
"""What a query is refused with that would have to look at more than 5,000 items of a library.
https://learn.microsoft.com/en-us/microsoft-365/community/large-lists-large-libraries-in-sharepoint"""

Row = dict[str, Any]


class Library(NamedTuple):
    """A document library: `root` is the path of its folder on the host, `start` of that to list."""

    id: str
    name: str
    root: str
    start: str
    system: bool

    @property
    def segment(self) -> str:
        """Its name in addresses."""
        return self.root.rpartition("/")[2]


class OwnApi(NamedTuple):
    """The site's own API, for these libraries (none named: all but the system's) and this folder."""

    site_url: str
    library_name: Sequence[str]
    folder: str | None

    @property
    def host(self) -> str:
        """The address of the tenant, which tokens are for."""
        parts = urlsplit(self.site_url)
        return f"{parts.scheme}://{parts.netloc}"

    def session(self, auth: AuthBase, options: Mapping[str, Any]) -> HttpSession:
        """Sends nothing yet."""
        return HttpSession(
            self._system(),
            f"{self.site_url}/_api/web",
            setting="site_url",
            auth=auth,
            headers=JSON,
            judge=self._judge,
            **options,
        )

    def probe(self, http: HttpSession) -> str:
        """Looks at an item of each library; returns the sentence for a connection that works."""
        libraries = self._libraries(http)
        for library in libraries:
            rows(http.json("GET", _items(library, {"$top": "1", "$select": "Id"})), "value")
        where = f" the folder {self.folder} of" if self.folder else ""
        names = ", ".join(library.name for library in libraries)
        return f"{http.system} answers and lists{where} {names} of {self.site_url}"

    def documents(self, http: HttpSession, window: Window) -> Generator[ExternalDocument, None, None]:
        """The files of the libraries that were modified in the window."""
        for library in self._libraries(http):
            inside = f"{library.start}/".casefold()
            for item in self._of_library(http, library, window):
                here = _path(item).casefold().startswith(inside)
                if here and item.get("FileSystemObjectType") != FOLDER:
                    document = self._document(library, item)
                    if window.includes(document.modified_at):
                        yield document

    def download(self, http: HttpSession, document: ExternalDocument, into: BinaryIO) -> Download:
        """Writes a file, found by its id: its name may hold anything.

        Nothing in the answer names its version, so the file is looked at once more.
        """
        file = f"/GetFileById('{document.external_id}')"
        sent = Sent(into)
        download = http.download(f"{file}/$value", sent)  # type: ignore[arg-type]
        found = http.json("GET", _asked(file, {"$select": ",".join(VERSION)}))
        if _version(found) != document.version:
            raise DownloadFailed("changed since it was listed")
        if str(found.get("Length")) != str(sent.size):
            sent.check()
        return download

    def _libraries(self, http: HttpSession) -> Sequence[Library]:
        """Those to list, by the title that people see or by their name in addresses."""
        found = [
            Library(_guid(row, "Id"), str(row.get("Title")), root, root, bool(row.get("IsSystemList")))
            for page in http.pages(_asked("/lists", LIBRARIES), next_page=NEXT)
            for row in rows(page.body, "value")
            for root in [_path(row.get("RootFolder") or {}, "ServerRelativeUrl")]
        ]
        of_people = [library for library in found if not library.system]
        chosen = named(found, self.library_name, of_people, self.site_url)
        return chosen if self.folder is None else self._folders(http, chosen)

    def _folders(self, http: HttpSession, libraries: Sequence[Library]) -> Sequence[Library]:
        """Those that have the folder, starting there. The path is no part of the address, as one may hold
        # and %: https://learn.microsoft.com/en-us/sharepoint/dev/solution-guidance/supporting-and-in-file-and-folder-with-the-resourcepath-api
        """
        having = []
        for library in libraries:
            start = f"{library.root}/{self.folder}"
            params = {"@path": "'{}'".format(start.replace("'", "''")), "$select": "Exists"}
            try:
                found = http.json("GET", _asked("/GetFolderByServerRelativePath(decodedurl=@path)", params))
            except RequestFailed as failure:
                if failure.status != 404:
                    raise
                continue
            if found.get("Exists"):
                having.append(library._replace(start=start))
        if not having:
            names = ", ".join(library.name for library in libraries)
            raise RequestFailed(f"there is no folder {self.folder} in {names}", lasting=True)
        return having

    def _of_library(self, http: HttpSession, library: Library, window: Window) -> Iterator[Row]:
        """The items modified in the window; all, where the library has so many that SharePoint filters
        them by an indexed column only, and the date is none. They come in the order of their numbers:
        what changes meanwhile moves none of the others to another page."""
        whole = ITEMS | {"$top": str(ITEMS_PER_PAGE)}
        condition = _condition(window)
        begun = False
        if condition:
            try:
                for page in http.pages(_items(library, whole | {"$filter": condition}), next_page=NEXT):
                    begun = True
                    yield from rows(page.body, "value")
                return
            except RequestFailed as failure:
                if begun or TOO_MANY not in _code(failure.body):
                    raise
        for page in http.pages(_items(library, whole), next_page=NEXT):
            yield from rows(page.body, "value")

    def _document(self, library: Library, item: Row) -> ExternalDocument:
        path, file = _path(item), item.get("File") or {}
        name = str(item.get("FileLeafRef") or path.rpartition("/")[2])
        length = str(file.get("Length"))
        return ExternalDocument(
            external_id=_guid(item, "UniqueId"),
            version=_version(file),
            filename=name,
            modified_at=utc(str(item.get("Modified"))),
            size=int(length) if length.isdecimal() and ending(name) not in REWRITTEN else None,
            # A name that ends in half a character is not the end of the listing.
            source_url=f"{self.host}{quote(path, errors='replace')}",
            metadata={
                "library": library.name,
                "folder": path[len(library.root) :].rpartition("/")[0].strip("/"),
                "created_at": item.get("Created"),
            },
            not_imported=None if file else NotImported("SharePoint lists it without its file"),
        )

    def _system(self) -> str:
        return f"SharePoint ({urlsplit(self.site_url).hostname})"

    def _judge(self, answer: requests.Response) -> RequestFailed | None:
        """https://learn.microsoft.com/en-us/sharepoint/dev/solution-guidance/security-apponly-azuread"""
        status, path = answer.status_code, unquote(urlsplit(answer.url).path)
        if status == 401:
            what = (
                "does not accept the token: give the application Sites.Selected of SharePoint itself, not of"
                " Microsoft Graph, with consent of an administrator, and a certificate"
            )
        elif status == 403:
            what = (
                f"refuses access to {self.site_url}: grant the application this site (Sites.Selected of SharePoint"
                " and the role read), or give it Sites.Read.All of SharePoint"
            )
        elif status == 423:
            what = f"says that {self.site_url} is locked: a SharePoint administrator must unlock it"
        elif status == 404 and path.endswith("/_api/web/lists"):
            what = (
                f"has no site {self.site_url}: check site_url, the address of the site and not of a library"
            )
        elif status == 404 and "/_api/web/lists(" in path:
            what = "no longer has a library that was listed"
        elif status == 500 and TOO_MANY in _code(json_of(answer)):
            what = "refuses to list a library of so many items"
        else:
            return None
        return RequestFailed(f"{self._system()} {what}", lasting=True, status=status)


def _items(library: Library, query: Mapping[str, str]) -> str:
    return _asked(f"/lists(guid'{library.id}')/items", query)


def _asked(path: str, query: Mapping[str, str]) -> str:
    """With %20 for a space, as a plus need not mean one in conditions."""
    return f"{path}?{urlencode(query, quote_via=quote)}"


def _condition(window: Window) -> str:
    """Dates have whole seconds; what the window holds is looked at anew."""
    bounds = []
    if window.start is not None:
        bounds.append(f"Modified ge {_literal(window.start)}")
    if window.end is not None:
        bounds.append(f"Modified lt {_literal(window.end + WHOLE_SECOND)}")
    return " and ".join(bounds)


def _literal(moment: datetime) -> str:
    return f"datetime'{moment.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}'"


def _version(file: Mapping[str, Any]) -> str:
    """The last number of a ContentTag counts versions of the content: it stays when only columns are
    edited, the ETag's does not.
    https://learn.microsoft.com/en-us/previous-versions/office/sharepoint-server/jj168537(v=office.15)"""
    tag, _, number = str(file.get("ContentTag")).rpartition(",")
    if tag.count(",") == 1 and number.isdecimal():
        return f"content {number}, {file.get('Length')} bytes"
    return f"{file.get('ETag')} {file.get('Length')}"


def _path(row: Row, name: str = "FileRef") -> str:
    """The path of a file or folder on the host."""
    path = row.get(name)
    if not isinstance(path, str) or not path.startswith("/"):
        raise RequestFailed(f"an answer is not a listing: it has rows without their {name}", lasting=True)
    return path


def _guid(row: Row, name: str) -> str:
    """An id, always written the same way."""
    try:
        return str(uuid.UUID(str(row.get(name))))
    except ValueError:
        raise RequestFailed(
            f"an answer is not a listing: it has rows without their {name}", lasting=True
        ) from None


def _code(body: Any) -> str:
    """The name of an error."""
    error = (body.get("odata.error") or body.get("error")) if isinstance(body, dict) else None
    return str(error.get("code")) if isinstance(error, dict) else ""
