"""Secrets kept out of sentences: their values, in every form that others write them in."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

HIDDEN = "(hidden)"
_SHORTEST_PART = 4
"""A shorter line of a secret, or piece of one in base64, is no telling part of it."""


def without(sentence: str, secrets: Iterable[Any]) -> str:
    """The sentence with these values blotted out, for texts that others wrote.

    A value that is no text is none of them. A value of several lines, such as a key in PEM, is blotted
    out line by line, too; percent-encoded, in base64 and in hex it is found as well.
    """
    found = {form for secret in secrets if isinstance(secret, str) and secret for form in _forms(secret)}
    if not found:
        return sentence
    # The longest first: what a shorter one leaves of it would be shown.
    return re.sub("|".join(sorted(found, key=len, reverse=True)), HIDDEN, sentence)


def _forms(secret: str) -> Iterator[str]:
    """Patterns that find the secret and its lines."""
    lines = (line.strip() for line in re.split(r"\\n|\\r|[\r\n]", secret))
    for part in {secret, *(line for line in lines if len(line) >= _SHORTEST_PART and line[:5] != "-----")}:
        raw = part.encode(errors="surrogatepass")
        for text in {part, repr(part)[1:-1], json.dumps(part)[1:-1]}:
            yield re.escape(text)
        for text in {quote(raw), quote(raw, safe=""), quote_plus(raw), raw.hex()}:
            yield f"(?i:{re.escape(text)})"
        yield from _in_base64(raw)


def _in_base64(raw: bytes) -> Iterator[str]:
    """The secret in base64, wherever it begins in what was encoded: `user:password`, for instance."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw).decode()
        first, end = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
        middle = re.escape(encoded[first:end])
        if end - first >= _SHORTEST_PART:
            # The characters next to it hold some of its bits.
            for text in {middle, middle.replace(r"\+", r"\-").replace("/", "_")}:
                yield rf"[\w+/-]?{text}[\w+/-]?=*"
