"""Population-based training: a trial that does badly gives up and continues from the checkpoint of one that
does well. It takes that trial's hyperparameters, changed a little (Jaderberg et al. 2017) or chosen by a
bandit that learns from the changes seen so far (PB2, Parker-Holder et al. 2020).

In the journal, continuing with another point makes a new trial, whose `parent` says where it continued from.
So a trial is always one point, and its chain of parents shows the schedule of hyperparameters. All decisions
are functions of the journal's trials and the seed.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from raysweep.search.schedulers.base import Decision, Scheduler, Value
from raysweep.study.objective import Objective
from raysweep.study.params import Int, Param, Range, same
from raysweep.study.space import Point, Space
from raysweep.trial import Trial

FACTORS = (0.8, 1.2)
SHIFT = 0.1  # of the range, for a value that a factor cannot change: 0, or one at a bound
CANDIDATES = 500  # points among which the bandit chooses
WINDOW = 200  # the bandit is fitted to this many of the latest changes; its cost grows with the cube


@dataclass(frozen=True)
class Fork:
    """A trial to begin at `epoch` of `parent`, with another point."""

    parent: int
    epoch: int
    point: Point


class Population(Scheduler):
    """Every member pauses each `interval` epochs, so that all move at one pace.

    `vary` names the parameters that a fork changes. `quantile` is the share of trials that give up, and the
    share that they continue from. `resample` is the probability of drawing a value anew instead of changing
    it a little.
    """

    def __init__(
        self,
        space: Space,
        objective: Objective,
        seed: int,
        interval: int,
        epochs: int,
        vary: Sequence[str],
        quantile: float = 0.25,
        resample: float = 0.25,
        bandit: bool = False,
    ):
        self._space, self._objective, self._seed = space, objective, seed
        self._vary, self._quantile, self._resample = list(vary), quantile, resample
        self._bandit = bandit
        self._epochs: dict[int, int] = {}  # the last one of each trial
        self._resumed: dict[int, int] = {}  # the milestone from which a trial went on
        self._paused: set[int] = set()
        self.milestones = frozenset(range(interval, epochs, interval))

    def report(self, number: int, epoch: int, value: Value | None) -> Decision:
        self._epochs[number] = epoch
        pauses = epoch in self.milestones and self._resumed.get(number, 0) < epoch
        return "pause" if pauses else "go on"

    def paused(self, number: int) -> None:
        self._paused.add(number)

    def resumed(self, number: int) -> None:
        if number in self._paused:
            self._paused.discard(number)
            self._resumed[number] = self._epochs.get(number, 0)

    def ended(self, number: int) -> None:
        self._paused.discard(number)

    def promote(self, last: bool = False) -> int | None:
        """The paused trial that is furthest behind: it continues, or a fork replaces it."""
        number = min(self._paused, key=lambda n: (self._epochs.get(n, 0), n), default=None)
        if number is not None:
            self.resumed(number)
        return number

    def fork(self, number: int, trials: Iterable[Trial], saved: Callable[[int], int | None]) -> Fork | None:
        """The fork that replaces the paused trial `number`, if that trial is among the worst at its epoch.
        More than half of the population must have reached that epoch.

        `saved(n)` is the epoch of trial n's newest checkpoint at a milestone, or None.
        """
        every = {t.number: t for t in trials}
        members = [t for t in every.values() if not t.ended or t.status == "completed"]
        epoch = self._epochs.get(number, 0)
        scores = {t.number: s for t in members if (s := self._score(t, epoch)) is not None}
        ranked = sorted(scores, key=lambda n: (scores[n], n))
        share = max(1, math.floor(len(ranked) * self._quantile))
        if 2 * len(ranked) <= len(members) or number not in ranked[max(1, len(ranked) - share) :]:
            return None
        rng = random.Random(f"{self._seed}/{number}/{epoch}/fork")
        best = [(n, at) for n in ranked[:share] if (at := saved(n)) is not None]
        if not best:
            return None
        parent, begins = rng.choice(best)
        return Fork(parent, begins, self._changed(every[parent], every, begins, rng))

    def _score(self, trial: Trial, epoch: int) -> float | None:
        """How good a trial was at `epoch`; less is better."""
        return _loss(trial, epoch, self._objective)

    def _changed(self, parent: Trial, trials: dict[int, Trial], epoch: int, rng: random.Random) -> Point:
        point = parent.point
        names = [n for n in self._vary if n in point]
        changed = {**point, **{n: self._perturbed(self._space[n], point[n], rng) for n in names}}
        ranges = {n: p for n in names if isinstance(p := self._space[n], Range)}
        if self._bandit and ranges:
            changed |= _bandit(ranges, self._objective, trials, (parent.number, epoch), rng)
        return changed if not self._space.check(changed) else point

    def _perturbed(self, p: Param, value: Any, rng: random.Random) -> Any:
        if rng.random() < self._resample:
            return p.at(rng.random())
        up = rng.random() < 0.5
        if isinstance(p, Range):
            found = (_moved(p, value, sign) for sign in ((1, -1) if up else (-1, 1)))
            return next((other for other in found if other != value), value)
        values = p.values()
        at = next(i for i, option in enumerate(values) if same(option, value))
        near = [i for i in ((at + 1, at - 1) if up else (at - 1, at + 1)) if 0 <= i < len(values)]
        return values[near[0]] if near else value


def _moved(p: Range, value: Any, sign: int) -> Any:
    """A legal value a little to one side, at least a step away where there are steps; `value` where there is none."""
    near = p.nearest(value * FACTORS[sign > 0])
    if near != value:
        return near
    step = p.step or (1 if isinstance(p, Int) else 0)
    if step:
        return p.nearest(value + sign * step)
    return p.at(min(max(p.share(value) + sign * SHIFT, 0.0), 1.0))


def _loss(trial: Trial, epoch: int, objective: Objective) -> float | None:
    report = next((r for r in reversed(trial.reports) if r.epoch == epoch), None)
    value = objective.leading(report.metrics) if report else None
    return None if value is None else objective.loss(value)


# --- PB2's bandit ------------------------------------------------------------------------------------------


def _bandit(
    ranges: dict[str, Range],
    objective: Objective,
    trials: dict[int, Trial],
    begins: tuple[int, int],
    rng: random.Random,
) -> Point:
    """Values in `ranges` for a fork that `begins` at an epoch of a trial; empty if there is too little data.

    They have the highest upper confidence bound of a Gaussian process, which predicts what an epoch gains
    from the epoch's number, the loss before it, and the values. Its data are all pairs of consecutive reports
    of one trial.

    Forks that have not reported yet enter the process that gives the uncertainty, but not the one that
    predicts the gain (algorithm 1 of the paper), so that forks chosen one after another stay apart. The
    kernel is squared-exponential in time as well as in the values, so that gains of long ago count less. It
    replaces the paper's own time-varying kernel.
    """
    import numpy as np
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    def places(trial: Trial) -> list[float] | None:
        found = [p.share(trial.point[n]) for n, p in ranges.items() if n in trial.point]
        return found if len(found) == len(ranges) else None

    rows, gains, pending = [], [], []
    for trial in sorted(trials.values(), key=lambda t: t.number):
        place = places(trial)
        if place is None:
            continue
        if trial.parent and not trial.reports and not trial.ended:
            before = _loss(trials[trial.parent[0]], trial.parent[1], objective)
            if before is not None:
                pending.append([trial.parent[1] + 1, before, *place])
        for earlier, later in zip(trial.reports, trial.reports[1:], strict=False):
            was, now = objective.leading(earlier.metrics), objective.leading(later.metrics)
            if was is not None and now is not None:
                rows.append([later.epoch, objective.loss(was), *place])
                gains.append(objective.loss(was) - objective.loss(now))
    begun = _loss(trials[begins[0]], begins[1], objective)
    if begun is None or len(rows) < 2 * (len(ranges) + 2):
        return {}
    order = sorted(range(len(rows)), key=lambda i: rows[i][0])[-WINDOW:]
    shares = [[rng.random() for _ in ranges] for _ in range(CANDIDATES)]
    candidates = np.array([[begins[1] + 1, begun, *s] for s in shares])
    x, y = np.array([rows[i] for i in order], float), np.array([gains[i] for i in order])
    low, span = x[:, :2].min(axis=0), np.ptp(x[:, :2], axis=0) + 1e-12
    taken = np.array(pending, float).reshape(-1, x.shape[1])
    for known in (x, candidates, taken):
        known[:, :2] = (known[:, :2] - low) / span
    y = (y - y.mean()) / (y.std() + 1e-12)
    kernel = ConstantKernel(1.0) * RBF([1.0] * x.shape[1], (0.05, 10.0)) + WhiteKernel(0.1, (1e-4, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # a length scale at its bound: that hyperparameter makes no difference yet
        process = GaussianProcessRegressor(kernel, random_state=rng.getrandbits(31)).fit(x, y)
        sure = GaussianProcessRegressor(process.kernel_, optimizer=None)
        sure.fit(np.concatenate([x, taken]), np.concatenate([y, np.zeros(len(taken))]))
    _, spread = sure.predict(candidates, return_std=True)
    chosen = shares[int(np.argmax(process.predict(candidates) + 2.0 * spread))]
    return {n: p.at(u) for (n, p), u in zip(ranges.items(), chosen, strict=True)}
