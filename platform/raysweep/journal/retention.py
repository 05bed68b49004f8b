"""Which checkpoints a study keeps: those of its best trials and of all that have not ended."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from raysweep.journal.journal import Journal
from raysweep.storage import checkpoints
from raysweep.study.objective import Objective
from raysweep.trial import ranking


class Retention:
    """Deletes what is not kept, trial by trial as they end. The `keep` best trials keep their checkpoints."""

    def __init__(self, journal: Journal, objective: Objective, keep: int):
        self._journal, self._objective, self._keep = journal, objective, keep
        ended = [t for t in journal.trials if t.ended]
        self._best = [t.number for t in ranking(ended, objective)[:keep]]

    def folder(self, number: int) -> Path:
        """Where the checkpoints of a trial are."""
        return checkpoints.trial_folder(self._journal.path.parent, number)

    def ended(self, number: int) -> None:
        """Keep the checkpoints of a trial that has just ended if it is one of the best; else delete them."""
        those = [self._journal.trial(n) for n in {*self._best, number}]
        ranked = [t.number for t in ranking(those, self._objective)]
        self._best = ranked[: self._keep]
        for beaten in {number, *ranked} - self._wanted():
            checkpoints.discard(self.folder(beaten))

    def _wanted(self) -> set[int]:
        """The best trials, and those that are to have more epochs."""
        return {*self._best, *(parent.number for parent, _ in self._journal.history.owed)}

    def sweep(self) -> None:
        """Delete what is left of the trials that are not kept, once no worker writes any more; not their
        output."""
        wanted = self._wanted()
        for trial in self._journal.trials:
            if trial.ended and trial.number not in wanted:
                checkpoints.remove(self.folder(trial.number))

    def newest_checkpoint(self, number: int, among: Collection[int] | None = None) -> int | None:
        """The newest epoch, if given `among` these, for which a trial has a checkpoint, or None."""
        there = checkpoints.epochs(self.folder(number))
        return next((e for e in there if among is None or e in among), None)

    def copy_checkpoint(self, parent: int, epoch: int, child: int) -> bool:
        """Give a new trial the checkpoint that it continues from. Returns whether that was still there."""
        folder = self.folder(child)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            for name in checkpoints.file_names(epoch):  # the data first: the manifest makes it count
                shutil.copyfile(self.folder(parent) / name, folder / name)
        except FileNotFoundError:
            shutil.rmtree(folder)
            return False
        return True
