"""Attachments of the pages and blog posts of Confluence Cloud."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, BinaryIO, ClassVar, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

import requests
from pydantic import Field, field_validator

from connectors.atlassian import AtlassianConnector, LacksScope, moment, names, quoted, stated
from connectors.base import Download, DownloadFailed, ExternalDocument, NotImported, Window
from connectors.http import HttpSession
from connectors.http_answers import Page, RequestFailed, is_html, link_header, link_in, rows

V2 = "/wiki/api/v2"
V1 = "/wiki/rest/api"
ROWS_PER_PAGE = 250
"""The most that the second version gives; a lookup of the pages of so many attachments is one call."""
MOST_PAGES_HELD = 50_000
FARTHEST_ZONE = timedelta(hours=14)

KINDS = {"pageId": "page", "blogPostId": "blogpost", "customContentId": "custom content"}

Row = Mapping[str, Any]


class Place(NamedTuple):
    """What an attachment hangs on; the title and all about the space are None where they cannot be seen."""

    id: str
    kind: str
    title: str | None = None
    space: str | None = None
    archived: bool = False


class Confluence(AtlassianConnector):
    """Every attachment of a site, or of some of its spaces, is a document.

    The second version of the API lists the attachments of the whole site, the newest first, and is
    asked as far back as the window goes. It does not say what space they are in: their pages are
    looked up, many at a time. https://developer.atlassian.com/cloud/confluence/rest/v2/api-group-attachment/
    """

    connector_type: ClassVar[str] = "confluence"
    kind: ClassVar[str] = "confluence"
    product: ClassVar[str] = "confluence"
    scopes: ClassVar[str] = (
        "read:attachment:confluence, read:page:confluence, read:custom-content:confluence,"
        " read:space:confluence and readonly:content.attachment:confluence"
    )
    windowed: ClassVar[bool] = True
    newest_first: ClassVar[bool] = True

    space_key: list[str] = Field(
        default_factory=list,
        description="Key of the space, or of several. Empty: all that the account may view.",
    )
    include_blog_posts: bool = Field(default=True, description="Also attachments of blog posts.")
    include_archived: bool = Field(default=True, description="Also what archived spaces and pages hold.")

    @field_validator("space_key", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return names(value)

    @field_validator("space_key")
    @classmethod
    def _usable_keys(cls, keys: list[str]) -> list[str]:
        if not all(re.fullmatch(r"~?[A-Za-z0-9_.:-]{1,255}", key) for key in keys):
            raise ValueError("must be keys of spaces, such as HR, not their names")
        return keys

    @property
    def system(self) -> str:
        return f"Confluence ({urlsplit(self.base_url).hostname})"

    def judge(self, answer: requests.Response) -> RequestFailed | None:
        if answer.status_code == 403:
            return RequestFailed(
                f"{self.system} refuses access: give the account access to Confluence and the permission to view"
                " the spaces",
                lasting=True,
            )
        return super().judge(answer)

    # What an HttpConnector needs.

    def _probe(self, http: HttpSession) -> str:
        self._check_account(http)
        where = f"space {', '.join(self.space_key)}" if self.space_key else "any space"
        try:
            self._wanted_spaces(http)
            found = rows(http.json("GET", f"{V2}/attachments", params={"limit": "1"}), "results")
        except RequestFailed as failure:
            if failure.status not in (404, 410):
                raise
            found = rows(http.json("GET", f"{V1}/search", params=self._search(Window())), "results")
        if not found:
            return f"{self.system} answers; there are no attachments in {where} that this account may see"
        return f"{self.system} answers, and attachments in {where} can be listed"

    def _documents(self, http: HttpSession, window: Window) -> Generator[ExternalDocument, None, None]:
        try:
            listing = self._listed(http, window)
            first = next(listing, None)
        except RequestFailed as failure:
            if failure.status not in (404, 410):
                raise
            yield from self._found(http, window)
            return
        if first is not None:
            yield first
            yield from listing

    def _download(self, http: HttpSession, document: ExternalDocument, into: BinaryIO) -> Download:
        # Not by the link that Confluence states: it is retired, and answers tokens with status 401.
        # https://developer.atlassian.com/cloud/confluence/rest/v1/api-group-content---attachments/
        container = document.metadata.get("container_id")
        if not container:
            raise DownloadFailed("it is not known what it is attached to: list the source again")
        path = (
            f"{V1}/content/{quote(str(container), safe='')}/child/attachment/"
            f"{quote(document.external_id, safe='')}/download"
        )
        # Of an archived page Confluence hands out nothing unless it is asked for what is archived.
        status = str(document.metadata.get("status") or "current")
        params = {"version": str(document.metadata["version_number"]), "status": status}
        return http.download(path, into, params=params, html=is_html(document))

    # The second version of the API.

    def _listed(self, http: HttpSession, window: Window) -> Iterator[ExternalDocument]:
        # A listing of everything tells of spaces that are not there, even when it is empty; a refresh
        # does not ask before there is something new.
        wanted = self._wanted_spaces(http) if window.start is None else None
        spaces, places = dict(wanted or {}), dict[str, Row]()
        first = True
        for found in self._newest_first(http, window):
            if first and not found.all:
                self._check_account(http)
            first = False
            ours = [row for row in found.included if self.include_blog_posts or not row.get("blogPostId")]
            if not ours:
                continue
            if wanted is None:
                wanted = self._wanted_spaces(http)
                spaces |= wanted
            if len(places) > MOST_PAGES_HELD:
                places.clear()
            self._look_up_pages(http, ours, places)
            if not wanted:
                held = [places.get(str(row.get(name)), {}) for row in ours for name in KINDS]
                missing = {str(place["spaceId"]) for place in held if "spaceId" in place} - spaces.keys()
                spaces.update({id_: {} for id_ in missing} | self._spaces(http, "ids", missing))
            for row in ours:
                place = _place(row, places, spaces)
                if wanted and (place is None or place.space is None):
                    continue
                if not self.include_archived and (
                    row.get("status") == "archived" or (place is not None and place.archived)
                ):
                    continue
                yield self._document(row, place)

    def _newest_first(self, http: HttpSession, window: Window) -> Iterator[_Listed]:
        """Pages of attachments, until half of one lies before the window."""
        params = {"limit": str(ROWS_PER_PAGE), "sort": "-modified-date"}
        for page in http.pages(f"{V2}/attachments", params, next_page=_next_page):
            found = rows(page.body, "results")
            dates = [_modified(row) for row in found]
            included = [row for row, date in zip(found, dates, strict=True) if window.includes(date)]
            yield _Listed(found, included)
            # One row alone is no proof: it may be out of order.
            older = dates[len(dates) // 2 :]
            if window.start is not None and older and max(older) < window.start:
                return

    def _look_up_pages(self, http: HttpSession, found: Iterable[Row], places: dict[str, Row]) -> None:
        """Adds what these attachments hang on, as far as the account may see it."""
        asked: dict[str, set[str]] = {name: set() for name in KINDS}
        for row in found:
            for name in KINDS:
                if row.get(name) and str(row[name]) not in places:
                    asked[name].add(str(row[name]))
        for name, path in (("pageId", "pages"), ("blogPostId", "blogposts")):
            if asked[name]:
                for row in self._by_ids(http, path, "id", asked[name]):
                    places[str(row.get("id"))] = row
        for id_ in sorted(asked["customContentId"]):  # lists of these are by type, and there is no knowing it
            try:
                places[id_] = http.json("GET", f"{V2}/custom-content/{quote(id_, safe='')}")
            except RequestFailed as failure:
                if failure.status != 404:
                    raise

    def _wanted_spaces(self, http: HttpSession) -> dict[str, Row]:
        """The spaces of the setting, by their ids. Raises RequestFailed that names one that is not there."""
        if not self.space_key:
            return {}
        wanted = self._spaces(http, "keys", self.space_key)
        for key in self.space_key:
            if not any(str(space.get("key")).lower() == key.lower() for space in wanted.values()):
                raise RequestFailed(
                    f"{self.system} has no space {key} that this account may view: check space_key",
                    lasting=True,
                )
        return wanted

    def _spaces(self, http: HttpSession, by: str, values: Iterable[str]) -> dict[str, Row]:
        return {str(space.get("id")): space for space in self._by_ids(http, "spaces", by, values)}

    def _by_ids(self, http: HttpSession, path: str, by: str, ids: Iterable[str]) -> Iterator[Row]:
        """Those of these that there are, as far as the account may see them."""
        wanted = sorted(set(ids))
        for start in range(0, len(wanted), ROWS_PER_PAGE):
            some = wanted[start : start + ROWS_PER_PAGE]
            params = {by: ",".join(some), "limit": str(ROWS_PER_PAGE)}
            found: list[Row] = []
            try:
                for page in http.pages(f"{V2}/{path}", params, next_page=_next_page):
                    found += rows(page.body, "results")
            except RequestFailed as failure:
                if failure.status != 400 or len(some) == 1:
                    raise
            yield from found
            # The reference says that several may stand in one parameter, its schemas do not: what would be
            # lost is asked for singly.
            if len(some) > 1 and len(found) <= 1:
                for one in some:
                    yield from self._by_ids(http, path, by, [one])

    def _check_account(self, http: HttpSession) -> None:
        """Raises RequestFailed where Confluence takes the account for a visitor, who sees nothing."""
        if self.auth == "client_credentials":
            return  # there is a token, so the credentials are good
        try:
            user = http.json("GET", f"{V1}/user/current")
        except LacksScope:
            return  # recognised, and what is under way needs other scopes
        except RequestFailed as failure:
            if failure.status not in (404, 410):
                raise
            return  # what is under way will tell
        if isinstance(user, dict) and user.get("type") == "anonymous":
            raise RequestFailed(
                f"{self.system} does not accept the credentials: check email and api_token", lasting=True
            )

    def _document(self, row: Row, place: Place | None) -> ExternalDocument:
        link = row.get("webuiLink")
        return self._as_document(
            row,
            place,
            size=row.get("fileSize"),
            content_type=row.get("mediaType"),
            modified_at=_modified(row),
            link=link if isinstance(link, str) else None,
        )

    # The first version of the API, where the second is not there.

    def _found(self, http: HttpSession, window: Window) -> Iterator[ExternalDocument]:
        for page in http.pages(f"{V1}/search", self._search(window), next_page=_next_page):
            for result in rows(page.body, "results"):
                row = result.get("content")
                if not isinstance(row, dict):
                    raise RequestFailed(
                        "an answer is not a listing: it has a row without content", lasting=True
                    )
                modified_at = moment(_inside(row, "version").get("when"))
                container, space = _inside(row, "container"), _inside(row, "space")
                place = None
                if container.get("id"):
                    kind = str(container.get("type") or "page")
                    place = Place(str(container["id"]), kind, container.get("title"), space.get("key"))
                    if kind == "blogpost" and not self.include_blog_posts:
                        continue
                if window.includes(modified_at):
                    yield self._as_document(
                        row,
                        place,
                        size=_inside(row, "extensions").get("fileSize"),
                        content_type=_inside(row, "extensions").get("mediaType"),
                        modified_at=modified_at,
                        link=_inside(row, "_links").get("webui"),
                    )

    def _search(self, window: Window) -> dict[str, str]:
        """CQL dates are local to the instance or to the account, and have minutes: the bounds are wide
        enough for either. https://developer.atlassian.com/cloud/confluence/advanced-searching-using-cql/"""
        conditions = ["type = attachment"]
        if self.space_key:
            conditions.append(f"space in ({', '.join(map(quoted, self.space_key))})")
        if window.start is not None:
            start = window.start.astimezone(timezone.utc) - FARTHEST_ZONE
            conditions.append(f'lastmodified >= "{start:%Y-%m-%d %H:%M}"')
        if window.end is not None:
            end = window.end.astimezone(timezone.utc) + FARTHEST_ZONE + timedelta(minutes=1)
            conditions.append(f'lastmodified < "{end:%Y-%m-%d %H:%M}"')
        return {
            "cql": f"{' and '.join(conditions)} order by lastmodified desc",
            "limit": str(ROWS_PER_PAGE),
            "expand": "content.version,content.container,content.space,content.extensions",
            "includeArchivedSpaces": "true" if self.include_archived else "false",
        }

    # Both.

    def _as_document(
        self,
        row: Row,
        place: Place | None,
        *,
        size: Any,
        content_type: Any,
        modified_at: datetime,
        link: str | None,
    ) -> ExternalDocument:
        id_ = stated(row, "id")
        size = size if isinstance(size, int) else None
        return ExternalDocument(
            external_id=id_,
            # Not its number: whenever a former version is deleted, those after it are numbered anew.
            version=f"{modified_at.isoformat(timespec='milliseconds')} {size}",
            filename=row.get("title") or id_,
            modified_at=modified_at,
            size=size,
            content_type=content_type or None,
            source_url=f"{self.base_url}/wiki{link}" if link and link.startswith("/") else None,
            metadata={
                "space": place and place.space,
                "title": place and place.title,
                "container_id": place and place.id,
                "container_type": place and place.kind,
                "version_number": stated(_inside(row, "version"), "number"),
                "status": row.get("status"),
            },
            not_imported=None
            if place
            else NotImported(
                "Confluence does not hand out what hangs on neither a page nor a post", refused=True
            ),
        )


class _Listed(NamedTuple):
    """The rows of a page, and those of them that are in the window."""

    all: list[dict[str, Any]]
    included: list[dict[str, Any]]


def _place(row: Row, places: Mapping[str, Row], spaces: Mapping[str, Row]) -> Place | None:
    for name, kind in KINDS.items():
        if row.get(name):
            id_ = str(row[name])
            found = places.get(id_, {})
            space = spaces.get(str(found.get("spaceId")), {})
            archived = "archived" in (found.get("status"), space.get("status"))
            return Place(id_, kind, found.get("title"), space.get("key"), archived)
    return None


def _modified(row: Row) -> datetime:
    return moment(_inside(row, "version").get("createdAt"))


def _inside(row: Row, name: str) -> dict[str, Any]:
    found = row.get(name)
    return found if isinstance(found, dict) else {}


def _next_page(page: Page) -> Mapping[str, str] | None:
    """Links to the next page begin at the host, after /wiki, or at the gateway's prefix, according to
    the version and the host that was asked. What differs between pages is in their query alone."""
    link = link_in("_links.next")(page) or link_header(page)
    return dict(parse_qsl(urlsplit(str(link)).query, keep_blank_values=True)) if link else None
