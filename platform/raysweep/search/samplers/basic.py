"""The samplers that need no model: random draws, a quasi-random sequence, and the grid."""

from __future__ import annotations

import random
from functools import cached_property
from typing import Any

from raysweep.study.coordinates import all_coordinates, point_at
from raysweep.study.objective import Objective
from raysweep.study.space import Point, Space, encode
from raysweep.trial import Trial


class Random:
    """Independent draws. The point of a trial depends on the seed and its number only."""

    def __init__(self, space: Space, objective: Objective, seed: int):
        self._space, self._seed = space, seed

    def ask(self, number: int, attempt: int = 0) -> Point:
        return self._space.sample(random.Random(f"{self._seed}/{number}/{attempt}"))

    def tell(self, trial: Trial) -> None:
        """Nothing to learn."""


class QuasiRandom:
    """A scrambled Sobol sequence (Owen 1998), one dimension for every value that a point may have: it covers the
    space more evenly than random draws do. Trial n is its n-th point.

    Optuna's QMCSampler uses the same sequence, but draws at random until a first trial has ended, and where
    there are conditions.
    """

    def __init__(self, space: Space, objective: Objective, seed: int):
        self._space, self._seed = space, seed
        self._labels = [c.label for c in all_coordinates(space)]

    @cached_property
    def _sequence(self) -> Any:
        from scipy.stats import qmc

        return qmc.Sobol(len(self._labels), seed=self._seed)

    def ask(self, number: int, attempt: int = 0) -> Point:
        if attempt or not self._labels:
            return self._space.sample(random.Random(f"{self._seed}/{number}/{attempt}"))
        sequence = self._sequence
        if number < sequence.num_generated:
            sequence.reset()
        if number > sequence.num_generated:
            sequence.fast_forward(number - sequence.num_generated)
        shares = dict(zip(self._labels, sequence.random(1)[0].tolist(), strict=True))
        return point_at(self._space, lambda label: shares[label])

    def tell(self, trial: Trial) -> None:
        """Nothing to learn."""


class Grid:
    """Every point of the grid once, in order: `ask` returns the first that it has not been told of yet."""

    def __init__(self, space: Space, objective: Objective, seed: int):
        self._points = {encode(p): p for p in space.grid()}

    def ask(self, number: int, attempt: int = 0) -> Point | None:
        return next(iter(self._points.values()), None)

    def tell(self, trial: Trial) -> None:
        self._points.pop(encode(trial.point), None)
