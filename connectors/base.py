"""What every connector has in common: the documents it lists, the window it lists them in,
the errors it raises, and a download that is checked before it counts."""

from __future__ import annotations

import hashlib
import traceback
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, ClassVar, NamedTuple

import dagster as dg
from pydantic import Field, PrivateAttr, model_validator

from connectors.addresses import EVERYWHERE, Reach
from connectors.plain_secrets import plain_secret
from connectors.secrecy import without


class ConnectorError(Exception):
    """An expected failure, told in one sentence for a person. Never holds a secret."""


class ConfigurationError(ConnectorError):
    """The configuration cannot work as it stands: a person must change it."""


class ListingIncomplete(ConnectorError):
    """The listing broke off: what was listed counts, but it is not all there is."""


class DownloadFailed(ConnectorError):
    """This one document could not be fetched whole and unaltered; a later try may succeed."""


class DownloadRefused(ConnectorError):
    """This document will not be imported as things stand (too large, not readable by rule):
    trying again changes nothing until a person changes the source or the settings."""


class Window(NamedTuple):
    """A stretch of time, half-open `[start, end)`, both UTC; None means without bound."""

    start: datetime | None = None
    end: datetime | None = None

    def includes(self, modified_at: datetime | None) -> bool:
        """Whether a document last modified then belongs here.

        One without a date belongs to the present: it is included when the window reaches now.
        """
        if modified_at is None:
            modified_at = datetime.now(timezone.utc)
        return (self.start is None or modified_at >= self.start) and (
            self.end is None or modified_at < self.end
        )


class ExternalDocument(NamedTuple):
    """A document as its own system lists it.

    `version` is the strongest token that system offers, compared for equality only.
    `modified_at` is UTC, None where the system keeps no date. `size` is in bytes, None where
    unknown. `checksums` maps a hashlib algorithm to the lower-case hex digest the system states.
    `source_url` leads a person to the document and holds neither credentials nor a signature.
    `metadata` (JSON values only) is kept with the document.

    `not_imported` says why the document is listed but must not be downloaded: `refused` (archived,
    say: reported as skipped) or `failed` (an id that stands twice, a broken row), with the reason.
    """

    external_id: str
    version: str
    filename: str
    modified_at: datetime | None = None
    size: int | None = None
    content_type: str | None = None
    source_url: str | None = None
    checksums: Mapping[str, str] = MappingProxyType({})
    metadata: Mapping[str, Any] = MappingProxyType({})
    not_imported: NotImported | None = None


class Reached(NamedTuple):
    """How far a listing of changes has come, for the next one to go on from.

    `checkpoint` means something to its connector alone. It is no credential, but shown to nobody: it
    may hold links. `started_over` when the one given was no longer known to the system, so that
    everything was listed.
    """

    checkpoint: str
    started_over: bool = False


class NotImported(NamedTuple):
    """Why a listed document is not downloaded, in one sentence."""

    reason: str
    refused: bool = False
    """True: by rule, until a person changes something. False: a failure, tried again later."""


class Download(NamedTuple):
    """What the system said about the bytes while it sent them; what it did not say stays empty."""

    content_type: str | None = None
    size: int | None = None


class VerifiedDownload(NamedTuple):
    """Bytes that arrived whole: their count, SHA-256 (hex) and content type."""

    size: int
    sha256: str
    content_type: str | None


class ConnectionStatus(NamedTuple):
    """The outcome of a connection test: `message` is one sentence without any secret."""

    ok: bool
    message: str


def secret(description: str, default: str | None = None) -> Any:
    """A field whose value is a secret: never in `repr` or a dump, marked `writeOnly` in the JSON schema."""
    return Field(
        default=default,
        description=description,
        repr=False,
        exclude=True,
        json_schema_extra={"writeOnly": True, "format": "password"},
    )


class Connector(dg.ConfigurableResource, ABC):  # type: ignore[type-arg]
    """One kind of system that documents come from.

    The fields are its settings; their JSON schema describes them to every front end. An instance
    is used by one import at a time, its `download_document` by several threads at once.
    """

    connector_type: ClassVar[str]
    kind: ClassVar[str]
    """Dagster's name for the system's logo, https://docs.dagster.io/guides/build/assets/metadata-and-tags/kind-tags."""
    windowed: ClassVar[bool] = False
    """The system itself narrows a listing to a window; otherwise everything is listed and filtered."""
    newest_first: ClassVar[bool] = False
    """Listings come newest first, documents without a date before all others."""
    keeps_checkpoint: ClassVar[bool] = False
    """There is `list_changes`, which knows what is new by more than its date."""
    batched_bytes: ClassVar[int] = 0
    """Documents listed with at most this many bytes are fetched several at once by `download_batch`."""

    allowed_types: list[str] = Field(
        default_factory=list,
        description="File endings to import, such as pdf or docx. Empty: every type.",
    )
    max_size_mb: int = Field(
        default=5_000, ge=1, description="Documents above this many megabytes (10^6) are refused."
    )
    concurrency: int = Field(default=8, ge=1, le=64, description="Downloads under way at once.")

    _reach: Reach = PrivateAttr(default=EVERYWHERE)
    _warnings: list[str] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _no_secret_in_plain_text(self) -> Connector:
        """What is no secret setting is shown, and errors quote it."""
        for name, setting in type(self).model_fields.items():
            value = getattr(self, name)
            for text in value if isinstance(value, list) else [value]:
                if setting.exclude or not isinstance(text, str):
                    continue
                what = plain_secret(text, is_query=name.endswith("query"))
                if what:
                    raise ValueError(f"{name} holds {what}: a secret setting is the place for it")
        return self

    @abstractmethod
    def test_connection(self) -> ConnectionStatus:
        """Makes real calls; says in one sentence whether they worked or what to do. Never raises
        for an expected failure."""

    @abstractmethod
    def list_documents(self, window: Window | None = None) -> Iterator[ExternalDocument]:
        """Every document last modified in the window, lazily.

        Raises ConfigurationError before the first document when the settings cannot work, and
        ListingIncomplete whenever the listing ends before its end.
        """

    def list_changes(self, checkpoint: str | None) -> Generator[ExternalDocument, None, Reached]:
        """Every document that has changed or arrived since the listing that returned this checkpoint,
        whatever its date; None: every document. Only where `keeps_checkpoint`.

        Returns a checkpoint when it comes to its end, and raises as `list_documents` does. Documents
        that were deleted are not told: a listing of everything shows what is gone.
        """
        raise NotImplementedError(f"{type(self).__name__} keeps no checkpoint")

    @abstractmethod
    def download_document(self, document: ExternalDocument, into: BinaryIO) -> Download:
        """Writes the bytes of the listed version to `into`, in pieces.

        Raises DownloadFailed or DownloadRefused, also when the document has changed or gone since
        it was listed. Errors that `into.write` raises pass through.
        """

    def download_batch(
        self, documents: Sequence[ExternalDocument]
    ) -> Iterator[tuple[ExternalDocument, bytes]]:
        """The content of small documents, for systems where each round trip costs more than the bytes.

        Only of those that are there in the listed version; all others, and those that come after an
        error, are left to `download_document`, which tells what is wrong with them.
        """
        return iter(())

    def warn(self, sentence: str) -> None:
        """Has a person told what nothing fails of, such as rights that let documents go unseen."""
        if sentence not in self._warnings:
            self._warnings.append(sentence)

    @property
    def warnings(self) -> Sequence[str]:
        """What a person should know about what was listed so far; a sentence each, without any secret."""
        return tuple(self._warnings)

    def without_secrets(self, sentence: str) -> str:
        """The sentence with the secrets of this connector blotted out, for texts that others wrote."""
        fields = type(self).model_fields
        return without(sentence, (getattr(self, name) for name, field in fields.items() if field.exclude))

    def keep_to(self, reach: Reach) -> None:
        """Has the connector, not yet connected, reach no further than this.

        Raises ConfigurationError when its settings lead elsewhere as they stand.
        """
        self._reach = reach
        settings = ((name, getattr(self, name)) for name in type(self).model_fields)
        for name, why in reach.faults(settings):
            raise ConfigurationError(f"{self.connector_type}: {name}: {why}")

    def close(self) -> None:
        """Lets go of connections. The connector is not used afterwards."""


class _CheckedWriter:
    """Counts and digests what passes through, and stops at the size limit."""

    def __init__(self, into: BinaryIO, limit: int) -> None:
        self._into = into
        self._limit = limit
        self.size = 0
        self.sha256 = hashlib.sha256()
        self.others: dict[str, Any] = {}

    def expect(self, algorithms: Mapping[str, str]) -> None:
        for name in algorithms:
            if name != "sha256" and name not in self.others:
                self.others[name] = hashlib.new(name, usedforsecurity=False)

    def write(self, data: bytes) -> int:
        self.size += len(data)
        if self.size > self._limit:
            raise DownloadRefused(too_large(self._limit))
        self.sha256.update(data)
        for digest in self.others.values():
            digest.update(data)
        written = self._into.write(data)
        while written < len(data):  # an unbuffered file may take a part only
            written += self._into.write(memoryview(data)[written:])
        return written


def unexpected(error: BaseException) -> str:
    """Names an error that nobody foresaw by kind and place: its text may hold anything, a secret too."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"unexpected {type(error).__name__} in {Path(frame.filename).name} line {frame.lineno}"


def too_large(limit: int) -> str:
    """The sentence for a document above the limit (in bytes)."""
    return f"larger than the limit of {limit // 1_000_000} MB (setting max_size_mb of the source)"


def refusal(connector: Connector, document: ExternalDocument) -> str | None:
    """Why the settings forbid this listed document, or None when they do not."""
    limit = connector.max_size_mb * 1_000_000
    if document.size is not None and document.size > limit:
        return too_large(limit)
    if not connector.allowed_types:
        return None
    ending = document.filename.rpartition(".")[2].lower() if "." in document.filename else ""
    if ending not in {allowed.lower().lstrip(".") for allowed in connector.allowed_types}:
        return f"files of type {ending or '(none)'} are not allowed (setting allowed_types of the source)"
    return None


def download_verified(connector: Connector, document: ExternalDocument, into: BinaryIO) -> VerifiedDownload:
    """Downloads a document and compares what arrived with every size and checksum stated.

    Raises DownloadFailed when they disagree, DownloadRefused above the size limit, and whatever
    `download_document` raises.
    """
    writer = _CheckedWriter(into, connector.max_size_mb * 1_000_000)
    writer.expect(document.checksums)
    download = connector.download_document(document, writer)  # type: ignore[arg-type]
    return _compared(document, download, writer)


def verified(
    connector: Connector, document: ExternalDocument, content: bytes, into: BinaryIO
) -> VerifiedDownload:
    """The same for content that `download_batch` has fetched."""
    writer = _CheckedWriter(into, connector.max_size_mb * 1_000_000)
    writer.expect(document.checksums)
    writer.write(content)
    return _compared(document, Download(), writer)


def _compared(document: ExternalDocument, download: Download, writer: _CheckedWriter) -> VerifiedDownload:
    for size in (document.size, download.size):
        if size is not None and size != writer.size:
            raise DownloadFailed(f"{writer.size} bytes arrived of the {size} that were announced")
    sha256 = writer.sha256.hexdigest()
    found = {name: digest.hexdigest() for name, digest in writer.others.items()} | {"sha256": sha256}
    for name, stated in document.checksums.items():
        if found[name] != stated:
            raise DownloadFailed(f"the {name} checksum of the bytes that arrived is not the stated one")
    return VerifiedDownload(writer.size, sha256, download.content_type or document.content_type)
