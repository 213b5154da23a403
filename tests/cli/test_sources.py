"""`citysort sources`, on each kind of documents database."""

from __future__ import annotations

import http.server
import io
import json
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from citysort_dagster.lock_file import hold
from citysort_dagster.reload import running_url
from citysort_dagster.settings import load_settings
from tests.cli.conftest import Command

CANARY = "canary-5d3e"
YAML = """sources:
  - name: courts
    connector: postgresql
    config:
      host: 127.0.0.1
      port: 1
      database: courts
      username: reader
      password: {{env: COURTS_PASSWORD}}
      query: SELECT id, content FROM filings
      id_column: id
      content_column: content
    schedule: "0 5 * * *"
  - name: archive
    connector: sqlite
    config:
      filepath: {folder}/archive.db
      query: SELECT id, content FROM filings
      id_column: id
      content_column: content
    owners: [team:courts]
    tags: {{kept: always}}
"""


@pytest.fixture
def sources(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COURTS_PASSWORD", CANARY)
    with closing(sqlite3.connect(tmp_path / "archive.db")) as archive:
        archive.execute("CREATE TABLE filings (id INTEGER PRIMARY KEY, content TEXT)")
    file = tmp_path / "sources.yaml"
    file.write_text(YAML.format(folder=tmp_path))
    return file


def test_applying_reports_what_it_did(citysort: Command, sources: Path) -> None:
    assert citysort.well("sources", "apply", sources).out == "created    courts\ncreated    archive\n"
    assert citysort.well("sources", "apply", sources).out == "unchanged  courts\nunchanged  archive\n"
    sources.write_text(sources.read_text().replace("0 5 * * *", "0 6 * * *"))
    assert citysort.well("sources", "apply", sources, "--json").json == {
        "created": [],
        "changed": {"courts": ["schedule"]},
        "unchanged": ["archive"],
        "disabled": [],
    }
    sources.write_text("sources: []")
    ran = citysort.well("sources", "apply", "--prune", sources)
    assert ran.out.splitlines() == [
        f"disabled   {name} (no longer in the file)" for name in ("archive", "courts")
    ]


def test_mistakes_are_told_line_by_line(citysort: Command, sources: Path) -> None:
    sources.write_text(sources.read_text().replace("host:", "hst:").replace("{env: COURTS_PASSWORD}", CANARY))
    ran = citysort("sources", "apply", sources)
    assert (ran.code, ran.out) == (2, "")
    first, second = ran.err.splitlines()
    assert first.startswith(f"citysort: {sources}, line 5: the connector postgresql has no setting 'hst'")
    assert second.startswith(f"citysort: {sources}, line 9: password is a secret")
    assert CANARY not in ran.err
    assert citysort.well("sources", "list", "--json").json == []


def test_listing(citysort: Command, sources: Path) -> None:
    assert "no source is configured yet" in citysort.well("sources", "list").err
    citysort.well("sources", "apply", sources)
    archive, courts = citysort.well("sources", "list", "--json").json
    assert (archive["name"], archive["connector"], archive["enabled"]) == ("archive", "sqlite", True)
    assert (archive["owners"], archive["tags"]) == (["team:courts"], {"kept": "always"})
    assert (courts["schedule"], courts["last_sync_at"]) == ("0 5 * * *", None)
    assert "0 5 * * *" in citysort.well("sources", "list").out


def test_secrets_are_in_no_output(
    citysort: Command, sources: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    citysort.well("sources", "apply", sources)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{CANARY}-stored\n"))
    outputs = [citysort.well("sources", "set-secret", "courts", "password")]
    for arguments in (["show", "courts"], ["show", "courts", "--json"], ["list", "--json"], ["list"]):
        outputs.append(citysort.well("sources", *arguments))
    outputs.append(citysort("sources", "test", "courts"))
    outputs.append(citysort("sources", "test", "courts", "--json"))
    outputs.append(citysort("sources", "set-secret", "courts", "username"))
    assert CANARY not in str(outputs)
    assert re.search(r"^config.password +\(set\)$", outputs[1].out, re.MULTILINE)
    stored = [file.read_bytes() for file in data_dir.rglob("*") if file.is_file()]
    assert not any(CANARY.encode() in content for content in stored)


def test_references_are_shown_by_name(citysort: Command, sources: Path) -> None:
    citysort.well("sources", "apply", sources)
    text = citysort.well("sources", "show", "courts").out
    assert re.search(r"^config.password +\{env: COURTS_PASSWORD\}$", text, re.MULTILINE)
    shown = citysort.well("sources", "show", "courts", "--json").json
    assert shown["config"]["password"] == {"env": "COURTS_PASSWORD"}


def test_an_empty_secret_is_refused(
    citysort: Command, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    citysort.well("sources", "apply", sources)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    ran = citysort("sources", "set-secret", "courts", "password")
    assert (ran.code, "the secret is empty" in ran.err) == (2, True)


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_secret_that_is_no_text_is_refused(
    citysort: Command, sources: Path, monkeypatch: pytest.MonkeyPatch, errors: str
) -> None:
    """Where there is no locale, Python takes other bytes for lone surrogates."""
    citysort.well("sources", "apply", sources)
    given = io.TextIOWrapper(io.BytesIO(b"se\xffcret"), encoding="utf-8", errors=errors)
    monkeypatch.setattr("sys.stdin", given)
    ran = citysort("sources", "set-secret", "courts", "password")
    assert (ran.code, "the secret is not text in UTF-8" in ran.err) == (2, True)


def test_testing_a_source(citysort: Command, sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    citysort.well("sources", "apply", sources)
    works = citysort.well("sources", "test", "archive", "--json")
    assert set(works.json) == {"ok", "message"}
    assert works.json["ok"] is True
    assert citysort.well("sources", "test", "archive").out.startswith("works: ")

    unreachable = citysort("sources", "test", "courts", "--json")
    assert (unreachable.code, unreachable.json["ok"]) == (1, False)

    monkeypatch.delenv("COURTS_PASSWORD")
    without = citysort("sources", "test", "courts")
    assert (without.code, "the environment variable that it names is not set" in without.out) == (1, True)
    assert citysort("sources", "test", "court").code == 2


def test_enabling_disabling_and_removing(citysort: Command, sources: Path) -> None:
    citysort.well("sources", "apply", sources)
    assert citysort.well("sources", "disable", "courts").out == "disabled   courts\n"
    assert citysort.well("sources", "disable", "courts").out == "unchanged  courts\n"
    assert citysort.well("sources", "show", "courts", "--json").json["enabled"] is False
    assert citysort.well("sources", "enable", "courts").out == "enabled    courts\n"
    assert citysort.well("sources", "remove", "courts").out == "removed    courts\n"
    assert [one["name"] for one in citysort.well("sources", "list", "--json").json] == ["archive"]
    for command in ("show", "test", "enable", "disable", "remove"):
        assert citysort("sources", command, "courts").code == 2


@contextmanager
def answering(status: int, body: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A web server that answers every POST alike; its address, and what it was sent."""
    received: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keeps stderr to the command under test."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, b"", "(HTTPError)"),
        (200, b"<html>", "(JSONDecodeError)"),
        (200, b"[]", "not understood"),
        (200, b'{"errors": []}', "not understood"),
        (
            200,
            b'{"data": {"reloadRepositoryLocation": {"__typename": "RepositoryLocationNotFound"}}}',
            "NotFound",
        ),
        (
            200,
            b'{"data": {"reloadRepositoryLocation": {"__typename": "WorkspaceLocationEntry",'
            b' "locationOrLoadError": {"__typename": "PythonError", "message": "x"}}}}',
            "(PythonError)",
        ),
    ],
)
def test_a_change_that_a_running_citysort_did_not_take_up_is_told(
    citysort: Command, sources: Path, data_dir: Path, status: int, body: bytes, reason: str
) -> None:
    citysort.well("sources", "list")
    with ExitStack() as running:
        with answering(status, body) as (url, received):
            running.enter_context(hold(data_dir / "up.json", json.dumps({"url": url})))
            ran = citysort.well("sources", "apply", sources)
            assert ran.err.startswith(
                f"the change is saved, but the running CitySort at {url} has not taken it up"
            )
            assert reason in ran.err
            assert citysort.well("sources", "apply", sources).err == ""  # nothing has changed
        assert json.loads(received[0])["variables"] == {"name": "citysort"}
        assert len(received) == 1
        gone = citysort.well("sources", "disable", "courts")
    assert "(ConnectionError)" in gone.err


def test_a_citysort_that_died_needs_no_telling(citysort: Command, sources: Path, data_dir: Path) -> None:
    citysort.well("sources", "list")
    living = json.dumps({"url": "http://127.0.0.1:9", "pid": os.getpid()})
    for state in (living, '{"url": "http://127.0.0.1:9"}', "[]"):
        (data_dir / "up.json").write_text(state)
        assert running_url(load_settings()) is None
    (data_dir / "up.json").write_text("{")
    assert citysort.well("sources", "apply", sources).err == ""
