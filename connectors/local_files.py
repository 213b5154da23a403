"""Opening files below a folder by paths that nobody vouches for."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from connectors.base import DownloadFailed, DownloadRefused


def open_below(root: Path, path: str) -> BinaryIO:
    """A regular file below `root`, opened for reading; `path` is relative to `root`.

    Symbolic links are followed as long as they stay below `root`. The file is reached folder by
    folder without following links (https://man7.org/linux/man-pages/man2/openat.2.html), so a
    path that is exchanged meanwhile is not followed either.

    Raises DownloadRefused for an absolute path, one with `..`, one that leaves `root`, and for
    anything but a regular file; DownloadFailed when there is no such file, or it is not readable.
    """
    if not path or "\0" in path:
        raise DownloadRefused(f"the file path {path!r} is not a path")
    if path.startswith("/"):
        raise DownloadRefused(f"the file path {path!r} is absolute: it must be relative to files_root")
    if ".." in path.split("/"):
        raise DownloadRefused(f"the file path {path!r} contains '..'")
    try:
        real_root = os.path.realpath(root, strict=True)
        real = os.path.realpath(os.path.join(real_root, path), strict=True)  # noqa: PTH118 - no Path for strict
        if os.path.commonpath([real_root, real]) != real_root:
            raise DownloadRefused(f"the file path {path!r} leads out of files_root through a link")
        return _open_without_links(real_root, os.path.relpath(real, real_root), path)
    except FileNotFoundError:
        raise DownloadFailed(f"there is no file {path!r} below files_root") from None
    except OSError as error:
        raise DownloadFailed(f"the file {path!r} cannot be read: {error.strerror}") from None


def _open_without_links(root: str, relative: str, shown: str) -> BinaryIO:
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *parents, name = relative.split("/")
        for parent in parents:
            inner = os.open(
                parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder
            )
            os.close(folder)
            folder = inner
        # Looked at before it is opened: opening a device may already do something.
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise DownloadRefused(f"the file path {shown!r} is not a regular file")
        found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        file = os.fdopen(found, "rb")
        if not stat.S_ISREG(os.fstat(found).st_mode):
            file.close()
            raise DownloadRefused(f"the file path {shown!r} is not a regular file")
        return file
    finally:
        os.close(folder)
