"""A connector for the tests of the importer: a folder is the source system, and behaves as badly as told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO, ClassVar

from pydantic import Field

from connectors.base import (
    ConfigurationError,
    ConnectionStatus,
    Connector,
    Download,
    DownloadFailed,
    ExternalDocument,
    ListingIncomplete,
    Window,
)


class Folder(Connector):
    """Documents are the files of a folder, their versions the modification times."""

    connector_type: ClassVar[str] = "folder"
    kind: ClassVar[str] = "file"
    windowed: ClassVar[bool] = True
    newest_first: ClassVar[bool] = True

    path: str
    break_after: int | None = Field(default=None, description="Documents after which the listing breaks off.")
    fails: list[str] = Field(default_factory=list, description="Names whose download fails.")
    twice: list[str] = Field(
        default_factory=list, description="Names that are listed again, as another version."
    )

    def test_connection(self) -> ConnectionStatus:
        return ConnectionStatus(Path(self.path).is_dir(), self.path)

    def list_documents(self, window: Window | None = None) -> Iterator[ExternalDocument]:
        if not Path(self.path).is_dir():
            raise ConfigurationError(f"there is no folder {self.path}")
        found: list[ExternalDocument] = []
        for file in Path(self.path).iterdir():
            stat = file.stat()
            modified_at = datetime.fromtimestamp(stat.st_mtime, timezone.utc)
            found.append(
                ExternalDocument(file.name, str(stat.st_mtime_ns), file.name, modified_at, stat.st_size)
            )
            if file.name in self.twice:
                found.append(ExternalDocument(file.name, "another", file.name, modified_at, stat.st_size))
        found.sort(key=lambda document: str(document.modified_at), reverse=True)
        listed = [document for document in found if (window or Window()).includes(document.modified_at)]
        for number, document in enumerate(listed):
            if number == self.break_after:
                raise ListingIncomplete("the folder went away")
            yield document

    def download_document(self, document: ExternalDocument, into: BinaryIO) -> Download:
        if document.external_id in self.fails:
            raise DownloadFailed("told to fail")
        file = Path(self.path) / document.external_id
        if str(file.stat().st_mtime_ns) != document.version:
            raise DownloadFailed("changed since it was listed")
        with file.open("rb") as content:
            while piece := content.read(65_536):
                into.write(piece)
        return Download()


def put(folder: Path, name: str, content: bytes, modified_at: datetime) -> None:
    """Adds or changes a document of the folder."""
    (folder / name).write_bytes(content)
    os.utime(folder / name, (modified_at.timestamp(), modified_at.timestamp()))
