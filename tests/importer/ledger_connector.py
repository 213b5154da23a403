"""A connector for the tests of listings of changes: a system in memory that numbers what happens in it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO, ClassVar, NamedTuple

from pydantic import PrivateAttr

from connectors.base import (
    ConnectionStatus,
    Connector,
    Download,
    DownloadFailed,
    ExternalDocument,
    ListingIncomplete,
    Reached,
    Window,
)
from tests.robustness.archive_connector import Crash, Mishaps


class Entry(NamedTuple):
    """A document, and the number of its latest change."""

    number: int
    content: bytes
    modified_at: datetime


@dataclass
class Ledger:
    """The system."""

    holds: dict[str, Entry] = field(default_factory=dict)
    counted: int = 0
    epoch: int = 0
    """Checkpoints of another one are no longer known."""

    def put(self, name: str, content: bytes, modified_at: datetime) -> None:
        self.counted += 1
        self.holds[name] = Entry(self.counted, content, modified_at)

    def remove(self, name: str) -> None:
        self.counted += 1
        del self.holds[name]

    @property
    def checkpoint(self) -> str:
        return f"{self.epoch}:{self.counted}"


class LedgerConnector(Connector):
    """Lists and reads a Ledger. Its own dates are of no use for what is new."""

    connector_type: ClassVar[str] = "ledger"
    kind: ClassVar[str] = "file"
    windowed: ClassVar[bool] = True
    keeps_checkpoint: ClassVar[bool] = True

    _ledger: Ledger = PrivateAttr()
    _mishaps: Mishaps = PrivateAttr()
    _listed: int = PrivateAttr(default=0)

    def reads(self, ledger: Ledger, mishaps: Mishaps | None = None) -> LedgerConnector:
        self._ledger = ledger
        self._mishaps = mishaps or Mishaps()
        return self

    @property
    def listed(self) -> int:
        """How many documents it has told."""
        return self._listed

    def test_connection(self) -> ConnectionStatus:
        return ConnectionStatus(True, "it is in memory")

    def list_documents(self, window: Window | None = None) -> Iterator[ExternalDocument]:
        window = window or Window()
        yield from self._after(0, window)

    def list_changes(self, checkpoint: str | None) -> Generator[ExternalDocument, None, Reached]:
        reached = self._ledger.checkpoint
        epoch, _, number = (checkpoint or f"{self._ledger.epoch}:0").partition(":")
        known = int(epoch) == self._ledger.epoch
        yield from self._after(int(number) if known else 0, Window())
        return Reached(reached, started_over=not known)

    def _after(self, number: int, window: Window) -> Iterator[ExternalDocument]:
        found = sorted((held.number, name) for name, held in self._ledger.holds.items())
        wanted = [
            name
            for at, name in found
            if at > number and window.includes(self._ledger.holds[name].modified_at)
        ]
        for told, name in enumerate([*wanted, None]):
            if told == self._mishaps.breaks_after:
                raise ListingIncomplete("told to break off")
            if told == self._mishaps.crashes_after:
                raise Crash
            if name is not None:
                held = self._ledger.holds[name]
                self._listed += 1
                yield ExternalDocument(
                    name, str(held.number), f"{name}.txt", held.modified_at, len(held.content)
                )

    def download_document(self, document: ExternalDocument, into: BinaryIO) -> Download:
        if document.external_id in self._mishaps.fails:
            raise DownloadFailed("told to fail")
        into.write(self._ledger.holds[document.external_id].content)
        return Download()
