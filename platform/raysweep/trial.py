"""A trial: the record of what one point did, and the one rule that picks the best of many trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

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
"""Not ended: waiting (for a worker, for the first time or again), running, and paused (by the scheduler,
until the trial is promoted or beaten). Ended: completed (ran all its epochs), stopped (by the scheduler or by
a rule of the study), diverged (reported a number that is not finite), out of memory, infeasible (the
trainable said so of the point), timeout (took longer than the study allows), failed (raised another error, or
never reported the metric)."""

STATUSES: tuple[Status, ...] = get_args(Status)
ENDED: frozenset[str] = frozenset(
    {"completed", "stopped", "diverged", "out of memory", "infeasible", "timeout", "failed"}
)
NO_RESULT: frozenset[str] = frozenset({"diverged", "out of memory", "infeasible"})
"""Ends that tell something about the point, so a search learns from them. An error in the code does not."""
RANKED: frozenset[str] = frozenset({"completed", "stopped"})
"""Ends after which the best epoch is the trial's result."""


@dataclass(frozen=True)
class Report:
    """The metrics of one epoch, and when they came (seconds since the Unix epoch)."""

    epoch: int
    metrics: Metrics
    time: float


Cause = Literal["code", "worker", "node"]
"""Why an attempt ended early: the user's code raised an exception, the worker process died, or the whole node
died or was taken away. The loss of a node is nobody's fault."""


@dataclass(frozen=True)
class Loss:
    """An attempt at a trial that ended before the trial did."""

    cause: Cause
    epoch: int
    """The last epoch that was reported."""
    error: str


@dataclass(frozen=True)
class Score:
    """A trial's result so far: the best of its epochs that count."""

    report: Report
    values: tuple[float, ...]
    """The value of every objective, the leading one first."""
    final: bool
    """Whether the trial has ended, so that nothing better can come."""

    @property
    def value(self) -> float:
        """The value of the leading objective."""
        return self.values[0]


@dataclass(frozen=True)
class Trial:
    """One point of the space and what happened to it, with one execution for each seed."""

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
    cpu_seconds: float = 0.0
    """CPU time of its process in its epochs, over all attempts; trials that are trained together share it."""
    memory: float = 0.0
    """The most memory of its process, in megabytes; 0 if unknown."""
    gpu_memory: float = 0.0
    """The most memory of its GPU, in megabytes; 0 without one."""
    error: str = ""
    losses: tuple[Loss, ...] = ()
    parent: tuple[int, int] | None = None
    """The trial and epoch whose checkpoint this trial continued from, with another point."""
    of: int | None = None
    """The trial whose point this one trains again, as a finalist."""
    baseline: bool = False
    """Whether it is what the trials of the search are to be compared with: it need not be in the space."""
    value: float | None = field(default=None, compare=False)
    """Its result so far in the study's leading metric, where the study is known (see `valued`)."""

    @property
    def params(self) -> Point:
        """The point, as Optuna calls it."""
        return self.point

    @property
    def in_search(self) -> bool:
        """Whether it is one of the search's own: neither a finalist nor a baseline."""
        return self.of is None and not self.baseline

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def last(self) -> Report | None:
        return self.reports[-1] if self.reports else None

    def best(self, objective: Objective) -> Report | None:
        """The epoch with the best leading metric (the earliest if equal) among those that count, or None."""
        known = self.__dict__.get("_best")
        if known is None or known[0] != objective:  # a table asks for it again and again
            known = (objective, _best_of(self.reports, objective))
            object.__setattr__(self, "_best", known)
        found: Report | None = known[1]
        return found

    def score(self, objective: Objective) -> Score | None:
        """The trial's result so far. Every ranking uses this score, and a search learns from it.

        None if no epoch counts, or if the trial ended in a way that makes none count.
        """
        if self.ended and self.status not in RANKED:
            return None
        report = self.best(objective)
        values = objective.values(report.metrics) if report else None
        return Score(report, values, self.ended) if report and values else None

    def excess(self, objective: Objective) -> float:
        """How far an ended trial is from a result that counts, from 0 (it has one) to 1 (it broke down).

        An error in the code counts as 0, because it tells nothing about the point.
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


def valued(trials: Iterable[Trial], objective: Objective) -> tuple[Trial, ...]:
    """The trials, each with its value."""
    scores = ((t, t.score(objective)) for t in trials)
    return tuple(replace(t, value=score.value) if score else t for t, score in scores)


def asked(trials: Iterable[Trial]) -> int:
    """How many points were asked for, without trials that continue another one, finalists and baselines."""
    return sum(t.parent is None and t.in_search for t in trials)


def ranking(trials: Sequence[Trial], objective: Objective) -> list[Trial]:
    """The trials that have a score (so far, if they have not ended), best first. Ties go to the earlier
    trial. Finalists that have ended come before all others: their means decide. Baselines stand among them, since
    nothing was chosen from several.

    With several objectives the Pareto front comes first, then the front of the rest, and so on (Deb et al. 2002),
    each sorted by the leading objective.
    """
    finalists = [t for t in trials if t.ended and not t.in_search]
    if any(t.of is not None for t in finalists) and len(finalists) < len(trials):
        first = {t.number for t in finalists}
        others = [t for t in trials if t.number not in first]
        return [*ranking(finalists, objective), *ranking(others, objective)]
    known, losses = {t.number: t for t in trials}, _losses(trials, objective)
    ranked: list[Trial] = []
    while losses:
        layer = undominated(losses) if objective.more else list(losses)
        ranked += [known[n] for n in sorted(layer, key=lambda n: (losses[n][0], n))]
        for number in layer:
            del losses[number]
    return ranked


def ranked_first(trials: Sequence[Trial], objective: Objective) -> list[Trial]:
    """All trials: those that have a score, the best first, then the others."""
    ranked = ranking(trials, objective)
    known = {t.number for t in ranked}
    return ranked + [t for t in trials if t.number not in known]


def front(trials: Sequence[Trial], objective: Objective) -> list[Trial]:
    """The trials that no other trial dominates, sorted by the leading objective."""
    final = [t for t in trials if t.of is not None and t.score(objective)]
    final += [t for t in trials if t.baseline] if final else []
    best = set(undominated(_losses(final or trials, objective)))
    return [t for t in ranking(trials, objective) if t.number in best]


def _losses(trials: Iterable[Trial], objective: Objective) -> dict[int, tuple[float, ...]]:
    """The objectives of each trial that has a result, as numbers where less is better."""
    scores = ((t.number, t.score(objective)) for t in trials)
    return {
        number: tuple(o.loss(v) for o, v in zip(objective.all, score.values, strict=True))
        for number, score in scores
        if score is not None
    }


def undominated(losses: Mapping[int, tuple[float, ...]]) -> list[int]:
    """The trials that no other dominates: none has losses at most as high in all, and lower in one."""
    found: list[int] = []
    for number in sorted(losses, key=lambda n: (losses[n], n)):  # a trial that dominates comes first
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
