"""Which trial comes next: an unfinished one, one that is to have more epochs, a promoted one, a queued point,
or a point from the sampler. The order depends on the journal alone."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raysweep.journal import queue
from raysweep.journal.journal import Journal
from raysweep.journal.retention import Retention
from raysweep.search.schedulers import Fork, Population
from raysweep.search.state import ATTEMPTS, State
from raysweep.study.checks import GRID_LIMIT
from raysweep.study.options import Finalists
from raysweep.study.shared import baselines
from raysweep.study.space import Point, encode
from raysweep.study.study import Study
from raysweep.trial import Trial, asked, ranking


class NextTrial:
    """Finds the next trial of a study, and journals it if it is new."""

    def __init__(self, study: Study, journal: Journal, state: State, retention: Retention):
        self._study, self._journal, self._state, self._retention = study, journal, state, retention
        trials = journal.trials
        self._seen = {encode(t.point) for t in trials}
        self._next = len(trials)
        self._unreadable = False  # whether it was already reported that the queue cannot be read
        self.unfinished: deque[Trial] = deque()
        """Trials that an earlier session left unfinished, or that were lost. They come first."""
        self.continued = deque(journal.history.owed)
        """Trials that are to have more epochs, and how many."""
        self.forks: deque[queue.Request] = deque()
        """The forks that a person wants."""
        begins = all(t.baseline for t in trials)
        self.baselines = deque(p for p in baselines(study) if begins and encode(p) not in self._seen)
        """The points that others are to be compared with. They come before all others."""
        self.asked = asked(trials)
        """How many points were asked for."""

    @property
    def waiting(self) -> bool:
        """Whether a trial is waiting to be resumed or continued, or because a person wants it."""
        return bool(self.unfinished or self.continued or self.forks or self._state.favoured)

    @property
    def most(self) -> int:
        """How many trials there may be in the end, at most."""
        return self._next + len(self.baselines) + max(0, self._study.target - self.asked)

    def next(self) -> tuple[Trial | None, int | None]:
        """The next trial, and the one that it replaces; None when there is none for now."""
        trial = self._resumed() or self._baseline() or self._continuation() or self._wanted()
        if trial is not None:
            return trial, None
        if isinstance(self._state.scheduler, Population):  # a population is filled first
            fresh = self._fresh_trial()
            return (fresh, None) if fresh else self.promoted()
        promoted, replaced = self.promoted()
        return (promoted, replaced) if promoted else (self._fresh_trial(), None)

    def promoted(self, last: bool = False) -> tuple[Trial | None, int | None]:
        """A paused trial that may go on; or, in a population, its fork and the trial that the fork
        replaces."""
        scheduler = self._state.scheduler
        number = scheduler.promote(last)
        if number is None:
            return None, None
        if isinstance(scheduler, Population):
            fork = scheduler.fork(number, self._journal.trials, self._saved)
            if fork is not None and (child := self._forked(fork, instead=number)) is not None:
                return child, number
        return self._journal.trial(number), None

    def _resumed(self) -> Trial | None:
        """A trial of an earlier session, or one that was lost."""
        while self.unfinished:
            trial = self.unfinished.popleft()
            if not self._journal.history.ended(trial.number):  # beaten meanwhile
                return trial
        return None

    def _baseline(self) -> Trial | None:
        """A trial that others are to be compared with."""
        if not self.baselines:
            return None
        varies = self._study.folds or self._study.resplit  # else its executions would all be the same
        point = self.baselines.popleft()
        return self._journalled(point, count=self._study.executions if varies else 1, source="baseline")

    def _continuation(self) -> Trial | None:
        """A successor that gives a trial more epochs: the same executions, from its last checkpoint."""
        if not self.continued:
            return None
        parent, epochs = self.continued.popleft()
        point, last = {**parent.point, "epochs": epochs}, parent.last.epoch if parent.last else 0
        child = self._forked(Fork(parent.number, last, point), parent.seeds)
        return child or self._journalled(point, parent.seeds, source="fork", parent=[parent.number, 0])

    def _wanted(self) -> Trial | None:
        """A trial that a person has forked or promoted."""
        while self.forks:
            request = self.forks.popleft()
            parent = self._journal.trial(request.trial)
            epoch = self._retention.newest_checkpoint(parent.number)
            child = None if epoch is None else self._forked(
                Fork(parent.number, epoch, {**parent.point, **request.values})
            )  # fmt: skip
            request.path.unlink()  # only now: a kill in between must not lose it
            if child is not None:
                return child
            self._journal.append("said", text=f"Trial {parent.number} has no checkpoint to fork from.")
        number = next(iter(self._state.favoured), None)
        if number is None:
            return None
        del self._state.favoured[number]
        return self._journal.trial(number)

    def _fresh_trial(self) -> Trial | None:
        if self.asked >= self._study.target:
            return None
        trial = self._queued()
        if trial is None:
            point, source = self._fresh(self._next)
            if point is None:
                return None
            problems = self._study.space.check(point)
            if problems:
                raise RuntimeError(f"the sampler left the space: {'; '.join(map(str, problems))}")
            trial = self._journalled(point, **source)
        self.asked += 1
        return trial

    def _queued(self) -> Trial | None:
        """The oldest point that a person has queued and that no trial has had."""
        if self.asked < len(self._study.points):
            return None
        while (queued := self._oldest()) is not None:
            path, point = queued
            known = encode(point) in self._seen
            trial = None if known else self._journalled(point, source="queue")
            path.unlink()  # only now: a kill in between must not lose the point
            if trial is not None:
                return trial
        return None

    def _oldest(self) -> tuple[Path, Point] | None:
        """The point queued first; None while the queue cannot be read: a missing share must not end a
        search."""
        try:
            return queue.oldest(self._journal.path.parent, self._study.space)
        except OSError as error:
            if not self._unreadable:
                self._journal.append("said", text=f"Queued points cannot be read: {error}")
            self._unreadable = True
            return None

    def finalist(self) -> Trial | None:
        """One of the best points once more: a trial with seeds of its own, which no scheduler stops."""
        trial = self._resumed()
        if trial is not None:
            return trial
        for best in self.due():
            plan = self._study.finalists or Finalists()
            count = plan.repeats * (self._study.folds or 1)
            return self._journalled(best.point, count=count, source="finalist", of=best.number)
        return None

    def due(self) -> list[Trial]:
        """The best trials of the search, which is over, that have no finalist yet."""
        if self._study.finalists is None:
            return []
        trials = self._journal.trials
        given = {t.of for t in trials}
        searched = ranking([t for t in trials if t.in_search], self._study.objective)
        return [t for t in searched[: self._study.finalists.top] if t.number not in given]

    def _journalled(self, point: Point, seeds: Sequence[int] = (), count: int = 0, **more: Any) -> Trial:
        number = self._next
        self._next += 1
        rng = random.Random(f"{self._study.seed}/{number}/seeds")
        own = list(seeds) or [rng.getrandbits(31) for _ in range(count or self._study.executions)]
        self._seen.add(encode(point))
        self._state.record("asked", trial=number, point=point, seeds=own, **more)
        return self._journal.trial(number)

    def _fresh(self, number: int) -> tuple[Point | None, dict[str, Any]]:
        """A point that no trial has had, and where it is from. (Repeats are for `repeats:`, where they are counted.)"""
        for point in self._study.first():
            if encode(point) not in self._seen:
                return point, {"source": "points"}
        found: Point | None = None
        source: dict[str, Any] = {"source": "sampler"}
        for source["attempt"] in range(ATTEMPTS):
            found = self._state.sampler.ask(number - self._journal.history.baselines, source["attempt"])
            if found is None or encode(found) not in self._seen:
                return found, source
        if (self._study.space.cardinality or GRID_LIMIT + 1) > GRID_LIMIT:
            return found, source
        # A small space, where the sampler keeps proposing known points: take the remaining ones in order.
        every = self._study.space.without_grids().grid()
        return next((p for p in every if encode(p) not in self._seen), None), source

    def _saved(self, number: int) -> int | None:
        """The epoch of a trial's newest checkpoint at a milestone, from which another trial can continue."""
        return self._retention.newest_checkpoint(number, self._state.scheduler.milestones)

    def _forked(self, fork: Fork, seeds: Sequence[int] = (), **more: Any) -> Trial | None:
        """The new trial, with a copy of its parent's checkpoint; None if that has just been deleted."""
        if not self._retention.copy_checkpoint(fork.parent, fork.epoch, self._next):
            return None
        parent = [fork.parent, fork.epoch]
        return self._journalled(fork.point, seeds, source="fork", parent=parent, **more)
