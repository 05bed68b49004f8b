"""A search without Ray: trials whose epochs take no time, run in turn by the loop that Ray Tune asks, too."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raysweep import Study
from raysweep.errors import Infeasible
from raysweep.journal.journal import Journal
from raysweep.search.loop import Loop
from raysweep.search.sessions import open_session
from raysweep.study.space import Point

Curve = Callable[[Point, int], float]


class Killed(Exception):
    """The process is gone, in the middle of it."""


def bowl(point: Point, epoch: int) -> float:
    """Falls towards how far a point is from (0.3, -0.7); where x is large it is infeasible."""
    if point["x"] > 0.97:
        raise Infeasible("x is too large")
    return float((point["x"] - 0.3) ** 2 + (point["y"] + 0.7) ** 2 + 1 / epoch)


class Cut(Journal):
    """A journal whose process is killed when it is about to write another than its first `most` records."""

    def __init__(self, folder: Path, most: float):
        super().__init__(folder)
        self._left = most - sum(1 for _ in self.replay())

    def append(self, kind: str, **fields: Any) -> Any:
        if self._left <= 0:
            raise Killed
        self._left -= 1
        return super().append(kind, **fields)


def search(
    study: Study, folder: Path, curve: Curve = bowl, workers: int = 1, records: float = math.inf
) -> Journal:
    """Search `study`, or go on with what is in `folder`; its journal, closed. Killed after so many `records`."""
    journal = Cut(folder, records)
    try:
        open_session(study, journal)
        run(Loop(study, journal), curve, workers)
        journal.append("over", complete=True)
    except Killed:
        pass
    finally:
        journal.close()
    return journal


def run(loop: Loop, curve: Curve = bowl, workers: int = 1) -> None:
    """Run the trials of a loop, an epoch of each in turn."""
    running: deque[tuple[int, int]] = deque()  # trials and the epochs that they have
    while True:
        while len(running) < workers and (trial := loop.next()) is not None:
            begins = trial.parent[1] if trial.parent else 0
            epoch = trial.last.epoch if trial.last else begins
            loop.started(trial.number, "a worker", epoch)
            running.append((trial.number, epoch))
        if not running:
            return
        number, epoch = running.popleft()
        point, epoch = loop.journal.trial(number).point, epoch + 1
        if epoch > point["epochs"]:
            loop.end(number, "completed", "")
            continue
        try:
            value = curve(point, epoch)
        except Infeasible as why:
            loop.end(number, "infeasible", str(why))
            continue
        save(loop, number, epoch)
        decision = loop.reported(number, epoch, {"loss": value}, 0.0)
        if decision != "go on":
            loop.released(number)
        else:
            running.append((number, epoch))


def save(loop: Loop, number: int, epoch: int) -> None:
    """A checkpoint, where one is wanted: what a population forks is not looked into."""
    if epoch in loop.scheduler.milestones:
        folder = loop.retention.folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in ("pt", "json"):
            (folder / f"epoch-{epoch:06d}.{suffix}").write_text("{}")


def decisions(journal: Journal) -> list[Any]:
    """What a journal says that does not depend on time, process or place."""
    return [
        (t.number, t.point, t.seeds, t.status, t.parent, [(r.epoch, r.metrics) for r in t.reports])
        for t in journal.history.trials
    ]
