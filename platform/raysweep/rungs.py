"""Where trials wait and who goes on: successive halving as its paper has it (Li et al. 2020), which no release of
Ray Tune has, and Hyperband's brackets of it. Trials wait at rungs; the best of those that came so far are promoted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from raysweep.trial import Objective, Trial

MANY_EPOCHS = 100_000  # rungs up to here, where the study does not say how many epochs there are


class Legs(Protocol):
    """Cuts trials into legs: at the end of each a trial waits, until it is called up again or given up."""

    @property
    def milestones(self) -> frozenset[int]:
        """The epochs at which some trial may have to wait."""
        ...

    def report(self, number: int, epoch: int, value: float | None) -> None:
        """Take in one report of a trial. None: its metric does not count."""
        ...

    def waits(self, number: int, epoch: int) -> bool:
        """Whether a trial that is at `epoch` has to wait there."""
        ...

    def call(self, waiting: Iterable[int], last: bool = False) -> int | None:
        """The one of those that wait that goes on next, or None while none may. `last`: no other will come."""
        ...


def replay(legs: Legs, trials: Iterable[Trial], objective: Objective) -> None:
    """Take in all that a journal says of `trials`."""
    for trial in trials:
        for report in trial.reports:
            legs.report(trial.number, report.epoch, objective.leading(report.metrics))


class Rungs:
    """The values that trials had at the epochs first, first x reduction, first x reduction^2 ..., and who may go
    on from there: the best 1/reduction of those that have come so far."""

    def __init__(self, objective: Objective, first: int, reduction: int, epochs: int):
        self._objective, self._reduction = objective, reduction
        self._values: dict[int, dict[int, float]] = {}
        self._promoted: dict[int, set[int]] = {}
        milestone = first
        while milestone < epochs:
            self._values[milestone], self._promoted[milestone] = {}, set()
            milestone *= reduction

    @property
    def milestones(self) -> frozenset[int]:
        return frozenset(self._values)

    def report(self, number: int, epoch: int, value: float | None) -> None:
        if epoch in self._values and value is not None:
            self._values[epoch][number] = value
        for milestone, promoted in self._promoted.items():
            if milestone < epoch and number in self._values[milestone]:
                promoted.add(number)

    def waits(self, number: int, epoch: int) -> bool:
        return epoch in self._values and number not in self._promoted[epoch]

    def call(self, waiting: Iterable[int], last: bool = False) -> int | None:
        """Of the highest rung, the best. When no other will come, one goes on from every rung, however few have
        come to it: a search of few trials is to have one that ran to its end."""
        free = set(waiting)
        for milestone in sorted(self._values, reverse=True):
            values = self._values[milestone]
            ranked = sorted(values, key=lambda n: (self._objective.loss(values[n]), n))
            enough = len(ranked) // self._reduction
            for number in ranked[: max(1, enough) if last else enough]:
                if number in free and number not in self._promoted[milestone]:
                    self._promoted[milestone].add(number)
                    return number
        return None


class Brackets:
    """Hyperband (Li et al. 2018), asynchronous: successive halving with its first rung at grace in one bracket,
    at grace x reduction in the next, and so on, against the risk that early epochs rank badly.

    A trial's bracket follows from its number. Brackets get trials in Hyperband's proportions, so that each costs
    about as many epochs.
    """

    def __init__(
        self, objective: Objective, grace: int, reduction: int, epochs: int, most: int | None = None
    ):
        self._brackets: list[Rungs] = []
        first = grace
        while len(self._brackets) < (most or MANY_EPOCHS):
            self._brackets.append(Rungs(objective, first, reduction, epochs))
            if first >= epochs:
                break  # the last one has no rungs: its trials all run to their end
            first *= reduction
        halvings = range(len(self._brackets) - 1, -1, -1)
        shares = [reduction**s / (s + 1) for s in halvings]
        self._shares = [share / sum(shares) for share in shares]
        self._assigned: list[int] = []
        self._counts = [0] * len(shares)

    @property
    def milestones(self) -> frozenset[int]:
        return frozenset().union(*(b.milestones for b in self._brackets))

    def bracket(self, number: int) -> int:
        """The bracket of a trial: that which has the fewest of its share of the trials before."""
        while len(self._assigned) <= number:
            due = [share * (len(self._assigned) + 1) for share in self._shares]
            chosen = max(range(len(due)), key=lambda i: due[i] - self._counts[i])
            self._counts[chosen] += 1
            self._assigned.append(chosen)
        return self._assigned[number]

    def report(self, number: int, epoch: int, value: float | None) -> None:
        self._of(number).report(number, epoch, value)

    def waits(self, number: int, epoch: int) -> bool:
        return self._of(number).waits(number, epoch)

    def call(self, waiting: Iterable[int], last: bool = False) -> int | None:
        free = list(waiting)
        for rungs in self._brackets:
            number = rungs.call((n for n in free if self._of(n) is rungs), last)
            if number is not None:
                return number
        return None

    def _of(self, number: int) -> Rungs:
        return self._brackets[self.bracket(number)]
