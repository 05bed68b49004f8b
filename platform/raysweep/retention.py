"""Which checkpoints a study keeps: those of its best trials and of all that have not ended."""

from __future__ import annotations

import shutil
from pathlib import Path

from raysweep.journal import Journal
from raysweep.trial import Objective, ranking

KEPT = 5
"""How many of the best trials keep their checkpoints; the others' are deleted as they are beaten."""


class Retention:
    """Deletes what is not kept, trial by trial as they end."""

    def __init__(self, journal: Journal, objective: Objective):
        self._journal, self._objective = journal, objective
        self._best = [t.number for t in ranking(journal.trials, objective)[:KEPT]]

    def folder(self, number: int) -> Path:
        """Where the checkpoints of a trial are."""
        return self._journal.path.parent / "trials" / f"{number:06d}"

    def ended(self, number: int) -> None:
        """Keep a trial that has just ended, or not."""
        those = [self._journal.trial(n) for n in {*self._best, number}]
        ranked = [t.number for t in ranking(those, self._objective)]
        self._best = ranked[:KEPT]
        for beaten in {number, *ranked} - self._wanted():
            shutil.rmtree(self.folder(beaten), ignore_errors=True)

    def _wanted(self) -> set[int]:
        """The best, and those that are to go on."""
        return {*self._best, *(parent.number for parent, _ in self._journal.history.owed)}

    def sweep(self) -> None:
        """Delete what trials that are not kept have left."""
        wanted = self._wanted()
        for trial in self._journal.trials:
            if trial.ended and trial.number not in wanted:
                shutil.rmtree(self.folder(trial.number), ignore_errors=True)
