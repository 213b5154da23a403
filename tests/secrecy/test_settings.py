"""Secrets in CitySort's own settings, as they should be and as people get them wrong."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from citysort_dagster.automation import tell_webhook
from citysort_dagster.server_process import free_port
from citysort_dagster.settings import Settings
from sandbox.postgresql import PostgreSQLServer
from sandbox.s3 import S3Server
from tests.cli.conftest import Command, Ran
from tests.secrecy.canaries import Search, canary
from tests.secrecy.echo import echo_server

SOURCES = """sources:
  - name: letters
    connector: sqlite
    config: {filepath: %s, query: SELECT * FROM letters, id_column: id, content_column: content}
"""


def assert_one_sentence(ran: Ran, *secrets: str, code: int = 2) -> None:
    assert ran.code == code, ran
    assert ran.err.startswith("citysort: ")
    assert "Traceback" not in ran.err
    assert "unexpected" not in ran.err
    assert Search(secrets).in_text(ran) == set()


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://citysort:{}@127.0.0.1:{port}/citysort",
        "postgresql://citysort:p@{}@127.0.0.1/citysort",
        "postgresql://citysort:p@ss/{}@127.0.0.1:{port}/citysort",
        "postgresql://citysort:p/{}@127.0.0.1:{port}/citysort",
        "postgresql://citysort:p?{}@127.0.0.1:{port}/citysort",
        "postgresql://citysort:p#{}@127.0.0.1:{port}/citysort",
        "postgresql://citysort:p:{}@127.0.0.1:{port}/citysort",
        "postgresql://citysort:{}@127.0.0.1:port/citysort",
        "postgresql://citysort:p@127.0.0.1:{}/citysort",
        "postgresql://citysort:{}@[::1/citysort",
        "postgresql://127.0.0.1:{port}/citysort?password={}",
        "postgresql://127.0.0.1:{port}/citysort?passwort={}",
        "postgresql://127.0.0.1:{port}/citysort?sslpassword={}&sslkey=/nowhere&sslmode=require",
        "postgresql+psycopg2://citysort:{}@127.0.0.1/citysort",
        "postgresql{}://citysort@127.0.0.1/citysort",
        "postgres://citysort:{}@127.0.0.1/citysort",
        "mysql://citysort:{}@127.0.0.1/citysort",
        "sqlite:{}",
        "sqlite://citysort:{}@host/citysort.db",
        "sqlite:////nowhere/citysort.db?password={}",
        "{}",
        "citysort:{}@127.0.0.1",
    ],
)
def test_an_address_of_the_database_that_does_not_work(
    citysort: Command, address: str, monkeypatch: pytest.MonkeyPatch, logged: io.StringIO
) -> None:
    secret = canary()
    address = address.replace("{port}", str(free_port())).replace("{}", secret)
    monkeypatch.setenv("CITYSORT_DATABASE_URL", address)
    assert_one_sentence(citysort("sources", "list"), secret)
    assert Search([secret]).in_text(logged.getvalue()) == set()


def test_a_wrong_password_of_the_database(
    citysort: Command, monkeypatch: pytest.MonkeyPatch, postgresql_server: PostgreSQLServer
) -> None:
    secret = canary()
    url = postgresql_server.create_database().set(password=secret, drivername="postgresql")
    monkeypatch.setenv("CITYSORT_DATABASE_URL", url.render_as_string(hide_password=False))
    ran = citysort("sources", "list")
    assert "password authentication failed" in ran.err
    assert_one_sentence(ran, secret, postgresql_server.password)


def test_a_password_with_every_character_there_is(citysort: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Percent-encoded, as the message says when it is not."""
    monkeypatch.setenv("CITYSORT_DATABASE_URL", f"postgresql://u:%3A%2F%3F%40%23ä@127.0.0.1:{free_port()}/c")
    assert "onnection refused" in citysort("sources", "list").err


def test_settings_do_not_show_their_secrets() -> None:
    secrets = [canary() for _ in range(3)]
    settings = Settings(
        database_url=f"postgresql://u:{secrets[0]}@h/d",
        secret_key=secrets[1],
        webhook_url=f"https://hooks.example/{secrets[2]}",
    )
    said = (repr(settings), str(settings), settings.model_dump(), settings.model_dump_json())
    assert Search(secrets).in_text(*said) == set()


def letters(citysort: Command, folder: Path, count: int = 2) -> None:
    """A source `letters` of so many documents."""
    with closing(sqlite3.connect(folder / "letters.db")) as connection, connection:
        connection.execute("CREATE TABLE letters (id, content)")
        connection.executemany("INSERT INTO letters VALUES (?, ?)", [(n, b"A letter") for n in range(count)])
    (folder / "sources.yaml").write_text(SOURCES % (folder / "letters.db"))
    citysort.well("sources", "apply", folder / "sources.yaml")


@pytest.mark.parametrize("what", ["right", "wrong key", "wrong token", "address", "unreachable"])
def test_credentials_of_a_bucket_for_the_files(
    what: str,
    citysort: Command,
    tmp_path: Path,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    logged: io.StringIO,
) -> None:
    secrets = [s3_server.secret_key, canary(), canary()]
    s3_server.create_bucket("files")
    endpoint = s3_server.endpoint_url
    if what == "address":
        endpoint = endpoint.replace("://", f"://user:{secrets[2]}@")
    if what == "unreachable":
        endpoint = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("CITYSORT_FILES_URL", "s3://files/citysort")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secrets[1] if what == "wrong key" else secrets[0])
    if what == "wrong token":
        monkeypatch.setenv("AWS_SESSION_TOKEN", secrets[2])
    if what == "address":
        ran = citysort("sources", "list")
        assert_one_sentence(ran, *secrets)
        return
    letters(citysort, tmp_path)
    ran = citysort("import", "letters", "--json")
    assert ran.code == (0 if what == "right" else 1), ran
    assert all("files/citysort" in error["reason"] for error in ran.json["errors"])
    search = Search(secrets)
    assert search.in_text(ran, logged.getvalue()) == set()
    assert search.in_text(citysort("failures", "list", "--json"), citysort("verify", "--json")) == set()
    assert search.in_folder(tmp_path / "data") == {}


@pytest.mark.parametrize("variable", ["GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT_KEY"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_service_account_for_the_files(
    variable: str,
    whole: bool,
    citysort: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = canary()
    pem = f"-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n"
    key = json.dumps(
        {
            "type": "service_account",
            "private_key": pem,
            "private_key_id": secret,
            "client_email": "clerk@city.example",
            "gcs_base_url": f"http://127.0.0.1:{free_port()}",
            "disable_oauth": False,
        }
    )
    key = key if whole else key[:-20]
    if variable == "GOOGLE_APPLICATION_CREDENTIALS":
        (tmp_path / "key.json").write_text(key)
        key = str(tmp_path / "key.json")
    monkeypatch.setenv(variable, key)
    monkeypatch.setenv("CITYSORT_FILES_URL", "gs://files/citysort")
    letters(citysort, tmp_path, 1)
    ran = citysort("import", "letters", "--json")
    assert ran.code == 1, ran
    assert "gs://files/citysort" in ran.json["errors"][0]["reason"]
    assert Search([secret]).in_text(ran, citysort("failures", "list")) == set()
    assert Search([secret]).in_folder(tmp_path / "data") == {}


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:{}@bucket/files",
        "https://user:{}@host/files",
        "gs://{}@bucket",
        "s3://bucket?token={}",
        "s3://[{}",
    ],
)
def test_credentials_in_the_address_of_the_files(
    citysort: Command, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = canary()
    monkeypatch.setenv("CITYSORT_FILES_URL", url.format(secret))
    assert_one_sentence(citysort("sources", "list"), secret)


@pytest.mark.parametrize("key", ["{}", "{}é", "{}=="])
def test_a_malformed_key(
    citysort: Command, tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = canary()
    file = tmp_path / "sources.yaml"
    file.write_text(
        "sources: [{name: pg, connector: postgresql, config: {host: h, database: d, username: u, query: SELECT 1,"
        " id_column: id, content_column: c}}]"
    )
    citysort.well("sources", "apply", file)
    monkeypatch.setenv("CITYSORT_SECRET_KEY", key.format(secret))
    monkeypatch.setattr("sys.stdin", io.StringIO("a password"))
    assert_one_sentence(citysort("sources", "set-secret", "pg", "password"), secret)


@pytest.mark.parametrize(
    "address",
    [
        "{}",
        "hooks.example/{}",
        "https://[{}",
        "http://.{}/",
        "ftp://h/{}",
        "http://127.0.0.1:1/{}",
        "https://user:{}@127.0.0.1:1/",
        "http://" + "a" * 70 + ".example/{}",
        "http://h:{}/",
    ],
)
def test_a_webhook_that_cannot_be_reached(address: str, logged: io.StringIO) -> None:
    secret = canary()
    told = tell_webhook(address.format(secret), {"run_id": "1"})
    assert told.startswith("not reached")
    assert Search([secret]).in_text(told, logged.getvalue()) == set()


@pytest.mark.parametrize("status", [200, 302, 401, 500])
def test_a_webhook_that_says_back_what_it_hears(status: int, logged: io.StringIO) -> None:
    secret = canary()
    with echo_server(canary()) as echo:
        echo.status = status
        told = tell_webhook(f"{echo.address}/hooks/{secret}", {"run_id": "1"})
    assert told == f"answered {status}"
    assert Search([secret, echo.token]).in_text(told, logged.getvalue()) == set()
