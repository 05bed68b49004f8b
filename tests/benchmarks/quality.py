"""How good the searches are: real tuning tables replayed in virtual time, through our code and through the peers'.

Workers take as long over an epoch as the table says; what a search itself computes is measured and delays whoever
waits for it (`--free`: it does not). Peers are called as their users call them: Optuna's and HyperOpt's own ask and
tell with their pruners, Ray Tune's searchers with its ASHA, SMAC's and Syne Tune's own. Ours is the loop that Ray Tune
is driven by, with its journal on the disk; a study says as many trials as its budget can hold. A trial that waits at a
rung goes on for free (raysweep's workers stay; a checkpoint of a small model takes milliseconds); starting a process
costs nothing either, which favours the peers.

    python tests/benchmarks/quality.py --tables FOLDER [--quick] [--picture quality.png]

Prints, for each table and number of workers: the time to the top 1 % and the regret at three budgets, medians and
quartiles over the seeds. Then mean ranks, over the tables with curves, those without, and all. A block is a table, a
number of workers and a seed; a rank in it is the mean of those by regret at each share of the budget and by time to
the top 1 %. Intervals are of 90 %, from drawing seeds anew within each table, the same for all numbers of workers; they
speak of other seeds on these tables, not of other tables. `(again)` is the default through another class, with the
same decisions: what it differs by means nothing.
"""

from __future__ import annotations

import argparse
import heapq
import importlib.util
import itertools
import json
import logging
import math
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from tables import ENDS, TABLES, Task

BUDGETS = {1: 20.0, 4: 10.0, 32: 2.0}
"""How long a search lasts, in whole trainings one after the other, by the number of workers."""
SHARES = (0.25, 0.5, 1.0)  # of the budget, at which regret is taken
GRACE = 2  # epochs that every point gets, in every search that stops trials early


def holds(task: Task, workers: int) -> int:
    """The most trials that the budget holds: nobody trains a point for less than the grace."""
    return math.ceil(BUDGETS[workers] * workers * task.epochs / min(GRACE, task.epochs))


class Search(Protocol):
    """What is compared."""

    def ask(self) -> tuple[Any, dict[str, Any]] | None:
        """An identity and its point (a known identity: it goes on), or None: nothing now."""
        ...

    def report(self, identity: Any, epoch: int, loss: float, seconds: float) -> bool:
        """Whether a trial goes on after an epoch, which took so many seconds."""
        ...

    def done(self, identity: Any, failed: bool) -> None:
        """A trial ran to its end, or failed, or was let go after `report` said no."""
        ...


# --- ours ------------------------------------------------------------------------------------------------


class Ours:
    def __init__(self, algorithm: Any, scheduler: Any, task: Task, workers: int, seed: int):
        from raysweep import Study
        from raysweep.journal.journal import Journal
        from raysweep.search.loop import Loop

        study = Study(
            name="quality", trainable=_unused, minimize="loss", trials=holds(task, workers), seed=seed,
            space=task.space, algorithm=algorithm, scheduler=scheduler,
        )  # fmt: skip
        self._folder = tempfile.TemporaryDirectory(prefix="quality-")
        self._journal = Journal(Path(self._folder.name) / "quality")
        self.begin(task)
        self._loop = Loop(study, self._journal)

    def begin(self, task: Task) -> None:
        """What is journalled before the first trial."""

    def ask(self) -> tuple[Any, dict[str, Any]] | None:
        trial = self._loop.next()
        if trial is None:
            return None
        self._loop.started(trial.number, "virtual")
        return trial.number, trial.point

    def report(self, identity: Any, epoch: int, loss: float, seconds: float) -> bool:
        goes_on = self._loop.reported(identity, epoch, {"loss": loss}, seconds) == "go on"
        if not goes_on:
            self._loop.released(identity)
        return goes_on

    def done(self, identity: Any, failed: bool) -> None:
        self._loop.end(identity, "diverged" if failed else "completed", "")

    def close(self) -> None:
        self._journal.close()
        self._folder.cleanup()


class Again(Ours):
    """The same once more: whatever it differs by is noise."""


class Warm(Ours):
    """It knows 60 random trainings of another task of its table; or `misled`, with their ranks turned around."""

    misled = False

    def begin(self, task: Task) -> None:
        rows = [
            {"point": point, "status": "completed", "metrics": {"loss": -loss if self.misled else loss}}
            for point, loss in task.related[:60]
            if math.isfinite(loss) and not task.space.check(point)
        ]
        self._journal.append("warm", source="related", trials=rows, dropped=0)


class Packed(Ours):
    """Each worker trains several points as one computation, as many as slots.py lets it have. A point's share of an
    epoch is `share` of what the epoch takes alone (packs.py: 0.34 and 0.40 for small networks on the digits)."""

    most, share = 16, 0.31

    def __init__(self, algorithm: Any, scheduler: Any, task: Task, workers: int, seed: int):
        from raysweep.execution.slots import most_at_once

        super().__init__(algorithm, scheduler, task, workers, seed)
        study = self._loop.study
        self.slots = min(self.most, -(-most_at_once(study, workers, study.target) // workers))


class PackedForLittle(Packed):
    """The least gain for which pack_size.py takes so many."""

    share = 16**-0.3


class FourForLittle(Packed):
    """The same for four."""

    most, share = 4, 4**-0.3


class PackedForNothing(Packed):
    """Without any gain: what it costs a search to learn from results later."""

    share = 1.0


class Misled(Warm):
    """An earlier study that is wrong."""

    misled = True


def believed(rank: float) -> Make:
    """The default with priors: a point of that rank in the pool, from 0 (the best) to 1."""

    def make(task: Task, workers: int, seed: int) -> Search:
        from raysweep import Space

        ranked = sorted(task.pool, key=lambda pair: pair[1])
        point, _ = ranked[int(rank * (len(ranked) - 1))]
        space = {
            n: replace(p, prior=point.get(n)) if n in task.space.free else p for n, p in task.space.items()
        }
        return Ours("auto", PROMOTION, replace(task, space=Space(space)), workers, seed)

    return make


class Gaussian(Ours):
    """The Gaussian process alone."""

    def __init__(self, algorithm: Any, scheduler: Any, task: Task, workers: int, seed: int):
        from raysweep.search.samplers.feasibility import FeasibilityFilter
        from raysweep.search.samplers.gaussian import GaussianProcess

        super().__init__(algorithm, scheduler, task, workers, seed)
        told = (self._loop.study.space, self._loop.study.objective, seed)
        sampler = GaussianProcess(*told, startup=min(20, max(1, self._loop.study.target // 3)))
        self._loop._state._sampler = FeasibilityFilter(sampler, *told)


def _unused(state: Any = None, **point: Any) -> Iterator[Any]:
    """Takes a state, so that trials may wait."""
    yield from ()
    raise AssertionError("the tables say what training it would come to")


# --- the peers, as their users call them --------------------------------------------------------------------


def _free(task: Task) -> dict[str, Any]:
    return {n: task.space[n] for n in task.space.free}


def _point(task: Task, value_of: Callable[[str, Any], Any]) -> dict[str, Any]:
    """The point with the values of `value_of(name, parameter)`, asked for the active parameters in turn."""
    point: dict[str, Any] = {}
    for name, p in _free(task).items():
        if task.space.active(name, point):
            point[name] = value_of(name, p)
    return point


class Optuna:
    """study.ask, trial.report, trial.should_prune, study.tell."""

    def __init__(self, sampler: Callable[[int, Task], Any], pruner: Callable[[], Any], task: Task, seed: int):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._task, self._states = task, optuna.trial.TrialState
        self._study = optuna.create_study(sampler=sampler(seed, task), pruner=pruner())
        self._last: dict[int, float] = {}
        self._trials: dict[int, Any] = {}

    def ask(self) -> tuple[Any, dict[str, Any]] | None:
        from raysweep import Choice, Float

        trial = self._study.ask()

        def value(name: str, p: Any) -> Any:
            if isinstance(p, Choice):
                return trial.suggest_categorical(name, p.options)
            suggest = trial.suggest_float if isinstance(p, Float) else trial.suggest_int
            return suggest(name, p.low, p.high, log=p.log)

        self._trials[trial.number] = trial
        return trial.number, _point(self._task, value)

    def report(self, identity: Any, epoch: int, loss: float, seconds: float) -> bool:
        trial = self._trials[identity]
        trial.report(loss, epoch)
        self._last[identity] = min(loss, self._last.get(identity, math.inf))
        if trial.should_prune():
            self._study.tell(trial, state=self._states.PRUNED)
            return False
        return True

    def done(self, identity: Any, failed: bool) -> None:
        if failed:
            self._study.tell(self._trials[identity], state=self._states.FAIL)
        else:
            self._study.tell(self._trials[identity], self._last[identity])


class HyperOpt:
    """fmin's own loop, with a pool of workers: tpe.suggest over a Trials object."""

    def __init__(self, task: Task, seed: int):
        import numpy as np
        from hyperopt import base, tpe

        space = {n: _hyperopt(n, p, task) for n, p in _free(task).items() if not p.when}
        self._task, self._base, self._suggest = task, base, tpe.suggest
        self._domain = base.Domain(lambda point: 0.0, space)
        self._trials = base.Trials()
        self._rng = np.random.default_rng(seed)
        self._best: dict[int, float] = {}

    def ask(self) -> tuple[Any, dict[str, Any]] | None:
        (number,) = self._trials.new_trial_ids(1)
        self._trials.refresh()
        (document,) = self._suggest([number], self._domain, self._trials, self._rng.integers(2**31 - 1))
        self._trials.insert_trial_docs([document])
        self._trials.refresh()
        document = next(d for d in self._trials._dynamic_trials if d["tid"] == number)
        document["state"] = self._base.JOB_STATE_RUNNING
        values = document["misc"]["vals"]
        self._best[number] = math.inf
        return number, _point(self._task, lambda name, p: _of_hyperopt(p, values[name][0]))

    def report(self, identity: Any, epoch: int, loss: float, seconds: float) -> bool:
        self._best[identity] = min(loss, self._best[identity])
        return True

    def done(self, identity: Any, failed: bool) -> None:
        document = next(d for d in self._trials._dynamic_trials if d["tid"] == identity)
        document["state"] = self._base.JOB_STATE_DONE
        ok = {"status": self._base.STATUS_OK, "loss": self._best[identity]}
        document["result"] = {"status": self._base.STATUS_FAIL} if failed else ok
        self._trials.refresh()


def _hyperopt(name: str, p: Any, task: Task) -> Any:
    """A parameter as HyperOpt's users write it: what depends on a choice stands within it."""
    from hyperopt import hp

    from raysweep import Choice, Float

    if isinstance(p, Choice):
        return hp.choice(name, [
            {n: _hyperopt(n, q, task) for n, q in _free(task).items()
             if q.when and task.space.active(n, {name: option})}
            for option in p.options
        ])  # fmt: skip
    low, high = (math.log(p.low), math.log(p.high)) if p.log else (p.low, p.high)
    if isinstance(p, Float):
        return (hp.loguniform if p.log else hp.uniform)(name, low, high)
    return hp.qloguniform(name, low, high, 1) if p.log else hp.uniformint(name, low, high)


def _of_hyperopt(p: Any, drawn: Any) -> Any:
    from raysweep import Choice

    return p.options[int(drawn)] if isinstance(p, Choice) else p.nearest(float(drawn))


class RayTune:
    """A searcher of Ray Tune (None: its random search) and its ASHA, at our grace: its own of 1 would lose."""

    def __init__(self, searcher: str | None, task: Task, seed: int):
        import random

        from ray import tune
        from ray.tune.schedulers import AsyncHyperBandScheduler
        from ray.tune.search.hyperopt import HyperOptSearch
        from ray.tune.search.optuna import OptunaSearch

        from raysweep import Float

        space = {}
        for name, p in _free(task).items():
            if isinstance(p, Float):
                space[name] = (tune.loguniform if p.log else tune.uniform)(p.low, p.high)
            else:
                space[name] = (tune.lograndint if p.log else tune.randint)(p.low, p.high + 1)
        said = {"metric": "loss", "mode": "min"}
        make = {"optuna": OptunaSearch, "hyperopt": HyperOptSearch}
        key = "seed" if searcher == "optuna" else "random_state_seed"
        self._searcher = make[searcher](space, **said, **{key: seed}) if searcher else None
        self._asha = AsyncHyperBandScheduler(
            time_attr="training_iteration", max_t=task.epochs, grace_period=GRACE, **said
        )
        self._task, self._rng = task, random.Random(seed)
        self._numbers = itertools.count()
        self._last: dict[str, dict[str, Any]] = {}

    def ask(self) -> tuple[Any, dict[str, Any]] | None:
        identity = f"trial{next(self._numbers)}"
        point = self._searcher.suggest(identity) if self._searcher else self._task.space.sample(self._rng)
        self._asha.on_trial_add(None, SimpleNamespace(trial_id=identity))
        return identity, point

    def report(self, identity: Any, epoch: int, loss: float, seconds: float) -> bool:
        result = self._last[identity] = {"loss": loss, "training_iteration": epoch}
        if self._searcher:
            self._searcher.on_trial_result(identity, result)
        if epoch == self._task.epochs:
            return True
        goes_on = self._asha.on_trial_result(None, SimpleNamespace(trial_id=identity), result) == "CONTINUE"
        if not goes_on and self._searcher:
            self._searcher.on_trial_complete(identity, result)
        return goes_on

    def done(self, identity: Any, failed: bool) -> None:
        result = self._last.get(identity)
        if result:
            self._asha.on_trial_complete(None, SimpleNamespace(trial_id=identity), result)
        if self._searcher:
            self._searcher.on_trial_complete(identity, None if failed else result, error=failed)


class Smac:
    """SMAC's multi-fidelity facade, by ask and tell: it goes on with a point at a larger budget. On tables without
    curves, its facade for hyperparameter optimisation."""

    def __init__(self, task: Task, workers: int, seed: int):
        import ConfigSpace
        import smac

        space = ConfigSpace.ConfigurationSpace(seed=seed)
        made = {n: _configspace(n, p) for n, p in _free(task).items()}
        space.add(list(made.values()))
        for name, p in _free(task).items():
            for parent, wanted in (p.when or {}).items():
                space.add(ConfigSpace.EqualsCondition(made[name], made[parent], _shown(wanted)))
        curves = task.epochs > 1
        budgets = {"min_budget": GRACE, "max_budget": task.epochs} if curves else {}
        self._output = tempfile.TemporaryDirectory(prefix="quality-")
        scenario = smac.Scenario(
            space, deterministic=True, n_trials=100_000, seed=seed, output_directory=Path(self._output.name),
            **budgets,
        )  # fmt: skip
        facade = smac.MultiFidelityFacade if curves else smac.HyperparameterOptimizationFacade
        self._smac = facade(scenario, lambda config, seed=0, budget=0: 0.0, logging_level=False)
        self._task, self._curves = task, curves
        self._asked: dict[Any, Any] = {}

    def ask(self) -> tuple[Any, dict[str, Any]] | None:
        info = self._smac.ask()
        self._asked[info.config] = info
        return info.config, _point(self._task, lambda name, p: _of_shown(p, info.config[name]))

    def report(self, identity: Any, epoch: int, loss: float, seconds: float) -> bool:
        budget = self._asked[identity].budget if self._curves else self._task.epochs
        if epoch < round(budget):
            return True
        self._tell(identity, loss)
        return epoch == self._task.epochs  # the rest is `done`'s

    def done(self, identity: Any, failed: bool) -> None:
        if failed:
            self._tell(identity, math.inf)

    def _tell(self, identity: Any, loss: float) -> None:
        from smac.runhistory import StatusType, TrialValue

        failed = not math.isfinite(loss)
        status = StatusType.CRASHED if failed else StatusType.SUCCESS
        self._smac.tell(self._asked[identity], TrialValue(cost=1e6 if failed else loss, status=status))


def _configspace(name: str, p: Any) -> Any:
    import ConfigSpace

    from raysweep import Choice, Float

    if isinstance(p, Choice):
        return ConfigSpace.CategoricalHyperparameter(name, [_shown(o) for o in p.options])
    kind = ConfigSpace.Float if isinstance(p, Float) else ConfigSpace.Integer
    return kind(name, (p.low, p.high), log=p.log)


def _shown(option: Any) -> str:
    return str(option[0] if isinstance(option, list) else option)


def _of_shown(p: Any, value: Any) -> Any:
    from raysweep import Choice

    return next(o for o in p.options if str(o) == value) if isinstance(p, Choice) else p.nearest(float(value))


class SyneTune:
    """A scheduler of Syne Tune 0.13, the last with promotion and MOBSTER, driven as its tuner drives it."""

    def __init__(self, name: str, task: Task, seed: int, **options: Any):
        from syne_tune import config_space
        from syne_tune.backend.time_keeper import RealTimeKeeper
        from syne_tune.optimizer import baselines

        from raysweep import Float

        space: dict[str, Any] = {"epochs": task.epochs}
        for n, p in _free(task).items():
            if isinstance(p, Float):
                space[n] = (config_space.loguniform if p.log else config_space.uniform)(p.low, p.high)
            else:
                space[n] = (config_space.lograndint if p.log else config_space.randint)(p.low, p.high)
        self._scheduler = getattr(baselines, name)(
            space, metric="loss", mode="min", resource_attr="epoch", max_resource_attr="epochs",
            grace_period=GRACE, reduction_factor=3, random_seed=seed, type="promotion", **options,
        )  # fmt: skip
        clock = RealTimeKeeper()
        clock.start_of_time()
        self._scheduler.set_time_keeper(clock)
        self._task, self._numbers, self._trials = task, itertools.count(), {}
        self._last: dict[int, dict[str, float]] = {}

    def ask(self) -> tuple[Any, dict[str, Any]] | None:
        from datetime import datetime

        from syne_tune.backend.trial_status import Trial

        number = next(self._numbers)
        given = self._scheduler.suggest(number)
        if not given.spawn_new_trial_id:  # one that paused is promoted
            self._numbers = itertools.count(number)
            return given.checkpoint_trial_id, self._trials[given.checkpoint_trial_id].config
        trial = self._trials[number] = Trial(number, given.config, datetime.now())
        self._scheduler.on_trial_add(trial)
        return number, _point(self._task, lambda name, p: p.nearest(given.config[name]))

    def report(self, identity: Any, epoch: int, loss: float, seconds: float) -> bool:
        result = self._last[identity] = {"loss": loss, "epoch": epoch}
        if epoch == self._task.epochs:
            return True
        return bool(self._scheduler.on_trial_result(self._trials[identity], result) == "CONTINUE")

    def done(self, identity: Any, failed: bool) -> None:
        if failed:
            self._scheduler.on_trial_error(self._trials[identity])
        else:
            self._scheduler.on_trial_complete(self._trials[identity], self._last[identity])


class OneEpoch:
    """Random points for one epoch each, with half of the budget; then the best of them, one after the other, to
    their end (Egele et al. 2023)."""

    def __init__(self, task: Task, workers: int, seed: int):
        import random

        self._task, self._rng = task, random.Random(seed)
        self._left = int(BUDGETS[workers] * workers * task.epochs / 2)
        self._numbers = itertools.count()
        self._waiting: list[tuple[float, int]] = []

    def ask(self) -> tuple[Any, dict[str, Any]] | None:
        if self._left > 0:
            self._left -= 1
            return next(self._numbers), self._task.space.sample(self._rng)
        return (heapq.heappop(self._waiting)[1], {}) if self._waiting else None

    def report(self, identity: Any, epoch: int, loss: float, seconds: float) -> bool:
        if epoch == 1 < self._task.epochs:
            heapq.heappush(self._waiting, (loss, identity))
            return False
        return True

    def done(self, identity: Any, failed: bool) -> None:
        """Nothing to learn."""


def _tpe(seed: int, task: Task) -> Any:
    import optuna

    return optuna.samplers.TPESampler(seed=seed)


def _gp(seed: int, task: Task) -> Any:
    import optuna

    return optuna.samplers.GPSampler(seed=seed)


def _auto(seed: int, task: Task) -> Any:
    """What OptunaHub's AutoSampler uses up to 250 trials."""
    from raysweep import Choice

    if any(isinstance(p, Choice) for p in _free(task).values()):
        import optuna

        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
    return _gp(seed, task)


def _pruner(name: str, **options: Any) -> Callable[[], Any]:
    def make() -> Any:
        import optuna

        return getattr(optuna.pruners, name)(**options)

    return make


def _ours(algorithm: Any, scheduler: Any = "none", kind: type[Ours] = Ours) -> Make:
    return lambda task, workers, seed: kind(algorithm, scheduler, task, workers, seed)


def _optuna(sampler: Callable[[int, Task], Any], pruner: Callable[[], Any]) -> Make:
    return lambda task, workers, seed: Optuna(sampler, pruner, task, seed)


Make = Callable[[Task, int, int], Search]
PROMOTION, STOPPING = ({"name": "asha", "kind": kind} for kind in ("promotion", "stopping"))
DEFAULT = {True: "raysweep auto, promotion", False: "raysweep auto"}
"""The default's name, where there are curves and where there are none."""
CONTESTANTS: dict[str, Make] = {
    "Optuna": _optuna(_tpe, _pruner("NopPruner")),
    "Optuna, median": _optuna(_tpe, _pruner("MedianPruner")),
    "Optuna, halving": _optuna(_tpe, _pruner("SuccessiveHalvingPruner")),
    "Optuna, Hyperband": lambda task, workers, seed: Optuna(
        _tpe, _pruner("HyperbandPruner", max_resource=task.epochs), task, seed
    ),
    "HyperOpt": lambda task, workers, seed: HyperOpt(task, seed),
    "Ray random, ASHA": lambda task, workers, seed: RayTune(None, task, seed),
    "Ray Optuna, ASHA": lambda task, workers, seed: RayTune("optuna", task, seed),
    "Ray HyperOpt, ASHA": lambda task, workers, seed: RayTune("hyperopt", task, seed),
    "SMAC": Smac,
    "SMAC, multi-fidelity": Smac,
    "Syne Tune, ASHA promotion": lambda task, workers, seed: SyneTune("ASHA", task, seed),
    "Syne Tune, BOHB": lambda task, workers, seed: SyneTune("BOHB", task, seed),
    "one epoch, the best": OneEpoch,
    "raysweep random": _ours("random"),
    "raysweep random, promotion": _ours("random", PROMOTION),
    "raysweep qmc": _ours({"name": "optuna", "sampler": "qmc"}),
    "raysweep qmc, promotion": _ours({"name": "optuna", "sampler": "qmc"}, PROMOTION),
    "raysweep optuna": _ours("optuna"),
    "raysweep optuna, promotion": _ours("optuna", PROMOTION),
    "raysweep hyperopt": _ours("hyperopt"),
    "raysweep auto": _ours("auto"),
    "raysweep auto (again)": _ours("auto", kind=Again),
    "raysweep auto, stopping": _ours("auto", STOPPING),
    "raysweep auto, promotion": _ours("auto", PROMOTION),
    "raysweep auto, promotion (again)": _ours("auto", PROMOTION, Again),
    "raysweep hyperopt, promotion": _ours("hyperopt", PROMOTION),
    "raysweep gaussian": _ours("auto", kind=Gaussian),
    "raysweep gaussian, promotion": _ours("auto", PROMOTION, Gaussian),
}
VARIED: dict[str, Make] = {
    "raysweep auto, promotion, packs": _ours("auto", PROMOTION, Packed),
    "raysweep auto, promotion, packs of little gain": _ours("auto", PROMOTION, PackedForLittle),
    "raysweep auto, promotion, packs of 4, little gain": _ours("auto", PROMOTION, FourForLittle),
    "raysweep auto, promotion, packs without gain": _ours("auto", PROMOTION, PackedForNothing),
    "raysweep auto, related study": _ours("auto", PROMOTION, Warm),
    "raysweep auto, misleading study": _ours("auto", PROMOTION, Misled),
    "raysweep auto, right prior": believed(0.01),
    "raysweep auto, wrong prior": believed(0.7),
}
"""The default under other conditions (packs), or with something known before: only where `--only` names them."""
SLOW: dict[str, Make] = {
    "Syne Tune, MOBSTER": lambda task, workers, seed: SyneTune("MOBSTER", task, seed),
    "Optuna GP": _optuna(_gp, _pruner("NopPruner")),
    "Optuna GP, median": _optuna(_auto, _pruner("MedianPruner")),
    "Optuna AutoSampler": _optuna(_auto, _pruner("NopPruner")),
}
"""Peers that compute for minutes in one search: only where `--only` names them."""
PACKAGES = {"SMAC": "smac", "Syne Tune": "syne_tune"}


def suits(name: str, table: str) -> bool:
    """Whether a contestant takes part: one that stops trials early where there are curves, else one that does not."""
    return (table in ENDS) == ("," not in name)


# --- virtual time ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One search of one task. Times are in whole trainings."""

    contestant: str
    table: str
    task: str
    workers: int
    seed: int
    reached: float | None
    """When the top 1 % was reached, or None."""
    regrets: tuple[float, ...]
    """At each share of the budget: 0 is the best of the pool, 1 its median."""
    trials: int
    ask: float
    """Median milliseconds of an ask."""
    computed: float
    """Seconds of CPU that the search itself took."""
    charged: bool = True
    """Whether those delayed its workers."""


def simulate(name: str, task: Task, workers: int, seed: int, charged: bool) -> Run:
    """One search over its budget of virtual time."""
    search = (CONTESTANTS | VARIED | SLOW)[name](task, workers, seed)
    slots = search.slots if isinstance(search, Packed) else 1
    stretched = slots * search.share if isinstance(search, Packed) and slots > 1 else 1.0
    limit = BUDGETS[workers] * task.full
    order = itertools.count()
    events: list[tuple[float, int, Any]] = [(0.0, next(order), None) for _ in range(workers * slots)]
    curves: dict[Any, list[tuple[float, float]]] = {}
    reached_epoch: dict[Any, int] = {}
    idle, busy_until, computed, asks = 0, 0.0, 0.0, []
    trace: list[tuple[float, float]] = []
    while events:
        now, _, identity = heapq.heappop(events)
        if now > limit:
            break
        began, looked_up = time.process_time(), 0.0
        going = []
        if identity is not None:
            epoch = reached_epoch[identity] = reached_epoch[identity] + 1
            loss = curves[identity][epoch - 1][1]
            if math.isfinite(loss):
                trace.append((now, loss))
            if not math.isfinite(loss):
                search.done(identity, True)
            elif search.report(identity, epoch, loss, curves[identity][epoch - 1][0]):
                if epoch == len(curves[identity]):
                    search.done(identity, False)
                else:
                    going = [identity]
        idle += not going
        while idle:
            asked = time.process_time()
            given = search.ask()
            asks.append(time.process_time() - asked)
            if given is None:
                break
            idle -= 1
            going.append(given[0])
            if given[0] not in curves:  # looking it up is not the search's work
                asked = time.process_time()
                curves[given[0]], reached_epoch[given[0]] = task.curve(_whole(task, given[1])), 0
                looked_up += time.process_time() - asked
        took = time.process_time() - began - looked_up
        computed += took
        busy_until = max(now, busy_until) + took if charged else now
        for one in going:
            takes = curves[one][reached_epoch[one]][0] * stretched
            heapq.heappush(events, (busy_until + takes, next(order), one))
    if isinstance(search, Ours):
        search.close()
    times = [t for t, loss in trace if loss <= task.target]
    return Run(
        name, task.table, task.name, workers, seed,
        min(times) / task.full if times else None,
        tuple(_regret(trace, task, share * limit) for share in SHARES),
        len(curves), statistics.median(asks) * 1e3, computed, charged,
    )  # fmt: skip


def _whole(task: Task, point: dict[str, Any]) -> dict[str, Any]:
    return {**{n: p.values()[0] for n, p in task.space.items() if n not in task.space.free}, **point}


def _regret(trace: list[tuple[float, float]], task: Task, until: float) -> float:
    best = min((loss for t, loss in trace if t <= until), default=task.middle)
    return (best - task.best) / (task.middle - task.best)


@cache
def _tasks(table: str, folder: str) -> list[Task]:
    tasks = TABLES[table](Path(folder))
    return [replace(t, related=tasks[i - 1].pool) for i, t in enumerate(tasks)]


def _one(job: tuple[str, str, int, int, str, bool]) -> Run:
    name, table, workers, seed, folder, charged = job
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    tasks = _tasks(table, folder)
    return simulate(name, tasks[seed % len(tasks)], workers, seed, charged)


# --- what it comes to --------------------------------------------------------------------------------------

DRAWS, INTERVAL = 2000, (0.05, 0.95)


def summary(runs: list[Run]) -> str:
    """A table for every table and number of workers, then the mean ranks over those with curves, without, and all."""
    lines = []
    for table, workers in sorted({(r.table, r.workers) for r in runs}):
        here = [r for r in runs if (r.table, r.workers) == (table, workers)]
        names = list(dict.fromkeys(r.contestant for r in here))
        rank = _mean_ranks(here)
        seeds = len({r.seed for r in here})
        lines += ["", f"{table}, {workers} workers, {BUDGETS[workers]:g} whole trainings each, {seeds} seeds"]
        columns = [f"regret at {share:g}" for share in SHARES]
        lines.append(
            f"  {'':36} {'time to top 1 %':>22} {'reached':>8}"
            + "".join(f"{c:>24}" for c in columns)
            + f"{'rank':>7}{'trials':>8}{'ask ms':>8}{'CPU s':>8}"
        )
        for name in sorted(names, key=lambda n: rank[n]):
            mine = [r for r in here if r.contestant == name]
            times = [math.inf if r.reached is None else r.reached for r in mine]
            share = sum(math.isfinite(t) for t in times) / len(times)
            row = f"  {name:36} {_quartiles(times):>22} {share:>8.0%}"
            row += "".join(f"{_quartiles([r.regrets[i] for r in mine]):>24}" for i in range(len(SHARES)))
            trials = statistics.median(r.trials for r in mine)
            asks = statistics.median(r.ask for r in mine)
            computed = statistics.median(r.computed for r in mine)
            lines.append(row + f"{rank[name]:>7.1f}{trials:>8.0f}{asks:>8.1f}{computed:>8.1f}")
    curves = [r for r in runs if r.table not in ENDS]
    for what, part in (("with curves", curves), ("without curves", [r for r in runs if r.table in ENDS])):
        for workers in [*sorted({r.workers for r in part}), None]:
            lines += _ranking(f"{what}, {workers or 'all'} workers", part, workers, DEFAULT[part is curves])
    return "\n".join(lines)


def _ranking(what: str, runs: list[Run], workers: int | None, default: str) -> list[str]:
    """Mean ranks over blocks, with intervals, and how often each is first; only contestants that took part in all."""
    runs = [r for r in runs if workers in (None, r.workers)]
    names, means, draws = _ranked(runs)
    if len(names) < 2:
        return []
    blocks = len({(r.table, r.workers, r.seed) for r in runs})
    first = (draws == draws.min(axis=1, keepdims=True)).mean(axis=0)
    base = names.index(default) if default in names else None
    lines = ["", f"mean rank of {len(names)}, {what}, {blocks} blocks; 90 % interval; first; minus default"]
    for i in np.argsort(means):
        low, high = np.quantile(draws[:, i], INTERVAL)
        row = f"  {names[i]:36} {means[i]:5.2f}  {low:5.2f} to {high:5.2f}  {first[i]:5.0%}"
        if base is not None and i != base:
            low, high = np.quantile(draws[:, i] - draws[:, base], INTERVAL)
            row += f"  {means[i] - means[base]:+5.2f} ({low:+5.2f} to {high:+5.2f})"
        lines.append(row)
    return lines


def _ranked(runs: list[Run]) -> tuple[list[str], Any, Any]:
    """The contestants that took part in every block, their mean ranks, and those of each draw of seeds."""
    blocks: dict[tuple[str, int, int], list[Run]] = {}
    for r in runs:
        blocks.setdefault((r.table, r.workers, r.seed), []).append(r)
    names = sorted(set.intersection(*({r.contestant for r in b} for b in blocks.values())) if blocks else ())
    if not names:
        return [], np.zeros(0), np.zeros((0, 0))
    ranks = {key: _mean_ranks([r for r in b if r.contestant in names]) for key, b in blocks.items()}
    groups = sorted({key[:2] for key in ranks})
    seeds = {t: sorted({k[2] for k in ranks if k[0] == t}) for t, _ in groups}
    rng = np.random.default_rng(0)
    draws = [
        _over(ranks, groups, {t: rng.choice(s, len(s)) for t, s in seeds.items()}, names)
        for _ in range(DRAWS)
    ]
    return names, _over(ranks, groups, seeds, names), np.array(draws)


def _over(
    ranks: dict[tuple[str, int, int], dict[str, float]],
    groups: list[tuple[str, int]],
    seeds: dict[str, Any],
    names: list[str],
) -> Any:
    """The mean ranks over these seeds of each table, every table and number of workers alike."""
    means = []
    for table, workers in groups:
        found = [ranks[table, workers, s] for s in seeds[table] if (table, workers, s) in ranks]
        if found:
            means.append([statistics.fmean(rank[n] for rank in found) for n in names])
    return np.mean(means, axis=0)


def _quartiles(values: Iterable[float]) -> str:
    values = [min(v, 1e9) for v in values]
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    shown = ["never" if v > 1e8 else f"{v:.3g}" for v in (middle, low, high)]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def _mean_ranks(runs: list[Run]) -> dict[str, float]:
    """The mean rank of each contestant: by regret at each budget and by time to the target, seed by seed."""
    ranks: dict[str, list[float]] = {}
    for seed in {r.seed for r in runs}:
        mine = [r for r in runs if r.seed == seed]
        scores: list[dict[str, float]] = [
            {r.contestant: r.regrets[i] for r in mine} for i in range(len(SHARES))
        ]
        scores.append({r.contestant: math.inf if r.reached is None else r.reached for r in mine})
        for score in scores:
            for name, value in score.items():
                below = sum(v < value for v in score.values())
                same = sum(v == value for v in score.values())
                ranks.setdefault(name, []).append(below + (same + 1) / 2)
    return {n: statistics.fmean(v) for n, v in ranks.items()}


def picture(runs: list[Run], path: Path) -> None:
    """Mean ranks with their intervals, by number of workers, with curves and without; peers grey, ours coloured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = {
        "with curves": [r for r in runs if r.table not in ENDS],
        "without": [r for r in runs if r.table in ENDS],
    }
    groups = [(what, w, part) for what, part in kinds.items() for w in sorted({r.workers for r in part})]
    columns = min(3, len(groups))
    rows = math.ceil(len(groups) / columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.2 * columns, 3.4 * rows), squeeze=False)
    for axis in axes.flat[len(groups) :]:
        axis.axis("off")
    for axis, (what, workers, part) in zip(axes.flat, groups, strict=False):
        names, means, draws = _ranked([r for r in part if r.workers == workers])
        order = np.argsort(-means)
        ends = np.abs(np.quantile(draws, INTERVAL, axis=0) - means)[:, order]
        colours = ["tab:blue" if names[i].startswith("raysweep") else "lightgrey" for i in order]
        axis.barh([names[i] for i in order], means[order], xerr=ends, color=colours, ecolor="dimgrey")
        axis.set_title(f"{what}, {workers} worker{'s' * (workers > 1)}", fontsize=10)
        axis.set_xlabel("mean rank, less is better")
        axis.tick_params(axis="y", labelsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def _read(path: Path | None) -> list[Run]:
    """The runs of an earlier call, which are not done again."""
    if path is None or not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [Run(**{**row, "regrets": tuple(row["regrets"])}) for row in rows]


def _installed() -> list[str]:
    """The contestants that can take part here; says who cannot."""
    missing = [peer for peer, package in PACKAGES.items() if importlib.util.find_spec(package) is None]
    for peer in missing:
        print(f"{peer} is not installed, and left out", file=sys.stderr)
    return [n for n in CONTESTANTS if not n.startswith(tuple(missing))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=Path, default=Path(), help="the folder of the tuning tables")
    parser.add_argument(
        "--table",
        nargs="*",
        choices=list(TABLES),
        default=[t for t in TABLES if t not in {"toy", "lcbench_others"}],
    )
    parser.add_argument("--workers", nargs="*", type=int, choices=list(BUDGETS), default=list(BUDGETS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--first-seed", type=int, default=0, help="others than those that a choice was made by"
    )
    parser.add_argument(
        "--only", nargs="*", choices=[*CONTESTANTS, *VARIED, *SLOW], help="contestants by name"
    )
    parser.add_argument("--free", action="store_true", help="what searches compute does not delay them")
    parser.add_argument("--quick", action="store_true", help="TaskSet, 4 workers, 6 seeds: under two minutes")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--runs", type=Path, help="keep every run there, as JSON lines, and go on from it")
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    tables, workers, seeds = given.table, given.workers, given.seeds
    if given.quick:
        tables, workers, seeds = ["taskset"], [4], 6
    runs = [r for r in _read(given.runs) if r.charged != given.free]
    known = {(r.contestant, r.table, r.workers, r.seed) for r in runs}
    jobs = [
        (name, table, count, seed, str(given.tables), not given.free)
        for seed in range(given.first_seed, given.first_seed + seeds)
        for count in workers
        for table in tables
        for name in given.only or _installed()
        if suits(name, table) and (name, table, count, seed) not in known
    ]
    with ProcessPoolExecutor(given.processes) as pool:
        for done, run in enumerate(pool.map(_one, jobs), 1):
            runs.append(run)
            if given.runs:
                with given.runs.open("a") as file:
                    file.write(json.dumps(asdict(run)) + "\n")
            if done % 50 == 0:
                print(f"{done} of {len(jobs)} searches", file=sys.stderr)
    print(summary(runs))
    if given.picture:
        picture(runs, given.picture)


if __name__ == "__main__":
    main()
