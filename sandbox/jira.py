"""A simulated Jira Cloud site, as far as attachments are concerned.
https://developer.atlassian.com/cloud/jira/platform/rest/v3/"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, ClassVar

from sandbox.atlassian import SimulatedAtlassian, milliseconds, on_both_hosts
from sandbox.atlassian_queries import Condition, Query, QueryError, Test, Value, parsed
from sandbox.simulated import Answer, Document, Request

MOST_ISSUES = 5_000
MOST_ISSUES_WITH_FIELDS = 100
SEARCH_PARAMETERS = {"jql", "nextPageToken", "maxResults", "fields", "expand", "reconcileIssues", "failFast"}


@dataclass
class Issue:
    """`number` is that of the key."""

    id: str
    project: str
    number: int
    summary: str
    updated: datetime
    attachments: list[str] = field(default_factory=list)
    """Ids of documents."""

    @property
    def key(self) -> str:
        return f"{self.project}-{self.number}"


class SimulatedJira(SimulatedAtlassian):
    """A site with projects and issues.

    `add(name, content, issue=KEY)` attaches a document to an issue made by `add_issue`; without one it
    makes an issue of `project` (CITY). Projects in `hidden` exist but the account may not browse them.
    """

    name: ClassVar[str] = "jira"
    needed_scopes: ClassVar[Mapping[str, frozenset[str]]] = {
        "myself": frozenset({"read:jira-user"}),
        "search": frozenset({"read:jira-work"}),
        "project": frozenset({"read:jira-work"}),
        "content": frozenset({"read:jira-work"}),
    }

    def __init__(self, ports: Mapping[str, int] | None = None) -> None:
        super().__init__(ports)
        self.projects: dict[str, str] = {}
        self.issues: dict[str, Issue] = {}
        self.hidden: set[str] = set()
        self.says_last = True
        """Whether a page says isLast; not all do."""
        self.always_last = False
        """Every page says that it is the last, though it names the next."""
        self.time_zone: tzinfo = timezone(timedelta(hours=-7))
        """The account's, in which dates in quotes are read."""
        self._pages: dict[str, tuple[str, tuple[Any, ...] | None]] = {}

    # Content.

    def add_project(self, key: str, name: str) -> None:
        with self.lock:
            self.projects[key] = name

    def add_issue(self, project: str, summary: str, *, updated: datetime | None = None) -> str:
        """Makes an issue, and its project if need be; returns its key."""
        with self.lock:
            self.projects.setdefault(project, project.title())
            number = 1 + max((i.number for i in self.issues.values() if i.project == project), default=0)
            issue = Issue(self.new_id(), project, number, summary, updated or self.now())
            self.issues[issue.key] = issue
            return issue.key

    def touch(self, key: str, *, updated: datetime | None = None) -> None:
        """As a comment does."""
        with self.lock:
            self.issues[key].updated = updated or self.now()

    def move(self, key: str, project: str, *, updated: datetime | None = None) -> None:
        """To another project, where it gets another key."""
        with self.lock:
            issue = self.issues[self.add_issue(project, self.issues[key].summary, updated=updated)]
            issue.id, issue.attachments = self.issues[key].id, self.issues.pop(key).attachments
            for id in issue.attachments:
                self.documents[id].fields["issue"] = issue.key

    def add(
        self,
        name: str,
        content: bytes,
        *,
        content_type: str | None = None,
        modified_at: datetime | None = None,
        **fields: Any,
    ) -> Document:
        """`fields`: `issue` (its key), or `project` and `summary` of a new one."""
        with self.lock:
            moment = modified_at or self.now()
            if "issue" not in fields:
                project, summary = fields.pop("project", "CITY"), fields.pop("summary", name)
                fields["issue"] = self.add_issue(project, summary, updated=moment)
            document = super().add(name, content, content_type=content_type, modified_at=moment, **fields)
            issue = self.issues[fields["issue"]]
            issue.attachments.append(document.id)
            issue.updated = max(issue.updated, moment)
            return document

    def replace(self, id: str, content: bytes, *, modified_at: datetime | None = None) -> Document:
        """Attachments never change: the old one is removed, and one of the same name added."""
        with self.lock:
            old = self.documents[id]
            self.remove(id)
            return self.add(
                old.name, content, content_type=old.content_type, modified_at=modified_at, **old.fields
            )

    def remove(self, id: str) -> None:
        with self.lock:
            document = self.documents.pop(id)
            self.issues[document.fields["issue"]].attachments.remove(id)

    # The API.

    def for_visitors(self) -> frozenset[str]:
        return frozenset({"search", "project", "content"})

    @on_both_hosts("jira", "GET", "/rest/api/3/myself", {"expand"})
    def myself(self, request: Request) -> Answer:
        return Answer.json(
            {"accountId": "5b10a2844c20165700ede21g", "emailAddress": self.email, "active": True},
            X_Seraph_LoginReason="OK",
        )

    @on_both_hosts("jira", "GET", "/rest/api/3/project/{key}", {"expand", "properties"})
    def project(self, request: Request, key: str) -> Answer:
        if key not in self.projects or key in self.hidden or not self.recognised(request):
            answer = self.problem(404, f"No project could be found with key '{key}'.")
        else:
            answer = Answer.json({"key": key, "name": self.projects[key]})
        return self._signed(request, answer)

    @on_both_hosts("jira", "GET", "/rest/api/3/search")
    def retired_search(self, request: Request) -> Answer:
        """https://developer.atlassian.com/changelog/#CHANGE-2046"""
        return self.problem(
            410,
            "The requested API has been removed. Please migrate to the /rest/api/3/search/jql API."
            " A full migration guideline is available at https://developer.atlassian.com/changelog/#CHANGE-2046",
        )

    @on_both_hosts("jira", "GET", "/rest/api/3/search/jql", SEARCH_PARAMETERS)
    def search(self, request: Request) -> Answer:
        if not self.recognised(request):
            return self._signed(request, Answer.json({"issues": [], "isLast": True}))
        fields = [name for name in request.query.get("fields", "id").split(",") if name]
        asked = request.query.get("maxResults", "50")
        if not asked.isdigit() or not 1 <= int(asked) <= MOST_ISSUES:
            return self.problem(400, f"The maxResults parameter must be between 1 and {MOST_ISSUES}.")
        limit = int(asked) if set(fields) <= {"id", "key"} else min(int(asked), MOST_ISSUES_WITH_FIELDS)
        jql, token = request.query.get("jql", ""), request.query.get("nextPageToken")
        after: tuple[Any, ...] | None = None
        if token is not None:
            if self._pages.get(token, ("", None))[0] != jql:
                return self.problem(400, "The nextPageToken is invalid or belongs to another query.")
            after = self._pages[token][1]
        try:
            query = parsed(jql, self._meaning)
            found = self._found(query)
        except QueryError as error:
            return self.problem(400, str(error))
        if query.test is None:
            return self.problem(
                400,
                "Unbounded JQL queries are not allowed here. Please add a search restriction to your query.",
            )
        rest = [one for one in found if after is None or one[0] > after]
        here = rest[:limit]
        body: dict[str, Any] = {"issues": [self._issue(issue, fields) for _, issue in here]}
        last = len(rest) <= limit
        if self.misbehaves("thin_page", "search"):
            body["issues"], last, here = [], False, []
        if self.misbehaves("repeat_token", "search"):
            body["nextPageToken"] = token or self._page_token(jql, after)
            last = False
        elif not last:
            body["nextPageToken"] = self._page_token(jql, here[-1][0] if here else after)
        if self.says_last:
            body["isLast"] = last
        if "nextPageToken" in body and self.misbehaves("cut_short", "search"):
            del body["nextPageToken"]
        if self.always_last:
            body["isLast"] = True
        return self._signed(request, Answer.json(body))

    @on_both_hosts("jira", "GET", "/rest/api/3/attachment/content/{id}", {"redirect"})
    def content(self, request: Request, id: str) -> Answer:
        document = self.documents.get(id)
        if document is None or not self._seen(document) or not self.recognised(request):
            return self._signed(request, self.problem(404, f"The attachment with id '{id}' does not exist"))
        if request.query.get("redirect") == "false":
            return Answer(200, document.content, {"Content-Type": document.content_type})
        return Answer(303, b"", {"Location": self.media_link(document, document.content)})

    def problem(self, status: int, message: str) -> Answer:
        return Answer.json({"errorMessages": [message], "errors": {}}, status)

    # Inside.

    def _seen(self, document: Document) -> bool:
        return self.issues[document.fields["issue"]].project not in self.hidden

    def _signed(self, request: Request, answer: Answer) -> Answer:
        if not self.recognised(request):
            answer.headers["X-Seraph-LoginReason"] = "AUTHENTICATED_FAILED"
        return answer

    def _page_token(self, jql: str, after: tuple[Any, ...] | None) -> str:
        token = secrets.token_urlsafe(24)
        self._pages[token] = (jql, after)
        return token

    def _issue(self, issue: Issue, fields: list[str]) -> dict[str, Any]:
        if fields == ["id"]:
            return {"id": issue.id}
        known = {
            "summary": issue.summary,
            "updated": f"{milliseconds(issue.updated)}+0000",
            "project": {"key": issue.project, "name": self.projects[issue.project]},
            "attachment": [self._attachment(self.documents[id]) for id in issue.attachments],
        }
        return {
            "id": issue.id,
            "key": issue.key,
            "self": f"{self.url()}/rest/api/3/issue/{issue.id}",
            "fields": {name: known[name] for name in fields if name in known},
        }

    def _attachment(self, document: Document) -> dict[str, Any]:
        """`content` names the site, also where the request came through the gateway."""
        return {
            "self": f"{self.url()}/rest/api/3/attachment/{document.id}",
            "id": document.id,
            "filename": document.name,
            "author": {"accountId": "5b10a2844c20165700ede21g", "displayName": "Clara Clerk"},
            "created": f"{milliseconds(document.created_at)}+0000",
            "size": len(document.content),
            "mimeType": document.content_type,
            "content": f"{self.url()}/rest/api/3/attachment/content/{document.id}",
        }

    def _found(self, query: Query) -> list[tuple[tuple[Any, ...], Issue]]:
        """Issues with what they are sorted by, in order."""
        order = query.order or (("key", True),)
        found = [
            (tuple(_Key(_sorted_by(issue, name), down) for name, down in (*order, ("key", False))), issue)
            for issue in self.issues.values()
            if issue.project not in self.hidden and query.test is not None and query.test(issue)
        ]
        return sorted(found, key=lambda one: one[0])

    def _meaning(self, condition: Condition) -> Test:
        name, operator = condition.field, condition.operator
        texts = [value.text for value in condition.values]
        if name == "project" and operator in ("=", "!=", "in", "not in"):
            for text in texts:
                if text not in self.projects or text in self.hidden:
                    raise QueryError(f"The value '{text}' does not exist for the field 'project'.")
            wanted = operator in ("=", "in")
            return lambda issue: (issue.project in texts) is wanted
        if (
            name in ("attachments", "attachment")
            and operator in ("is", "is not")
            and texts[0].lower() == "empty"
        ):
            return lambda issue: bool(issue.attachments) is (operator == "is not")
        if name in ("key", "issuekey", "id") and operator in ("=", "!=", "in", "not in"):
            wanted = operator in ("=", "in")
            return lambda issue: (issue.key in texts or issue.id in texts) is wanted
        if name == "summary" and operator in ("~", "!~"):
            return lambda issue: (texts[0].lower() in issue.summary.lower()) is (operator == "~")
        if name == "updated" and operator in (">", ">=", "<", "<="):
            moment = self._moment(condition.values[0])
            return {
                ">": lambda issue: issue.updated > moment,
                ">=": lambda issue: issue.updated >= moment,
                "<": lambda issue: issue.updated < moment,
                "<=": lambda issue: issue.updated <= moment,
            }[operator]
        raise QueryError(
            f"Field '{name}' does not exist, or the operator '{operator}' cannot be used with it."
        )

    def _moment(self, value: Value) -> datetime:
        """Milliseconds since 1970, or a date in the account's time zone."""
        if not value.quoted and value.text.lstrip("-").isdigit():
            return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=int(value.text))
        for pattern in ("%Y-%m-%d %H:%M", "%Y/%m/%d %H:%M", "%Y-%m-%d", "%Y/%m/%d"):
            try:
                return datetime.strptime(value.text, pattern).replace(tzinfo=self.time_zone)
            except ValueError:
                continue
        raise QueryError(f"Date value '{value.text}' for field 'updated' is invalid.")


class _Key:
    """A value that sorts upwards, or downwards."""

    def __init__(self, value: Any, down: bool) -> None:
        self.value = value
        self.down = down

    def __lt__(self, other: _Key) -> bool:
        return bool(other.value < self.value if self.down else self.value < other.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value)


def _sorted_by(issue: Issue, name: str) -> Any:
    if name in ("key", "issuekey", "id"):
        return (issue.project, issue.number)
    if name == "updated":
        return issue.updated
    if name == "summary":
        return issue.summary.lower()
    raise QueryError(f"Not able to sort using field '{name}'.")
