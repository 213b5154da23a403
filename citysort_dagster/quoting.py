"""What people typed, said back to them, unless it may be a secret that slipped into the wrong place."""

from __future__ import annotations

import re
from collections.abc import Iterable

UNSAID = "(…)"
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,40}")
_BEGINS_AS_A_KEY = re.compile(r"([a-z][a-z0-9_]{0,40})[:=](?!=*$)")
"""`password:…` where a blank was forgotten, `https:…`. What ends with = may be base64."""


def legible(text: object) -> str:
    """The text if it looks like a name or key; of other text the key that it begins with."""
    text = str(text)
    if _WORD.fullmatch(text):
        return text
    key = _BEGINS_AS_A_KEY.match(text)
    return f"{key[1]}…" if key else UNSAID


def dotted(path: Iterable[str | int]) -> str:
    """A path of keys, such as `config.host`."""
    return ".".join(str(part) if isinstance(part, int) else legible(part) for part in path)


def quoted(text: object) -> str:
    """The same in quotes."""
    found = legible(text)
    return found if found == UNSAID else f"'{found}'"
