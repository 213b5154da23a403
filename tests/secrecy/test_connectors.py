"""Each secret of each connector, with a server that says back whatever it hears, and without one."""

from __future__ import annotations

import io
import json
import traceback
from collections.abc import Iterator
from contextlib import closing

import pytest

from citysort_dagster.secrets import secret_fields
from citysort_dagster.server_process import free_port
from connectors import amazon_s3, connector_class, get_connector, google_cloud_storage, http
from connectors.base import Connector, ConnectorError, ExternalDocument, unexpected
from tests.secrecy.canaries import Search, canary
from tests.secrecy.echo import Echo, echo_server
from tests.secrecy.settings_with import PLAIN, all_secrets, settings_with

ANSWERS = [(400, False), (401, False), (403, False), (404, False), (200, False), (200, True), (302, False)]


def values(connector_type: str) -> dict[str, str]:
    """A canary for each secret of a connector."""
    found = {name: canary() for name in secret_fields(connector_class(connector_type))}
    if "service_account_key" in found:
        key = {
            "type": "service_account",
            "client_email": "clerk@city.example",
            "token_uri": "http://127.0.0.1:1/token",
            "private_key": f"-----BEGIN PRIVATE KEY-----\n{found['service_account_key']}\n-----END PRIVATE KEY-----\n",
        }
        found["service_account_key"] = json.dumps(key)
    return found


def canaries(secrets: dict[str, str]) -> list[str]:
    return [
        value if value.startswith("cnry") else value[value.index("cnry") :][:28] for value in secrets.values()
    ]


@pytest.fixture
def echo() -> Iterator[Echo]:
    with echo_server(canary()) as echo:
        yield echo


@pytest.fixture(autouse=True)
def few_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amazon_s3, "REQUEST_ATTEMPTS", 1)
    monkeypatch.setattr(google_cloud_storage, "PATIENCE", 1.0)
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.01)


def told(connector: Connector) -> Iterator[str]:
    """All that a connector says about itself, and when it is used in vain."""
    yield from (repr(connector), str(connector), connector.model_dump_json(), str(connector.model_dump()))
    yield from (f"{connector!r:>9}", json.dumps(connector.model_json_schema()), str(type(connector)))
    yield str(connector.test_connection())
    try:
        for number, document in enumerate(connector.list_documents()):
            yield str(document)
            assert number < 10
    except ConnectorError as error:
        yield "".join(traceback.format_exception(error))
    try:
        connector.download_document(ExternalDocument("1", "1", "1"), io.BytesIO())
    except ConnectorError as error:
        yield "".join(traceback.format_exception(error))
    except Exception as error:  # noqa: BLE001 - this document was never listed: what an import would say
        yield unexpected(error)


@pytest.mark.parametrize(
    ("connector_type", "name"),
    [(found, name) for found, name in all_secrets() if "host" not in connector_class(found).model_fields],
)
def test_a_server_that_says_back_what_it_hears(
    connector_type: str,
    name: str,
    echo: Echo,
    logged: io.StringIO,
    capfd: pytest.CaptureFixture[str],
) -> None:
    secrets = values(connector_type)
    search = Search([*canaries(secrets), echo.token])
    for settings in settings_with(connector_type, name, echo.address, secrets):
        for echo.status, echo.html in ANSWERS:
            with closing(get_connector(connector_type, settings)) as connector:
                said = list(told(connector))
            assert len(said) >= 9
            assert search.in_text(*said) == set(), (settings, echo)
    assert search.in_text(logged.getvalue(), *capfd.readouterr()) == set()


@pytest.mark.parametrize(("connector_type", "name"), all_secrets())
def test_no_server_at_all(
    connector_type: str, name: str, logged: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    secrets = values(connector_type)
    search = Search(canaries(secrets))
    for settings in settings_with(connector_type, name, f"http://127.0.0.1:{free_port()}", secrets):
        with closing(get_connector(connector_type, settings)) as connector:
            status = connector.test_connection()
        assert not status.ok
        assert search.in_text(status) == set()
    assert search.in_text(logged.getvalue(), *capfd.readouterr()) == set()


def test_the_library_that_says_most_would_have_said_it(echo: Echo, logged: io.StringIO) -> None:
    """What is logged is really looked at: there would be something to be found."""
    import logging

    logging.setLogRecordFactory(logging.LogRecord)
    secrets = values("amazon_s3")
    (settings,) = settings_with("amazon_s3", "session_token", echo.address, secrets)
    with closing(get_connector("amazon_s3", settings)) as connector:
        connector.test_connection()
    assert secrets["session_token"] in logged.getvalue()


@pytest.mark.parametrize("connector_type", PLAIN)
def test_a_password_in_an_address_is_refused_wherever_it_stands(connector_type: str) -> None:
    """Errors quote hosts and addresses, so a secret has no business there."""
    cls = connector_class(connector_type)
    secret = canary()
    search = Search([secret])
    texts = [
        name
        for name, field in cls.model_fields.items()
        if field.annotation in (str, str | None) and name not in secret_fields(cls)
    ]
    assert texts
    for name in texts:
        for address in (
            f"https://user:{secret}@host.example/",
            f"postgresql://user:{secret}@host/db",
            f"x https://:{secret}@h",
        ):
            with pytest.raises(ConnectorError) as raised:
                get_connector(connector_type, {**_least(connector_type), name: address})
            assert search.in_text(*traceback.format_exception(raised.value)) == set()


@pytest.mark.parametrize("connector_type", ["postgresql", "mysql"])
@pytest.mark.parametrize(
    "host", ["user:{}@host", "host password={}", "host?password={}", "postgresql://user:pa/{}@host"]
)
def test_a_password_beside_a_host_is_refused(connector_type: str, host: str) -> None:
    secret = canary()
    with pytest.raises(ConnectorError, match="must be the bare name or address of one host") as raised:
        get_connector(connector_type, {**_least(connector_type), "host": host.format(secret)})
    assert Search([secret]).in_text(*traceback.format_exception(raised.value)) == set()


def _least(connector_type: str) -> dict[str, object]:
    secrets = secret_fields(connector_class(connector_type))
    if not secrets:
        return {"filepath": "a.db", "query": "SELECT 1 AS id", "id_column": "id", "content_column": "id"}
    first = sorted(secrets)[0]
    return settings_with(connector_type, first, "http://127.0.0.1:1", dict.fromkeys(secrets, "x" * 12))[0]
