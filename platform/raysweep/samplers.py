"""Where points come from: samplers behind one seam of two methods, ask and tell."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from raysweep.space import Space
from raysweep.study import Study
from raysweep.trial import Point, Trial


class Sampler(Protocol):
    """Chooses points. Deterministic: the same seed, asks and tells give the same points."""

    def ask(self, number: int) -> Point | None:
        """The point of trial `number`, or None when there are no more."""
        ...

    def tell(self, trial: Trial) -> None:
        """Learn from a trial that has ended."""
        ...


class Random:
    """Independent draws. The point of a trial depends on the seed and its number only."""

    def __init__(self, space: Space, seed: int):
        self._space, self._seed = space, seed

    def ask(self, number: int) -> Point:
        return self._space.sample(random.Random(f"{self._seed}/{number}"))

    def tell(self, trial: Trial) -> None:
        pass


class Grid:
    """Every point of the grid once, in order."""

    def __init__(self, space: Space, seed: int):
        self._points = list(space.grid())

    def ask(self, number: int) -> Point | None:
        return self._points[number] if number < len(self._points) else None

    def tell(self, trial: Trial) -> None:
        pass


SAMPLERS: dict[str, Callable[[Space, int], Sampler]] = {"grid": Grid, "random": Random}


def sampler_of(study: Study) -> Sampler:
    """The sampler that a study's algorithm names."""
    return SAMPLERS[study.algorithm.name](study.space, study.seed)
