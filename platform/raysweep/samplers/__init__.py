"""Where points come from: samplers behind one seam of two methods, ask and tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from raysweep.samplers.plain import Grid, Random
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
        """Take in a trial as it stands: one that is pending, one that has ended, of this search or an earlier."""
        ...


def _hyperopt(space: Space, objective: Objective, seed: int, **options: Any) -> Sampler:
    from raysweep.samplers.hyperopt import HyperOpt

    return Wary(HyperOpt(space, objective, seed, **options), space, seed)


def _optuna(space: Space, objective: Objective, seed: int, **options: Any) -> Sampler:
    from raysweep.samplers.optuna import Optuna

    return Wary(Optuna(space, objective, seed, **options), space, seed)


SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "grid": Grid,
    "random": Random,
    "hyperopt": _hyperopt,
    "optuna": _optuna,
}


def sampler_of(study: Study, trials: Iterable[Trial] = ()) -> Sampler:
    """The sampler that a study's algorithm names, told what became of `trials`."""
    options = study.algorithm.model_dump(exclude={"name"})
    sampler = SAMPLERS[study.algorithm.name](study.space, study.objective, study.seed, **options)
    for trial in trials:
        sampler.tell(trial)
    return sampler
