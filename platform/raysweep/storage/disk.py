"""Files that are whole or not there, and whether there is room for them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

FLOOR = 200 << 20
"""Bytes that are to stay free, or a twentieth of a disk that is small: a search pauses before a disk is full."""


def has_room(folder: Path) -> bool:
    """Whether the disk under `folder` has more left than the floor."""
    disk = shutil.disk_usage(folder)
    return disk.free > min(FLOOR, disk.total // 20)


def space_left(folder: Path) -> str:
    """What is left and what is to stay, as a person says it."""
    disk = shutil.disk_usage(folder)
    return (
        f"{disk.free / 2**20:,.0f} MB free, {min(FLOOR, disk.total // 20) / 2**20:,.0f} MB are to stay free"
    )


def is_full(error: BaseException | None) -> bool:
    """Whether an error says that there is no room."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


def write(path: Path, data: bytes | str, sync: bool = True) -> None:
    """Write a file whole: whoever reads it sees what it was or what it is to be. Readable by its owner alone.

    `sync`: bring it to the disk first, so that this holds for a power failure, too.
    """
    with replacing(path, sync) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def replacing(path: Path, sync: bool = True) -> Iterator[BinaryIO]:
    """A new file, which takes the place of `path` when all is written, and leaves nothing when something goes wrong."""
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
        return  # a share that is away: the error that led here says so
