"""Documents as downloads: for saving only, and only as they were imported."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, BinaryIO
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from citysort_dagster.files import COPY_BYTES, FileStore, clean_name
from citysort_dagster.web.problems import Problem

SAFE_TYPES = frozenset(
    {
        "application/pdf",
        "application/vnd.oasis.opendocument.text",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "image/jpeg",
        "image/png",
        "image/tiff",
    }
)
"""Types in which a browser that disobeyed would find nothing to run; all others are just bytes."""

ANY_BYTES = "application/octet-stream"


def attachment(request: Request, files: FileStore, document: Mapping[str, Any]) -> Response:
    """The stored file of a document, streamed, or 304 for one that the client has already.

    A file that is no longer the one that was imported is not delivered: the answer is an error, or
    breaks off before its end when part of it has been sent. Raises Problem, FileStoreError.
    """
    headers = {
        "Content-Disposition": disposition(document["filename"]),
        "ETag": f'"{document["sha256"]}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if headers["ETag"] in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    if files.size(document["path"]) not in (document["size"], None):
        raise _altered(document)
    pieces = _verified(files.open(document["path"]), document)
    first = next(pieces, b"")
    media_type = (document["content_type"] or "").partition(";")[0].strip().lower()
    return StreamingResponse(
        chain([first], pieces),
        media_type=media_type if media_type in SAFE_TYPES else ANY_BYTES,
        headers={**headers, "Content-Length": str(document["size"])},
    )


def disposition(filename: str) -> str:
    """The header that has a browser save a file under this name: https://www.rfc-editor.org/rfc/rfc6266."""
    name = clean_name(filename)
    plain = name.encode("ascii", "replace").decode().replace("?", "_").replace("%", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _verified(stored: BinaryIO, document: Mapping[str, Any]) -> Iterator[bytes]:
    """The bytes, each piece once the one after it is there: the last waits for the checksum of all."""
    digest = hashlib.sha256()
    held = b""
    with stored:
        while piece := stored.read(COPY_BYTES):
            digest.update(piece)
            if held:
                yield held
            held = piece
    if digest.hexdigest() != document["sha256"]:
        raise _altered(document)
    yield held


def _altered(document: Mapping[str, Any]) -> Problem:
    return Problem(
        500, "Altered file", f"The stored file of {document['id']} is not the one that was imported."
    )
