"""Trial: what one point did. A record, and the one rule by which the best of many is chosen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Point = dict[str, Any]
Metrics = Mapping[str, float]

Status = Literal[
    "waiting", "running", "completed", "stopped", "diverged", "out of memory", "infeasible", "failed"
]
"""waiting (for a worker, or to be promoted) and running are not over; completed ran all its epochs; stopped
was ended by the scheduler; diverged reported a number that is not finite; out of memory is what it says;
infeasible is what the trainable said of the point; failed raised another error or never reported the metric."""

ENDED: frozenset[str] = frozenset(
    {"completed", "stopped", "diverged", "out of memory", "infeasible", "failed"}
)
NO_RESULT: frozenset[str] = frozenset({"diverged", "out of memory", "infeasible"})
"""Ends that say something of the point, from which a search learns. An error in the code says nothing of it."""
RANKED: frozenset[str] = frozenset({"completed", "stopped"})


@dataclass(frozen=True)
class Objective:
    """What is optimised: the name of a metric, and whether more of it is better."""

    metric: str
    maximize: bool

    def better(self, a: float, b: float) -> bool:
        """Whether `a` is strictly better than `b`."""
        return a > b if self.maximize else a < b

    def __str__(self) -> str:
        return f"{'maximize' if self.maximize else 'minimize'} {self.metric}"


@dataclass(frozen=True)
class Report:
    """The metrics of one epoch, and when they came (seconds since the Unix epoch)."""

    epoch: int
    metrics: Metrics
    time: float


@dataclass(frozen=True)
class Trial:
    """One point of the space and what became of it; one execution of it for each seed."""

    number: int
    point: Point
    status: Status = "waiting"
    reports: tuple[Report, ...] = ()
    seeds: tuple[int, ...] = ()
    attempts: int = 0
    worker: str = ""
    asked: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    seconds: float = 0.0
    """Time spent computing, in seconds: set-up and epochs, over all attempts; waiting is not counted."""
    error: str = ""

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def last(self) -> Report | None:
        return self.reports[-1] if self.reports else None

    def best(self, objective: Objective) -> Report | None:
        """The epoch whose metric is best (the earliest of equals), or None if it was never reported."""
        chosen: Report | None = None
        for report in self.reports:
            value = report.metrics.get(objective.metric, math.nan)
            if math.isfinite(value) and (
                chosen is None or objective.better(value, chosen.metrics[objective.metric])
            ):
                chosen = report
        return chosen

    def value(self, objective: Objective) -> float | None:
        """The metric at the best epoch. This is what ranks a trial, everywhere."""
        report = self.best(objective)
        return None if report is None else report.metrics[objective.metric]


def ranking(trials: Iterable[Trial], objective: Objective) -> list[Trial]:
    """The trials that count, best first: they ended well and reported the metric. Ties go to the earlier."""
    valued = [(t.value(objective), t) for t in trials if t.status in RANKED]
    known = [(v, t) for v, t in valued if v is not None]
    sign = -1.0 if objective.maximize else 1.0
    return [t for _, t in sorted(known, key=lambda pair: (sign * pair[0], pair[1].number))]


def best(trials: Iterable[Trial], objective: Objective) -> Trial | None:
    """The best of many trials, or None when none of them counts."""
    return next(iter(ranking(trials, objective)), None)
