"""Whether there is room on a disk: a search pauses before it is full, and goes on when there is some again."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

FLOOR = 200 << 20
"""Bytes that are to stay free, or a twentieth of a disk that is small."""


def room(folder: Path) -> bool:
    """Whether the disk under `folder` has more left than the floor."""
    disk = shutil.disk_usage(folder)
    return disk.free > min(FLOOR, disk.total // 20)


def left(folder: Path) -> str:
    """What is left and what is to stay, as a person says it."""
    disk = shutil.disk_usage(folder)
    return (
        f"{disk.free / 2**20:,.0f} MB free, {min(FLOOR, disk.total // 20) / 2**20:,.0f} MB are to stay free"
    )


def is_full(error: OSError) -> bool:
    """Whether an error says that there is no room."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}
