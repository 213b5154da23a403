"""File systems of their own, which can lose power or fill up.

Mounting them takes the rights of an administrator of Linux. Where those are missing, less can be
shown, and a warning says so.
"""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEGABYTE = 1_000_000


class Disk:
    """An ext4 file system in a file. What is in the file has reached the disk; what the kernel still
    holds back is lost with the power. Without an image: a folder, which loses nothing."""

    def __init__(self, folder: Path, image: Path | None) -> None:
        self.folder = folder
        self.can_lose = image is not None
        self._image = image

    @contextmanager
    def after_power_cut(self) -> Iterator[Path]:
        """What a machine finds that starts again after the power went, now: there for a while."""
        folder = self.folder.with_name("after")
        if self._image is None:
            shutil.copytree(self.folder, folder)
            yield folder
            shutil.rmtree(folder)
            return
        image = self._image.with_name("after.img")
        subprocess.run(["cp", "--sparse=always", self._image, image], check=True)
        folder.mkdir()
        try:
            with _mounted(folder, "ext4", "loop", image):
                yield folder
        finally:
            folder.rmdir()
            image.unlink()


@contextmanager
def disk(at: Path) -> Iterator[Disk]:
    """A disk of 64 MB that writes by itself only after ten minutes."""
    folder = at / "disk"
    folder.mkdir()
    if not _may_mount(folder):
        yield Disk(folder, None)
        return
    image = at / "disk.img"
    with image.open("wb") as made:
        made.truncate(64 * MEGABYTE)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    with _mounted(folder, "ext4", "loop,commit=600", image):
        yield Disk(folder, image)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """A disk of so many bytes on a new folder; False where it cannot be had and the folder has no limit."""
    folder.mkdir()
    if not _may_mount(folder):
        yield False
        return
    with _mounted(folder, "tmpfs", f"size={size}", "tmpfs"):
        yield True


def make_room(folder: Path) -> None:
    """What an administrator does when a small disk is full."""
    subprocess.run(["mount", "-o", "remount,size=80000000", folder], check=True)


def _may_mount(folder: Path) -> bool:
    try:
        with _mounted(folder, "tmpfs", "size=1m", "tmpfs"):
            return True
    except (OSError, subprocess.CalledProcessError):
        warnings.warn(
            "no file system may be mounted here: power cuts and full disks are not shown", stacklevel=2
        )
        return False


@contextmanager
def _mounted(folder: Path, kind: str, options: str, what: Path | str) -> Iterator[None]:
    subprocess.run(["mount", "-t", kind, "-o", options, what, folder], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
