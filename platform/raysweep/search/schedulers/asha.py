"""Asynchronous successive halving: only the best trials pass each rung. The epoch of a rung is `reduction`
times that of the rung before.

With stopping, the other trials end at once, as in Ray Tune's AsyncHyperBandScheduler. With promotion they
pause, and are promoted when others turn out worse, as in the paper (Li et al. 2020, algorithm 2). Hyperband
runs brackets of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from raysweep.search.schedulers.base import Decision, Fronts, Ranked, Scheduler, Value, leading_loss
from raysweep.study.objective import Objective
from raysweep.study.study import UNBOUNDED


def rungs(first: int, reduction: int, epochs: int) -> Iterator[int]:
    """The epochs at which it is decided which trials go on; not the last epoch, because none follows it."""
    while first < epochs:
        yield first
        first *= reduction


class Stopping(Scheduler):
    """At a rung, a trial that is worse than the best `1/reduction` of those that came before it ends."""

    def __init__(self, objective: Objective, grace: int, reduction: int, epochs: int):
        self._objective, self._share = objective, 1 / reduction
        self._rungs = {epoch: Ranked() for epoch in rungs(grace, reduction, epochs)}

    def report(self, number: int, epoch: int, value: Value | None) -> Decision:
        rung = self._rungs.get(epoch)
        if rung is None:
            return "go on"
        loss = leading_loss(self._objective, value)
        rung.remove(number)  # if it is here for the second time: its process was lost
        stop = bool(len(rung)) and loss > rung.quantile(self._share)
        rung.add(number, loss)
        return "stop" if stop else "go on"


class _Rung:
    """The trials that have reached a rung, those that are paused there, and those promoted from it."""

    def __init__(self, several: bool) -> None:
        """`several`: the trials are ranked by several objectives."""
        self.all: Any = Fronts() if several else Ranked()
        self.paused: Any = Fronts() if several else Ranked()
        self.promoted: set[int] = set()
        self.over = 0
        """How many of the trials that reached this rung have ended."""


class Promotion(Scheduler):
    """Every trial pauses at a rung. The best `1/reduction` of those that have reached it so far are
    promoted."""

    def __init__(self, objective: Objective, grace: int, reduction: int, epochs: int):
        self._objective, self._reduction = objective, reduction
        self._rungs = {epoch: _Rung(bool(objective.more)) for epoch in rungs(grace, reduction, epochs)}
        self._at: dict[int, int] = {}  # the rung at which a trial is, or is about to pause
        self._losses: dict[int, Value] = {}  # its loss there, or losses
        self._over = 0
        self.milestones = frozenset(self._rungs)

    def report(self, number: int, epoch: int, value: Value | None) -> Decision:
        if self._at.get(number, epoch) < epoch:  # it passed the rung under another scheduler
            self.resumed(number)
        rung = self._rungs.get(epoch)
        if rung is None:
            return "go on"
        loss = self._loss(value)
        rung.all.add(number, loss)
        if number in rung.promoted:
            return "go on"
        self._at[number], self._losses[number] = epoch, loss
        return "pause"

    def _loss(self, value: Value | None) -> Value:
        if not self._objective.more:
            return leading_loss(self._objective, value)
        every = self._objective.all
        if isinstance(value, tuple):
            return tuple(o.loss(v) for o, v in zip(every, value, strict=True))
        return (math.inf,) * len(every)

    def paused(self, number: int) -> None:
        if number in self._at:
            self._rungs[self._at[number]].paused.add(number, self._losses[number])

    def resumed(self, number: int) -> None:
        if (rung := self._left(number)) is not None:
            rung.promoted.add(number)

    def ended(self, number: int) -> None:
        self._left(number)
        self._count(number, 1)

    def retried(self, number: int) -> None:
        self._count(number, -1)

    def _count(self, number: int, more: int) -> None:
        self._over += more
        for rung in self._rungs.values():
            rung.over += more * (number in rung.all)

    def _left(self, number: int) -> _Rung | None:
        """Take a trial off its rung, and return that rung (None if it is at none)."""
        self._losses.pop(number, None)
        epoch = self._at.pop(number, None)
        if epoch is None:
            return None
        self._rungs[epoch].paused.remove(number)
        return self._rungs[epoch]

    def promote(self, last: bool = False) -> int | None:
        """The best paused trial of the highest rung that may promote one. If no other trial will come
        (`last`), every rung may promote one, however few have reached it: even a small search should have a
        trial that ran to its end."""
        for rung in reversed(self._rungs.values()):
            number: int | None = rung.paused.best()
            enough = len(rung.all) // self._reduction
            if number is not None and rung.all.rank(number) < (max(1, enough) if last else enough):
                self.resumed(number)
                return number
        return None

    def beaten(self, most: int) -> int | None:
        """A paused trial whose rank is too low even if all trials reach its rung, except those that ended
        before it. Ranks only get worse; among several objectives they may get better, so nobody is beaten."""
        if self._objective.more:
            return None
        for rung in self._rungs.values():
            number: int | None = rung.paused.worst()
            may_come = max(most - (self._over - rung.over), len(rung.all))
            if number is not None and rung.all.rank(number) >= max(1, may_come // self._reduction):
                return number
        return None


class Hyperband(Scheduler):
    """Asynchronous Hyperband (Li et al. 2018): promotion in several brackets. The first rung is at grace in
    one bracket, at grace x reduction in the next, and so on, against the risk that early epochs rank trials
    badly. `brackets` is the maximum number of brackets.

    A trial's bracket follows from its number. Brackets get trials in Hyperband's proportions, so that each costs
    about as many epochs.
    """

    def __init__(
        self, objective: Objective, grace: int, reduction: int, epochs: int, brackets: int | None = None
    ):
        firsts = [*rungs(grace, reduction, epochs), epochs]  # in the last bracket all run to their end
        halvings = range(len(firsts) - 1, -1, -1)
        self._brackets = [Promotion(objective, first, reduction, epochs) for first in firsts[:brackets]]
        shares = [reduction**s / (s + 1) for s in halvings][:brackets]
        self._shares = [share / sum(shares) for share in shares]
        self._assigned: list[int] = []
        self._counts = [0] * len(shares)
        self.milestones = frozenset().union(*(b.milestones for b in self._brackets))

    def bracket(self, number: int) -> int:
        """The bracket of a trial: the one that is furthest below its share of the trials so far."""
        while len(self._assigned) <= number:
            due = [share * (len(self._assigned) + 1) for share in self._shares]
            chosen = max(range(len(due)), key=lambda i: due[i] - self._counts[i])
            self._counts[chosen] += 1
            self._assigned.append(chosen)
        return self._assigned[number]

    def report(self, number: int, epoch: int, value: Value | None) -> Decision:
        return self._of(number).report(number, epoch, value)

    def paused(self, number: int) -> None:
        self._of(number).paused(number)

    def resumed(self, number: int) -> None:
        self._of(number).resumed(number)

    def ended(self, number: int) -> None:
        self._of(number).ended(number)

    def retried(self, number: int) -> None:
        self._of(number).retried(number)

    def promote(self, last: bool = False) -> int | None:
        found = (bracket.promote(last) for bracket in self._brackets)
        return next((number for number in found if number is not None), None)

    def beaten(self, most: int) -> int | None:
        if most >= UNBOUNDED:
            return None  # nobody knows how many there will be
        self.bracket(most)
        for i, bracket in enumerate(self._brackets):
            number = bracket.beaten(self._counts[i])
            if number is not None:
                return number
        return None

    def _of(self, number: int) -> Promotion:
        return self._brackets[self.bracket(number)]
