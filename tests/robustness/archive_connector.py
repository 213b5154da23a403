"""A connector to a system in memory, whose documents a test moves about and which fails as told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import BinaryIO, ClassVar, NamedTuple

from pydantic import PrivateAttr

from connectors.base import (
    ConnectionStatus,
    Connector,
    Download,
    DownloadFailed,
    ExternalDocument,
    ListingIncomplete,
    Window,
)

LAST = datetime.max.replace(tzinfo=timezone.utc)


class Crash(BaseException):
    """The process dies, as far as that can be done from inside."""


class Version(NamedTuple):
    """What the system holds under an id."""

    token: str
    content: bytes
    modified_at: datetime | None


@dataclass
class Mishaps:
    """What goes wrong in one import."""

    fails: frozenset[str] = frozenset()
    breaks_after: int | None = None
    crashes_after: int | None = None


@dataclass
class Archive:
    """The system."""

    holds: dict[str, Version] = field(default_factory=dict)

    def listing(self, window: Window) -> list[tuple[str, Version]]:
        """What it lists, the newest first, documents without a date before all others."""
        found = [(name, held) for name, held in self.holds.items() if window.includes(held.modified_at)]
        return sorted(found, key=lambda one: (one[1].modified_at or LAST, one[0]), reverse=True)


class ArchiveConnector(Connector):
    """Lists and reads an Archive."""

    connector_type: ClassVar[str] = "archive"
    kind: ClassVar[str] = "file"
    windowed: ClassVar[bool] = True
    newest_first: ClassVar[bool] = True

    _archive: Archive = PrivateAttr()
    _mishaps: Mishaps = PrivateAttr()

    def reads(self, archive: Archive, mishaps: Mishaps) -> ArchiveConnector:
        self._archive = archive
        self._mishaps = mishaps
        return self

    def test_connection(self) -> ConnectionStatus:
        return ConnectionStatus(True, "it is in memory")

    def list_documents(self, window: Window | None = None) -> Iterator[ExternalDocument]:
        for number, (name, held) in enumerate(self._archive.listing(window or Window())):
            if number == self._mishaps.breaks_after:
                raise ListingIncomplete("told to break off")
            if number == self._mishaps.crashes_after:
                raise Crash
            yield ExternalDocument(name, held.token, f"{name}.txt", held.modified_at, len(held.content))

    def download_document(self, document: ExternalDocument, into: BinaryIO) -> Download:
        if document.external_id in self._mishaps.fails:
            raise DownloadFailed("told to fail")
        into.write(self._archive.holds[document.external_id].content)
        return Download()
