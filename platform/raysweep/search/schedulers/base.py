"""The interface of every scheduler. This base class lets every trial run all its epochs."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from typing import Literal

from raysweep.study.objective import Objective
from raysweep.trial import undominated

Decision = Literal["go on", "pause", "stop"]
Value = float | tuple[float, ...]
"""The value of the objective; of several objectives, that of each."""
MANY_EPOCHS = 100_000  # rungs up to here, where the study does not say how many epochs there are


class Scheduler:
    """Is told what happened to trials, in order: `report`, `paused`, `resumed`, `ended`, `retried`. Its
    answers depend on nothing else. The time for each grows at most with the logarithm of the number of trials
    (plus the time to move a list's tail)."""

    milestones: frozenset[int] = frozenset()
    """The epochs at which some trial may have to pause, whose checkpoint must be there before they are reported."""

    def report(self, number: int, epoch: int, value: Value | None) -> Decision:
        """Decide what trial `number` does after this epoch. `value` is None if the epoch does not count,
        because a requirement is not met; None is worse than any value. Only promotion takes several objectives."""
        return "go on"

    def paused(self, number: int) -> None:
        """A trial has paused, and may be promoted."""

    def resumed(self, number: int) -> None:
        """A trial that had paused goes on."""

    def ended(self, number: int) -> None:
        """A trial is over."""

    def retried(self, number: int) -> None:
        """A trial that had ended is tried again."""

    def promote(self, last: bool = False) -> int | None:
        """The paused trial to resume next, or None while none may. `last`: nothing else runs or will come."""
        return None

    def beaten(self, most: int) -> int | None:
        """A paused trial that can no longer be promoted in a search of at most `most` trials, or None."""
        return None


def leading_loss(objective: Objective, value: Value | None) -> float:
    """The loss of the leading objective."""
    leading = value[0] if isinstance(value, tuple) else value
    return math.inf if leading is None else objective.loss(leading)


class Ranked:
    """Losses of trials, in order. Ties go to the lower number."""

    def __init__(self) -> None:
        self._losses: dict[int, float] = {}
        self._order: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, number: int) -> bool:
        return number in self._losses

    def add(self, number: int, loss: float) -> None:
        """Put a trial in, or in its new place."""
        self.remove(number)
        self._losses[number] = loss
        insort(self._order, (loss, number))

    def remove(self, number: int) -> None:
        """Take a trial out, if it is there."""
        if number in self._losses:
            del self._order[bisect_left(self._order, (self._losses.pop(number), number))]

    def rank(self, number: int) -> int:
        """How many trials are better than `number`, which must be here."""
        return bisect_left(self._order, (self._losses[number], number))

    def best(self) -> int | None:
        return self._order[0][1] if self._order else None

    def worst(self) -> int | None:
        return self._order[-1][1] if self._order else None

    def quantile(self, share: float) -> float:
        """The loss below which this share of the trials lies, interpolated linearly as in NumPy."""
        place = share * (len(self._order) - 1)
        low = self._order[math.floor(place)][0]
        high = self._order[math.ceil(place)][0]
        return low if low == high else low + (high - low) * (place - math.floor(place))


class Fronts:
    """Trials in the order of NSGA-II (Deb et al. 2002): first those that no other dominates, then the front of the
    rest, and so on; of a front first those whose neighbours in it are far away. Unlike `Ranked`, it sorts anew once
    something has changed."""

    def __init__(self) -> None:
        self._losses: dict[int, tuple[float, ...]] = {}
        self._places: dict[int, int] | None = None

    def __len__(self) -> int:
        return len(self._losses)

    def __contains__(self, number: int) -> bool:
        return number in self._losses

    def add(self, number: int, losses: tuple[float, ...]) -> None:
        """Put a trial in, or in its new place."""
        self._losses[number], self._places = losses, None

    def remove(self, number: int) -> None:
        """Take a trial out, if it is there."""
        if self._losses.pop(number, None) is not None:
            self._places = None

    def rank(self, number: int) -> int:
        """How many trials are better than `number`, which must be here."""
        return self._ranks()[number]

    def best(self) -> int | None:
        return min(self._losses, key=self.rank, default=None)

    def worst(self) -> int | None:
        return max(self._losses, key=self.rank, default=None)

    def _ranks(self) -> dict[int, int]:
        if self._places is None:
            left, order = dict(self._losses), list[int]()
            while left:
                front = undominated(left)
                room = _crowding({n: left.pop(n) for n in front})
                order += sorted(front, key=lambda n: (-room[n], n))
            self._places = {number: place for place, number in enumerate(order)}
        return self._places


def _crowding(front: dict[int, tuple[float, ...]]) -> dict[int, float]:
    """How far the neighbours of each trial in a front are apart, as the sum over the objectives; the ends of a front
    have infinite room."""
    room = dict.fromkeys(front, 0.0)
    for i in range(len(next(iter(front.values())))):
        order = sorted(front, key=lambda n: (front[n][i], n))
        room[order[0]] = room[order[-1]] = math.inf
        spread = front[order[-1]][i] - front[order[0]][i]
        for before, number, after in zip(order, order[1:], order[2:], strict=False):
            if spread > 0:
                room[number] += (front[after][i] - front[before][i]) / spread
    return room
