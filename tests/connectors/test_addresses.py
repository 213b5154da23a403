"""What sources may reach, tried with real connections."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import requests

from connectors.addresses import EVERYWHERE, FILE_SETTINGS, OutOfReach, Reach, adapter_within, read_networks
from connectors.amazon_s3 import AmazonS3
from connectors.base import (
    ConfigurationError,
    Connector,
    ConnectorError,
    DownloadFailed,
    ExternalDocument,
    ListingIncomplete,
)
from connectors.http import HttpSession
from connectors.http_answers import RequestFailed
from connectors.registry import CONNECTOR_TYPES, connector_class, get_connector
from sandbox.s3 import s3_server

PUBLIC_ONLY = Reach(())
LOOPBACK = Reach(read_networks("127.0.0.0/8"))

NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "fe80::1",
    "[fd00:ec2::254]",
    "fd20:ce::254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "2852039166",
    "0xa9fea9fe",
    "metadata.google.internal",
    "METADATA.google.internal.",
]
PRIVATE = [
    "127.0.0.1",
    "localhost",
    "10.0.0.1",
    "192.168.1.1",
    "172.16.0.1",
    "::1",
    "fd12::1",
    "0.0.0.0",  # noqa: S104 - asked for, not bound
    "100.64.0.1",
    "127.1",
]


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server on loopback that redirects /elsewhere/HOST to that host, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path)
            asked.append(path)
            if path.startswith("/elsewhere/"):
                self.send_response(302)
                self.send_header("Location", f"https://{path.removeprefix('/elsewhere/')}/latest")
            else:
                self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()


@pytest.mark.parametrize("host", NEVER)
def test_metadata_services_are_for_nobody(host: str) -> None:
    for reach in (EVERYWHERE, PUBLIC_ONLY, Reach(read_networks("0.0.0.0/0, ::/0"))):
        with pytest.raises(OutOfReach, match="never asked"):
            reach.addresses(host)


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_are_for_whom_the_operator_allows_them(host: str) -> None:
    with pytest.raises(OutOfReach, match="CITYSORT_ALLOWED_NETWORKS"):
        PUBLIC_ONLY.addresses(host)
    assert EVERYWHERE.addresses(host)
    assert Reach(read_networks("0.0.0.0/0, ::/0")).addresses(host)


def test_a_public_address_is_for_everybody() -> None:
    assert PUBLIC_ONLY.addresses("8.8.8.8") == ["8.8.8.8"]
    assert PUBLIC_ONLY.addresses("no-such-host.invalid") == []


def test_a_connection_is_made_to_what_is_allowed_only(server: tuple[str, list[str]]) -> None:
    url, asked = server
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", adapter_within(PUBLIC_ONLY, 1))
        with pytest.raises(OutOfReach):
            session.get(f"{url}/one", timeout=5)
        session.mount("http://", adapter_within(LOOPBACK, 1))
        assert session.get(f"{url.replace('127.0.0.1', 'localhost')}/two", timeout=5).status_code == 200
    assert asked == ["/two"]


def test_a_name_that_leads_elsewhere_when_it_is_used_changes_nothing(
    server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address that was looked at is the one that is connected to, whatever the name service says next."""
    url, asked = server
    port = int(url.rpartition(":")[2])
    real, answers = socket.getaddrinfo, iter(["127.0.0.1", "169.254.169.254", "169.254.169.254"])

    def rebinding(host: str, *arguments: Any, **options: Any) -> Any:
        return real(next(answers) if host == "rebinding.example" else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", adapter_within(LOOPBACK, 1))
        assert session.get(f"http://rebinding.example:{port}/once", timeout=5).status_code == 200
    assert asked == ["/once"]
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", adapter_within(LOOPBACK, 1))
        with pytest.raises(OutOfReach):
            session.get(f"http://rebinding.example:{port}/twice", timeout=5)


@pytest.mark.parametrize("host", ["169.254.169.254", "10.0.0.1", "metadata.google.internal"])
def test_redirects_lead_nowhere_else(server: tuple[str, list[str]], host: str, tmp_path: Path) -> None:
    url, asked = server
    http = HttpSession("The system", url, reach=LOOPBACK)
    with (
        (tmp_path / "document").open("wb") as into,
        pytest.raises(RequestFailed, match="is not asked") as failure,
    ):
        http.download(f"/elsewhere/{host}", into)
    assert failure.value.lasting
    assert asked == [f"/elsewhere/{host}"]
    http.close()


def test_a_session_token_follows_no_redirect_of_a_store(server: tuple[str, list[str]]) -> None:
    url, asked = server
    etag = "0" * 32
    with socket.create_server(("127.0.0.1", 0)) as other:
        elsewhere = f"127.0.0.1:{other.getsockname()[1]}"
        store = AmazonS3(
            bucket_name="elsewhere",
            endpoint_url=url,
            region="us-east-1",
            access_key_id="AKIAIOSFODNN7EXAMPLE",
            secret_access_key="a secret",
            session_token="a token",
        )
        letter = ExternalDocument(f"s3://elsewhere/{elsewhere}", f"{etag}:7", "letter.txt", size=7)
        with pytest.raises(ConnectorError):
            store.download_document(letter, io.BytesIO())
        store.close()
        assert f"/elsewhere/{elsewhere}" in asked
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()


def test_files_are_read_in_the_allowed_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "allowed"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    reach = Reach((), folder)
    reach.check_file(str(folder / "archive.db"))
    for path in (
        "/etc/passwd",
        f"{folder}/../other.db",
        f"{folder}/link/other.db",
        "archive.db",
        f"{folder}-2/x",
        "\0",
    ):
        with pytest.raises(OutOfReach):
            reach.check_file(path)
    with pytest.raises(OutOfReach, match="CITYSORT_ALLOWED_FOLDER"):
        PUBLIC_ONLY.check_file(str(folder / "archive.db"))
    EVERYWHERE.check_file("/etc/passwd")


@pytest.mark.parametrize("connector_type", sorted(CONNECTOR_TYPES))
def test_every_setting_that_is_a_file_is_known_to_be_one(connector_type: str) -> None:
    properties = connector_class(connector_type).model_json_schema()["properties"]
    for name, schema in properties.items():
        description = schema.get("description", "").lower()
        if not schema.get("writeOnly") and name.endswith(
            ("file", "path", "root", "_ca", "cert", "_key", "key")
        ):
            looks_like_file = any(
                word in description for word in ("pem file", "file of", "database file", "folder that")
            )
            assert not looks_like_file or name in FILE_SETTINGS, (connector_type, name)


def test_a_connector_says_which_setting_is_out_of_reach(tmp_path: Path) -> None:
    jira = get_connector("jira", {"base_url": "https://10.1.2.3", "email": "a@b.example", "api_token": "x"})
    with pytest.raises(
        ConfigurationError, match=r"base_url: 10\.1\.2\.3 leads to an address on a private network"
    ):
        jira.keep_to(PUBLIC_ONLY)
    archive = get_connector(
        "sqlite",
        {"filepath": "/etc/passwd", "query": "SELECT 1 AS id", "id_column": "id", "content_column": "id"},
    )
    with pytest.raises(ConfigurationError, match="filepath"):
        archive.keep_to(Reach((), tmp_path))


def test_a_bucket_is_read_where_its_server_was_when_it_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    real, leads_to = socket.getaddrinfo, ["127.0.0.1"]

    def resolve(host: str, *arguments: Any, **options: Any) -> Any:
        return real(leads_to[0] if host == "localhost" else host, *arguments, **options)

    with s3_server() as server:
        server.create_bucket("records")
        server.client().put_object(Bucket="records", Key="permit.txt", Body=b"A permit.")
        bucket = AmazonS3(
            bucket_name="records",
            endpoint_url=server.endpoint_url.replace("127.0.0.1", "localhost"),
            access_key_id=server.access_key,
            secret_access_key=server.secret_key,
        )
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        bucket.keep_to(LOOPBACK)
        (permit,) = bucket.list_documents()
        into = io.BytesIO()
        bucket.download_document(permit, into)
        assert into.getvalue() == b"A permit."
        bucket.close()
        leads_to[0] = "169.254.169.254"
        status = bucket.test_connection()
        assert not status.ok and "never asked" in status.message
        with pytest.raises(ConfigurationError, match="never asked"):
            list(bucket.list_documents())
        bucket.close()


class NameService:
    """Says where rebinding.example leads, each time something else; the last answer stays."""

    def __init__(self) -> None:
        self.answers: list[Sequence[str]] = [["127.0.0.1"]]
        self._real = socket.getaddrinfo

    def getaddrinfo(self, host: str, *arguments: Any, **options: Any) -> Any:
        if host != "rebinding.example":
            return self._real(host, *arguments, **options)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not answer:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [found for address in answer for found in self._real(address, *arguments, **options)]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> NameService:
    made = NameService()
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    return made


@pytest.fixture(params=["postgresql", "mysql"])
def archive(request: pytest.FixtureRequest) -> Iterator[Connector]:
    """A database at rebinding.example that may be reached on loopback, not yet connected to."""
    kind = request.param
    server = request.getfixturevalue("postgresql_server" if kind == "postgresql" else "mariadb_server")
    url = server.create_database()
    config = {
        "host": "rebinding.example",
        "port": url.port,
        "database": url.database,
        "username": url.username,
        "password": url.password,
        "query": "SELECT 1 AS id, 'text' AS content",
        "id_column": "id",
        "content_column": "content",
    }
    made = get_connector(kind, config)
    yield made
    made.close()


def test_a_database_is_connected_to_where_its_name_led_when_it_was_looked_at(
    archive: Connector, names: NameService
) -> None:
    names.answers = [["127.0.0.1"], ["127.0.0.1"], ["127.0.0.9"]]
    archive.keep_to(LOOPBACK)
    assert archive.test_connection().ok, archive.test_connection()


def test_a_database_that_moved_out_of_reach_is_not_asked(archive: Connector, names: NameService) -> None:
    archive.keep_to(LOOPBACK)
    names.answers = [["169.254.169.254"]]
    status = archive.test_connection()
    assert not status.ok and "never asked" in status.message


def test_a_database_may_have_several_addresses(archive: Connector, names: NameService) -> None:
    names.answers = [["127.0.0.9", "127.0.0.1"]]
    archive.keep_to(LOOPBACK)
    assert archive.test_connection().ok, archive.test_connection()
    names.answers = [["127.0.0.8", "127.0.0.9"]]
    archive.close()
    status = archive.test_connection()
    assert not status.ok and "check host and port" in status.message


def test_a_name_that_is_not_known_is_not_left_to_the_driver(archive: Connector, names: NameService) -> None:
    names.answers = [[], [], ["127.0.0.1"]]
    archive.keep_to(LOOPBACK)
    with pytest.raises(ListingIncomplete, match="the name of the host is not known"):
        list(archive.list_documents())
    (document,) = archive.list_documents()
    archive.close()
    names.answers = [[]]
    with pytest.raises(DownloadFailed, match="the name of the host is not known"):
        archive.download_document(document, io.BytesIO())


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_sockets_of_this_machine_are_not_for_sources_of_the_console(kind: str) -> None:
    config = {"database": "d", "username": "u", "query": "SELECT 1", "id_column": "i", "content_column": "c"}
    connector = get_connector(kind, {**config, "host": "/var/run/postgresql"})
    with pytest.raises(ConfigurationError, match="host: /var/run/postgresql is a socket of this machine"):
        connector.keep_to(PUBLIC_ONLY)
    connector.keep_to(EVERYWHERE)


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
@pytest.mark.parametrize("host", ["8.8.8.8,127.0.0.1", "127.0.0.1,", ",", "8.8.8.8,/tmp"])
def test_a_database_has_one_host(kind: str, host: str) -> None:
    config = {"database": "d", "username": "u", "query": "SELECT 1", "id_column": "i", "content_column": "c"}
    with pytest.raises(ConfigurationError, match="must be the bare name or address of one host"):
        get_connector(kind, {**config, "host": host})
