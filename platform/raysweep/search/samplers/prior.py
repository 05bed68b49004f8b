"""A sampler that wraps any algorithm and begins where a person believes the best to be.

The first point is the priors themselves. Then a point in two is drawn near them, and fewer and fewer as results come
in: what the algorithm has learned replaces what was believed, be it right or wrong (as the weight of the prior decays
in Hvarfner et al. 2022, and Mallik et al. 2023).
"""

from __future__ import annotations

import random

from raysweep.search.samplers.base import Sampler
from raysweep.study.space import Point, Space
from raysweep.trial import Trial

FIRST = 0.5  # the share of points near the priors at first
HALVED = 10  # trials after which it is half of that, a third after twice as many, and so on


class Believing:
    """Asks `sampler`, except for the points that it draws near the space's priors."""

    def __init__(self, sampler: Sampler, space: Space, seed: int):
        self._sampler, self._space, self._seed = sampler, space, seed

    def ask(self, number: int, attempt: int = 0) -> Point | None:
        rng = random.Random(f"{self._seed}/{number}/{attempt}/prior")
        if number == 0 and attempt == 0:
            return self._space.prior(rng)
        if rng.random() < FIRST / (1 + number / HALVED):
            return self._space.believed(rng)
        return self._sampler.ask(number, attempt)

    def tell(self, trial: Trial) -> None:
        self._sampler.tell(trial)
