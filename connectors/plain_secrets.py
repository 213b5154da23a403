"""Secrets in plain text: what people paste where everybody sees it."""

from __future__ import annotations

import re
from collections.abc import Iterator

_WHAT = {
    "an address with a password": re.compile(r"://[\w%:~-][^\s/?#'\"]*@"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a signed link": re.compile(
        r"(?:\bX-(?:Amz|Goog)-Signature=|[?&#](?:sig|access_token)=)[^\s&'\"%]", re.IGNORECASE
    ),
}
_PASSWORD = re.compile(r"\b(?:password|passwd|pwd)\s*=\s*\S", re.IGNORECASE)
_PASSWORD_IN_A_LITERAL = re.compile(r"\b(?:password|passwd|pwd)=[^\s'\"%.\\(\[]", re.IGNORECASE)
"""Without what patterns of LIKE and regular expressions go on with."""
_LITERAL = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|\$\$.*?\$\$", re.DOTALL)


def plain_secret(text: str, is_query: bool = False) -> str | None:
    """What kind of secret stands in a text, None if none can be told.

    A query may compare a column that is called password: there, only what its literals say counts.
    """
    for what, pattern in _WHAT.items():
        if pattern.search(text):
            return what
    found = any(map(_PASSWORD_IN_A_LITERAL.search, _literals(text))) if is_query else _PASSWORD.search(text)
    return "a password" if found else None


def _literals(query: str) -> Iterator[str]:
    return (found[0] for found in _LITERAL.finditer(query))
