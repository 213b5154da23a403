"""Copies documents out into a folder, each with its lineage in a manifest."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from citysort_dagster.document_list import DocumentFilter, list_documents
from citysort_dagster.files import COPY_BYTES, FileStore, FileStoreError, read_piece
from citysort_dagster.store.database import Database

MANIFEST = "manifest.jsonl"
_LOCK = ".export.lock"


class ExportError(Exception):
    """The folder cannot take an export; one sentence."""


class Exported(NamedTuple):
    """What became of one document: its file below the folder, whether it was there already, or why
    it could not be copied."""

    document: Mapping[str, Any]
    file: str
    present: bool = False
    problem: str | None = None


def export(
    database: Database,
    files: FileStore,
    folder: Path,
    chosen: DocumentFilter,
    on_exported: Callable[[Exported], None],
) -> None:
    """Copies the chosen documents to `folder/<source>/<partition>/<stored name>` and describes all of
    them in `manifest.jsonl`, one JSON object a line: the document's columns and its `file`.

    Safe to break off and to repeat: a file appears whole or not at all, one that is there already is
    compared and kept, another file is never overwritten, and the manifest is replaced at the end,
    keeping what earlier exports wrote of other documents. Every document is reported to
    `on_exported`. Raises ExportError, DatabaseError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            draft = folder / f".{MANIFEST}.part"
            with draft.open("w", encoding="utf-8") as manifest:
                written: set[bytes] = set()
                for document in list_documents(database, chosen):
                    exported = _export_document(files, folder, document)
                    on_exported(exported)
                    if exported.problem is None:
                        manifest.write(_line({**document, "file": exported.file}))
                        written.add(_key(document["id"]))
                for line in _former_lines(folder / MANIFEST):
                    if _key(line["id"]) not in written:
                        manifest.write(_line(line))
                manifest.flush()
                os.fsync(manifest.fileno())
            draft.replace(folder / MANIFEST)
    except OSError as error:
        raise ExportError(f"cannot write to {error.filename or folder}: {error.strerror}") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExportError(f"another export into {folder} is under way: wait until it ends") from None
        yield


def _export_document(files: FileStore, folder: Path, document: Mapping[str, Any]) -> Exported:
    name = PurePosixPath(document["path"]).name
    target = folder / document["source"] / document["partition"] / name
    file = target.relative_to(folder).as_posix()
    if target.is_symlink() or target.exists():
        if not target.is_symlink() and target.is_file() and _sha256(target) == document["sha256"]:
            return Exported(document, file, present=True)
        return Exported(document, file, problem="another file of that name is there and was left alone")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{document['id']}.part")
    try:
        found = _copy(files, document["path"], draft)
    except FileStoreError as error:
        draft.unlink(missing_ok=True)
        return Exported(document, file, problem=str(error))
    if found != document["sha256"]:
        draft.unlink()
        return Exported(document, file, problem="the stored file is not the one that was imported (SHA-256)")
    draft.rename(target)
    return Exported(document, file)


def _copy(files: FileStore, path: str, draft: Path) -> str:
    digest = hashlib.sha256()
    with files.open(path) as stored, draft.open("wb") as copy:
        while piece := read_piece(stored):
            digest.update(piece)
            copy.write(piece)
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest()


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while piece := content.read(COPY_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _former_lines(manifest: Path) -> Iterator[dict[str, Any]]:
    if not manifest.exists():
        return
    with manifest.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                entry["id"].encode()
            except (ValueError, KeyError, TypeError, AttributeError):
                raise ExportError(
                    f"line {number} of {manifest} is not of an export: move that file away"
                ) from None
            yield entry


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry) + "\n"


def _key(document_id: str) -> bytes:
    # Half the memory of text; an export may be of millions.
    return hashlib.blake2b(document_id.encode(), digest_size=16).digest()
