"""The samplers that need no model: random draws, and the grid."""

from __future__ import annotations

import random

from raysweep.space import Space
from raysweep.trial import Objective, Point, Trial


class Random:
    """Independent draws. The point of a trial depends on the seed and its number only."""

    def __init__(self, space: Space, objective: Objective, seed: int):
        self._space, self._seed = space, seed

    def ask(self, number: int, attempt: int = 0) -> Point:
        return self._space.sample(random.Random(f"{self._seed}/{number}/{attempt}"))

    def tell(self, trial: Trial) -> None:
        """Nothing to learn."""


class Grid:
    """Every point of the grid once, in order."""

    def __init__(self, space: Space, objective: Objective, seed: int):
        self._points = list(space.grid())

    def ask(self, number: int, attempt: int = 0) -> Point | None:
        return self._points[number] if number < len(self._points) else None

    def tell(self, trial: Trial) -> None:
        """Nothing to learn."""
