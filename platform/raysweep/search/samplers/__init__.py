"""Which point comes next: samplers, behind one interface of two methods, ask and tell."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from raysweep.search.samplers.base import Sampler
from raysweep.search.samplers.basic import Grid, QuasiRandom, Random
from raysweep.search.samplers.feasibility import FeasibilityFilter
from raysweep.search.samplers.prior import Believing
from raysweep.study.objective import Objective
from raysweep.study.space import Space
from raysweep.study.study import Study
from raysweep.trial import Trial

__all__ = ["SAMPLERS", "Sampler", "sampler_of"]


def _hyperopt(space: Space, objective: Objective, seed: int, **options: Any) -> Sampler:
    from raysweep.search.samplers.hyperopt import HyperOpt

    return FeasibilityFilter(HyperOpt(space, objective, seed, **options), space, objective, seed)


def _optuna(
    space: Space, objective: Objective, seed: int, sampler: str = "tpe", startup: int = 10
) -> Sampler:
    if sampler == "qmc":
        return QuasiRandom(space, objective, seed)
    from raysweep.search.samplers.optuna import Optuna

    return FeasibilityFilter(Optuna(space, objective, seed, sampler, startup), space, objective, seed)


def _auto(space: Space, objective: Objective, seed: int, startup: int = 20) -> Sampler:
    from raysweep.search.samplers.auto import Auto

    return FeasibilityFilter(Auto(space, objective, seed, startup), space, objective, seed)


SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "grid": Grid,
    "random": Random,
    "hyperopt": _hyperopt,
    "optuna": _optuna,
    "auto": _auto,
}


def sampler_of(study: Study, sources: Sequence[Sequence[Trial]] = ()) -> Sampler:
    """The sampler that a study's algorithm names. It is told the trials of earlier studies, those of each source,
    which replace start-up points."""
    make = functools.partial(_made, study)
    if not sources:
        sampler = make(0)
    elif study.algorithm.remembers or study.objective.more:  # what it was told cannot be replaced
        told = list(itertools.chain(*sources))
        sampler = make(len(told))
        for trial in told:
            sampler.tell(trial)
    else:
        from raysweep.search.samplers.earlier import Earlier

        sampler = Earlier(make, sources, study.space, study.objective, study.most_epochs or 1)
    if study.space.believes and study.algorithm.name != "grid":
        sampler = Believing(sampler, study.space, study.seed)
    return sampler


def _made(study: Study, known: int) -> Sampler:
    """The sampler of a study, which is about to be told so many trials of earlier ones."""
    options = study.algorithm.model_dump(exclude={"name"})
    if "startup" in options:
        options["startup"] = max(0, study.startup - known)
    return SAMPLERS[study.searched_by](study.space, study.objective, study.seed, **options)
