"""Lock files: who holds one lives.

The kernel lets go of a lock however its process ends, and knows of those of other containers on the same folder.
The id of a process says neither: after a restart, or in another container, it belongs to somebody else.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

NEW = ".new"
"""How the names of files end that are about to become lock files."""


def hold(path: Path, content: str = "") -> IO[str]:
    """Makes or replaces a lock file, held from the first moment on until what is returned is closed."""
    new = path.with_name(f"{path.name}-{os.getpid()}{NEW}")
    file = new.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(content)
    file.flush()
    new.replace(path)
    return file


def is_held(path: Path) -> bool:
    """Whether somebody holds it. Raises FileNotFoundError."""
    with path.open() as file:
        return not _locked(file, fcntl.LOCK_SH)


def take(path: Path) -> IO[str] | None:
    """Holds a lock file that nobody holds, None when somebody does or it is gone."""
    try:
        file = path.open("r+")
    except FileNotFoundError:
        return None
    if _locked(file, fcntl.LOCK_EX):
        return file
    file.close()
    return None


def _locked(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
