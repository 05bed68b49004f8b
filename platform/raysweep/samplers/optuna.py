"""Optuna's samplers, driven by ask and tell through our own space, define-by-run: an algorithm that can use
conditions sees just what is active."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import optuna
from optuna import samplers
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from raysweep.params import Choice, Float, Int
from raysweep.samplers.flat import Coordinate, point_of, raws
from raysweep.space import Space
from raysweep.trial import NO_RESULT, RANKED, Objective, Point, Trial

optuna.logging.set_verbosity(optuna.logging.ERROR)

# Startup is ours (see Optuna.ask), so theirs is none.
KINDS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: samplers.TPESampler(
        seed=seed, n_startup_trials=0, multivariate=True, group=True, constant_liar=True
    ),
    "gp": lambda seed: samplers.GPSampler(seed=seed, n_startup_trials=0),
}


class Optuna:
    """tpe (multivariate, with a constant liar for pending trials) or gp.

    The first `startup` points are our own random ones, exactly so many however parallel the search is. Every
    ask makes its sampler anew from (seed, number), so that it depends on what was told and on nothing else.
    """

    def __init__(
        self, space: Space, objective: Objective, seed: int, sampler: str = "tpe", startup: int = 10
    ):
        self._space, self._objective, self._seed, self._startup = space, objective, seed, startup
        self._make = KINDS[sampler]
        self._study = optuna.create_study(direction="maximize" if objective.maximize else "minimize")
        self._trials: dict[int, optuna.Trial] = {}  # those that are pending, by our number
        self._told: list[float] = []

    def ask(self, number: int, attempt: int = 0) -> Point:
        rng = random.Random(f"{self._seed}/{number}/{attempt}")
        if number < self._startup:
            return self._space.sample(rng)
        if number in self._trials:  # an earlier attempt, which was turned down
            self._study.tell(self._trials.pop(number), state=TrialState.FAIL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # multivariate and group are experimental
            self._study.sampler = self._make(rng.getrandbits(32))
            trial = self._trials[number] = self._study.ask()
            return point_of(self._space, lambda c: _suggested(trial, c))

    def tell(self, trial: Trial) -> None:
        given = {c.label: raw for c, raw in raws(self._space, trial.point)}
        asked = self._trials.get(trial.number)
        if asked is not None and asked.params != given:  # another point was taken in the place of this one
            self._study.tell(self._trials.pop(trial.number), state=TrialState.FAIL)
        if trial.number not in self._trials:
            self._trials[trial.number] = self._pending(trial)
        if not trial.ended:
            return
        known = self._trials.pop(trial.number)
        value = trial.value(self._objective) if trial.status in RANKED else None
        if value is None and trial.status not in NO_RESULT:
            self._study.tell(
                known, state=TrialState.FAIL
            )  # an error in the code; the point may be a good one
            return
        # A point that gives no result breaks a constraint; for algorithms that see values only, it is as bad as the
        # worst. (The constraint is set on every trial: gp wants the same on all.)
        known.set_constraint("result", 1.0 if value is None else 0.0)
        if value is None:
            value = (min if self._objective.maximize else max)(self._told, default=0.0)
        else:
            self._told.append(value)
        self._study.tell(known, value)

    def _pending(self, trial: Trial) -> optuna.Trial:
        """A trial that Optuna did not ask for: of the start-up, of an earlier session or study."""
        found = list(raws(self._space, trial.point))
        self._study.sampler = samplers.RandomSampler()  # is asked nothing: every value is given
        self._study.enqueue_trial({c.label: raw for c, raw in found})
        return self._study.ask({c.label: _distribution(c) for c, _ in found})


def _suggested(trial: optuna.Trial, coordinate: Coordinate) -> Any:
    label, distribution = coordinate.label, _distribution(coordinate)
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(label, distribution.choices)
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(label, distribution.low, distribution.high, log=distribution.log)
    if isinstance(distribution, IntDistribution):
        low, high = distribution.low, distribution.high
        return trial.suggest_int(label, low, high, step=distribution.step, log=distribution.log)
    raise TypeError(f"{distribution} is of no known kind")


def _distribution(coordinate: Coordinate) -> BaseDistribution:
    p = coordinate.param
    if isinstance(p, Choice):
        return CategoricalDistribution(range(len(p.options)))
    if isinstance(p, Float) and p.step is None:
        return FloatDistribution(p.low, p.high, log=p.log)
    if isinstance(p, Float):
        return IntDistribution(0, coordinate.options - 1)
    if isinstance(p, Int):
        return IntDistribution(p.low, p.high, log=p.log, step=p.step or 1)
    raise TypeError(f"{p} is of no known kind")
