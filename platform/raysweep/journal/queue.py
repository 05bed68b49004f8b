"""What a person sends to a search: points to try, what is to become of one trial, and a request to end. They are
files in the study's folder, because the journal has only one writer. Each point is a file of its own, and so is each
request. The search takes the oldest first, and a point before it asks its sampler."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from raysweep.storage import disk
from raysweep.study.space import Point, Space, decode, encode

FOLDER = "queue"
REQUESTS = "requests"
END = "end"
How = Literal["stop", "cancel"]
"""`stop`: no more trials begin, and running ones finish. `cancel`: at once, but in an orderly way."""


def put(study: Path, point: Point) -> Path:
    """Queue a point, which must be one of the study's space."""
    folder = study / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{time.time_ns():020d}.json"
    disk.write(path, encode(point))
    return path


def oldest(study: Path, space: Space) -> tuple[Path, Point] | None:
    """The point that was queued first, with its file, which the caller deletes; None when there is none.

    A file that holds no point of the space (a person's own file, or the study has changed since) is set aside
    as `.refused`.
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


Act = Literal["stop", "promote", "fork"]
"""`stop`: the trial ends after its epoch. `promote`: it goes on, though others are better. `fork`: another trial goes
on from its newest checkpoint, with other values."""


@dataclass(frozen=True)
class Request:
    """What is to become of a trial, and the file that says so."""

    act: Act
    trial: int
    values: Point
    """The values that a fork changes."""
    path: Path


def request(study: Path, act: Act, trial: int, values: Point | None = None) -> None:
    """Ask whoever runs the study, now or later, to act on one trial."""
    folder = study / REQUESTS
    folder.mkdir(mode=0o700, exist_ok=True)
    text = json.dumps({"act": act, "trial": trial, "values": values or {}})
    disk.write(folder / f"{time.time_ns():020d}.json", text)


def requests(study: Path) -> list[Request]:
    """The requests that have not been met, the oldest first. What is none is set aside as `.refused`."""
    found = []
    for path in sorted((study / REQUESTS).glob("*.json")):
        try:
            raw = json.loads(path.read_text())
            one = Request(raw["act"], int(raw["trial"]), dict(raw["values"]), path)
        except FileNotFoundError:
            continue  # it has just been met
        except (ValueError, KeyError, TypeError):
            one = None
        if one is not None and one.act in get_args(Act):
            found.append(one)
        else:
            path.replace(path.with_suffix(".refused"))
    return found


def request_end(study: Path, how: How) -> None:
    """Ask whoever runs the study to end."""
    disk.write(study / END, how)


def requested_end(study: Path) -> str:
    """How a person wants the study to end: "", "stop" or "cancel"."""
    try:
        return (study / END).read_text()
    except FileNotFoundError:
        return ""


def clear_end(study: Path) -> None:
    """Remove the request to end: a session begins, or has ended as requested."""
    (study / END).unlink(missing_ok=True)
