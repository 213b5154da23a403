"""A whole installation: every command, right secrets and wrong ones, all kinds of failures, everything
logged; and then a look at all that was said, and at every byte that was written."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from cryptography.fernet import Fernet

from citysort_dagster.secrets import KEY_FILE
from citysort_dagster.server_process import free_port
from connectors import amazon_s3, http
from connectors.registry import CONNECTOR_TYPES
from sandbox.confluence import SimulatedConfluence
from sandbox.mariadb import MariaDBServer
from sandbox.postgresql import PostgreSQLServer
from sandbox.s3 import READER_ROLE, S3Server
from sandbox.salesforce import SimulatedSalesforce
from sandbox.sharepoint import SimulatedSharePoint
from sandbox.simulated import SimulatedSystem
from tests.cli.conftest import Command, Ran
from tests.connectors.sql_databases import MySQLDatabase, PostgreSQLDatabase
from tests.object_store_proxy import Exchange, Proxy, proxy
from tests.secrecy.canaries import Search, canary

LETTER = b"Building permit application. Applicant: Mia Okafor. Parcel number: 12-345-678."
DAY = "2026-01-15"


@dataclass
class Town:
    """An installation with sources of many kinds, and the secrets that they were given."""

    citysort: Command
    data_dir: Path
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    secrets: list[str] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    stored: dict[tuple[str, str], str] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    said: list[Ran] = field(default_factory=list)

    def secret(self, value: str | None = None) -> str:
        """One more secret that must not be found."""
        self.secrets.append(value or canary())
        return self.secrets[-1]

    def source(
        self,
        name: str,
        connector: str,
        settings: Mapping[str, Any],
        given: Mapping[str, str],
        code: int,
        by: str = "environment",
    ) -> None:
        """Adds a source, its secrets given in the environment, in `.env` or by `set-secret`. Its
        import will end with this exit code."""
        self.codes[name] = code
        config = dict(settings)
        for setting, value in given.items():
            variable = f"{name}_{setting}".upper()
            if by == "set-secret":
                self.stored[name, setting] = value
                continue
            config[setting] = {"env": variable}
            if by == "environment":
                self.monkeypatch.setenv(variable, value)
            else:
                with (self.folder / ".env").open("a") as file:
                    file.write(f"{variable}={value}\n")
        self.sources.append({"name": name, "connector": connector, "config": config})

    def run(self, *arguments: str | Path, gives: str = "") -> Ran:
        """Runs a command, `gives` on its standard input."""
        self.monkeypatch.setattr("sys.stdin", io.StringIO(gives))
        self.said.append(self.citysort(*arguments))
        assert "Traceback" not in self.said[-1].err
        return self.said[-1]

    def apply(self) -> None:
        file = self.folder / "sources.yaml"
        file.write_text(yaml.safe_dump({"sources": self.sources}))
        assert self.run("sources", "apply", file, "--json").code == 0, self.said[-1]
        for (name, setting), value in self.stored.items():
            assert self.run("sources", "set-secret", name, setting, gives=value).code == 0, self.said[-1]


@pytest.fixture
def town(citysort: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    """With a documents database on SQLite and a key file, where everybody else may read what is made."""
    monkeypatch.setitem(CONNECTOR_TYPES, "leaky", "tests.secrecy.leaky:Leaky")
    monkeypatch.setattr(amazon_s3, "REQUEST_ATTEMPTS", 1)
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("CITYSORT_PARTITIONS_START", DAY)  # each partition of an import takes time
    before = os.umask(0o022)
    yield Town(citysort, tmp_path / "data", tmp_path, monkeypatch)
    os.umask(before)


@pytest.fixture
def town_on_postgresql(town: Town, postgresql_server: PostgreSQLServer) -> Town:
    """The other kind, with a key in the environment, where everybody else may write as well."""
    os.umask(0)
    url = postgresql_server.create_database().render_as_string(hide_password=False)
    town.monkeypatch.setenv("CITYSORT_DATABASE_URL", url.replace("+psycopg", ""))
    town.monkeypatch.setenv("CITYSORT_SECRET_KEY", town.secret(Fernet.generate_key().decode()))
    return town


@pytest.fixture
def front(s3_server: S3Server) -> Iterator[Proxy]:
    with proxy(s3_server.endpoint_url) as found:
        yield found


def add_databases(town: Town, postgresql: PostgreSQLDatabase, mysql: MySQLDatabase) -> None:
    for database, way, other_way in (
        (postgresql, "environment", "set-secret"),
        (mysql, "set-secret", ".env"),
    ):
        database.create(modified="moment")
        database.insert((1, "letter.txt", f"{DAY} 12:00:00", LETTER))
        mapping = {
            "query": "SELECT * FROM documents",
            "id_column": "id",
            "filename_column": "name",
            "modified_column": "modified",
            "content_column": "content",
        }
        settings = {**mapping, **database.settings()}
        right = {"password": town.secret(settings.pop("password"))}
        kind, nowhere = database.kind, settings | {"port": free_port()}
        town.source(f"{kind}_right", kind, settings, right, 0, by=way)
        town.source(f"{kind}_wrong", kind, settings, {"password": town.secret()}, 2, by=other_way)
        town.source(f"{kind}_nowhere", kind, nowhere, {"password": town.secret()}, 3, by=way)
        town.source(
            f"{kind}_refused", kind, settings | {"query": "SELECT FROM WHERE"}, right, 2, by="set-secret"
        )


def add_buckets(town: Town, server: S3Server, front: Proxy) -> None:
    """Buckets through a proxy: one is fine, one breaks off while it is listed, one while it is read."""
    for bucket in ("whole", "breaks", "cut"):
        server.create_bucket(bucket)
        for number in range(3):
            server.client().put_object(Bucket=bucket, Key=f"{number}.txt", Body=LETTER)
    settings = {
        "region": server.region,
        "endpoint_url": front.endpoint_url,
        "access_key_id": server.access_key,
    }
    right = {"secret_access_key": town.secret(server.secret_key)}

    def before(exchange: Exchange) -> None:
        if exchange.path.startswith("/breaks") and "continuation-token" in exchange.path:
            exchange.status = 500
            exchange.body = (
                f"<Error><Code>InternalError</Code><Message>{exchange.headers}</Message></Error>".encode()
            )

    def after(exchange: Exchange) -> None:
        if exchange.path.startswith("/cut/"):
            exchange.cut_after = 10
        if exchange.path.startswith("/breaks?"):
            exchange.body = exchange.body.replace(
                b"<IsTruncated>false</IsTruncated>",
                b"<IsTruncated>true</IsTruncated><NextContinuationToken>on</NextContinuationToken>",
            )
            exchange.answer_headers.pop("content-length", None)

    front.before, front.after = before, after
    for bucket, code in (("whole", 0), ("breaks", 3), ("cut", 1)):
        town.source(f"s3_{bucket}", "amazon_s3", settings | {"bucket_name": bucket}, right, code)
    whole = settings | {"bucket_name": "whole"}
    town.source("s3_stored", "amazon_s3", whole, right, 0, by="set-secret")
    town.source("s3_wrong", "amazon_s3", whole, {"secret_access_key": town.secret()}, 2, by=".env")
    town.source("s3_wrong_token", "amazon_s3", whole, {**right, "session_token": town.secret()}, 2)
    town.source("s3_role", "amazon_s3", whole | {"role_arn": READER_ROLE}, right, 0)
    town.source("s3_address", "amazon_s3", whole | {"endpoint_url": {"env": "AN_ADDRESS"}}, right, 2)


@contextmanager
def sites(town: Town) -> Iterator[list[SimulatedSystem]]:
    """Systems that give out tokens, or links that need none, and whose downloads break off after the first."""
    with ExitStack() as stack:
        confluence = stack.enter_context(SimulatedConfluence())
        salesforce = stack.enter_context(SimulatedSalesforce())
        sharepoint = stack.enter_context(SimulatedSharePoint())
        graph = {
            "site_url": sharepoint.site_url,
            "tenant_id": sharepoint.tenant_id,
            "client_id": sharepoint.client_id,
            "authority_url": sharepoint.url("login"),
            "graph_url": sharepoint.url(),
            "ca_file": str(sharepoint.ca_file),
        }
        application = {"client_id": salesforce.client_id, "instance_url": salesforce.url()}
        wiki = {"base_url": confluence.url(), "email": confluence.email}
        described: list[tuple[SimulatedSystem, str, dict[str, str], str, str]] = [
            (confluence, "binary", wiki, "api_token", confluence.api_token),
            (salesforce, "version_data", application, "client_secret", salesforce.client_secret),
            (sharepoint, "media", graph, "client_secret", sharepoint.client_secret),
        ]
        for system, download, settings, setting, value in described:
            for number in range(3):
                system.add(f"{number}.txt", LETTER + str(number).encode())
            system.misbehave("truncate", route=download, times=1_000, spare=1, at_byte=10)
            system.misbehave("expire_tokens", times=1, spare=5)
            kind = system.name
            town.source(f"{kind}_right", kind, settings, {setting: town.secret(value)}, 1, by="set-secret")
            town.source(f"{kind}_wrong", kind, settings, {setting: town.secret()}, 2)
        yield [system for system, *_ in described]


def add_leaks(town: Town) -> None:
    for fails, code in (("list at once", 2), ("list", 3), ("list on", 3), ("download", 1), ("close", 2)):
        secret = {"password": town.secret()}
        town.source(f"leaky_{fails.replace(' ', '_')}", "leaky", {"fails": fails}, secret, code)


def test_databases_and_connectors_that_say_too_much(
    town: Town, logged: io.StringIO, postgresql_server: PostgreSQLServer, mariadb_server: MariaDBServer
) -> None:
    add_databases(town, PostgreSQLDatabase(postgresql_server), MySQLDatabase(mariadb_server))
    add_leaks(town)
    everything_a_person_may_do(town)
    mistakes(town, "postgresql_refused")
    nothing_is_shown(town, logged)


def test_buckets_that_fail(
    town_on_postgresql: Town,
    logged: io.StringIO,
    postgresql_server: PostgreSQLServer,
    s3_server: S3Server,
    front: Proxy,
) -> None:
    town = town_on_postgresql
    town.monkeypatch.setenv("AWS_ENDPOINT_URL_STS", front.endpoint_url)
    add_buckets(town, s3_server, front)
    everything_a_person_may_do(town)
    tokens = {exchange.headers.get("x-amz-security-token", "") for exchange in front.seen} - {""}
    signatures = [
        signature
        for exchange in front.seen
        for signature in re.findall(r"Signature=(\w+)", exchange.headers.get("authorization", ""))
    ]
    assert len(tokens) >= 2
    nothing_is_shown(town, logged, postgresql_server.password, *tokens, *signatures[::10])


def test_sites_that_fail(town: Town, logged: io.StringIO) -> None:
    with sites(town) as systems:
        everything_a_person_may_do(town)
        requests = [one.request for system in systems for one in system.log]
    tokens = {request.bearer() for request in requests} - {None}
    media = [request.query for request in requests if request.host == "media"]
    links = {query.get("token", query.get("tempauth")) for query in media} - {None}
    signed_in = {request.headers.get("authorization", "").partition(" ")[2] for request in requests} - {""}
    assert len(tokens) >= 2 and len(links) >= 6 and len(signed_in) >= 4
    given = {str(one) for one in tokens | links | signed_in}
    nothing_is_shown(town, logged, *given)


def everything_a_person_may_do(town: Town) -> None:
    town.apply()
    # By mistake, and noticed when it is used: nobody knows before what will stand in the variable.
    town.monkeypatch.setenv("AN_ADDRESS", f"https://user:{town.secret()}@store.example")
    codes = {}
    for name, code in town.codes.items():
        assert town.run("sources", "test", name).code in (0, 1)
        town.run("sources", "show", name, *(["--json"] if code else []))
        codes[name] = town.run("import", name, "--json").code
    assert codes == town.codes
    assert town.run("process", "--json").code == 0

    failed = next(name for name, code in codes.items() if code == 1)
    town.run("import", failed, "--reimport")
    town.run("failures", "list")
    assert town.run("failures", "list", "--json").json
    town.run("failures", "retry", failed, "--json")
    documents = town.run("documents", "list", "--json").json
    assert documents
    for document in documents:
        town.run("documents", "show", document["id"], "--json")
    town.run("documents", "show", documents[0]["id"])
    assert town.run("documents", "export", town.data_dir / "export").code == 0
    assert town.run("verify", "--json").code == 0
    town.run("sources", "list")
    town.run("sources", "list", "--json")
    town.run("sources", "disable", failed)
    town.run("sources", "remove", failed)


def nothing_is_shown(town: Town, logged: io.StringIO, *more: str) -> None:
    search = Search({*town.secrets, *more})
    assert search.in_bytes(b"".join(ran.stdout + ran.err.encode() for ran in town.said)) == set()
    assert logged.getvalue()
    assert search.in_text(logged.getvalue()) == set()
    assert any(path.suffix == ".db" for path in town.data_dir.rglob("*"))
    assert search.in_folder(town.data_dir) == {}
    url = os.environ.get("CITYSORT_DATABASE_URL", "")
    if url:
        assert search.in_database(sa.make_url(url.replace("postgresql:", "postgresql+psycopg:"))) == set()
    else:
        key = (town.data_dir / KEY_FILE).read_text().strip()
        assert set(Search([key]).in_folder(town.data_dir)) == {KEY_FILE}
        assert Search([key]).in_text(logged.getvalue(), *town.said) == set()
    open_to_others = {
        str(path.relative_to(town.data_dir)): oct(path.stat().st_mode)
        for path in [town.data_dir, *town.data_dir.rglob("*")]
        if path.stat().st_mode & 0o077
    }
    assert open_to_others == {}


def mistakes(town: Town, name: str) -> None:
    """What people do in a hurry: a secret in the wrong place, another key, another database."""
    right = os.environ.get("CITYSORT_SECRET_KEY"), os.environ.get("CITYSORT_DATABASE_URL")
    plain: dict[str, Any] = {
        "name": "hasty",
        "connector": "postgresql",
        "config": {**town.sources[0]["config"]},
    }
    for wrong in (
        {"password": town.secret()},
        {"password": {"encrypted": town.secret()}},
        {"password": [town.secret()]},
        {"host": f"postgresql://user:{town.secret()}@host"},
        {"host": f"host password={town.secret()}"},
        {"query": f"SELECT * FROM dblink('postgresql://user:{town.secret()}@host/db', 'SELECT 1')"},
    ):
        file = town.folder / "hasty.yaml"
        file.write_text(json.dumps({"sources": [plain | {"config": {**plain["config"], **wrong}}]}))
        assert town.run("sources", "apply", file).code == 2, wrong
        file.write_text(file.read_text() + town.secrets[-1])
        assert town.run("sources", "apply", file).code == 2
    assert town.run("sources", "set-secret", name, "password", town.secret()).code == 2
    assert town.run("sources", "set-secret", name, "password", f"--{town.secret()}").code == 2
    assert town.run("sources", "set-secret", name, "host", gives=town.secret()).code == 2
    assert town.run("sources", "set-secret", "nobody", "password", gives=town.secret()).code == 2

    for key in (Fernet.generate_key().decode(), canary(), f"{canary()}ü"):
        town.monkeypatch.setenv("CITYSORT_SECRET_KEY", town.secret(key))
        assert town.run("sources", "test", name).code == 1
        assert town.run("import", name, "--json").code == 2
    address = f"postgresql://citysort:{town.secret()}@127.0.0.1:{free_port()}/citysort"
    town.monkeypatch.setenv("CITYSORT_DATABASE_URL", address)
    assert town.run("import", name).code == 2
    assert town.run("process").code == 2
    for variable, value in zip(("CITYSORT_SECRET_KEY", "CITYSORT_DATABASE_URL"), right, strict=True):
        if value is None:
            town.monkeypatch.delenv(variable)
        else:
            town.monkeypatch.setenv(variable, value)
    assert "the query was refused" in town.run("sources", "test", name).out
