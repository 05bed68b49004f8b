"""Optuna's samplers, driven by ask and tell through our own space, define-by-run: an algorithm that can use
conditions sees only the active parameters."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import optuna
from optuna import samplers
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from raysweep.search.samplers.basic import QuasiRandom
from raysweep.study.coordinates import Categories, Coordinate, Reals, point_of, raw_numbers
from raysweep.study.objective import Objective
from raysweep.study.space import Point, Space
from raysweep.trial import Trial

optuna.logging.set_verbosity(optuna.logging.ERROR)

POPULATION = 20  # of nsga2; Optuna's default of 50 is a whole study for many
Params = dict[str, Any]

# We do the start-up ourselves (see Optuna.ask), so their own is switched off. Each sampler is made for one
# ask, from a seed and the best start-up point.
KINDS: dict[str, Callable[[int, Params | None], BaseSampler]] = {
    "tpe": lambda seed, best: samplers.TPESampler(
        seed=seed, n_startup_trials=0, multivariate=True, group=True, constant_liar=True
    ),
    "gp": lambda seed, best: samplers.GPSampler(seed=seed, n_startup_trials=0),
    "cmaes": lambda seed, best: samplers.CmaEsSampler(x0=best, seed=seed, n_startup_trials=1),
    "nsga2": lambda seed, best: samplers.NSGAIISampler(seed=seed, population_size=POPULATION),
}


class _Revisable(InMemoryStorage):
    """A storage in which a trial that was told may be told again."""

    def check_trial_is_updatable(self, trial_id: int, trial_state: TrialState) -> None:
        pass


class Optuna:
    """tpe (multivariate, with a constant liar for pending trials), gp, cmaes or nsga2.

    The first `startup` points come from a Sobol sequence, exactly that many however parallel the search is. A
    trial that was stopped early, or is paused at a rung, is told with its best value so far. Every ask
    creates its sampler anew from (seed, number), so that the answer depends only on what was told. With cmaes
    and nsga2 it also depends on which of their own points they have seen evaluated, so their earlier asks
    must be repeated. (cmaes begins at the best start-up point, learns from its own points only, and varies
    only the numbers that every point has; it draws the rest at random.)
    """

    def __init__(
        self, space: Space, objective: Objective, seed: int, sampler: str = "tpe", startup: int = 10
    ):
        self._space, self._objective, self._seed, self._startup = space, objective, seed, startup
        self._make, self._constrained = KINDS[sampler], sampler != "cmaes"
        self._best: tuple[float, Params] | None = None  # loss and parameters of the best start-up trial
        self._first = QuasiRandom(space, objective, seed)
        # A paused trial is told early only where that can be revised: nsga2's generations hold what was told
        # once, and gp needs a constraint that can be set only once.
        self._early = sampler == "tpe"
        self._storage = _Revisable()
        self._study = optuna.create_study(
            storage=self._storage,
            directions=["maximize" if o.maximize else "minimize" for o in objective.all],
        )
        self._identity = self._storage.get_study_id_from_name(self._study.study_name)
        self._trials: dict[int, optuna.Trial] = {}  # those that are pending, by our number
        self._told: list[tuple[float, ...]] = []

    def ask(self, number: int, attempt: int = 0) -> Point:
        rng = random.Random(f"{self._seed}/{number}/{attempt}")
        if number < self._startup:
            return self._first.ask(number, attempt)
        if number in self._trials:  # an earlier attempt, which was turned down
            self._study.tell(self._trials.pop(number), state=TrialState.FAIL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # multivariate and group are experimental
            self._study.sampler = self._make(rng.getrandbits(32), self._best[1] if self._best else None)
            trial = self._trials[number] = self._study.ask()
            return point_of(self._space, lambda c: _suggested(trial, c))

    def tell(self, trial: Trial) -> None:
        given = {c.label: raw for c, raw in raw_numbers(self._space, trial.point)}
        asked = self._trials.get(trial.number)
        if asked is not None and asked.params != given:  # another point was used instead of this one
            self._study.tell(self._trials.pop(trial.number), state=TrialState.FAIL)
        if trial.number not in self._trials:
            self._trials[trial.number] = self._pending(trial)
        known = self._trials[trial.number]
        if trial.ended:
            del self._trials[trial.number]
            self._end(trial, known)
        elif self._early and (score := trial.score(self._objective)) is not None:  # it has paused
            self._finish(known, trial, score.values)

    def _end(self, trial: Trial, known: optuna.Trial) -> None:
        score, excess = trial.score(self._objective), trial.excess(self._objective)
        values = score.values if score else None
        if values is None and not excess:
            self._finish(known, trial, None)  # an error in the code; the point may be a good one
            return
        # A point that gives no result breaks a constraint; for algorithms that see values only, it is as bad as the
        # worst. (The constraint is set on every trial: gp wants the same on all.)
        if self._constrained:
            known.set_constraint("result", excess)
        if values is None:
            values = self._worst()
        else:
            self._told.append(values)
            loss = self._objective.loss(values[0])
            if trial.number < self._startup and (self._best is None or loss < self._best[0]):
                self._best = (loss, known.params)
        self._finish(known, trial, values)

    def _finish(self, known: optuna.Trial, trial: Trial, values: tuple[float, ...] | None) -> None:
        """Tell Optuna how a trial ended, or its value so far if it is paused: then it may be told again."""
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        identity = self._storage.get_trial_id_from_study_id_trial_number(self._identity, known.number)
        if self._storage.get_trial(identity).state.is_finished():
            self._storage.set_trial_state_values(identity, state, values)
        else:
            self._study.tell(known, values, state)

    def _worst(self) -> tuple[float, ...]:
        """The worst value of each objective so far."""
        return tuple(
            (min if o.maximize else max)((told[i] for told in self._told), default=0.0)
            for i, o in enumerate(self._objective.all)
        )

    def _pending(self, trial: Trial) -> optuna.Trial:
        """A trial that Optuna did not propose: from the start-up, or from an earlier session or study."""
        found = list(raw_numbers(self._space, trial.point))
        self._study.sampler = samplers.RandomSampler()  # it draws nothing: every value is given
        self._study.enqueue_trial({c.label: raw for c, raw in found})
        return self._study.ask({c.label: _distribution(c) for c, _ in found})


def _suggested(trial: optuna.Trial, coordinate: Coordinate) -> Any:
    label, domain = coordinate.label, coordinate.domain
    if isinstance(domain, Categories):
        return trial.suggest_categorical(label, range(domain.count))
    if isinstance(domain, Reals):
        return trial.suggest_float(label, domain.low, domain.high, log=domain.log)
    return trial.suggest_int(label, domain.low, domain.high, step=domain.step, log=domain.log)


def _distribution(coordinate: Coordinate) -> BaseDistribution:
    domain = coordinate.domain
    if isinstance(domain, Categories):
        return CategoricalDistribution(range(domain.count))
    if isinstance(domain, Reals):
        return FloatDistribution(domain.low, domain.high, log=domain.log)
    return IntDistribution(domain.low, domain.high, log=domain.log, step=domain.step)


def should_terminate(space: Space, objective: Objective, trials: Iterable[Trial]) -> bool:
    """Whether Optuna's terminator would end a search of these trials (Ishibashi et al. 2023): an upper bound
    of the gain from one more trial is less than the median of the gains so far."""
    from optuna import terminator  # imports torch

    told = Optuna(space, objective, 0)
    for trial in trials:
        told.tell(trial)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is experimental
        improvement = terminator.EMMREvaluator(seed=0)
        judge = terminator.Terminator(improvement, terminator.MedianErrorEvaluator(improvement))
        return judge.should_terminate(told._study)
