"""What a study has come to, in numbers: all that its report, its health and the terminal say is computed here, from its
journal."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from raysweep.journal.history import History
from raysweep.report.importance import Importance, importances
from raysweep.report.noise import Noise, noise_of, optimism, ties
from raysweep.study.coordinates import Coordinate, raw_numbers
from raysweep.study.study import Study
from raysweep.trial import STATUSES, Score, Trial, front, ranking

FEW = 5  # pairs that a rank correlation needs


@dataclass(frozen=True)
class Baseline:
    """What the search has to beat."""

    value: float
    what: str
    trial: int | None = None


@dataclass(frozen=True)
class Rung:
    """How well the ranks at one epoch agree with those at the end."""

    epoch: int
    agreement: float
    """Spearman's rank correlation, of the trials that reached the end."""
    trials: int


class Facts:
    """A study and its history, and what they show."""

    def __init__(self, study: Study, history: History, trials: Sequence[Trial] | None = None):
        """`trials` are those of the history, where they are known already."""
        self.study, self.history, self.objective = study, history, study.objective
        self.trials = history.trials if trials is None else list(trials)
        self._raw: dict[int, dict[str, tuple[Coordinate, Any]]] = {}

    @cached_property
    def ranked(self) -> list[Trial]:
        """The trials of the search that have a result, the best first."""
        return ranking([t for t in self.trials if t.of is None], self.objective)

    @cached_property
    def finalists(self) -> list[Trial]:
        """The best points, trained again, in the order of their means."""
        return ranking([t for t in self.trials if t.of is not None and t.ended], self.objective)

    @property
    def tenth(self) -> list[Trial]:
        """The best tenth of the search's trials, and at least three."""
        return self.ranked[: max(3, len(self.ranked) // 10)]

    @cached_property
    def listed(self) -> list[Trial]:
        """All trials: finalists, then the search's by their results, then those without one."""
        ranked = [*self.finalists, *self.ranked]
        known = {t.number for t in ranked}
        return [*ranked, *(t for t in self.trials if t.number not in known)]

    @property
    def winner(self) -> Trial | None:
        """The best finalist, or else the best trial of the search."""
        return next(iter(ranking(self.trials, self.objective)), None)

    @cached_property
    def front(self) -> list[Trial]:
        """Of several objectives, the trials that no other one dominates."""
        return front(self.trials, self.objective) if self.objective.more else []

    def score(self, trial: Trial) -> Score:
        """The result of a ranked trial."""
        score = trial.score(self.objective)
        if score is None:
            raise ValueError(f"trial {trial.number} has no result")
        return score

    def value(self, trial: Trial) -> float:
        """The leading metric of a ranked trial."""
        return self.score(trial).value

    def gain(self, better: float, worse: float) -> float:
        """How much better one value is than another."""
        return self.objective.loss(worse) - self.objective.loss(better)

    @cached_property
    def values(self) -> dict[int, float]:
        """The leading metric of each ranked trial and finalist, by its number."""
        return {t.number: self.value(t) for t in [*self.ranked, *self.finalists]}

    def raw(self, trial: Trial) -> dict[str, tuple[Coordinate, Any]]:
        """A trial's free values as raw numbers, by their coordinates' labels; none if it is no longer in the space."""
        if trial.number not in self._raw:
            space = self.study.space
            there = [] if space.check(trial.point) else raw_numbers(space, trial.point)
            self._raw[trial.number] = {c.label: (c, raw) for c, raw in there}
        return self._raw[trial.number]

    # --- how sure ----------------------------------------------------------------------------------------------

    @property
    def validation(self) -> int:
        """How many examples judge a point: of several data sets, in the smallest. 0 if that is not known."""
        judge = ("train", "validation") if self.study.folds else ("validation",)
        return min((sum(e[part] for part in judge) for e in self.history.examples.values()), default=0)

    @cached_property
    def noise(self) -> Noise:
        return noise_of(
            self.ranked,
            self.finalists,
            self.objective,
            self.validation,
            self.study.executions,
            self.study.folds,
        )

    def error(self, trial: Trial) -> float:
        """The standard error of a trial's value: of a finalist, by its own executions."""
        report = trial.best(self.objective)
        spread = report.metrics.get(f"{self.objective.metric}_std") if report else None
        if trial.of is None or spread is None:
            return self.noise.error
        return spread / math.sqrt(len(trial.seeds))

    @cached_property
    def ties(self) -> list[Trial]:
        """The trials that may be as good as the best, the cheapest to train first."""
        if self.objective.more:
            return []
        if self.finalists:
            best = self.value(self.finalists[0])
            found = [
                t for t in self.finalists if self.gain(best, self.value(t)) <= self.error(self.finalists[0])
            ]
        else:
            found = ties(self.ranked, self.objective, self.noise)
        return sorted(found, key=lambda t: (t.seconds, t.number))

    @cached_property
    def optimism(self) -> float:
        """How much better the best looks than it is, as the best of many."""
        return 0.0 if self.objective.more else optimism(self.ranked, self.objective, self.noise)

    @property
    def luck(self) -> float:
        """How much better than it is the winner may look: a finalist, by the error of its mean."""
        return self.error(self.finalists[0]) if self.finalists else self.optimism

    @cached_property
    def lead(self) -> float | None:
        """How much better the best is than the second; of finalists, if there are any."""
        if len(self.finalists) > 1:
            return self.gain(self.value(self.finalists[0]), self.value(self.finalists[1]))
        return (
            self.gain(self.value(self.ranked[0]), self.value(self.ranked[1]))
            if len(self.ranked) > 1
            else None
        )

    # --- against what ------------------------------------------------------------------------------------------

    @cached_property
    def start(self) -> list[Trial]:
        """The ranked trials whose points were drawn without a model."""
        first, count = len(self.study.points), self.study.startup
        if count < self.study.target:  # what is known of earlier studies replaces them
            count -= sum(len(record["trials"]) for record in self.history.warm)
        first, count = (n + self.history.baselines for n in (first, max(first, count)))
        chosen = [t for t in self.ranked if first <= t.number < count and t.parent is None]
        return sorted(chosen, key=lambda t: t.number)

    @cached_property
    def baseline(self) -> Baseline | None:
        """The best of the baselines that were trained, or else the first of the study's own points, or else the median
        of those that were drawn without a model."""
        for trial in self.ranked:
            if trial.baseline:
                return Baseline(
                    self.value(trial), f"{self._named(trial)} (trial {trial.number})", trial.number
                )
        given = self.study.first()[:1]
        for trial in self.ranked:
            if trial.point in given:
                return Baseline(
                    self.value(trial), f"the first of its own points (trial {trial.number})", trial.number
                )
        if len(self.start) < FEW:
            return None
        median = statistics.median(self.value(t) for t in self.start)
        stopped = sum(t.status == "stopped" for t in self.start)
        early = f", {stopped} of them stopped early" if stopped else ""
        return Baseline(median, f"the median of {len(self.start)} points drawn without a model{early}")

    def _named(self, trial: Trial) -> str:
        """What a baseline is."""
        free = {n: v for n, v in trial.point.items() if n in self.study.space.free}
        of = f" with {', '.join(f'{n} {v}' for n, v in free.items())}" if free else ""
        return f"the linear head, solved exactly on the features{of}"

    @cached_property
    def random(self) -> list[float]:
        """What the best of 1, 2, 3 ... random points is expected to be, as far as the points drawn without a model
        can say (Dodge et al. 2019). Empty for a random search, or if there are few."""
        if len(self.start) < FEW or self.study.startup >= len(self.trials):
            return []
        best_first = sorted(self.objective.loss(self.value(t)) for t in self.start)
        worse = np.arange(len(best_first), -1, -1) / len(best_first)  # the share that is no better than each
        found = [float(-np.diff(worse**k) @ np.array(best_first)) for k in range(1, len(best_first) + 1)]
        return [-v if self.objective.maximize else v for v in found]

    # --- epochs ------------------------------------------------------------------------------------------------

    def epochs_of(self, trial: Trial) -> int | None:
        """How many epochs a trial was to have, if that is known."""
        given = trial.point.get("epochs", self.study.most_epochs)
        return given if isinstance(given, int) else None

    def curve(self, trial: Trial, metric: str | None = None) -> list[tuple[int, float]]:
        """A metric by epoch; the leading one by default."""
        name = metric or self.objective.metric
        return [
            (r.epoch, r.metrics[name]) for r in trial.reports if math.isfinite(r.metrics.get(name, math.nan))
        ]

    @cached_property
    def metrics(self) -> list[str]:
        """The names of all metrics that were reported."""
        return list(dict.fromkeys(n for t in self.trials for r in t.reports[-1:] for n in r.metrics))

    @property
    def counterpart(self) -> str | None:
        """The training metric that belongs to the leading one: `train_loss` for `val_loss`."""
        name = self.objective.metric
        found = [
            n for n in (name.replace("val_", "train_", 1), f"train_{name}") if n != name and n in self.metrics
        ]
        return found[0] if found else None

    @property
    def milestones(self) -> list[int]:
        """The epochs at which a scheduler decides; without one, powers of three."""
        scheduler, last = self.study.scheduler, max((t.last.epoch for t in self.trials if t.last), default=0)
        grace, factor = getattr(scheduler, "grace", 1), getattr(scheduler, "reduction", 3)
        found = []
        while grace < last:
            found.append(grace)
            grace *= factor
        return found

    @cached_property
    def rungs(self) -> list[Rung]:
        """The agreement with the end of each epoch at which a scheduler decides; of those with enough trials."""
        whole = [t for t in self.ranked if t.status == "completed" and t.last]
        last = max((t.last.epoch for t in whole if t.last), default=0)
        curves = [dict(self.curve(t)) for t in whole if t.last and t.last.epoch == last]
        found = []
        for epoch in self.milestones:
            pairs = [(c[epoch], c[last]) for c in curves if epoch in c and last in c]
            if len(pairs) >= FEW:
                found.append(Rung(epoch, spearman(*zip(*pairs, strict=True)), len(pairs)))
        return found

    @cached_property
    def saved(self) -> float:
        """The seconds that trials which were stopped early would have taken to their end, at their own pace."""
        total = 0.0
        if self.study.scheduler.name in {"pbt", "pb2"}:
            return total  # another member goes on where one is stopped
        for trial in self.trials:
            wanted, done = self.epochs_of(trial), trial.last.epoch if trial.last else 0
            if trial.status == "stopped" and wanted and done:
                total += trial.seconds / done * max(0, wanted - done)
        return total

    # --- cost --------------------------------------------------------------------------------------------------

    @property
    def counts(self) -> dict[str, int]:
        """How many trials ended how."""
        counts = Counter(t.status for t in self.trials)
        return {status: counts[status] for status in STATUSES if counts[status]}

    @property
    def wall(self) -> float:
        """How long the study has been run for, in seconds, over all sessions."""
        return self.history.elapsed(self.history.latest)

    @property
    def computed(self) -> float:
        """The computing time of all trials together, in seconds."""
        return self.history.computed

    @property
    def gpu_hours(self) -> float:
        return self.computed / 3600 * self.study.per_trial.gpu

    @property
    def test(self) -> dict[str, float]:
        """The metrics of the best trial on the test split, if it is the one that was tested."""
        known = self.history.best
        mine = self.winner is not None and known.get("trial") == self.winner.number
        return dict(known.get("metrics", {})) if mine else {}

    @cached_property
    def importances(self) -> list[Importance]:
        return importances(self.study.space, self.trials, self.objective)


def values_of(trial: Trial, name: str) -> list[Any]:
    """A trial's values of a parameter: all of a list, one, or none."""
    if name not in trial.point:
        return []
    value = trial.point[name]
    return value if isinstance(value, list) else [value]


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation; equal values share their mean rank. 0 if one of them does not vary."""
    x, y = _ranks(a), _ranks(b)
    if x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]
