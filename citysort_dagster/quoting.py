"""What people typed, quoted back to them, unless it may be a secret that slipped into the wrong place."""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,40}")
_BEGINS_AS_A_KEY = re.compile(r"([a-z][a-z0-9_]{0,40})[:=](?!=*$)")
"""`password:…` where a blank was forgotten, `https:…`. What ends with = may be base64."""


def quoted(text: object) -> str:
    """The text in quotes if it looks like a name or key; of other text the key that it begins with."""
    text = str(text)
    if _WORD.fullmatch(text):
        return repr(text)
    key = _BEGINS_AS_A_KEY.match(text)
    return f"'{key[1]}…'" if key else "(…)"
