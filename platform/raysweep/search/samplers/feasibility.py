"""A sampler that wraps any algorithm and keeps away from regions where trials gave no result.

Algorithms model values. The best points often lie near the border beyond which everything fails, and there
about half of the proposals keep failing, however long the search runs. So each proposal is judged by its
nearest neighbours among the known points. If most of those failed, another point is requested: first from the
algorithm, then at random, because an algorithm that has settled on such a region proposes it again and again.
"""

from __future__ import annotations

import random

from raysweep.search.samplers.base import Sampler
from raysweep.study.coordinates import Places, distance, places
from raysweep.study.objective import Objective
from raysweep.study.space import Point, Space
from raysweep.trial import NO_RESULT, RANKED, Trial

NEIGHBOURS = 5
PROPOSALS = 4  # from the algorithm for one point, and as many at random
STRIDE = 1000  # keeps our attempt numbers apart from our caller's


class FeasibilityFilter:
    """Asks `sampler` again where a point is likely to fail. Without failures it is that sampler, unchanged."""

    def __init__(self, sampler: Sampler, space: Space, objective: Objective, seed: int):
        self._sampler, self._space, self._objective, self._seed = sampler, space, objective, seed
        self._known: list[tuple[Places, bool]] = []  # where, and whether there was no result
        self._failures = 0

    def ask(self, number: int, attempt: int = 0) -> Point | None:
        point = self._sampler.ask(number, attempt)
        if not self._failures or point is None:
            return point
        safest, least = point, self._risk(point)
        for proposal in range(1, 2 * PROPOSALS):
            if least < 0.5:
                break
            other = self._propose(number, attempt + proposal * STRIDE, proposal)
            if other is not None and (risk := self._risk(other)) < least:
                safest, least = other, risk
        return safest

    def _propose(self, number: int, attempt: int, proposal: int) -> Point | None:
        if proposal < PROPOSALS:
            return self._sampler.ask(number, attempt)
        return self._space.sample(random.Random(f"{self._seed}/{number}/{attempt}/wary"))

    def tell(self, trial: Trial) -> None:
        self._sampler.tell(trial)
        if trial.status in NO_RESULT or trial.status in RANKED:
            failed = trial.excess(self._objective) > 0
            self._known.append((places(self._space, trial.point), failed))
            self._failures += failed

    def _risk(self, point: Point) -> float:
        """The share of failures among the nearest neighbours."""
        place = places(self._space, point)
        nearest = sorted((distance(place, other), failed) for other, failed in self._known)[:NEIGHBOURS]
        return sum(failed for _, failed in nearest) / len(nearest)
