"""Trial: what one point did. A record, and the one rule by which the best of many is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from raysweep.study.objective import Metrics, Objective
from raysweep.study.space import Point

Status = Literal[
    "waiting",
    "running",
    "paused",
    "completed",
    "stopped",
    "diverged",
    "out of memory",
    "infeasible",
    "timeout",
    "failed",
]
"""waiting (for a worker, for the first time or again), running and paused (by the scheduler, until it is promoted
or beaten) are not over; completed ran all its epochs; stopped was ended by the scheduler or by a rule of the study;
diverged reported a number that is not finite; out of memory is what it says; infeasible is what the trainable said
of the point; timeout took longer than the study allows; failed raised another error or never reported the metric."""

ENDED: frozenset[str] = frozenset(
    {"completed", "stopped", "diverged", "out of memory", "infeasible", "timeout", "failed"}
)
NO_RESULT: frozenset[str] = frozenset({"diverged", "out of memory", "infeasible"})
"""Ends that say something of the point, from which a search learns. An error in the code says nothing of it."""
RANKED: frozenset[str] = frozenset({"completed", "stopped"})
"""Ends whose best epoch is the trial's result."""


@dataclass(frozen=True)
class Report:
    """The metrics of one epoch, and when they came (seconds since the Unix epoch)."""

    epoch: int
    metrics: Metrics
    time: float


Cause = Literal["code", "worker", "node"]
"""Why an attempt ended early: an exception of the user's code, the death of its process, or of its whole node
(or its being taken away), which is nobody's fault."""


@dataclass(frozen=True)
class Loss:
    """An attempt at a trial that ended before the trial did."""

    cause: Cause
    epoch: int
    """The last one that was reported."""
    error: str


@dataclass(frozen=True)
class Score:
    """What a trial has shown so far: its best epoch of those that count."""

    report: Report
    values: tuple[float, ...]
    """Of every objective, the leading one first."""
    final: bool
    """Whether the trial has ended, so that nothing better can come."""

    @property
    def value(self) -> float:
        """Of the leading objective."""
        return self.values[0]


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
    losses: tuple[Loss, ...] = ()
    parent: tuple[int, int] | None = None
    """The trial, and its epoch, from whose checkpoint this one went on with another point."""

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def last(self) -> Report | None:
        return self.reports[-1] if self.reports else None

    def best(self, objective: Objective) -> Report | None:
        """The epoch whose leading metric is best (the earliest of equals) of those that count, or None."""
        known = self.__dict__.get("_best")
        if known is None or known[0] != objective:  # a table asks for it again and again
            known = (objective, _best_of(self.reports, objective))
            object.__setattr__(self, "_best", known)
        found: Report | None = known[1]
        return found

    def score(self, objective: Objective) -> Score | None:
        """What the trial has shown so far. This is what ranks it, everywhere, and what a search learns from.

        None if no epoch counts, or if it ended in a way by which none does.
        """
        if self.ended and self.status not in RANKED:
            return None
        report = self.best(objective)
        values = objective.values(report.metrics) if report else None
        return Score(report, values, self.ended) if report and values else None

    def excess(self, objective: Objective) -> float:
        """How far an ended trial is from a result that counts, from 0 (it has one) to 1 (it broke down).

        An error in the code, which says nothing of the point, counts as 0.
        """
        if self.status in NO_RESULT:
            return 1.0
        if self.status not in RANKED or self.best(objective) is not None:
            return 0.0
        return min((objective.excess(r.metrics) for r in self.reports), default=0.0)


def _best_of(reports: Iterable[Report], objective: Objective) -> Report | None:
    chosen: Report | None = None
    for report in reports:
        value = objective.leading(report.metrics)
        if value is not None and (
            chosen is None or objective.better(value, chosen.metrics[objective.metric])
        ):
            chosen = report
    return chosen


def asked(trials: Iterable[Trial]) -> int:
    """How many points were asked for: those that went on from another trial are not counted."""
    return sum(t.parent is None for t in trials)


def ranking(trials: Sequence[Trial], objective: Objective) -> list[Trial]:
    """The trials that have a score, best first: of those that have not ended, as it is so far. Ties go to the earlier.

    With several objectives the Pareto front comes first, then the front of the rest, and so on (Deb et al. 2002),
    each sorted by the leading one.
    """
    known, losses = {t.number: t for t in trials}, _losses(trials, objective)
    ranked: list[Trial] = []
    while losses:
        layer = _undominated(losses) if objective.more else list(losses)
        ranked += [known[n] for n in sorted(layer, key=lambda n: (losses[n][0], n))]
        for number in layer:
            del losses[number]
    return ranked


def front(trials: Sequence[Trial], objective: Objective) -> list[Trial]:
    """The trials that none beats in every objective, sorted by the leading one."""
    best = set(_undominated(_losses(trials, objective)))
    return [t for t in ranking(trials, objective) if t.number in best]


def _losses(trials: Iterable[Trial], objective: Objective) -> dict[int, tuple[float, ...]]:
    """The objectives of each trial that has a result, as numbers of which less is better."""
    scores = ((t.number, t.score(objective)) for t in trials)
    return {
        number: tuple(o.loss(v) for o, v in zip(objective.all, score.values, strict=True))
        for number, score in scores
        if score is not None
    }


def _undominated(losses: Mapping[int, tuple[float, ...]]) -> list[int]:
    """The numbers whose losses no other's are at most as high as, in all, and lower in one."""
    found: list[int] = []
    for number in sorted(losses, key=lambda n: (losses[n], n)):  # who dominates comes first
        mine = losses[number]
        beaten = any(
            all(a <= b for a, b in zip(losses[n], mine, strict=True)) and losses[n] != mine for n in found
        )
        if not beaten:
            found.append(number)
    return found


def best(trials: Sequence[Trial], objective: Objective) -> Trial | None:
    """The best of many trials, or None when none of them counts."""
    return next(iter(ranking(trials, objective)), None)
