"""Which trials each worker runs. To Ray Tune, a worker's whole run is one trial; to the study, a worker offers
slots, and a slot that falls free gets the next trial at the next epoch.

So a trial that begins, pauses or goes on costs no change of trials in Ray Tune, and small networks are trained
together. Most workers offer one slot; one that trains perceptrons as a pack offers as many as pay off.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from raysweep.execution.concurrency import ConcurrencyLimiter
from raysweep.search.loop import Loop
from raysweep.study.study import UNBOUNDED, Study
from raysweep.trial import Trial

Assignment = dict[str, Any]
"""What a worker has to know of a trial: `number`, `point`, `seeds`, `attempt`, `begins` (the epoch that it starts
after), `reported` (the last epoch that is journalled)."""

LEARN = 8
"""An eighth of the trials may run at once: the others learn from them."""


class Slots:
    """The trials of each worker, by Ray Tune's id of the worker's run."""

    def __init__(self, loop: Loop, limiter: ConcurrencyLimiter):
        self._loop, self._limiter = loop, limiter
        self._held: dict[str, list[int]] = {}
        self.finished = False
        """Whether Ray Tune was told that there is nothing more to run."""

    def held(self, run: str) -> Collection[int]:
        """The trials of a worker."""
        return tuple(self._held.get(run, ()))

    def begin(self, run: str) -> Assignment | None:
        """The first trial of another worker; None if there is to be no other one for now."""
        if self._loop.interrupted:
            self.finished = True
        if self.finished or len(self._held) >= self._limiter.limit:
            return None
        trial = self._loop.next()
        if trial is None:
            self.finished = not self._loop.blocked
            return None
        self._held[run] = [trial.number]
        return self._assignment(trial)

    def fill(self, run: str, offered: int) -> list[Assignment]:
        """More trials for a worker that offers so many slots."""
        if self._loop.interrupted or run not in self._held:
            return []
        held = self._held[run]
        found: list[Assignment] = []
        for _ in range(self._room(offered, len(held))):
            if any(_is_suspect(self._loop.journal.trial(number)) for number in held):
                break
            trial = self._loop.next()
            if trial is None:
                break
            if held and _is_suspect(trial):
                self._loop.take_back(trial.number)  # until a worker is free
                break
            held.append(trial.number)
            found.append(self._assignment(trial))
        return found

    def leave(self, run: str, number: int) -> None:
        """A trial is no longer with its worker: it is over, or has paused."""
        self._held[run].remove(number)
        self._loop.released(number)

    def take_back(self, run: str) -> None:
        """A worker's run has not begun, and must not begin."""
        for number in self._held.pop(run):
            self._loop.take_back(number)

    def end(self, run: str) -> None:
        """A worker is gone, for good or until there is more to do. What it still held has not ended by itself:
        it was stopped, or goes on in another session."""
        for number in self._held.pop(run, ()):
            if not self._loop.interrupted:
                self._loop.released(number)

    def lose(self, run: str) -> list[int]:
        """A worker was lost. Returns the trials that it ran."""
        return self._held.pop(run, [])

    def _room(self, offered: int, held: int) -> int:
        """How many more trials a worker may have that offers so many slots: no more than the search can learn
        from, and no more than its share of those, and of those that are left."""
        if len(self._held) > self._limiter.limit:
            return 0
        study, workers = self._loop.study, max(1, self._limiter.limit)
        known = study.target if study.target < UNBOUNDED else len(self._loop.journal.trials)
        most = most_at_once(study, workers, known)
        total = sum(map(len, self._held.values()))
        left = -(-self._loop.remaining // workers)
        return min(offered - held, -(-most // workers) - held, most - total, max(1, left))

    def _assignment(self, trial: Trial) -> Assignment:
        begins = trial.parent[1] if trial.parent else 0
        return {
            "number": trial.number,
            "point": trial.point,
            "seeds": list(trial.seeds),
            "begins": begins,
            "attempt": self._loop.attempt(trial),
            "reported": trial.last.epoch if trial.last else begins,
        }


def most_at_once(study: Study, workers: int, trials: int) -> int:
    """How many of a study's trials may run at once: where something learns from results, an eighth of them, and at
    least one for each worker."""
    learns = study.algorithm.name not in {"grid", "random"} or study.scheduler.name != "none"
    return study.concurrency or max(workers, trials // LEARN if learns else trials)


def _is_suspect(trial: Trial) -> bool:
    """Whether a trial was lost before, perhaps by its own doing: it is retried alone."""
    return any(loss.cause != "node" for loss in trial.losses)
