"""A connector for the tests of the importer: it lists what it is given, and something may happen in between."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any, BinaryIO, ClassVar

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

MAY = datetime(2026, 5, 10, tzinfo=timezone.utc)

Step = ExternalDocument | Callable[[], object]


class Listed(Connector):
    """Documents as they are given; the content of each is its version."""

    connector_type: ClassVar[str] = "folder"
    kind: ClassVar[str] = "file"

    _steps: Sequence[Step] = ()
    _broken: str | None = None
    _failing: Collection[tuple[str, str]] = ()
    _downloaded: list[str] = PrivateAttr(default_factory=list)

    @property
    def downloaded(self) -> Sequence[str]:
        """The ids of the documents whose downloads have begun."""
        return tuple(self._downloaded)

    def test_connection(self) -> ConnectionStatus:
        return ConnectionStatus(True, "")

    def list_documents(self, window: Window | None = None) -> Iterator[ExternalDocument]:
        for step in self._steps:
            if not isinstance(step, ExternalDocument):
                step()
            elif (window or Window()).includes(step.modified_at):
                yield step
        if self._broken:
            raise ListingIncomplete(self._broken)

    def download_document(self, document: ExternalDocument, into: BinaryIO) -> Download:
        self._downloaded.append(document.external_id)
        if (document.external_id, document.version) in self._failing:
            raise DownloadFailed("told to fail")
        into.write(document.version.encode(errors="replace"))
        return Download()


def listing(
    *steps: Step, broken: str | None = None, failing: Collection[tuple[str, str]] = (), **settings: Any
) -> Listed:
    """A source that lists these documents in this order, and calls in their place what is no document."""
    connector = Listed(**{"concurrency": 1, **settings})
    connector._steps, connector._broken, connector._failing = steps, broken, failing
    return connector


def document(external_id: str, version: str = "1", **more: Any) -> ExternalDocument:
    """A document of May 2026 unless told otherwise."""
    return ExternalDocument(external_id, version, **{"filename": "letter.txt", "modified_at": MAY, **more})
