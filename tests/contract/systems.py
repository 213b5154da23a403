"""The systems that all connectors are held to one contract with: how each is filled, changed and made
to misbehave, and what it can and cannot do."""

from __future__ import annotations

import json
import re
import sqlite3
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage  # type: ignore[import-untyped]

from connectors import (
    amazon_s3,
    confluence,
    google_cloud_storage,
    http,
    jira,
    servicenow,
    sharepoint,
    sharepoint_rest,
)
from connectors.base import Connector
from connectors.registry import connector_class, get_connector
from sandbox.confluence import SimulatedConfluence
from sandbox.gcs import GCSServer
from sandbox.jira import SimulatedJira
from sandbox.mariadb import MariaDBServer
from sandbox.postgresql import PostgreSQLServer
from sandbox.s3 import S3Server
from sandbox.salesforce import SimulatedSalesforce
from sandbox.servicenow import SimulatedServiceNow
from sandbox.sharepoint import SimulatedSharePoint
from sandbox.sharepoint_rest import SimulatedSharePointApi
from sandbox.simulated import SimulatedSystem
from tests.connectors.sql_databases import Database, MySQLDatabase, PostgreSQLDatabase, SQLiteDatabase
from tests.contract.relay import Relay, relay
from tests.object_store_proxy import Exchange, Proxy, nothing, proxy

NOBODY = "http://127.0.0.1:1"
"""An address where nobody listens."""
NOBODY_WITH_TLS = "https://127.0.0.1:1"
CANARY = "canary-never-to-be-seen"
"""Stands for a secret that is wrong."""
PAGE = 7
"""Rows on a page, where that can be chosen: a few documents make several pages."""
THROTTLES: Mapping[str, Mapping[str, Any]] = {
    "throttle without a time": {"retry_after": "none"},
    "throttle for seconds": {"retry_after": "seconds", "seconds": 0},
    "throttle until a date": {"retry_after": "date", "seconds": 0},
    "throttle until a reset in epoch seconds": {"retry_after": "reset_epoch", "seconds": 0},
    "throttle until a reset in ISO 8601": {"retry_after": "reset_iso", "seconds": 0},
    "throttle with 503": {"retry_after": "none", "status": 503},
}


class System(ABC):
    """A system with no documents in it.

    `wrong` are settings that cannot work, with a word that the sentence about them holds.
    """

    connector_type: ClassVar[str]
    way_in: ClassVar[str] = ""
    """The setting that makes another way in than the usual one of its connector."""
    dates_can_be_set: ClassVar[bool] = True
    """Whether `add` keeps the date it is given; object stores stamp by themselves."""
    immutable: ClassVar[bool] = False
    """Whether documents never change: what replaces one is another document."""
    has_checksums: ClassVar[bool] = False
    """Whether one altered byte of a download is noticed."""
    misbehaviours: ClassVar[Sequence[str]] = ()
    page_misbehaviours: ClassVar[Sequence[str]] = ()
    """What can go wrong with the pages of a listing; none where a listing has none."""
    thin_pages_hide: ClassVar[bool] = False
    """Whether the rows that a thin page lacks are hidden, and not on the next page."""
    changes_while_listed: ClassVar[bool] = True
    """Whether the system can be changed during a listing; a file that is being read is locked."""
    counts: ClassVar[str] = "requests"
    """What `calls` counts."""
    wrong: ClassVar[Mapping[str, tuple[Mapping[str, Any], str]]]

    def __init__(self) -> None:
        self.stack = ExitStack()

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Settings that work."""

    @abstractmethod
    def add(self, name: str, content: bytes, modified_at: datetime | None = None) -> str:
        """Puts a document in, dated now if not otherwise; returns its external id."""

    @abstractmethod
    def replace(self, id: str, content: bytes) -> str:
        """Gives a document new content; returns its external id, which is another where documents
        are immutable."""

    @abstractmethod
    def remove(self, id: str) -> None:
        """Takes a document out."""

    @abstractmethod
    def modified_at(self, id: str) -> datetime:
        """The date that the system keeps."""

    @abstractmethod
    def break_listing(self) -> None:
        """Lets every listing break off until `behave`."""

    def small_pages(self) -> None:  # noqa: B027 - for most there is nothing to do
        """From now on a few documents make several pages of a listing, where there are pages."""

    def misbehave(self, how: str, where: str) -> None:
        """Does one of `misbehaviours` once, to the `listing` or to a `download`; or one of
        `page_misbehaviours`, to the `listing`."""
        raise AssertionError(f"{self.connector_type} cannot {how} at {where}")

    def misbehaved(self) -> bool:
        """Whether it has come to what `misbehave` was told."""
        raise AssertionError(f"{self.connector_type} always behaves")

    @abstractmethod
    def behave(self) -> None:
        """Ends all misbehaviour."""

    @abstractmethod
    def calls(self) -> int:
        """How many there have been since the last call of this method, downloads included."""

    @abstractmethod
    def downloads(self) -> int:
        """How many times content has been asked for."""

    def most_in_flight(self) -> int:
        """How many requests have been under way at once; 0 where nobody counts."""
        return 0

    def direct(self) -> Mapping[str, Any]:
        """Settings that lead past what the tests have put before the system."""
        return {}

    def leaks(self) -> int:
        """How many requests brought credentials to a host that they are not for."""
        return 0

    def filename(self, name: str) -> str:
        """The name that a document added under this name has."""
        return name

    def holds(self, name: str) -> bool:
        """Whether the server itself takes such a name."""
        return True

    def connector(self, **overrides: Any) -> Connector:
        """A connector to the system; None leaves a setting out."""
        given = {**self.settings(), **overrides}
        made = get_connector(self.connector_type, {n: v for n, v in given.items() if v is not None})
        self.stack.callback(made.close)
        return made

    def secrets(self) -> Sequence[str]:
        """What no message may hold."""
        fields = connector_class(self.connector_type).model_fields
        return [CANARY, *(str(value) for name, value in self.settings().items() if fields[name].exclude)]

    def close(self) -> None:
        self.stack.close()


# Databases.


class SQLSystem(System):
    """A table. A document's id is a number."""

    counts: ClassVar[str] = "statements"

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        database.create(modified="moment")
        self._last_id = 0
        self._dates: dict[str, datetime] = {}
        self._statements = self._content_reads = 0
        sa.event.listen(sa.Engine, "before_cursor_execute", self._count)
        self.stack.callback(sa.event.remove, sa.Engine, "before_cursor_execute", self._count)

    def _count(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        if ") AS documents" in statement:
            self._statements += 1
            self._content_reads += "substr(" in statement

    def settings(self) -> dict[str, Any]:
        return {
            **self.database.settings(),
            "query": "SELECT * FROM documents",
            "id_column": "id",
            "filename_column": "name",
            "modified_column": "modified",
            "content_column": "content",
        }

    def add(self, name: str, content: bytes, modified_at: datetime | None = None) -> str:
        self._last_id += 1
        self._dates[str(self._last_id)] = modified_at or datetime.now(timezone.utc)
        self.database.insert((self._last_id, name, self._dates[str(self._last_id)], content))
        return str(self._last_id)

    def replace(self, id: str, content: bytes) -> str:
        self._dates[id] = datetime.now(timezone.utc)
        marker = self.database.marker
        self.database.execute(
            f"UPDATE documents SET modified = {marker}, content = {marker} WHERE id = {int(id)}",
            [(self._dates[id], content)],
        )
        return id

    def remove(self, id: str) -> None:
        self.database.execute(f"DELETE FROM documents WHERE id = {int(id)}")

    def modified_at(self, id: str) -> datetime:
        return self._dates[id]

    def calls(self) -> int:
        counted, self._statements = self._statements, 0
        return counted

    def downloads(self) -> int:
        return self._content_reads

    def close(self) -> None:
        super().close()
        self.database.close()


WRONG_QUERIES: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "unknown table": ({"query": "SELECT * FROM nothing"}, "nothing"),
    "unknown column": ({"filename_column": "nothing"}, "filename_column"),
    "no reading": ({"query": "DELETE FROM documents"}, "query"),
}


class SQLiteSystem(SQLSystem):
    """A file: there is no network that could misbehave, and no account."""

    connector_type: ClassVar[str] = "sqlite"
    changes_while_listed: ClassVar[bool] = False
    wrong: ClassVar[Mapping[str, tuple[Mapping[str, Any], str]]] = {
        **WRONG_QUERIES,
        "no file": ({"filepath": "/nowhere/archive.db"}, "filepath"),
    }

    def __init__(self, folder: Path) -> None:
        self._file = SQLiteDatabase(folder)
        super().__init__(self._file)
        self._lock: sqlite3.Connection | None = None

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "statement_timeout_seconds": 1}

    def break_listing(self) -> None:
        """Another program holds the file, longer than the listing waits."""
        self._lock = sqlite3.connect(self._file.path, isolation_level=None)
        self._lock.execute("BEGIN EXCLUSIVE")

    def behave(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


class SQLServerSystem(SQLSystem):
    """A server, behind a relay that cuts connections."""

    misbehaviours: ClassVar[Sequence[str]] = ("reset",)
    wrong: ClassVar[Mapping[str, tuple[Mapping[str, Any], str]]] = {
        **WRONG_QUERIES,
        "wrong password": ({"password": CANARY}, "password"),
        "wrong user": ({"username": "nobody"}, "username"),
        "unknown database": ({"database": "nothing"}, "nothing"),
        "nobody listens": ({"port": 1}, "port"),
    }

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        found = database.settings()
        self._relay: Relay = self.stack.enter_context(relay(str(found["host"]), int(found["port"])))

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "port": self._relay.port}

    def break_listing(self) -> None:
        self._relay.cut_after, self._relay.cuts = 0, 1_000

    def misbehave(self, how: str, where: str) -> None:
        """Answers with content are the longest."""
        self._relay.cut_after, self._relay.cuts = (10_000 if where == "download" else 0), 1

    def misbehaved(self) -> bool:
        return not self._relay.cuts

    def behave(self) -> None:
        self._relay.cuts = 0


class PostgreSQLSystem(SQLServerSystem):
    connector_type: ClassVar[str] = "postgresql"

    def __init__(self, server: PostgreSQLServer) -> None:
        super().__init__(PostgreSQLDatabase(server))


class MySQLSystem(SQLServerSystem):
    connector_type: ClassVar[str] = "mysql"

    def __init__(self, server: MariaDBServer) -> None:
        super().__init__(MySQLDatabase(server))


# Object stores, behind a proxy.


class ObjectStore(System):
    dates_can_be_set: ClassVar[bool] = False
    has_checksums: ClassVar[bool] = True
    misbehaviours: ClassVar[Sequence[str]] = (
        "throttle with 429",
        "throttle with 503",
        "fail",
        "reset",
        "truncate",
        "corrupt",
        "login page",
    )
    page_misbehaviours: ClassVar[Sequence[str]] = ("thin page", "repeated page")
    thin_pages_hide: ClassVar[bool] = True
    scheme: ClassVar[str]
    next_token: ClassVar[re.Pattern[bytes]]
    """What leads to the next page, in the answer of a listing."""

    def __init__(self, endpoint_url: str) -> None:
        super().__init__()
        self.endpoint_url = endpoint_url
        self.bucket = f"contract-{uuid.uuid4().hex}"
        self.front: Proxy = self.stack.enter_context(proxy(endpoint_url))
        self._counted = 0
        self._due = False

    @abstractmethod
    def _is_download(self, exchange: Exchange) -> bool:
        """Whether a request asks for content."""

    def _name(self, id: str) -> str:
        return id.removeprefix(f"{self.scheme}://{self.bucket}/")

    def break_listing(self) -> None:
        self.front.before = self._answering(503, b"", lambda exchange: not self._is_download(exchange))

    def misbehave(self, how: str, where: str) -> None:
        self._due = True
        if how in self.page_misbehaviours:
            self.front.after = self._without_rows if how == "thin page" else self._repeating()
            return

        def due(exchange: Exchange) -> bool:
            if not self._due or self._is_download(exchange) is not (where == "download"):
                return False
            self._due = False
            return True

        def spoil(exchange: Exchange) -> None:
            if not due(exchange):
                return
            if how == "corrupt":
                middle = len(exchange.body) // 2
                altered = bytes([exchange.body[middle] ^ 1])
                exchange.body = exchange.body[:middle] + altered + exchange.body[middle + 1 :]
            else:
                exchange.cut_after = len(exchange.body) // 2
                exchange.reset = how == "reset"

        if how in ("reset", "truncate", "corrupt"):
            self.front.after = spoil
        else:
            page = b"<!doctype html><title>Log in</title><form>"
            status = {"throttle with 429": 429, "throttle with 503": 503, "fail": 500, "login page": 200}[how]
            self.front.before = self._answering(status, page if status == 200 else b"", due)

    @abstractmethod
    def _emptied(self, page: bytes) -> bytes:
        """A page of a listing without its objects."""

    def _without_rows(self, exchange: Exchange) -> None:
        """The first page that leads to another."""
        if self._due and self.next_token.search(exchange.body):
            self._due = False
            exchange.body = self._emptied(exchange.body)
            exchange.answer_headers.pop("content-length", None)

    def _repeating(self) -> Callable[[Exchange], None]:
        """All pages lead to the same one."""
        tokens: list[bytes] = []

        def repeat(exchange: Exchange) -> None:
            found = self.next_token.search(exchange.body)
            if found is None:
                return
            tokens.append(found[0])
            if len(tokens) > 1:
                self._due = False
                exchange.body = exchange.body.replace(found[0], tokens[0])
                exchange.answer_headers.pop("content-length", None)

        return repeat

    def _answering(
        self, status: int, body: bytes, when: Callable[[Exchange], bool]
    ) -> Callable[[Exchange], None]:
        def answer(exchange: Exchange) -> None:
            if when(exchange):
                exchange.status, exchange.body = status, body
                exchange.answer_headers = {"content-type": "text/html" if body else "text/plain"}

        return answer

    def misbehaved(self) -> bool:
        return not self._due

    def behave(self) -> None:
        self.front.before = self.front.after = nothing

    def direct(self) -> Mapping[str, Any]:
        """The proxy holds bodies whole."""
        return {"endpoint_url": self.endpoint_url}

    def calls(self) -> int:
        counted, self._counted = len(self.front.seen) - self._counted, len(self.front.seen)
        return counted

    def downloads(self) -> int:
        return sum(map(self._is_download, self.front.seen))

    def filename(self, name: str) -> str:
        """A key may look like a path: its last part is the name."""
        return name.rstrip("/").rpartition("/")[2]

    def holds(self, name: str) -> bool:
        """Both servers keep objects as files: they take no step up, and no long parts; to one of them a
        backslash is a slash."""
        return ".." not in name and "\\" not in name and len(name.encode()) <= 200


class S3System(ObjectStore):
    connector_type: ClassVar[str] = "amazon_s3"
    scheme: ClassVar[str] = "s3"
    next_token: ClassVar[re.Pattern[bytes]] = re.compile(
        rb"<NextContinuationToken>.+?</NextContinuationToken>"
    )
    wrong: ClassVar[Mapping[str, tuple[Mapping[str, Any], str]]] = {
        "wrong secret": ({"secret_access_key": CANARY}, "secret_access_key"),
        "wrong key": ({"access_key_id": "AKIANOBODY"}, "access_key_id"),
        "unknown bucket": ({"bucket_name": "nothing-here"}, "bucket_name"),
        "nobody listens": ({"endpoint_url": NOBODY}, "endpoint_url"),
    }

    def __init__(self, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(server.endpoint_url)
        monkeypatch.setattr(amazon_s3, "REQUEST_ATTEMPTS", 2)
        self._server = server
        self._small_pages = False
        self._client = server.client()
        server.create_bucket(self.bucket)

    def settings(self) -> dict[str, Any]:
        return {
            "bucket_name": self.bucket,
            "endpoint_url": self.front.endpoint_url,
            "access_key_id": self._server.access_key,
            "secret_access_key": self._server.secret_key,
        }

    def small_pages(self) -> None:
        self._small_pages = True

    def _emptied(self, page: bytes) -> bytes:
        return re.sub(rb"<Contents>.*?</Contents>", b"", page, flags=re.DOTALL)

    def connector(self, **overrides: Any) -> Connector:
        def small(params: Any, **_: Any) -> Any:
            return {**params, "MaxKeys": PAGE}

        made = super().connector(**overrides)
        if self._small_pages:  # it takes what the server gives by default, which is a thousand
            assert isinstance(made, amazon_s3.AmazonS3)
            made._client().meta.events.register("provide-client-params.s3.ListObjectsV2", small)
        return made

    def add(self, name: str, content: bytes, modified_at: datetime | None = None) -> str:
        self._client.put_object(Bucket=self.bucket, Key=name, Body=content)
        return f"s3://{self.bucket}/{name}"

    def replace(self, id: str, content: bytes) -> str:
        return self.add(self._name(id), content)

    def remove(self, id: str) -> None:
        self._client.delete_object(Bucket=self.bucket, Key=self._name(id))

    def modified_at(self, id: str) -> datetime:
        (found,) = self._client.list_objects_v2(Bucket=self.bucket, Prefix=self._name(id))["Contents"]
        return found["LastModified"].astimezone(timezone.utc)

    def _is_download(self, exchange: Exchange) -> bool:
        return exchange.method == "GET" and "list-type=" not in exchange.path


class GCSSystem(ObjectStore):
    """The server asks nobody for credentials."""

    connector_type: ClassVar[str] = "google_cloud_storage"
    scheme: ClassVar[str] = "gs"
    next_token: ClassVar[re.Pattern[bytes]] = re.compile(rb'"nextPageToken":"[^"]+"')
    wrong: ClassVar[Mapping[str, tuple[Mapping[str, Any], str]]] = {
        "no key": ({"anonymous": None, "service_account_key": CANARY}, "service_account_key"),
        "unknown bucket": ({"bucket_name": "nothing-here"}, "bucket_name"),
        "nobody listens": ({"endpoint_url": NOBODY}, "endpoint_url"),
    }

    def __init__(self, server: GCSServer, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(server.endpoint_url)
        monkeypatch.setattr(google_cloud_storage, "FIRST_PAUSE", 0.01)
        monkeypatch.setattr(google_cloud_storage, "PATIENCE", 1.0)
        monkeypatch.setattr(google_cloud_storage, "TEST_PATIENCE", 0.0)
        self._monkeypatch = monkeypatch
        server.create_bucket(self.bucket)
        client = storage.Client(
            project="sandbox",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": server.endpoint_url},
        )
        self._blobs = client.bucket(self.bucket)

    def settings(self) -> dict[str, Any]:
        return {"bucket_name": self.bucket, "endpoint_url": self.front.endpoint_url, "anonymous": True}

    def small_pages(self) -> None:
        self._monkeypatch.setattr(google_cloud_storage, "PAGE_SIZE", PAGE)

    def _emptied(self, page: bytes) -> bytes:
        return json.dumps(
            {name: value for name, value in json.loads(page).items() if name != "items"}
        ).encode()

    def add(self, name: str, content: bytes, modified_at: datetime | None = None) -> str:
        self._blobs.blob(name).upload_from_string(content)
        return f"gs://{self.bucket}/{name}"

    def replace(self, id: str, content: bytes) -> str:
        return self.add(self._name(id), content)

    def remove(self, id: str) -> None:
        self._blobs.blob(self._name(id)).delete()

    def modified_at(self, id: str) -> datetime:
        found: datetime = self._blobs.get_blob(self._name(id)).updated
        return found.astimezone(timezone.utc)

    def _is_download(self, exchange: Exchange) -> bool:
        return "alt=media" in exchange.path


# Simulated systems.


class SimulatedOne(System):
    """A simulated system. `listing`, `download` and `media` are the names of its routes; where downloads
    lead to a host for bytes alone, `media` is there, else the same as `download`."""

    misbehaviours: ClassVar[Sequence[str]] = (
        *THROTTLES,
        "fail",
        "reset",
        "truncate",
        "corrupt",
        "login page",
        "expire tokens",
    )
    page_misbehaviours: ClassVar[Sequence[str]] = ("thin page", "repeated page")
    listing: ClassVar[str]
    download: ClassVar[str]
    media: ClassVar[str]

    def __init__(self, system: SimulatedSystem, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        monkeypatch.setattr(http, "FIRST_PAUSE", 0.001)
        self.system = self.stack.enter_context(system)
        self._misbehaviour: tuple[Any, str]

    def add(self, name: str, content: bytes, modified_at: datetime | None = None) -> str:
        return self.system.add(name, content, modified_at=modified_at).id

    def replace(self, id: str, content: bytes) -> str:
        return self.system.replace(id, content).id

    def remove(self, id: str) -> None:
        self.system.remove(id)

    def modified_at(self, id: str) -> datetime:
        return self.system.documents[id].modified_at

    def break_listing(self) -> None:
        """After its first page."""
        self.system.misbehave("fail", route=self.listing, spare=1, times=1_000)

    def misbehave(self, how: str, where: str) -> None:
        """Of a download, what concerns its bytes concerns the host that they come from."""
        if how in self.page_misbehaviours:
            # Pages may have routes of their own; a page that is repeated is so for ever.
            page: Any = "thin_page" if how == "thin page" else "repeat_token"
            self._misbehaviour = (page, "*")
            self.system.misbehave(page, times=1 if how == "thin page" else 1_000)
            return
        bytes_only = how in ("reset", "truncate", "corrupt")
        route = self.listing if where == "listing" else self.media if bytes_only else self.download
        kind: Any = "throttle" if how in THROTTLES else how.replace(" ", "_")
        self._misbehaviour = (kind, route)
        self.system.misbehave(kind, route=route, **THROTTLES.get(how, {}))

    def misbehaved(self) -> bool:
        return not self.system.misbehaves(*self._misbehaviour)

    def behave(self) -> None:
        self.system.behave()

    def calls(self) -> int:
        """Without requests for tokens: one holds for many refreshes."""
        counted = sum(self.system.requests.values()) - self.system.requests["token"]
        self.system.forget_requests()
        return counted

    def downloads(self) -> int:
        return self.system.requests[self.download]

    def leaks(self) -> int:
        return len(self.system.leaks)

    def most_in_flight(self) -> int:
        return self.system.most_in_flight


class ServiceNowSystem(SimulatedOne):
    connector_type: ClassVar[str] = "servicenow"
    listing: ClassVar[str] = "attachments"
    download: ClassVar[str] = "attachment_file"
    media: ClassVar[str] = "attachment_file"
    has_checksums: ClassVar[bool] = True
    thin_pages_hide: ClassVar[bool] = True
    wrong: ClassVar[Mapping[str, tuple[Mapping[str, Any], str]]] = {
        "wrong password": ({"password": CANARY}, "password"),
        "wrong user": ({"username": "nobody"}, "username"),
        "unknown table": ({"table_name": "nothing"}, "nothing"),
        "nobody listens": ({"instance_url": NOBODY}, "instance_url"),
    }

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = SimulatedServiceNow()
        super().__init__(self.now, monkeypatch)
        monkeypatch.setattr(servicenow, "ATTACHMENTS_PER_PAGE", PAGE)

    def settings(self) -> dict[str, Any]:
        return {
            "instance_url": self.now.url(),
            "table_name": "incident",
            "username": self.now.username,
            "password": self.now.password,
        }


WRONG_ACCOUNTS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "wrong token": ({"api_token": CANARY}, "api_token"),
    "wrong account": ({"email": "nobody@city.example"}, "email"),
    "nobody listens": ({"base_url": NOBODY}, "base_url"),
}


class JiraSystem(SimulatedOne):
    connector_type: ClassVar[str] = "jira"
    listing: ClassVar[str] = "search"
    download: ClassVar[str] = "content"
    media: ClassVar[str] = "binary"
    immutable: ClassVar[bool] = True
    wrong: ClassVar[Mapping[str, tuple[Mapping[str, Any], str]]] = {
        **WRONG_ACCOUNTS,
        "unknown project": ({"project_key": "NOTHING"}, "project_key"),
        "no query": ({"jql_query": "summary ~~ x"}, "jql_query"),
    }

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = SimulatedJira()
        super().__init__(self.site, monkeypatch)
        monkeypatch.setattr(jira, "ISSUES_PER_PAGE", PAGE)
        self.site.add_project("CITY", "City")

    def settings(self) -> dict[str, Any]:
        return {
            "base_url": self.site.url(),
            "email": self.site.email,
            "api_token": self.site.api_token,
            "project_key": ["CITY"],
        }


class ConfluenceSystem(SimulatedOne):
    connector_type: ClassVar[str] = "confluence"
    listing: ClassVar[str] = "attachments"
    download: ClassVar[str] = "download"
    media: ClassVar[str] = "binary"
    wrong: ClassVar[Mapping[str, tuple[Mapping[str, Any], str]]] = {
        **WRONG_ACCOUNTS,
        "unknown space": ({"space_key": "NOTHING"}, "space_key"),
    }

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = SimulatedConfluence()
        super().__init__(self.site, monkeypatch)
        monkeypatch.setattr(confluence, "ROWS_PER_PAGE", PAGE)
        self.site.add_space("CITY", "City")

    def settings(self) -> dict[str, Any]:
        return {
            "base_url": self.site.url(),
            "email": self.site.email,
            "api_token": self.site.api_token,
            "space_key": ["CITY"],
        }


class SalesforceSystem(SimulatedOne):
    connector_type: ClassVar[str] = "salesforce"
    listing: ClassVar[str] = "query"
    download: ClassVar[str] = "version_data"
    media: ClassVar[str] = "version_data"
    has_checksums: ClassVar[bool] = True
    wrong: ClassVar[Mapping[str, tuple[Mapping[str, Any], str]]] = {
        "wrong secret": ({"client_secret": CANARY}, "client_secret"),
        "wrong client": ({"client_id": "3MVG9nobody"}, "client_id"),
        "unknown object": ({"record_types": ["Nothing"]}, "Nothing"),
        "retired version": ({"api_version": "30.0"}, "api_version"),
        "nobody listens": ({"instance_url": NOBODY}, "instance_url"),
    }

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.city = SimulatedSalesforce()
        super().__init__(self.city, monkeypatch)
        self.city.rows_per_batch = PAGE

    def settings(self) -> dict[str, Any]:
        return {
            "instance_url": self.city.url(),
            "client_id": self.city.client_id,
            "client_secret": self.city.client_secret,
        }

    def break_listing(self) -> None:
        """Files come in several batches, after the first."""
        self.system.misbehave("fail", route="query_more", times=1_000)


class SharePointSystem(SimulatedOne):
    """An id of a document is that of its library and its own."""

    connector_type: ClassVar[str] = "sharepoint"
    listing: ClassVar[str] = "delta"
    download: ClassVar[str] = "content"
    media: ClassVar[str] = "media"
    has_checksums: ClassVar[bool] = True
    wrong: ClassVar[Mapping[str, tuple[Mapping[str, Any], str]]] = {
        "wrong secret": ({"client_secret": CANARY}, "client_secret"),
        "unknown application": ({"client_id": "01234567-89ab-cdef-0123-456789abcdef"}, "client_id"),
        "unknown tenant": ({"tenant_id": "nothing.example"}, "tenant_id"),
        "unknown site": ({"site_url": "https://city.sharepoint.com/sites/nothing"}, "site_url"),
        "unknown library": ({"library_name": "Nothing"}, "Documents"),
        "unknown folder": ({"folder": "Nothing"}, "Nothing"),
        "nobody lets in": ({"authority_url": NOBODY_WITH_TLS}, "authority_url"),
        "nobody listens": ({"graph_url": NOBODY_WITH_TLS}, "graph_url"),
    }

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = SimulatedSharePoint()
        super().__init__(self.site, monkeypatch)
        monkeypatch.setattr(sharepoint, "ITEMS_PER_PAGE", PAGE)

    def settings(self) -> dict[str, Any]:
        return {
            "site_url": self.site.site_url,
            "tenant_id": self.site.tenant_id,
            "client_id": self.site.client_id,
            "client_secret": self.site.client_secret,
            "authority_url": self.site.url("login"),
            "graph_url": self.site.url(),
            "ca_file": str(self.site.ca_file),
            "library_name": "Documents",
        }

    def _item(self, id: str) -> str:
        return id.rpartition("/")[2]

    def _external_id(self, item: str) -> str:
        (library,) = self.site.libraries
        return f"{library}/{item}"

    def add(self, name: str, content: bytes, modified_at: datetime | None = None) -> str:
        return self._external_id(super().add(name, content, modified_at))

    def replace(self, id: str, content: bytes) -> str:
        return self._external_id(super().replace(self._item(id), content))

    def remove(self, id: str) -> None:
        super().remove(self._item(id))

    def modified_at(self, id: str) -> datetime:
        return super().modified_at(self._item(id))


class SharePointApiSystem(SimulatedOne):
    """An id of a document is its own. No checksum is stated."""

    connector_type: ClassVar[str] = "sharepoint"
    way_in: ClassVar[str] = "api: sharepoint"
    listing: ClassVar[str] = "items"
    download: ClassVar[str] = "file_value"
    media: ClassVar[str] = "file_value"
    wrong: ClassVar[Mapping[str, tuple[Mapping[str, Any], str]]] = {
        "wrong thumbprint": ({"thumbprint": "0" * 40}, "thumbprint"),
        "unknown application": ({"client_id": "01234567-89ab-cdef-0123-456789abcdef"}, "client_id"),
        "unknown tenant": ({"tenant_id": "nothing.example"}, "tenant_id"),
        "unknown library": ({"library_name": "Nothing"}, "Documents"),
        "unknown folder": ({"folder": "Nothing"}, "Nothing"),
        "nobody lets in": ({"authority_url": NOBODY_WITH_TLS}, "authority_url"),
        "another tenant's site": ({"site_url": NOBODY_WITH_TLS}, "site_url"),
    }

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = SimulatedSharePointApi()
        super().__init__(self.site, monkeypatch)
        monkeypatch.setattr(sharepoint_rest, "ITEMS_PER_PAGE", PAGE)
        self._ids: dict[str, str] = {}

    def settings(self) -> dict[str, Any]:
        return {
            "api": "sharepoint",
            "site_url": self.site.own_url,
            "tenant_id": self.site.tenant_id,
            "client_id": self.site.client_id,
            "certificate": self.site.private_key + self.site.certificate,
            "authority_url": self.site.url("login"),
            "ca_file": str(self.site.ca_file),
            "library_name": "Documents",
        }

    def add(self, name: str, content: bytes, modified_at: datetime | None = None) -> str:
        id = super().add(name, content, modified_at)
        unique_id = self.site.unique_id(id)
        self._ids[unique_id] = id
        return unique_id

    def replace(self, id: str, content: bytes) -> str:
        super().replace(self._ids[id], content)
        return id

    def remove(self, id: str) -> None:
        super().remove(self._ids[id])

    def modified_at(self, id: str) -> datetime:
        return super().modified_at(self._ids[id])


SYSTEMS: Mapping[str, type[System]] = {
    made.connector_type: made
    for made in (
        S3System,
        ConfluenceSystem,
        GCSSystem,
        JiraSystem,
        MySQLSystem,
        PostgreSQLSystem,
        SalesforceSystem,
        ServiceNowSystem,
        SharePointSystem,
        SQLiteSystem,
    )
} | {"sharepoint_api": SharePointApiSystem}
"""By connector type, and other ways in."""


@contextmanager
def started(
    connector_type: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> Iterator[System]:
    """The system of a connector, on whatever server it needs."""
    made: System
    if connector_type == "sqlite":
        made = SQLiteSystem(folder)
    elif connector_type == "postgresql":
        made = PostgreSQLSystem(request.getfixturevalue("postgresql_server"))
    elif connector_type == "mysql":
        made = MySQLSystem(request.getfixturevalue("mariadb_server"))
    elif connector_type == "amazon_s3":
        made = S3System(request.getfixturevalue("s3_server"), monkeypatch)
    elif connector_type == "google_cloud_storage":
        made = GCSSystem(request.getfixturevalue("gcs_server"), monkeypatch)
    else:
        made = SYSTEMS[connector_type](monkeypatch)  # type: ignore[call-arg]
    try:
        yield made
    finally:
        made.behave()
        made.close()
