"""HyperOpt's algorithms, driven through our own space.

HyperOpt sees a flat space of every coordinate that a point may have. A trial's record holds only the active
ones, so HyperOpt's model of a coordinate is fitted to the trials in which it was active. HyperOpt's own
nested choices do the same, but there a choice must own its conditions. (The cost: HyperOpt suggests values
for inactive coordinates too, which are thrown away.)
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import numpy as np
from hyperopt import anneal, base, hp, rand, tpe

from raysweep.search.samplers.basic import QuasiRandom
from raysweep.study.coordinates import (
    Categories,
    Coordinate,
    Integers,
    Reals,
    all_coordinates,
    point_of,
    raw_numbers,
)
from raysweep.study.objective import Objective
from raysweep.study.space import Point, Space
from raysweep.trial import Trial

logging.getLogger("hyperopt").setLevel(logging.WARNING)

# The program that draws from the model depends on the space alone. HyperOpt builds it anew for each ask,
# which takes half of the time of an ask.
_known_posterior = lru_cache(maxsize=8)(tpe.build_posterior_wrapper)

GOOD = 25  # of the best trials: the most that tpe ever counts as good
MODELLED = 200


class HyperOpt:
    """tpe (options `startup`, `candidates`, `gamma`), anneal or random.

    The first `startup` points come from a Sobol sequence, exactly that many however parallel the search is. A
    trial that was stopped early, or is paused at a rung, is told with its best value so far. What `ask`
    returns depends on (seed, number) and on the trials that have a result.
    """

    def __init__(
        self,
        space: Space,
        objective: Objective,
        seed: int,
        kind: str = "tpe",
        startup: int = 20,
        candidates: int = 24,
        gamma: float = 0.25,
    ):
        self._space, self._objective, self._seed, self._startup = space, objective, seed, startup
        self._suggest = {
            "tpe": partial(
                tpe.suggest, verbose=False, n_startup_jobs=0, n_EI_candidates=candidates, gamma=gamma
            ),
            "anneal": anneal.suggest,
            "random": rand.suggest,
        }[kind]
        self._domain = base.Domain(lambda point: 0.0, {c.label: _node(c) for c in all_coordinates(space)})
        self._losses: list[float] = []
        self._documents: dict[int, dict[str, Any]] = {}  # what HyperOpt calls a trial, by our number
        self._first = QuasiRandom(space, objective, seed)

    def ask(self, number: int, attempt: int = 0) -> Point:
        rng = random.Random(f"{self._seed}/{number}/{attempt}")
        if number < self._startup:
            return self._first.ask(number, attempt)
        with _posteriors_kept():
            (document,) = self._suggest([number], self._domain, self._modelled(), rng.getrandbits(31))
        values = document["misc"]["vals"]
        return point_of(self._space, lambda c: _raw(c, values[c.label][0]))

    def tell(self, trial: Trial) -> None:
        score = trial.score(self._objective)
        if score is None and not trial.excess(self._objective):
            return  # pending, or an error in the code that says nothing of the point
        if score is None:
            # Told as failed, the point would be forgotten and proposed again. Its loss is the worst so far
            # plus the spread of the results, so that the penalty scales with the data.
            spread = max(self._losses, default=0.0) - min(self._losses, default=0.0)
            loss = max(self._losses, default=0.0) + (spread or 1.0)
        else:
            loss = self._objective.loss(score.value)
            self._losses.append(loss)
        if trial.number in self._documents:
            self._documents[trial.number]["result"]["loss"] = loss  # it had paused at a rung, and has gone on
        else:
            self._documents[trial.number] = self._document(trial, loss)

    def _modelled(self) -> base.Trials:
        """The trials that the model is fitted to: the best, which it counts as good, and the latest. The time
        of an ask grows with their number."""
        told = list(self._documents.values())
        if len(told) > MODELLED:
            ranked = sorted(range(len(told)), key=lambda i: told[i]["result"]["loss"])
            latest = range(len(told) - (MODELLED - GOOD), len(told))
            told = [told[i] for i in sorted({*ranked[:GOOD], *latest})]
        trials = base.Trials(refresh=False)  # which would copy each trial, and search all for every new one
        trials._dynamic_trials = told
        trials.refresh()
        return trials

    def _document(self, trial: Trial, loss: float) -> dict[str, Any]:
        number = trial.number
        values = {c.label: [_modelled(c, raw)] for c, raw in raw_numbers(self._space, trial.point)}
        labels = self._domain.params
        misc = {
            "tid": number,
            "cmd": ("domain_attachment", "FMinIter_Domain"),
            "workdir": None,
            "idxs": {label: [number] if label in values else [] for label in labels},
            "vals": {label: values.get(label, []) for label in labels},
        }
        return {
            "tid": number,
            "state": base.JOB_STATE_DONE,
            "spec": None,
            "result": {"status": base.STATUS_OK, "loss": loss},
            "misc": misc,
            "exp_key": None,
            "owner": None,
            "version": 0,
            "book_time": None,
            "refresh_time": None,
        }


@contextmanager
def _posteriors_kept() -> Iterator[None]:
    """HyperOpt with cached posteriors, for one ask. Others that use it in this process find it unchanged."""
    written = tpe.build_posterior_wrapper
    tpe.build_posterior_wrapper = _known_posterior
    try:
        yield
    finally:
        tpe.build_posterior_wrapper = written


def _node(coordinate: Coordinate) -> Any:
    """The distribution that draws as the parameter does."""
    label, domain = coordinate.label, coordinate.domain
    if isinstance(domain, Categories):
        return hp.randint(label, domain.count)
    if isinstance(domain, Reals):
        low, high = domain.low, domain.high
        return (
            hp.loguniform(label, math.log(low), math.log(high))
            if domain.log
            else hp.uniform(label, low, high)
        )
    if domain.log:
        return hp.loguniform(label, math.log(domain.low - 0.5), math.log(domain.high + 0.5))
    # Ordered whole numbers: hp.randint would model them as categories, and quniform halves the ends' share.
    return hp.uniform(label, -0.5, domain.count - 0.5)


def _raw(coordinate: Coordinate, drawn: Any) -> Any:
    """The raw number of a coordinate for what its node drew."""
    domain = coordinate.domain
    if isinstance(domain, Categories):
        return int(drawn)
    if isinstance(domain, Reals):
        return float(drawn)
    whole = round(float(drawn))
    return whole if domain.log else domain.low + domain.step * min(max(whole, 0), domain.count - 1)


def _modelled(coordinate: Coordinate, raw: Any) -> Any:
    """What the node would have drawn for a raw number."""
    domain = coordinate.domain
    if isinstance(domain, Categories):
        return np.int64(raw)
    if isinstance(domain, Integers) and not domain.log:
        return float((raw - domain.low) // domain.step)
    return float(raw)
