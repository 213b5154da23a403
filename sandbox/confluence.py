"""A simulated Confluence Cloud site, as far as attachments are concerned.
https://developer.atlassian.com/cloud/confluence/rest/v2/"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, ClassVar, Literal
from urllib.parse import urlencode

from sandbox.atlassian import SimulatedAtlassian, milliseconds, on_both_hosts
from sandbox.atlassian_queries import Condition, QueryError, Test, parsed
from sandbox.simulated import Answer, Document, Request

MOST_ROWS = 250
PAGING = {"limit", "cursor"}
SEARCH_PARAMETERS = {
    "cql",
    "cqlcontext",
    "limit",
    "start",
    "cursor",
    "expand",
    "excerpt",
    "includeArchivedSpaces",
}

PlaceKind = Literal["page", "blogpost", "custom"]
NAMES: Mapping[str, str] = {"page": "pageId", "blogpost": "blogPostId", "custom": "customContentId"}


@dataclass
class Space:
    """`status` is current or archived."""

    id: str
    key: str
    name: str
    status: str = "current"


@dataclass
class Place:
    """A page, a blog post or custom content. The account may not view one that is not `readable`."""

    id: str
    kind: PlaceKind
    title: str
    space: Space
    status: str = "current"
    readable: bool = True


class SimulatedConfluence(SimulatedAtlassian):
    """A site with spaces, pages, blog posts and custom content.

    `add(name, content, place=ID)` attaches a document to something made by `add_place`; without it,
    makes a page of `space` (CITY).
    """

    name: ClassVar[str] = "confluence"
    needed_scopes: ClassVar[Mapping[str, frozenset[str]]] = {
        "attachments": frozenset({"read:attachment:confluence"}),
        "spaces": frozenset({"read:space:confluence"}),
        "pages": frozenset({"read:page:confluence"}),
        "blogposts": frozenset({"read:page:confluence"}),
        "custom_content": frozenset({"read:custom-content:confluence"}),
        "download": frozenset({"readonly:content.attachment:confluence", "read:attachment:confluence"}),
        "search": frozenset({"search:confluence", "read:content-details:confluence"}),
        "current_user": frozenset({"read:confluence-user", "read:content-details:confluence"}),
    }

    def __init__(self, ports: Mapping[str, int] | None = None) -> None:
        super().__init__(ports)
        self.spaces_by_key: dict[str, Space] = {}
        self.places: dict[str, Place] = {}
        self.hidden: set[str] = set()
        """Keys of spaces that the account may not view."""
        self.v2_status: int | None = None
        """What the second version of the API answers, where it is not there."""
        self.lists_in_parameters: Literal["understood", "refused", "first"] = "understood"
        """What becomes of `id=1,2`."""
        self.gateway_prefix = False
        """Whether links to the next page carry the prefix of the gateway."""
        self.time_zone: tzinfo = timezone(timedelta(hours=-8))
        """In which the dates of CQL are read."""
        self._cursors: dict[str, tuple[str, Any]] = {}

    # Content.

    def add_space(self, key: str, name: str, *, status: str = "current") -> Space:
        with self.lock:
            space = self.spaces_by_key[key] = Space(super().new_id(), key, name, status)
            return space

    def add_place(self, space: str, title: str, *, kind: PlaceKind = "page", status: str = "current") -> str:
        """Makes a page, a blog post or custom content, and its space if need be; returns its id."""
        with self.lock:
            found = self.spaces_by_key.get(space) or self.add_space(space, space.title())
            place = Place(super().new_id(), kind, title, found, status)
            self.places[place.id] = place
            return place.id

    def add(
        self,
        name: str,
        content: bytes,
        *,
        content_type: str | None = None,
        modified_at: datetime | None = None,
        **fields: Any,
    ) -> Document:
        """`fields`: `place` (its id; None for nothing that the API knows), or `space`, `title` and
        `kind` of a new one."""
        with self.lock:
            if "place" not in fields:
                fields["place"] = self.add_place(
                    fields.pop("space", "CITY"), fields.pop("title", name), kind=fields.pop("kind", "page")
                )
            document = super().add(
                name, content, content_type=content_type, modified_at=modified_at, **fields
            )
            document.fields["_versions"] = [content]
            return document

    def replace(self, id: str, content: bytes, *, modified_at: datetime | None = None) -> Document:
        """A new version; the former ones stay."""
        with self.lock:
            document = super().replace(id, content, modified_at=modified_at)
            document.fields["_versions"].append(content)
            return document

    def delete_version(self, id: str, number: int) -> None:
        """Deletes a former version; those after it are numbered anew."""
        with self.lock:
            document = self.documents[id]
            del document.fields["_versions"][number - 1]
            document.version -= 1

    def new_id(self) -> str:
        return f"att{super().new_id()}"

    # The second version of the API.

    def for_visitors(self) -> frozenset[str]:
        return frozenset({"attachments", "spaces", "pages", "blogposts", "search", "current_user"})

    @on_both_hosts(
        "confluence",
        "GET",
        "/wiki/api/v2/attachments",
        PAGING | {"sort", "status", "mediaType", "filename"},
    )
    def attachments(self, request: Request) -> Answer:
        sort = request.query.get("sort", "created-date")
        if sort.removeprefix("-") not in ("created-date", "modified-date"):
            return self._v2_problem(400, f"Provided value {{{sort}}} for 'sort' is not valid")
        found = [
            (
                (
                    document.created_at if "created" in sort else document.modified_at,
                    int(document.id.removeprefix("att")),
                ),
                document,
            )
            for document in self.documents.values()
            if self._seen(document)
        ]
        found.sort(key=lambda one: one[0], reverse=sort.startswith("-"))
        return self._page(request, "attachments", found, self._attachment, 50, down=sort.startswith("-"))

    @on_both_hosts("confluence", "GET", "/wiki/api/v2/spaces", PAGING | {"ids", "keys", "status", "type"})
    def spaces(self, request: Request) -> Answer:
        found = [
            (int(space.id), space)
            for space in self.spaces_by_key.values()
            if space.key not in self.hidden
            and self._among(request, "ids", space.id)
            and self._among(request, "keys", space.key)
            and self._among(request, "status", space.status)
        ]
        return self._page(
            request,
            "spaces",
            sorted(found, key=lambda one: one[0]),
            lambda space: {"id": space.id, "key": space.key, "name": space.name, "status": space.status},
            25,
        )

    @on_both_hosts("confluence", "GET", "/wiki/api/v2/pages", PAGING | {"id", "space-id", "status"})
    def pages(self, request: Request) -> Answer:
        return self._places_page(request, "page")

    @on_both_hosts("confluence", "GET", "/wiki/api/v2/blogposts", PAGING | {"id", "space-id", "status"})
    def blogposts(self, request: Request) -> Answer:
        return self._places_page(request, "blogpost")

    @on_both_hosts("confluence", "GET", "/wiki/api/v2/custom-content/{id}", set())
    def custom_content(self, request: Request, id: str) -> Answer:
        place = self.places.get(id)
        if self.v2_status is not None:
            return self._v2_problem(self.v2_status, "Not there")
        if place is None or place.kind != "custom" or not self._readable(place):
            return self._v2_problem(404, "Not Found")
        return Answer.json(_place(place))

    def _places_page(self, request: Request, kind: PlaceKind) -> Answer:
        if any(not id_.isdigit() for id_ in request.query.get("id", "0").split(",")):
            return self._v2_problem(400, "Provided value for 'id' is not the correct type")
        found = [
            (int(place.id), place)
            for place in self.places.values()
            if place.kind == kind
            and self._readable(place)
            and place.status in ("current", *(["archived"] if kind == "page" else []))
            and self._among(request, "id", place.id)
            and self._among(request, "space-id", place.space.id)
        ]
        return self._page(request, f"{kind}s", sorted(found, key=lambda one: one[0]), _place, 25)

    def _page(
        self,
        request: Request,
        name: str,
        found: list[tuple[Any, Any]],
        row: Callable[[Any], dict[str, Any]],
        default: int,
        *,
        down: bool = False,
    ) -> Answer:
        """A page of what is sorted by the first of each pair, downwards or upwards."""
        if self.v2_status is not None:
            return self._v2_problem(self.v2_status, "Not there")
        if self.lists_in_parameters == "refused" and any(
            "," in request.query.get(one, "") for one in ("id", "ids", "keys")
        ):
            return self._v2_problem(400, "Provided value is not the correct type")
        asked, cursor = request.query.get("limit", str(default)), request.query.get("cursor")
        if not asked.isdigit() or not 1 <= int(asked) <= MOST_ROWS:
            return self._v2_problem(400, f"Provided value for 'limit' must be between 1 and {MOST_ROWS}")
        if not self.recognised(request):
            found = []
        after: Any = None
        if cursor is not None:
            if self._cursors.get(cursor, ("", None))[0] != name:
                return self._v2_problem(400, "The cursor is not valid")
            after = self._cursors[cursor][1]
        rest = [one for one in found if after is None or (one[0] < after if down else one[0] > after)]
        here = rest[: int(asked)]
        more = len(rest) > len(here)
        following = here[-1][0] if more else None
        if more and self.misbehaves("thin_page", name):
            here, following = [], after
        links: dict[str, str] = {"base": f"{self.url()}/wiki"}
        again = self.misbehaves("repeat_token", name)
        if again or more:
            made = cursor if again and cursor else self._cursor(name, after if again else following)
            query = urlencode({**request.query, "cursor": made})
            path = request.path
            if not self.gateway_prefix:
                path = path[path.index("/wiki/") :]
            links["next"] = f"{path}?{query}"
        answer = Answer.json({"results": [row(one) for _, one in here], "_links": links})
        if "next" in links:
            answer.headers["Link"] = f'<{links["next"]}>; rel="next"'
        return answer

    def _attachment(self, document: Document) -> dict[str, Any]:
        place = self.places.get(document.fields["place"] or "")
        row: dict[str, Any] = {
            "id": document.id,
            "status": self._status(document),
            "title": document.name,
            "createdAt": f"{milliseconds(document.created_at)}Z",
            "mediaType": document.content_type,
            "fileId": f"file-{document.id}",
            "fileSize": len(document.content),
            "version": {
                "number": document.version,
                "createdAt": f"{milliseconds(document.modified_at)}Z",
                "minorEdit": False,
            },
            "downloadLink": f"/download/attachments/{document.fields['place']}/{document.id}",
            "_links": {},
        }
        if place is not None:
            row[NAMES[place.kind]] = place.id
            row["webuiLink"] = f"/pages/viewpageattachments.action?pageId={place.id}"
        return row

    # The first version of the API.

    @on_both_hosts("confluence", "GET", "/wiki/rest/api/user/current", {"expand"})
    def current_user(self, request: Request) -> Answer:
        if not self.recognised(request):
            return Answer.json({"type": "anonymous", "displayName": "Anonymous"})
        return Answer.json({"type": "known", "email": self.email})

    @on_both_hosts("confluence", "GET", "/wiki/rest/api/content")
    def retired_content(self, request: Request) -> Answer:
        return self.problem(410, "This deprecated endpoint has been removed.")

    @on_both_hosts("confluence", "GET", "/wiki/rest/api/search", SEARCH_PARAMETERS)
    def search(self, request: Request) -> Answer:
        try:
            query = parsed(request.query.get("cql", ""), self._meaning)
        except QueryError as error:
            return self.problem(400, f"Could not parse cql : {error}")
        if query.test is None:
            return self.problem(400, "Could not parse cql : there is no condition")
        if any(name != "lastmodified" for name, _ in query.order):
            return self.problem(400, "Could not parse cql : cannot order by that")
        archived = request.query.get("includeArchivedSpaces") == "true"
        found = [
            document
            for document in self.documents.values()
            if self._seen(document)
            and self.recognised(request)
            and query.test(document)
            and (archived or self.places[document.fields["place"]].space.status == "current")
        ]
        down = bool(query.order and query.order[0][1])
        found.sort(key=lambda document: (document.modified_at, document.id), reverse=down)
        limit = min(int(request.query.get("limit", "25")), MOST_ROWS)
        cursor = request.query.get("cursor")
        if cursor is not None and self._cursors.get(cursor, ("", 0))[0] != request.query["cql"]:
            return self.problem(400, "The cursor is not valid")
        start = int(self._cursors[cursor][1]) if cursor is not None else 0
        expand = set(request.query.get("expand", "").split(","))
        body: dict[str, Any] = {
            "results": [self._result(document, expand) for document in found[start : start + limit]],
            "start": start,
            "limit": limit,
            "size": len(found[start : start + limit]),
            "totalSize": len(found),
            "cqlQuery": request.query.get("cql"),
            "searchDuration": 12,
            "_links": {"base": f"{self.url()}/wiki", "context": "/wiki"},
        }
        if start + limit < len(found):
            made = self._cursor(request.query["cql"], start + limit)
            query_string = urlencode({**request.query, "cursor": made})
            body["_links"]["next"] = f"/rest/api/search?{query_string}"
        return Answer.json(body)

    @on_both_hosts(
        "confluence",
        "GET",
        "/wiki/rest/api/content/{place}/child/attachment/{id}/download",
        {"version", "status"},
    )
    def download(self, request: Request, place: str, id: str) -> Answer:
        document = self.documents.get(id) or self.documents.get(f"att{id}")
        if (
            document is None
            or document.fields["place"] != place
            or not self._seen(document)
            or self._status(document) not in request.query.get("status", "current").split(",")
        ):
            return self.problem(404, f"No attachment with id {id} on content {place}")
        version = request.query.get("version", str(document.version))
        if not version.isdigit() or not 1 <= int(version) <= document.version:
            return self.problem(400, "The version is not valid")
        content = document.fields["_versions"][int(version) - 1]
        return Answer(302, b"", {"Location": self.media_link(document, content)})

    @on_both_hosts("confluence", "GET", "/wiki/download/attachments/{rest:path}")
    def retired_download(self, request: Request, rest: str) -> Answer:
        """Only browsers that are logged in may use it any more."""
        return self.problem(401, "Unauthorized")

    def problem(self, status: int, message: str) -> Answer:
        return Answer.json({"statusCode": status, "data": {}, "message": message}, status)

    # Inside.

    def _v2_problem(self, status: int, message: str) -> Answer:
        return Answer.json({"errors": [{"status": status, "code": "ERROR", "title": message}]}, status)

    def _readable(self, place: Place) -> bool:
        return place.readable and place.space.key not in self.hidden

    def _status(self, document: Document) -> str:
        place = self.places.get(document.fields["place"] or "")
        return "archived" if place and place.status == "archived" else "current"

    def _seen(self, document: Document) -> bool:
        place = self.places.get(document.fields["place"] or "")
        return place is None or self._readable(place)

    def _among(self, request: Request, name: str, value: str) -> bool:
        if name not in request.query:
            return True
        values = request.query[name].split(",")
        return value in (values if self.lists_in_parameters == "understood" else values[:1])

    def _cursor(self, name: str, after: Any) -> str:
        made = secrets.token_urlsafe(24)
        self._cursors[made] = (name, after)
        return made

    def _result(self, document: Document, expand: set[str]) -> dict[str, Any]:
        place = self.places[document.fields["place"]]
        link = f"/pages/viewpageattachments.action?pageId={place.id}"
        modified_at = f"{milliseconds(document.modified_at)}Z"
        content: dict[str, Any] = {
            "id": document.id,
            "type": "attachment",
            "status": "current",
            "title": document.name,
            "_links": {"webui": link},
        }
        parts = {
            "version": {"number": document.version, "when": modified_at, "minorEdit": False},
            "container": {"id": place.id, "type": place.kind, "title": place.title},
            "space": {
                "key": place.space.key,
                "name": place.space.name,
                "type": "global",
                "status": place.space.status,
                "_expandable": {},
                "_links": {"webui": f"/spaces/{place.space.key}"},
            },
            "extensions": {"mediaType": document.content_type, "fileSize": len(document.content)},
        }
        content |= {name: part for name, part in parts.items() if f"content.{name}" in expand}
        return {
            "content": content,
            "title": document.name,
            "excerpt": "",
            "url": link,
            "breadcrumbs": [],
            "entityType": "content",
            "iconCssClass": "content-type-attachment-other",
            "lastModified": modified_at,
            "friendlyLastModified": f"{document.modified_at:%b %d, %Y}",
        }

    def _meaning(self, condition: Condition) -> Test:
        name, operator = condition.field, condition.operator
        texts = [value.text for value in condition.values]
        if name == "type" and operator in ("=", "in"):
            return lambda document: "attachment" in texts
        if name == "space" and operator in ("=", "in", "!=", "not in"):
            wanted = operator in ("=", "in")
            return lambda document: (self.places[document.fields["place"]].space.key in texts) is wanted
        if name == "lastmodified" and operator in (">", ">=", "<", "<="):
            if not condition.values[0].quoted:
                raise QueryError("dates must be in quotes")
            moment = self._moment(texts[0])
            return {
                ">": lambda document: document.modified_at > moment,
                ">=": lambda document: document.modified_at >= moment,
                "<": lambda document: document.modified_at < moment,
                "<=": lambda document: document.modified_at <= moment,
            }[operator]
        raise QueryError(f"No field exists with name: {name}")

    def _moment(self, text: str) -> datetime:
        for pattern in ("%Y-%m-%d %H:%M", "%Y/%m/%d %H:%M", "%Y-%m-%d", "%Y/%m/%d"):
            try:
                return datetime.strptime(text, pattern).replace(tzinfo=self.time_zone)
            except ValueError:
                continue
        raise QueryError(f"'{text}' is not a date")


def _place(place: Place) -> dict[str, Any]:
    return {"id": place.id, "status": place.status, "title": place.title, "spaceId": place.space.id}
