"""A simulated SharePoint Online site that speaks its own API as well: `/_api`, as far as the files of
document libraries are concerned.
https://learn.microsoft.com/en-us/sharepoint/dev/sp-add-ins/get-to-know-the-sharepoint-rest-service"""

from __future__ import annotations

import json
import operator
import re
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import quote, unquote, urlsplit

from sandbox.sharepoint import Library, Row, SimulatedSharePoint, _stamp
from sandbox.simulated import Answer, Handler, Request, route

DEFAULT_ROWS = 100
MOST_ROWS = THRESHOLD = 5_000
TOO_MANY = "-2147024860, Microsoft.SharePoint.SPQueryThrottledException"
COMPARISON = re.compile(r"(\w+) (eq|ne|ge|gt|le|lt) (?:datetime'([^']+)'|(\w+))")
FILE = {
    *("ContentTag", "ETag", "Exists", "Length", "Name", "ServerRelativeUrl", "TimeCreated"),
    *("TimeLastModified", "UniqueId", "UIVersionLabel"),
}
ITEM = {
    *(
        "Id",
        "ID",
        "UniqueId",
        "GUID",
        "FileSystemObjectType",
        "FSObjType",
        "FileLeafRef",
        "FileRef",
        "FileDirRef",
    ),
    *("Title", "Created", "Modified"),
}
LIST = {"Id", "Title", "BaseTemplate", "Hidden", "IsSystemList", "ItemCount"}
FILTERED: Mapping[str, type] = {
    "Id": int,
    "Created": datetime,
    "Modified": datetime,
    "BaseTemplate": int,
    "Hidden": bool,
    "IsSystemList": bool,
}
QUERY = {"$select", "$expand", "$filter", "$top", "$skiptoken"}


def _of_site(path: str, parameters: set[str]) -> Callable[[Handler], Handler]:
    """Answers requests below the address of a site, which may be that of the tenant alone."""
    alone = route("GET", path, host="site", parameters=parameters)
    below = route("GET", f"/{{site:path}}{path}", host="site", parameters=parameters)
    return lambda handler: alone(below(handler))


class SimulatedSharePointApi(SimulatedSharePoint):
    """The same site, whose own API is at `own_url`, on the host `site`.

    It takes tokens for itself only, and of those that an application got without a user only the ones it
    got with a certificate. `indexed` says whether the date of items is an indexed column: without, a
    library of more items than `threshold` cannot be asked by date.
    """

    hosts: ClassVar[tuple[str, ...]] = ("api", "login", "media", "site")

    def __init__(self, ports: Mapping[str, int] | None = None) -> None:
        self.numbers: dict[str, int] = {}
        """The numbers of items and folders, in the order in which they came."""
        self.edits: dict[str, int] = {}
        """How often the columns of an item were edited."""
        self.system_libraries: set[str] = set()
        """The ids of libraries that SharePoint made for itself."""
        self.threshold = THRESHOLD
        self.indexed = False
        super().__init__(ports)

    @property
    def own_url(self) -> str:
        """The address of the site on its own host."""
        return self.url("site") + self._path_of_site()

    def resources(self) -> tuple[str, ...]:
        return *super().resources(), self.url("site")

    def edit_columns(self, id: str, modified_at: datetime) -> None:
        """Edits columns of a document, its content stays."""
        with self.lock:
            self.documents[id].modified_at = modified_at
            self.edits[id] = self.edits.get(id, 0) + 1
            self._changed(id, self.changes[id].library, modified_at)

    def unique_id(self, id: str) -> str:
        """The GUID of a file, a folder or a library."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, id))

    def _changed(self, id: str, library: str, at: datetime, deleted: bool = False) -> None:
        super()._changed(id, library, at, deleted)
        self.numbers.setdefault(id, len(self.numbers) + 1)

    # Signing in.

    def authenticate(self, request: Request) -> Answer | None:
        if request.host != "site":
            return super().authenticate(request)
        token = request.bearer() or ""
        audience, expires_at = self._tokens.get(token, ("", 0.0))
        if not audience or expires_at < time.monotonic():
            return _unauthorized("The token is expired or not known.")
        if audience != self.url("site"):
            return _unauthorized("Invalid issuer or signature.")
        if token not in self._by_certificate:
            return Answer(401, b"Unsupported app only token.", {"Content-Type": "text/plain"})
        if not self.granted:
            denied = "Attempted to perform an unauthorized operation."
            return _refused(403, "-2147024891, System.UnauthorizedAccessException", denied)
        if self.locked:
            return _refused(423, "-2147018887, Microsoft.SharePoint.SPException", "The site is locked.")
        return None

    # Libraries and folders.

    @_of_site("/_api/web/lists", QUERY)
    def lists(self, request: Request, site: str = "") -> Answer:
        if (elsewhere := self._elsewhere(site)) is not None:
            return elsewhere
        found: list[Row] = [
            {
                "Id": self.unique_id(library.id),
                "Title": library.name,
                "BaseTemplate": 101,
                "Hidden": False,
                "IsSystemList": library.id in self.system_libraries,
                "ItemCount": len(self._numbered(library)),
                "RootFolder": {"ServerRelativeUrl": self._root(library)},
            }
            for library in self.libraries.values()
        ]
        found.append(
            {"Id": str(uuid.uuid4()), "Title": "Tasks", "BaseTemplate": 107, "Hidden": False, "ItemCount": 0}
            | {
                "IsSystemList": False,
                "RootFolder": {"ServerRelativeUrl": f"{self._path_of_site()}/Lists/Tasks"},
            }
        )
        try:
            found = [*filter(_condition(request.query.get("$filter", "")), found)]
            return _listing(request, _selected(request, found, LIST, "RootFolder", {"ServerRelativeUrl"}))
        except ValueError as error:
            return self.problem(400, str(error))

    @_of_site("/_api/web/GetFolderByServerRelativePath(decodedurl=@path)", {"@path", "$select"})
    def folder(self, request: Request, site: str = "") -> Answer:
        """https://learn.microsoft.com/en-us/sharepoint/dev/solution-guidance/supporting-and-in-file-and-folder-with-the-resourcepath-api"""
        if (elsewhere := self._elsewhere(site)) is not None:
            return elsewhere
        given = re.fullmatch(r"'((?:[^']|'')*)'", request.query.get("@path", ""))
        if given is None:
            return self.problem(400, "The expression is not valid.")
        wanted = given[1].replace("''", "'").casefold()
        there = any(
            self._server_path(id).casefold() == wanted
            for id, folder in self.folders.items()
            if folder.library in self.libraries
        )
        return _one(request, {"Exists": there})

    # Items.

    @_of_site("/_api/web/lists(guid'{list_id}')/items", QUERY)
    def items(self, request: Request, list_id: str, site: str = "") -> Answer:
        """Files and folders at any depth, by their numbers."""
        if (elsewhere := self._elsewhere(site)) is not None:
            return elsewhere
        library = next((one for one in self.libraries.values() if self.unique_id(one.id) == list_id), None)
        if library is None:
            return self.problem(404, "List does not exist.")
        top = request.query.get("$top", str(DEFAULT_ROWS))
        token = re.fullmatch(
            r"Paged=TRUE(?:&p_SortBehavior=0)?&p_ID=(\d+)",
            request.query.get("$skiptoken", "Paged=TRUE&p_ID=0"),
        )
        if not top.isdigit() or int(top) < 1 or token is None:
            return self.problem(400, "The query is not valid.")
        numbered = self._numbered(library)
        try:
            fulfils = _condition(request.query.get("$filter", ""))
        except ValueError as error:
            return self.problem(400, str(error))
        matching = [(number, id) for number, id in numbered if fulfils(self._dates(id) | {"Id": number})]
        looked_at = len(matching) if self.indexed else len(numbered)
        if int(top) > MOST_ROWS or ("$filter" in request.query and looked_at > self.threshold):
            return _refused(
                500,
                TOO_MANY,
                "The attempted operation is prohibited because it exceeds the list view threshold.",
            )
        position = int(token[1])
        left = [(number, id) for number, id in matching if number > position]
        page, more, sort = left[: int(top)], len(left) > int(top), ""
        if more and self.misbehaves("thin_page", "items"):
            page, sort = [], "&p_SortBehavior=0"
        elif more and self.misbehaves("repeat_token", "items"):
            page = []
        try:
            found = _selected(request, [self._list_item(id) for _, id in page], ITEM, "File", FILE)
        except ValueError as error:
            return self.problem(400, str(error))
        link = ""
        if more:
            reached = f"Paged=TRUE{sort}&p_ID={page[-1][0] if page else position}"
            query = {"$skiptoken": reached} | {n: v for n, v in request.query.items() if n != "$skiptoken"}
            asked = "&".join(f"{quote(name)}={quote(value)}" for name, value in query.items())
            link = f"{self.url('site')}{request.path}?{asked}"
        return _listing(request, found, link)

    def _numbered(self, library: Library) -> Sequence[tuple[int, str]]:
        return sorted(
            (self.numbers[id], id)
            for id, change in self.changes.items()
            if change.library == library.id and not change.deleted and id != library.root
        )

    def _dates(self, id: str) -> Row:
        if id in self.folders:
            return dict.fromkeys(("Created", "Modified"), self.folders[id].created_at)
        return {"Created": self.documents[id].created_at, "Modified": self.documents[id].modified_at}

    def _list_item(self, id: str) -> Row:
        folder, document = self.folders.get(id), self.documents.get(id)
        path = self._server_path(id)
        return {
            "Id": self.numbers[id],
            "ID": self.numbers[id],
            "UniqueId": self.unique_id(id),
            "GUID": self.unique_id(f"item {id}"),
            "FileSystemObjectType": 0 if document else 1,
            "FSObjType": 0 if document else 1,
            "FileLeafRef": document.name if document else folder.name if folder else "",
            "FileRef": path,
            "FileDirRef": path.rpartition("/")[0],
            "Title": None,
            "File": self._file(id) if document else None,
            **{name: _stamp(moment) for name, moment in self._dates(id).items()},
        }

    # Files.

    @_of_site("/_api/web/GetFileById('{file}')", {"$select"})
    def file(self, request: Request, file: str, site: str = "") -> Answer:
        id = self._found(file, site)
        if isinstance(id, Answer):
            return id
        try:
            (row,) = _selected(request, [self._file(id)], FILE)
        except ValueError as error:
            return self.problem(400, str(error))
        return _one(request, row)

    @_of_site("/_api/web/GetFileById('{file}')/$value", set())
    def file_value(self, request: Request, file: str, site: str = "") -> Answer:
        id = self._found(file, site)
        if isinstance(id, Answer):
            return id
        body = self.sent(self.documents[id])
        return Answer(200, body, {"Content-Type": "application/octet-stream", "ETag": self._file(id)["ETag"]})

    def _found(self, file: str, site: str) -> str | Answer:
        elsewhere = self._elsewhere(site)
        if elsewhere is not None:
            return elsewhere
        for id in self.documents:
            if self.unique_id(id) == file.lower():
                return id
        return _refused(404, "-2147024894, System.IO.FileNotFoundException", "File Not Found.")

    def _file(self, id: str) -> Row:
        document = self.documents[id]
        guid = f"{{{self.unique_id(id).upper()}}}"
        changes = document.version + self.edits.get(id, 0)
        row: Row = {
            "ETag": f'"{guid},{changes}"',
            "Exists": True,
            "Length": str(len(document.content)),
            "Name": document.name,
            "ServerRelativeUrl": self._server_path(id),
            "TimeCreated": _stamp(document.created_at),
            "TimeLastModified": _stamp(document.modified_at),
            "UIVersionLabel": f"{changes}.0",
            "UniqueId": self.unique_id(id),
        }
        if document.fields.get("content_tag") is not False:
            row["ContentTag"] = f"{guid},{changes},{document.version}"
        return row

    # Addresses.

    def _path_of_site(self) -> str:
        return urlsplit(self.site_url).path

    def _root(self, library: Library) -> str:
        return f"{unquote(self._path_of_site())}/{library.segment}"

    def _server_path(self, id: str) -> str:
        return self._root(self.libraries[self.changes[id].library]) + self._path(id)

    def _elsewhere(self, site: str) -> Answer | None:
        """The refusal of an address of another site."""
        if site == unquote(self._path_of_site()).strip("/"):
            return None
        return Answer(404, b"404 FILE NOT FOUND", {"Content-Type": "text/plain"})

    # Errors.

    def problem(self, status: int, message: str) -> Answer:
        return _refused(status, "-1, Microsoft.SharePoint.Client.InvalidClientQueryException", message)

    def throttled(self, status: int) -> Answer:
        return Answer(status, b"429 TOO MANY REQUESTS", {"Content-Type": "text/plain"})


def _condition(text: str) -> Callable[[Row], bool]:
    """What a $filter asks of a row: comparisons joined by `and`. Raises ValueError."""
    comparisons: list[tuple[str, Any, Any]] = []
    for one in filter(None, text.split(" and ")):
        parts = COMPARISON.fullmatch(one)
        if parts is None or parts[1] not in FILTERED:
            raise ValueError(f'The expression "{one}" is not valid.')
        field, name, moment, word = parts.groups()
        wanted: Any = int(word) if (word or "").isdigit() else {"true": True, "false": False}.get(word)
        if moment is not None:
            wanted = datetime.fromisoformat(moment.replace("Z", "+00:00"))
            if wanted.tzinfo is None:
                raise ValueError("The time has no zone.")
        if not isinstance(wanted, FILTERED[field]):
            raise ValueError(f'The expression "{one}" is not valid.')
        comparisons.append((field, getattr(operator, name), wanted))
    return lambda row: all(holds(row[field], wanted) for field, holds, wanted in comparisons)


def _selected(
    request: Request, rows: Sequence[Row], known: set[str], within: str = "", inner: Collection[str] = ()
) -> list[Row]:
    """What $select names, of rows and of what $expand brings along. Raises ValueError."""
    expanded = set(filter(None, request.query.get("$expand", "").split(",")))
    wanted = list(filter(None, request.query.get("$select", "").split(","))) or sorted(known)
    if expanded - {within}:
        raise ValueError(f"The query string expands {min(expanded - {within})}, which is not there.")
    for name in wanted:
        outer, _, field = name.partition("/")
        if field and outer not in expanded:
            raise ValueError(f"The query to field '{name}' is not valid: $expand must contain {outer}.")
        if (field not in inner) if field else (name not in known):
            raise ValueError(f"The field or property '{name}' does not exist.")
    picked = []
    for row in rows:
        kept = {name: row[name] for name in wanted if name in row}
        if within in expanded:
            fields = [name.partition("/")[2] for name in wanted if name.startswith(f"{within}/")]
            found = row[within]
            kept[within] = found and {name: found[name] for name in fields or inner if name in found}
        picked.append(kept)
    return picked


def _listing(request: Request, rows: Sequence[Row], link: str = "") -> Answer:
    if _verbose(request):
        return _json(request, {"d": {"results": rows} | ({"__next": link} if link else {})})
    return _json(request, {"value": rows} | ({"odata.nextLink": link} if link else {}))


def _one(request: Request, row: Row) -> Answer:
    return _json(request, {"d": row} if _verbose(request) else row)


def _verbose(request: Request) -> bool:
    return "odata=verbose" in request.headers.get("accept", "")


def _json(request: Request, body: Row) -> Answer:
    """JSON for whoever asks for it, Atom for others."""
    if "application/json" not in request.headers.get("accept", ""):
        return Answer(200, b"<?xml version='1.0'?><feed/>", {"Content-Type": "application/atom+xml"})
    return Answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})


def _unauthorized(why: str) -> Answer:
    return Answer.json({"error_description": why}, 401)


def _refused(status: int, code: str, message: str) -> Answer:
    return Answer.json(
        {"odata.error": {"code": code, "message": {"lang": "en-US", "value": message}}}, status
    )
