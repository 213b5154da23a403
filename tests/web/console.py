"""A console of its own for a test, spoken to over HTTP."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import sqlalchemy as sa
import uvicorn

from citysort_dagster import api_tokens
from citysort_dagster.installation import Installation
from citysort_dagster.store.models import AuditEvent
from citysort_dagster.web.app import create_app

MODIFIED = "2026-10-01T08:00:00Z"


@dataclass
class Console:
    """A running server. `token` is sent with every request, unless it is empty."""

    url: str
    installation: Installation
    folder: Path
    token: str = ""
    session: requests.Session = field(default_factory=requests.Session)

    def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        """One request, with JSON for a body."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= options.pop("headers", {})
        self.session.trust_env = False
        return self.session.request(
            method,
            self.url + path,
            json=body,
            headers=headers,
            timeout=options.pop("timeout", 60),
            allow_redirects=False,
            **options,
        )

    def well(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """The JSON of an answer, held to success."""
        answer = self(method, path, body, **options)
        assert answer.ok, (answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def refused(
        self, status: int, method: str, path: str, body: Any = None, **options: Any
    ) -> dict[str, Any]:
        """The problem document of an answer, held to its status."""
        answer = self(method, path, body, **options)
        assert answer.status_code == status, (answer.status_code, answer.text)
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem: dict[str, Any] = answer.json()
        assert problem["status"] == status and problem["title"]
        return problem

    def as_role(self, role: str, name: str | None = None) -> Console:
        """The same server for somebody with a token of that role."""
        token = api_tokens.create(self.installation.database, name or f"some.{role}", role, "command line")
        return Console(self.url, self.installation, self.folder, token)

    def audit(self) -> list[tuple[str, str, str | None]]:
        """Event, actor and source of everything that happened, in its order."""
        with self.installation.database.read() as connection:
            statement = sa.select(AuditEvent.event, AuditEvent.actor, AuditEvent.source).order_by(
                AuditEvent.id
            )
            return [(row.event, row.actor, row.source) for row in connection.execute(statement)]

    def follow(self, run_id: str) -> list[tuple[str, dict[str, Any]]]:
        """The events of an import, up to its end."""
        events = []
        with self.session.get(f"{self.url}/api/imports/{run_id}/events", stream=True, timeout=120) as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            kind = ""
            for line in answer.iter_lines(decode_unicode=True):
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    events.append((kind, json.loads(line.removeprefix("data: "))))
        return events


@contextmanager
def running(
    installation: Installation, folder: Path, loopback: bool = True, hosts: tuple[str, ...] = ()
) -> Iterator[Console]:
    """The server, in a thread of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = create_app(installation, loopback=loopback, hosts=hosts)
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            with requests.Session() as session:
                url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                yield Console(url, installation, folder, session=session)
        finally:
            server.should_exit = True
            thread.join()


def make_archive(path: Path, names: Mapping[str, bytes | None]) -> dict[str, Any]:
    """Fills a database file with documents by their names, and returns what a source is told of it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TABLE documents (id INTEGER PRIMARY KEY, name TEXT, content BLOB, at TEXT)"
        )
        rows = [(name, content, MODIFIED) for name, content in names.items()]
        connection.executemany("INSERT INTO documents (name, content, at) VALUES (?, ?, ?)", rows)
        connection.commit()
    return {
        "filepath": str(path),
        "query": "SELECT * FROM documents",
        "id_column": "id",
        "filename_column": "name",
        "content_column": "content",
        "modified_column": "at",
    }
