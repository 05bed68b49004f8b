"""Population-based training: trials that do badly give up and go on from the checkpoint of one that does well, with
its hyperparameters changed a little (Jaderberg et al. 2017), or as a bandit over the changes seen so far chooses
them (PB2, Parker-Holder et al. 2020).

To the journal, who goes on with another point is another trial, whose `parent` says from where: a trial is one
point, always, and what a schedule of hyperparameters was can be read off its line of parents. All decisions are
functions of the journal's trials and the seed.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from raysweep.params import Int, Param, Range, same
from raysweep.space import Space
from raysweep.trial import Objective, Point, Trial

FACTORS = (0.8, 1.2)
CANDIDATES = 500  # points among which the bandit chooses
WINDOW = 200  # the last changes that the bandit is fitted to; its cost grows with their cube


@dataclass(frozen=True)
class Fork:
    """A trial to begin at `epoch` of `parent`, with another point."""

    parent: int
    epoch: int
    point: Point


class Population:
    """The legs of a population: `interval` epochs each, so that all members move at one pace.

    `vary` names what a fork changes; `quantile` is the share that gives up, and the share it goes on from;
    `resample` the probability that a value is drawn anew instead of changed a little.
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
        self._epochs: dict[int, int] = {}
        self._called: dict[int, int] = {}  # the milestone from which a trial was called on
        self.milestones = frozenset(range(interval, epochs, interval))

    def report(self, number: int, epoch: int, value: float | None) -> None:
        self._epochs[number] = epoch

    def waits(self, number: int, epoch: int) -> bool:
        return epoch in self.milestones and self._called.get(number, 0) < epoch

    def call(self, waiting: Iterable[int], last: bool = False) -> int | None:
        """The one that is the furthest behind."""
        number = min(waiting, key=lambda n: (self._epochs.get(n, 0), n), default=None)
        if number is not None:
            self._called[number] = self._epochs.get(number, 0)
        return number

    def fork(self, number: int, trials: Iterable[Trial], saved: Callable[[int], int | None]) -> Fork | None:
        """What the waiting trial `number` is to give way to, if it is among the worst of the population at its
        epoch, of which more than half must have come so far.

        `saved(n)` is the epoch of the newest checkpoint of a trial at one of the milestones, or None.
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
        return Fork(parent, begins, self._changed(every[parent].point, every, begins, rng))

    def _score(self, trial: Trial, epoch: int) -> float | None:
        """How good a trial was at `epoch`; less is better."""
        report = next((r for r in reversed(trial.reports) if r.epoch == epoch), None)
        value = self._objective.leading(report.metrics) if report else None
        return None if value is None else self._objective.loss(value)

    def _changed(self, point: Point, trials: dict[int, Trial], epoch: int, rng: random.Random) -> Point:
        names = [n for n in self._vary if n in point]
        changed = {**point, **{n: self._perturbed(self._space[n], point[n], rng) for n in names}}
        ranges = {n: p for n in names if isinstance(p := self._space[n], Range)}
        if self._bandit and ranges:
            changed |= _bandit(ranges, self._objective, trials.values(), epoch, rng)
        return changed if not self._space.check(changed) else point

    def _perturbed(self, p: Param, value: Any, rng: random.Random) -> Any:
        if rng.random() < self._resample:
            return p.at(rng.random())
        up = rng.random() < 0.5
        if isinstance(p, Range):
            # At least one step away, where there are steps.
            near, step = p.nearest(value * FACTORS[up]), p.step or (1 if isinstance(p, Int) else 0)
            return p.nearest(value + (step if up else -step)) if near == value else near
        at = next(i for i, option in enumerate(p.values()) if same(option, value)) + (1 if up else -1)
        return p.values()[min(max(at, 0), len(p.values()) - 1)]


# --- PB2's bandit ------------------------------------------------------------------------------------------


def _bandit(
    ranges: dict[str, Range], objective: Objective, trials: Iterable[Trial], epoch: int, rng: random.Random
) -> Point:
    """Values in `ranges` by the upper confidence bound of a Gaussian process: of what an epoch gained, by when it
    was and under which values. Data: every two reports in a row of one trial. Nothing where there are too few.

    The kernel is squared-exponential in time as well as in the values, so that what was gained long ago counts
    less, in place of the paper's own time-varying kernel.
    """
    import numpy as np
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    rows, gains = [], []
    for trial in sorted(trials, key=lambda t: t.number):
        place = [p.share(trial.point[n]) for n, p in ranges.items() if n in trial.point]
        if len(place) < len(ranges):
            continue
        for before, after in zip(trial.reports, trial.reports[1:], strict=False):
            was, now = objective.leading(before.metrics), objective.leading(after.metrics)
            if was is not None and now is not None:
                rows.append([after.epoch, *place])
                gains.append(objective.loss(was) - objective.loss(now))
    if len(rows) < 2 * (len(ranges) + 1):
        return {}
    order = sorted(range(len(rows)), key=lambda i: rows[i][0])[-WINDOW:]
    x, y = np.array([rows[i] for i in order], float), np.array([gains[i] for i in order])
    span = max(float(x[:, 0].max()), epoch + 1.0)
    x[:, 0] /= span
    y = (y - y.mean()) / (y.std() + 1e-12)
    kernel = ConstantKernel(1.0) * RBF([1.0] * x.shape[1], (0.05, 10.0)) + WhiteKernel(0.1, (1e-4, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # a length at its bound: a hyperparameter that makes no difference yet
        process = GaussianProcessRegressor(kernel, random_state=rng.getrandbits(31)).fit(x, y)
    shares = [[rng.random() for _ in ranges] for _ in range(CANDIDATES)]
    mean, spread = process.predict(np.array([[(epoch + 1) / span, *s] for s in shares]), return_std=True)
    chosen = shares[int(np.argmax(mean + 2.0 * spread))]
    return {n: p.at(u) for (n, p), u in zip(ranges.items(), chosen, strict=True)}
