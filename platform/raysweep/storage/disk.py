"""Atomic file writes, and checks of free disk space."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

FLOOR = 200 << 20
"""Bytes to keep free, or a twentieth of a small disk: a search pauses before the disk is full."""


def has_room(folder: Path) -> bool:
    """Whether the disk under `folder` has more left than the floor."""
    disk = shutil.disk_usage(folder)
    return disk.free > min(FLOOR, disk.total // 20)


def space_left(folder: Path) -> str:
    """The free space and the space to keep free, as readable text."""
    disk = shutil.disk_usage(folder)
    return f"{disk.free / 2**20:,.0f} MB free, {min(FLOOR, disk.total // 20) / 2**20:,.0f} MB must stay free"


def is_full(error: BaseException | None) -> bool:
    """Whether an error says that there is no room."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


def write(path: Path, data: bytes | str, sync: bool = True) -> None:
    """Write a file atomically: readers see its old content or its new one. Only its owner can read it.

    `sync`: flush it to disk first, so that this also holds after a power failure.
    """
    with replacing(path, sync) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def replacing(path: Path, sync: bool = True) -> Iterator[BinaryIO]:
    """A new file that replaces `path` once it is written. If an error occurs, it is removed."""
    part = path.with_name(f"{path.name}.part")
    try:
        with open(part, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        _remove(part)
        raise


def _remove(part: Path) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError:
        return  # an unavailable share: the original error says so
