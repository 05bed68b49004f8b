"""The interface of every sampler."""

from __future__ import annotations

from typing import Protocol

from raysweep.study.space import Point
from raysweep.trial import Trial


class Sampler(Protocol):
    """Chooses points. What `ask` returns depends only on the seed, the trial's number, the trials told and
    those pending. So a sampler that is told a journal's trials continues as the one that was killed would
    have.
    """

    def ask(self, number: int, attempt: int = 0) -> Point | None:
        """A point for trial `number`, or None if there are no more. Another `attempt` gives another point."""
        ...

    def tell(self, trial: Trial) -> None:
        """Take in the state of a trial: when it was asked for, each time it paused, and when it has ended."""
        ...
