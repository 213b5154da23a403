"""Attachments of the issues of Jira Cloud."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from datetime import timedelta
from typing import Any, BinaryIO, ClassVar
from urllib.parse import quote, urlsplit

import requests
from pydantic import Field, field_validator

from connectors.atlassian import AtlassianConnector, LacksScope, moment, names, quoted, stated
from connectors.base import Download, ExternalDocument, ListingIncomplete, Window
from connectors.http import HttpSession
from connectors.http_answers import Page, RequestFailed, is_html, rows

SEARCH = "/rest/api/3/search/jql"
ISSUES_PER_PAGE = 5_000
"""The most that may be asked for; Jira sends fewer where issues are large."""
SLACK = timedelta(minutes=1)
"""An issue's date of update may lie a moment before that of the attachment that caused it."""


class Jira(AtlassianConnector):
    """Every attachment of the issues of a site, of some projects or of a query is a document.

    An attachment never changes, so its id is also its version.
    https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-search/
    """

    connector_type: ClassVar[str] = "jira"
    kind: ClassVar[str] = "jira"
    product: ClassVar[str] = "jira"
    scopes: ClassVar[str] = "read:jira-work"
    windowed: ClassVar[bool] = True

    project_key: list[str] = Field(
        default_factory=list,
        description="Key of the project, or of several. Empty: all that the account may browse.",
    )
    jql_query: str | None = Field(
        default=None, description="JQL. Only attachments of issues that match it are imported."
    )

    @field_validator("project_key", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return names(value)

    @field_validator("project_key")
    @classmethod
    def _usable_keys(cls, keys: list[str]) -> list[str]:
        if not all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,254}", key) for key in keys):
            raise ValueError("must be keys of projects, such as HR, not their names")
        return [key.upper() for key in keys]

    @field_validator("jql_query")
    @classmethod
    def _condition_alone(cls, jql: str | None) -> str | None:
        return _without_order(jql or "").strip() or None

    @property
    def system(self) -> str:
        return f"Jira ({urlsplit(self.base_url).hostname})"

    def judge(self, answer: requests.Response) -> RequestFailed | None:
        if answer.status_code == 400:
            return RequestFailed(
                f"{self.system} does not accept the query: check jql_query and project_key", lasting=True
            )
        if answer.status_code == 403:
            return RequestFailed(
                f"{self.system} refuses access: give the account the permission Browse Projects", lasting=True
            )
        return super().judge(answer)

    def _probe(self, http: HttpSession) -> str:
        self._sign_in(http)
        self._check_projects(http)
        found = rows(http.json("GET", SEARCH, params=self._search(Window()) | {"maxResults": "1"}), "issues")
        where = f"project {', '.join(self.project_key)}" if self.project_key else "any project"
        if not found:
            return (
                f"{self.system} answers; there is no issue with attachments in {where} that this account may see"
                + (" and that matches jql_query" if self.jql_query else "")
            )
        return f"{self.system} answers, and attachments in {where} can be listed"

    def _documents(self, http: HttpSession, window: Window) -> Generator[ExternalDocument, None, None]:
        self._sign_in(http)
        issues = mute = 0
        try:
            for page in http.pages(SEARCH, self._search(window), next_page=_next_page):
                for issue in rows(page.body, "issues"):
                    issues += 1
                    fields = issue.get("fields")
                    if not isinstance(fields, dict) or not isinstance(fields.get("attachment"), list):
                        mute += 1
                        continue
                    touched = fields.get("updated")
                    # An issue that was moved here, or has come to match the query, was touched: a listing of
                    # what is new has to tell its older attachments as well, as none before has told them.
                    told = window.start and not window.end and touched and moment(touched) >= window.start
                    for attachment in fields["attachment"]:
                        document = self._document(stated(issue, "key"), fields, attachment)
                        if told or window.includes(document.modified_at):
                            yield document
        except RequestFailed as failure:
            if failure.status == 400:
                self._check_projects(http)
            raise
        if not issues and window.start is None:
            self._check_projects(http)
        if mute:
            raise ListingIncomplete(
                f"{self.system} does not show the attachments of {mute} issues that have some:"
                " check that the field Attachment is not hidden in their projects"
            )

    def _download(self, http: HttpSession, document: ExternalDocument, into: BinaryIO) -> Download:
        # Not by the link that Jira states: it names the site, where the token may not be valid.
        path = f"/rest/api/3/attachment/content/{quote(document.external_id, safe='')}"
        return http.download(path, into, html=is_html(document))

    def _sign_in(self, http: HttpSession) -> None:
        """Raises RequestFailed for credentials that Jira would take for none: it serves whoever it
        does not recognise as a visitor, who sees little or nothing."""
        if self.auth == "client_credentials":
            return  # there is a token, so the credentials are good
        try:
            http.json("GET", "/rest/api/3/myself")
        except LacksScope:
            return  # recognised, and what is under way needs other scopes

    def _check_projects(self, http: HttpSession) -> None:
        """Raises RequestFailed that names a project which is not there."""
        for key in self.project_key:
            try:
                http.json("GET", f"/rest/api/3/project/{quote(key)}")
            except RequestFailed as failure:
                if failure.status != 404:
                    raise
                raise RequestFailed(
                    f"{self.system} has no project {key} that this account may browse: check project_key",
                    lasting=True,
                    status=404,
                ) from None

    def _search(self, window: Window) -> dict[str, str]:
        """What to ask for. An issue that was touched after the window still holds attachments made in
        it, so there is no upper bound. A date in quotes would be local to the account; milliseconds
        since 1970, without quotes, are not."""
        conditions = ["attachments IS NOT EMPTY"]
        if self.project_key:
            conditions.insert(0, f"project IN ({', '.join(map(quoted, self.project_key))})")
        if self.jql_query:
            conditions.append(f"({self.jql_query})")
        if window.start is not None:
            conditions.append(f"updated >= {int((window.start - SLACK).timestamp() * 1000)}")
        return {
            # Keys stay as they are while issues are touched.
            "jql": f"{' AND '.join(conditions)} ORDER BY key ASC",
            "fields": "summary,project,attachment,updated",
            "maxResults": str(ISSUES_PER_PAGE),
        }

    def _document(
        self, key: str, fields: Mapping[str, Any], attachment: Mapping[str, Any]
    ) -> ExternalDocument:
        id_, size = stated(attachment, "id"), attachment.get("size")
        project = fields.get("project") or {}
        return ExternalDocument(
            external_id=id_,
            version=id_,
            filename=attachment.get("filename") or id_,
            modified_at=moment(attachment.get("created")),
            size=size if isinstance(size, int) else None,
            content_type=attachment.get("mimeType") or None,
            source_url=f"{self.base_url}/browse/{quote(key, safe='')}",
            metadata={
                "issue": key,
                "summary": fields.get("summary"),
                "project": project.get("key"),
                "project_name": project.get("name"),
                "author": (attachment.get("author") or {}).get("displayName"),
            },
        )


def _next_page(page: Page) -> Mapping[str, str] | None:
    """The last page has no token; that it is the last is said as well, but not always. A token counts
    for more, as pages that are not asked for are lost."""
    token = page.body.get("nextPageToken")
    if not token and page.body.get("isLast") is False:
        raise ListingIncomplete(
            "the listing broke off: Jira says that there are further issues, but not how to ask for them"
        )
    return {"nextPageToken": str(token)} if token else None


def _without_order(jql: str) -> str:
    """JQL without its ORDER BY, which could not stand in parentheses."""
    strings = r'"(?:\\.|[^"\\])*"|' + r"'(?:\\.|[^'\\])*'"
    for match in re.finditer(rf"{strings}|\border\s+by\b", jql, re.IGNORECASE | re.DOTALL):
        if match[0][0] not in "\"'":
            return jql[: match.start()]
    return jql
