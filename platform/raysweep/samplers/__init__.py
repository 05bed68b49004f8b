"""Where points come from: samplers behind one seam of two methods, ask and tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from raysweep.samplers.plain import Grid, QuasiRandom, Random
from raysweep.samplers.wary import Wary
from raysweep.space import Space
from raysweep.study import Study
from raysweep.trial import Objective, Point, Trial


class Sampler(Protocol):
    """Chooses points. What it asks depends on its seed, the trial's number, what it was told and what is
    pending, and on nothing else: so a sampler that is told a journal's trials goes on as the one that was killed.
    """

    def ask(self, number: int, attempt: int = 0) -> Point | None:
        """A point for trial `number`, or None when there are no more. Another `attempt`, another point."""
        ...

    def tell(self, trial: Trial) -> None:
        """Take in a trial as it stands: when it was asked for, each time it paused, and when it has ended."""
        ...


STARTUP = {"hyperopt": 20, "optuna": 10}
"""Points before a model is asked, at most, where a study does not say how many."""


def _hyperopt(space: Space, objective: Objective, seed: int, **options: Any) -> Sampler:
    from raysweep.samplers.hyperopt import HyperOpt

    return Wary(HyperOpt(space, objective, seed, **options), space, objective, seed)


def _optuna(
    space: Space, objective: Objective, seed: int, sampler: str = "tpe", startup: int = 10
) -> Sampler:
    if sampler == "qmc":
        return QuasiRandom(space, objective, seed)
    from raysweep.samplers.optuna import Optuna

    return Wary(Optuna(space, objective, seed, sampler, startup), space, objective, seed)


SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "grid": Grid,
    "random": Random,
    "hyperopt": _hyperopt,
    "optuna": _optuna,
}


def sampler_of(study: Study, earlier: Sequence[Trial] = ()) -> Sampler:
    """The sampler that a study's algorithm names, told of the trials of `earlier` studies, which stand in for its
    start-up."""
    options = study.algorithm.model_dump(exclude={"name"})
    if "startup" in options:
        startup = options["startup"]
        if startup is None:
            startup = min(STARTUP[study.algorithm.name], max(1, study.target // 3))
        options["startup"] = max(0, startup - len(earlier))
    sampler = SAMPLERS[study.algorithm.name](study.space, study.objective, study.seed, **options)
    for trial in earlier:
        sampler.tell(trial)
    return sampler
