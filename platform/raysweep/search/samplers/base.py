"""What every sampler answers."""

from __future__ import annotations

from typing import Protocol

from raysweep.study.space import Point
from raysweep.trial import Trial


class Sampler(Protocol):
    """Chooses points. What it asks depends on its seed, the trial's number, what it was told and what is
    pending, and on nothing else: so a sampler that is told a journal's trials goes on as the one that was killed.
    """

    def ask(self, number: int, attempt: int = 0) -> Point | None:
        """A point for trial `number`, or None when there are no more. Another `attempt`, another point."""
        ...

    def tell(self, trial: Trial) -> None:
        """Take in a trial as it stands: when it was asked for, each time it paused, and when it has ended."""
        ...
