from __future__ import annotations

from typing import Any

import pytest

from connectors import get_connector
from connectors.base import ConfigurationError
from connectors.plain_secrets import plain_secret
from tests.secrecy.canaries import Search, canary

PG = {"host": "h", "database": "d", "username": "u", "query": "q", "id_column": "a", "content_column": "b"}
SECRETS = [
    ("https://clerk:{}@city.example/x", "an address with a password"),
    ("https://{}@city.example/x", "an address with a password"),
    ("see postgresql://:{}@host", "an address with a password"),
    ("-----BEGIN PRIVATE KEY-----\n{}", "a private key"),
    ("-----BEGIN RSA PRIVATE KEY-----\\n{}", "a private key"),
    ("https://b.s3.amazonaws.com/?X-Amz-Signature={}", "a signed link"),
    ("https://a.blob.core.windows.net/c?sv=2026&sig={}", "a signed link"),
    ("https://city.example/#access_token={}", "a signed link"),
]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        *SECRETS,
        ("host=h password={}", "a password"),
        ("PWD = {}", "a password"),
        ("passwd={};", "a password"),
    ],
)
def test_a_secret_in_plain_text_is_told(text: str, what: str) -> None:
    assert plain_secret(text.format(canary())) == what


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Permits of https://city.example/teams/@permits, asked of clerk@city.example",
        "https://city.example/a@b?password",
        "-----BEGIN CERTIFICATE-----",
        "no password needed",
        "scans/sig=1/",
    ],
)
def test_other_texts_hold_none(text: str) -> None:
    assert plain_secret(text) is None


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM dblink('host=h user=u password={}', 'SELECT 1')",
        "SELECT * FROM dblink($$password={} host=h$$, 'x')",
        'SELECT x("pwd={}")',
        "SELECT a FROM b WHERE c = 'https://u:{}@h'",
    ],
)
def test_a_secret_in_a_query_is_told(query: str) -> None:
    assert plain_secret(query.format(canary()), is_query=True)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id FROM users WHERE password = :given OR password=hash",
        "SELECT id FROM users WHERE password='' OR pwd = 'x'",
        "SELECT id FROM pages WHERE body NOT LIKE '%password=%' AND url !~ 'pwd=.*'",
        "SELECT 'https://city.example/' || id || '@x', 'https://' || host || '@' FROM pages",
        "SELECT id FROM pages WHERE url ~ '://.*@' OR url ~ '://[^/]*@' OR url LIKE '%&sig=%'",
        "SELECT a AS \"it's\", 'password=' || b FROM c",
    ],
)
def test_other_queries_hold_none(query: str) -> None:
    assert plain_secret(query, is_query=True) is None


@pytest.mark.parametrize(
    ("connector_type", "settings", "name"),
    [
        ("amazon_s3", {"prefix": "{}"}, "prefix"),
        ("amazon_s3", {"allowed_types": ["pdf", "{}"]}, "allowed_types"),
        ("postgresql", {"sslcert": "/c.pem", "sslkey": "{}"}, "sslkey"),
        ("postgresql", {"query": "SELECT '{}'"}, "query"),
    ],
)
@pytest.mark.parametrize(("text", "what"), SECRETS)
def test_a_connector_takes_no_secret_in_plain_text(
    connector_type: str, settings: dict[str, Any], name: str, text: str, what: str
) -> None:
    secret = canary()
    text = text.format(secret)
    needed = {
        "amazon_s3": {"bucket_name": "minutes"},
        "postgresql": PG,
    }[connector_type]
    given = {
        key: [item.format(text) for item in value] if isinstance(value, list) else value.format(text)
        for key, value in settings.items()
    }
    with pytest.raises(ConfigurationError, match=f"{name} holds {what}") as raised:
        get_connector(connector_type, {**needed, **given})
    assert Search([secret]).in_text(raised.value) == set()
