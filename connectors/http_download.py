"""A document on its way from an HTTP system, and what the system says about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO

import requests

from connectors.base import Download

SPOOL_BYTES = 4 * 1024 * 1024
"""A body is held back until this much of it has come, so that a short one can be asked for again."""


@dataclass
class Body:
    """A document on its way: held back at first, then written on."""

    into: BinaryIO
    held: list[bytes] = field(default_factory=list)
    held_bytes: int = 0
    written: int = 0
    etag: str | None = None
    """Names the bytes, so that the rest of the same ones can be asked for."""
    redirected: bool = False

    def take(self, piece: bytes) -> None:
        self.held.append(piece)
        self.held_bytes += len(piece)
        if self.written or self.held_bytes > SPOOL_BYTES:
            self.write_on()

    def write_on(self) -> None:
        for piece in self.held:
            self.into.write(piece)
            self.written += len(piece)
        self.drop()

    def drop(self) -> None:
        self.held, self.held_bytes = [], 0

    def range(self) -> dict[str, str]:
        if not self.written:
            return {}
        return {"Range": f"bytes={self.written}-", "If-Range": str(self.etag)}


def continues(answer: requests.Response, start: int, etag: str | None) -> bool:
    """Whether an answer goes on from there, with the same bytes."""
    return (
        answer.status_code == 206
        and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        and answer.headers.get("ETag", etag) == etag
    )


def download_of(answer: requests.Response) -> Download:
    """What the headers of an answer say about the document."""
    said = answer.headers.get("Content-Type", "")
    length = answer.headers.get("Content-Range", "").rpartition("/")[2] or answer.headers.get(
        "Content-Length", ""
    )
    encoded = answer.headers.get("Content-Encoding", "identity") != "identity"
    return Download(
        # What servers say when they do not know.
        content_type=None if said.startswith(("application/octet", "binary/")) else said or None,
        size=int(length) if length.isdigit() and not encoded else None,
    )
