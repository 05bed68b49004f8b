"""Points that a person hands to a search while it runs: a file each in the study's folder, since its journal has one
writer. The search takes them, oldest first, before it asks its sampler."""

from __future__ import annotations

import time
from pathlib import Path

from raysweep.space import Space, decode, encode
from raysweep.trial import Point

FOLDER = "queue"


def put(study: Path, point: Point) -> Path:
    """Queue a point, which must be one of the study's space."""
    folder = study / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{time.time_ns():020d}.json"
    temporary = path.with_suffix(".part")
    temporary.write_text(encode(point))
    temporary.replace(path)
    return path


def oldest(study: Path, space: Space) -> tuple[Path, Point] | None:
    """The point that was queued first, in its file, which whoever takes it deletes; None when there is none.

    What is no point of the space (a person's own file, a study since changed) is set aside as `.refused`.
    """
    for path in sorted((study / FOLDER).glob("*.json")):
        try:
            point = decode(path.read_text())
        except ValueError:  # no JSON, or no text
            point = {}
        if not space.check(point):
            return path, point
        path.replace(path.with_suffix(".refused"))
    return None
