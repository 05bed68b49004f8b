"""Which trials each worker runs. To Ray Tune, a worker's whole run is one trial; to the study, a worker offers
slots, and a slot that falls free gets the next trial at the next epoch.

So a trial that begins, pauses or goes on costs no change of trials in Ray Tune, and small networks are trained
together. Most workers offer one slot; one that trains perceptrons as a pack offers as many as pay off. Where more
trials may be asked for than there are slots, a few are, and each worker takes those that it can train together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from typing import Any

from raysweep.execution.concurrency import ConcurrencyLimiter
from raysweep.search.loop import Loop
from raysweep.study.options import PopulationScheduler, Stop
from raysweep.study.study import UNBOUNDED, Study
from raysweep.trial import Trial

Assignment = dict[str, Any]
"""What a worker has to know of a trial: `number`, `point`, `seeds`, `attempt`, `begins` (the epoch that it starts
after), `reported` (the last epoch that is journalled)."""

LEARN = 8
"""An eighth of the trials may run at once: the others learn from them."""
OLDEST = 8
"""Each eighth choice of a trial is the oldest one, so that none waits for company for ever."""


class Slots:
    """The trials of each worker, by Ray Tune's id of the worker's run."""

    def __init__(self, loop: Loop, limiter: ConcurrencyLimiter):
        self._loop, self._limiter = loop, limiter
        self._held: dict[str, list[int]] = {}
        self._asked: list[Trial] = []  # for which there is no slot yet
        self._signatures: dict[int, Hashable] = {}
        self._choices = 0
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
        self._ask(1)
        if not self._asked or self._loop.paused:
            self.finished = not self._loop.blocked
            return None
        trial = self._chosen([])
        self._held[run] = [trial.number]
        return self._assignment(trial)

    def fill(self, run: str, offered: int) -> list[Assignment]:
        """More trials for a worker that offers so many slots."""
        if self._loop.interrupted or run not in self._held:
            return []
        held = self._held[run]
        room, more = self._room(offered, len(held))
        self._ask(room + more)
        if self._loop.paused:
            return []
        # What was lost before runs alone: a worker that becomes free takes it.
        suspects = any(map(_is_suspect, (*self._asked, *map(self._loop.journal.trial, held))))
        found: list[Assignment] = []
        for _ in range(min(room, len(self._asked))):
            if held and suspects:
                break
            trial = self._chosen(held)
            held.append(trial.number)
            found.append(self._assignment(trial))
        return found

    def _ask(self, wanted: int) -> None:
        """Ask for trials until so many are there."""
        if not self._loop.hands_out:
            while self._asked:
                self._loop.take_back(self._asked.pop().number)
        self._asked = [t for t in self._asked if not self._loop.journal.history.ended(t.number)]
        signature = self._loop.study.found.signature
        while len(self._asked) < wanted and (trial := self._loop.next()) is not None:
            self._asked.append(trial)
            self._signatures[trial.number] = signature and signature(trial.point)

    def _chosen(self, held: Sequence[int]) -> Trial:
        """The next trial for a worker: one that was lost before, or one of those that most others here can be trained
        with."""
        self._choices += 1
        asked = [self._signatures[trial.number] for trial in self._asked]
        mine, here = {self._signatures[number] for number in held}, Counter(asked)
        lost = next((i for i, trial in enumerate(self._asked) if _is_suspect(trial)), None)
        if lost is not None:
            return self._asked.pop(lost)
        if self._choices % OLDEST == 0 and held:
            return self._asked.pop(0)
        return self._asked.pop(asked.index(max(here, key=lambda one: (one in mine, here[one]))))

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

    def _room(self, offered: int, held: int) -> tuple[int, int]:
        """How many more trials a worker may have that offers so many slots: no more than the search can learn
        from, and no more than its share of those, and of those that are left. And how many more to choose among, which
        count as those that run. None are where a rule may end the search before they begin, or where it matters most
        when they were asked for, as in a population."""
        if len(self._held) > self._limiter.limit:
            return 0, 0
        study, workers = self._loop.study, max(1, self._limiter.limit)
        known = study.target if study.target < UNBOUNDED else len(self._loop.journal.trials)
        most = most_at_once(study, workers, known)
        total = sum(map(len, self._held.values()))
        left = -(-(self._loop.remaining + len(self._asked)) // workers)
        room = max(0, min(offered - held, -(-most // workers) - held, most - total, max(1, left)))
        chosen = room and offered > 1 and study.stop == Stop()
        if not chosen or isinstance(study.scheduler, PopulationScheduler):
            return room, 0
        return room, max(0, min(offered, most - total - room))

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
    return study.concurrency or max(workers, trials // LEARN if study.learns else trials)


def _is_suspect(trial: Trial) -> bool:
    """Whether a trial was lost before, perhaps by its own doing: it is retried alone."""
    return any(loss.cause != "node" for loss in trial.losses)
