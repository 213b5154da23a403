"""The search finds what it looks for: otherwise that it finds nothing would mean nothing."""

from __future__ import annotations

import base64
import gzip
import json
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from sandbox.postgresql import PostgreSQLServer
from tests.secrecy.canaries import Search, canary

FORMS: dict[str, Callable[[str], bytes]] = {
    "as it is": lambda secret: secret.encode(),
    "percent-encoded": lambda secret: quote(f"/{secret}=?é").encode(),
    "in JSON": lambda secret: json.dumps(json.dumps({"a": f'"{secret}"'})).encode(),
    "in base64": lambda secret: base64.b64encode(f"user:{secret}".encode()),
    "in base64, one further": lambda secret: base64.b64encode(f"users:{secret}!".encode()),
    "in base64, two further": lambda secret: base64.b64encode(f"reader:{secret}!!".encode()),
    "in URL-safe base64": lambda secret: base64.urlsafe_b64encode(f"\xff\xfe{secret}".encode()),
    "in hexadecimal": lambda secret: secret.encode().hex().upper().encode(),
    "in capitals": lambda secret: secret.upper().encode(),
    "in UTF-16": lambda secret: secret.encode("utf-16"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_found_in_every_form(form: str, tmp_path: Path) -> None:
    planted, other = canary(), canary()
    search = Search([planted, other])
    content = b"before " + FORMS[form](planted) + b" after"
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "log").write_bytes(content)
    (tmp_path / "log.gz").write_bytes(gzip.compress(content))
    assert search.in_folder(tmp_path) == {"deep/log": {planted}, "log.gz": {planted}}


def test_a_secret_is_found_in_databases_and_names(
    tmp_path: Path, postgresql_server: PostgreSQLServer
) -> None:
    planted = [canary() for _ in range(4)]
    search = Search(planted)
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection, connection:
        connection.execute("CREATE TABLE snapshots (body BLOB, note TEXT)")
        connection.execute(
            "INSERT INTO snapshots VALUES (?, ?)", (zlib.compress(planted[0].encode()), planted[1])
        )
    (tmp_path / f"copy-{planted[2]}").touch()
    assert search.in_folder(tmp_path) == {
        "runs.db": {planted[0], planted[1]},
        f"copy-{planted[2]}": {planted[2]},
    }
    url = postgresql_server.create_database()
    with postgresql_server.connect(str(url.database)) as database:
        database.execute("CREATE TABLE rows (config json)")
        database.execute("INSERT INTO rows VALUES (%s)", [json.dumps({"password": planted[3]})])
    assert search.in_database(url) == {planted[3]}


def test_a_secret_of_any_characters_is_found_in_an_address() -> None:
    secret = "a/b+c=d&e?f#g %h"
    assert Search([secret]).in_text(f"https://host.example/?key={quote(secret, safe='')}") == {secret}


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(canary().encode())
    assert Search([canary()]).in_folder(tmp_path) == {}
