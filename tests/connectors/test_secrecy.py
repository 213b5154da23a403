from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest

from connectors import get_connector
from connectors.secrecy import without
from tests.secrecy.canaries import Search, canary

HARD = 'p@ss w/ö"rd+\\%'
PEM = "-----BEGIN PRIVATE KEY-----\n{}\n{}\n-----END PRIVATE KEY-----\n"


def test_values_are_blotted_out_of_foreign_sentences() -> None:
    assert without("login as root:hunter2 failed", ["hunter2", "", None]) == "login as root:(hidden) failed"
    assert without("nothing to hide", []) == "nothing to hide"


@pytest.mark.parametrize(
    "form",
    [
        HARD,
        repr(HARD),
        json.dumps(HARD),
        quote(HARD),
        quote(HARD, safe=""),
        quote(HARD, safe="").lower(),
        quote_plus(HARD),
        HARD.encode().hex(),
        HARD.encode().hex().upper(),
        *(base64.b64encode(b"u" * n + f":{HARD}:u".encode()).decode() for n in range(3)),
        *(base64.urlsafe_b64encode(b"u" * n + HARD.encode()).decode() for n in range(3)),
    ],
)
def test_a_secret_is_blotted_out_in_every_form(form: str) -> None:
    told = without(f"the server says: {form}.", [HARD])
    assert "(hidden)" in told
    # What the encoding adds around it may stay.
    assert len(told) <= len("the server says: (hidden).") + 8


def test_a_secret_that_begins_with_another_is_blotted_out_whole() -> None:
    assert without("hunter2000 and hunter2", ["hunter2", "hunter2000"]) == "(hidden) and (hidden)"


@pytest.mark.parametrize("one_line", [False, True])
def test_the_lines_of_a_key_are_blotted_out_one_by_one(one_line: bool) -> None:
    lines = [canary(), canary()]
    key = PEM.format(*lines)
    told = without(f"cannot read {lines[1]}, {lines[0]}", [key.replace("\n", "\\n") if one_line else key])
    assert told == "cannot read (hidden), (hidden)"
    assert without("-----BEGIN PRIVATE KEY----- is missing", [key]).startswith("-----BEGIN")


def test_a_connector_keeps_its_secrets_out_of_sentences() -> None:
    secret, session_token = canary(), canary()
    connector = get_connector(
        "amazon_s3",
        {
            "bucket_name": "minutes",
            "access_key_id": "AKIAIOSFODNN7EXAMPLE",
            "secret_access_key": secret,
            "session_token": session_token,
        },
    )
    told = connector.without_secrets(f"minutes: no {secret}, no {base64.b64encode(session_token.encode())!r}")
    assert told == "minutes: no (hidden), no b'(hidden)'"
    assert not Search([secret, session_token]).in_text(told)
