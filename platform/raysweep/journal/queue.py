"""What a person hands to a search while it runs, as files in the study's folder, since its journal has one writer:
points, a file each, which the search takes, oldest first, before it asks its sampler; and the wish that it end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from raysweep.storage import disk
from raysweep.study.space import Point, Space, decode, encode

FOLDER = "queue"
END = "end"
How = Literal["stop", "cancel"]
"""`stop`: no trial begins any more, and what runs runs to its end. `cancel`: at once, in order."""


def put(study: Path, point: Point) -> Path:
    """Queue a point, which must be one of the study's space."""
    folder = study / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{time.time_ns():020d}.json"
    disk.write(path, encode(point))
    return path


def oldest(study: Path, space: Space) -> tuple[Path, Point] | None:
    """The point that was queued first, in its file, which whoever takes it deletes; None when there is none.

    What is no point of the space (a person's own file, a study since changed) is set aside as `.refused`.
    """
    for path in sorted(p for p in (study / FOLDER).glob("*.json") if p.is_file()):
        try:
            point = decode(path.read_text())
        except ValueError:  # no JSON, or no text
            point = {}
        if not space.check(point):
            return path, point
        path.replace(path.with_suffix(".refused"))
    return None


def request_end(study: Path, how: How) -> None:
    """Ask whoever runs the study to end."""
    disk.write(study / END, how)


def requested_end(study: Path) -> str:
    """How a person wants it to end: "", "stop" or "cancel"."""
    try:
        return (study / END).read_text()
    except FileNotFoundError:
        return ""


def clear_end(study: Path) -> None:
    """Nobody wants it to end: a session begins, or has ended as it was wanted."""
    (study / END).unlink(missing_ok=True)
