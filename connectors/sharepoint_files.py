"""What is true of the libraries and files of a SharePoint site, whichever of its APIs tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import BinaryIO, Protocol, TypeVar

from dateutil.parser import isoparse

from connectors.base import DownloadFailed
from connectors.http_answers import RequestFailed

REWRITTEN = frozenset(
    {"doc", "docm", "docx", "dot", "dotm", "dotx", "pot", "potm", "potx", "pps", "ppsm", "ppsx", "ppt"}
    | {"pptm", "pptx", "xla", "xlam", "xls", "xlsb", "xlsm", "xlsx", "xlt", "xltm", "xltx"}
    | {"vsd", "vsdm", "vsdx", "pub", "mpp", "one", "onetoc2", "htm", "html", "aspx"}
)
"""SharePoint writes the columns of the library into these, so their size and hash may be those of other
bytes than it sends. https://github.com/OneDrive/onedrive-api-docs/issues/1066"""
ARCHIVE, ITS_END = b"PK\3\4", b"PK\5\6"
LONGEST_END = 22 + 65_535
"""Bytes of the end of a ZIP archive, with the longest comment."""


class NamedLibrary(Protocol):
    """A document library: the title that people see, and its name in addresses."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def segment(self) -> str: ...


L = TypeVar("L", bound=NamedLibrary)


def named(found: Sequence[L], names: Sequence[str], otherwise: Sequence[L], site_url: str) -> Sequence[L]:
    """The libraries of these names, each once, by the title that people see or by their name in addresses;
    without names, `otherwise`.

    Raises RequestFailed for a name that none has, with those there are, and where there is no library."""
    chosen: dict[str, L] = {}
    for name in names:
        same = [one for one in found if one.name.casefold() == name.casefold()]
        same = same or [one for one in found if one.segment.casefold() == name.casefold()]
        if not same:
            raise RequestFailed(
                f"{site_url} has no document library {name}; there are:"
                f" {', '.join(sorted(one.name for one in found)) or 'none'}",
                lasting=True,
            )
        chosen |= {one.id: one for one in same}
    libraries = [*chosen.values()] or otherwise
    if not libraries:
        raise RequestFailed(f"{site_url} has no document library that the application may read", lasting=True)
    return libraries


class Sent:
    """Passes bytes on and looks at their ends: SharePoint has been seen to send a part as if it were all, and
    states no size of the Office files that it sends. https://github.com/SharePoint/sp-dev-docs/issues/5247"""

    def __init__(self, into: BinaryIO) -> None:
        self._into = into
        self._head = self._tail = b""
        self.size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self._head = self._head or data[: len(ARCHIVE)]
        self._tail = (self._tail + data[-LONGEST_END:])[-LONGEST_END:]
        return self._into.write(data)

    def check(self) -> None:
        """Raises DownloadFailed for an archive, which the newer Office files are, without its end."""
        if self._head == ARCHIVE and ITS_END not in self._tail:
            raise DownloadFailed("what arrived ends too early: SharePoint has not sent all of it")


def ending(name: str) -> str:
    """What follows the last dot of a file's name, in lower case."""
    return name.rpartition(".")[2].lower()


def utc(stamp: str) -> datetime:
    """The moment that a time of an answer means, in UTC. Raises RequestFailed when it means none."""
    try:
        moment = isoparse(stamp)
    except ValueError:
        raise RequestFailed(
            "an answer is not a listing: it has an item with no real date", lasting=True
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
