"""The search, whoever runs its trials: which comes next, what became of it, when it is over.

Ray Tune's searcher (search.py) is one user; a person with a loop of their own is another:

    with raysweep.Loop.open(study) as loop:
        while trial := loop.ask():
            loop.tell(trial, {"loss": train(**trial.point)})
"""

from __future__ import annotations

import math
import os
import platform
import random
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raysweep.errors import RaysweepError
from raysweep.journal import queue
from raysweep.journal.journal import Journal
from raysweep.journal.retention import Retention
from raysweep.search.schedulers import Decision, Fork, Population
from raysweep.search.sessions import code_changed, open_session
from raysweep.search.state import ATTEMPTS, State
from raysweep.search.warm_start import import_trials
from raysweep.study.checks import GRID_LIMIT
from raysweep.study.objective import Metrics
from raysweep.study.space import Point, encode
from raysweep.study.study import Study
from raysweep.tracking.store import store_of
from raysweep.trial import ENDED, Cause, Loss, Status, Trial, asked

FAILING = 5  # trials that fail, before any has a result, until a session is given up
NODES = 10  # that a trial may lose one after the other without an epoch in between


class Loop:
    """A study whose journal is open: hands out trials, unfinished ones of an earlier session first, and takes
    in what became of them."""

    def __init__(self, study: Study, journal: Journal):
        self.study, self.journal = study, journal
        self._state = State(study, journal)
        self.scheduler, self.rules = self._state.scheduler, self._state.rules
        self.kept = Retention(journal, study.objective)
        trials = journal.trials
        self._seen = {encode(t.point) for t in trials}
        self._owed = deque(journal.history.owed)
        self._unfinished: deque[Trial] = deque()
        self._running: set[int] = set()
        self.paused = False
        """Whether no trial is handed out for now: the disk is full."""
        self.ending = False
        """Whether no trial is handed out any more: a person wants it to end."""
        self.failing = ""
        """Why no trial is handed out any more: the first ones of this session all failed, without a result."""
        self._failed: list[int] | None = []  # of this session, until one does something else
        self._next = len(trials)
        self._asked = asked(trials)
        self._deaf = False  # whether it was told that the queue cannot be read
        self._turn = threading.RLock()  # of who asks or tells, where a person's loop has threads
        for trial in trials:
            if not trial.ended:
                self._take_up(trial)
        self._stop_beaten()

    def _take_up(self, trial: Trial) -> None:
        """A trial that an earlier session left unfinished."""
        decision = self._state.decisions.get(trial.number)
        if decision == "stop":  # the session ended before it was stopped
            self.end(trial.number, "stopped", "")
        elif decision != "pause":
            self._unfinished.append(trial)
        elif trial.status != "paused":  # nor was it said that it had paused
            self._pause(trial.number)

    @classmethod
    @contextmanager
    def open(cls, study: Study, folder: str | Path = "studies", store: str | None = None) -> Iterator[Loop]:
        """The loop of a study whose trials you run yourself; its journal is in `folder`/NAME, as with `run`.

        `raysweep trials`, `best` and `sync` (which brings it to MLflow, at `store`) work on it. When to stop a
        trial is for you to say, so the study must have no scheduler. Threads may ask and tell at the same time.
        Raises a RaysweepError when the study is another's or is being run.
        """
        study = study.without_scheduler()
        place = Path(folder).resolve() / study.name
        uri = store_of(place, store)
        journal = Journal(place)
        try:
            if code_changed(study, journal.history):
                what = f"the code of '{study.name}' has changed since its trials were run"
                warnings.warn(what, stacklevel=3)
            open_session(study, journal, uri, new_code=True)
            queue.go_on(place)  # what was wanted of an earlier session
            for _ in import_trials(study, journal, uri):
                pass
            loop = cls(study, journal)
            yield loop
            journal.append("over", complete=loop.complete)
        finally:
            journal.close()

    # --- a loop of one's own -----------------------------------------------------------------------------------

    def ask(self) -> Trial | None:
        """A trial to run now, or None when the study has enough (or its first trials all failed: see `failing`)."""
        with self._turn:
            self.ending = bool(queue.wanted_end(self.journal.path.parent))
            trial = self.next()
            if trial is not None:
                self.began(trial.number, f"{platform.node()} (process {os.getpid()})")
                trial = self.journal.trial(trial.number)
            return trial

    def tell(
        self,
        trial: Trial,
        metrics: Mapping[str, float] | Sequence[Mapping[str, float]] = (),
        status: Status = "completed",
        error: str = "",
    ) -> None:
        """What became of a trial: the metrics of its one epoch or of each, and how it ended.

        A metric that is not finite makes it `diverged`; `infeasible` and `out of memory` are learned from,
        `failed` is not held against the point. Raises RaysweepError when a trial that is said to have completed
        reports no objective, or has been told before.
        """
        with self._turn:
            self._told(trial, metrics, status, error)

    def _told(
        self,
        trial: Trial,
        metrics: Mapping[str, float] | Sequence[Mapping[str, float]],
        status: Status,
        error: str,
    ) -> None:
        if trial.number not in self._running:
            raise RaysweepError(
                f"trial {trial.number} is not running: it was told already, or never asked for"
            )
        if status not in ENDED:
            raise RaysweepError(f"'{status}' is no end of a trial. One of: {', '.join(sorted(ENDED))}")
        epochs = [metrics] if isinstance(metrics, Mapping) else list(metrics)
        names = {o.metric for o in self.study.objective.all}
        if status == "completed" and not all(names <= set(m) for m in epochs or [{}]):
            raise RaysweepError(f"trial {trial.number} must report {', '.join(sorted(names))}")
        seconds = (time.time() - self.journal.trial(trial.number).started) / max(1, len(epochs))
        for epoch, given in enumerate(epochs, 1):
            values = {k: float(v) for k, v in given.items()}
            bad = next((f"{k} = {v} at epoch {epoch}" for k, v in values.items() if not math.isfinite(v)), "")
            if bad:
                status, error = "diverged", bad
                break
            self.reported(trial.number, epoch, values, seconds)
        self.end(trial.number, status, error)

    # --- what a runner needs -----------------------------------------------------------------------------------

    def next(self) -> Trial | None:
        """The trial that comes next, or None: for now if the study is `blocked`, else for good."""
        trial = None
        if self.paused or self.ending or self.failing:
            return None
        if self.rules.why:  # what was begun in an earlier session is not taken up again
            self._owed.clear()
            while self._unfinished:
                self.end(self._unfinished.popleft().number, "stopped", "")
        else:
            trial = self._taken_up() or self._continued() or self._chosen()
            if trial is None and not self.blocked:
                trial = self._promoted(last=True)
        if trial is not None:
            self._state.decisions.pop(trial.number, None)  # it goes on
        else:
            if not self.blocked:
                for one in self.journal.trials:
                    if one.status == "paused":
                        self.end(one.number, "stopped", "")
            return None
        self._running.add(trial.number)
        return trial

    def attempt(self, trial: Trial) -> int:
        """A number for the attempt at a trial that begins now, higher than that of any before it, of this session
        or an earlier one: by it a worker that was cut off knows that it must write no more."""
        return self.journal.fence * 1_000_000 + trial.attempts + len(trial.losses) + 1

    @property
    def complete(self) -> bool:
        """Whether the study has all that it asks for."""
        enough = self._asked >= self.study.target and not self.journal.history.owed
        return bool(self.rules.why or enough) and all(t.ended for t in self.journal.trials)

    @property
    def blocked(self) -> bool:
        """Whether there may be more when one that runs comes to wait, makes room for another, or is lost."""
        more = self._unfinished or self._owed or self.paused
        return bool(self._running or (more and not self.ending and not self.failing))

    @property
    def gives(self) -> bool:
        """Whether there may be a trial to begin. If not, those that were given out and have not begun are to be
        taken back."""
        return not (self.ending or self.failing or self.rules.why)

    def take_back(self, number: int) -> None:
        """A trial that was given out has not begun, and is not to."""
        self._running.discard(number)
        self._unfinished.appendleft(self.journal.trial(number))

    def began(self, number: int, worker: str, epoch: int = 0) -> None:
        """A trial that was handed out has begun on `worker`, after `epoch`."""
        self._state.record("started", trial=number, worker=worker, epoch=epoch)

    def reported(self, number: int, epoch: int, metrics: Metrics, seconds: float) -> Decision:
        """A trial has reported an epoch, which took so many seconds. What is to become of it."""
        self._state.record("report", trial=number, epoch=epoch, metrics=metrics, seconds=seconds)
        self._well()
        return "stop" if self.rules.why else self._state.decisions.get(number, "go on")

    def look(self) -> None:
        """See whether the study has had enough, though nothing happened."""
        self.rules.look(self.journal.history)

    def left(self, number: int) -> None:
        """A trial's runner has let it go. If it did not say how it ended, it was stopped, or has to pause."""
        if number not in self._running:
            return  # it was lost, or ended from here
        self._running.discard(number)
        ended = self.journal.history.ended(number)
        if not ended and self._state.decisions.get(number) == "pause" and not self.rules.why:
            self._pause(number)
        else:
            self.end(number, "stopped", "")

    def _pause(self, number: int) -> None:
        self._state.record("paused", trial=number)
        self._stop_beaten()

    def _stop_beaten(self) -> None:
        """End the paused trials that can no longer be promoted: their checkpoints take room."""
        most = self._next + max(0, self.study.target - self._asked)
        while (number := self.scheduler.beaten(most)) is not None:
            self._end(number, "stopped", "")

    def lost(self, number: int, cause: Cause, error: str, seconds: float = 0.0) -> None:
        """An attempt at a trial is over before the trial is. It is taken up again, from its newest checkpoint,
        unless it has failed in the same way at the same epoch before, or too often.

        The loss of a node counts for nothing, until it is one after the other without an epoch in between.
        """
        if self._state.decisions.get(number, "go on") != "go on":
            self.left(number)  # it was not to go on anyway
            return
        self._running.discard(number)
        trial = self.journal.trial(number)
        if trial.ended:
            return
        if self._again(trial, cause, error):
            self._state.record("lost", trial=number, cause=cause, error=error, seconds=seconds)
            self._unfinished.appendleft(self.journal.trial(number))
        else:
            self.end(number, "failed", error, seconds)

    def _again(self, trial: Trial, cause: Cause, error: str) -> bool:
        epoch = trial.last.epoch if trial.last else 0
        if cause == "node":
            return sum(loss.epoch == epoch for loss in trial.losses) < NODES
        if cause == "code" and Loss(cause, epoch, error) in trial.losses:
            return False
        return sum(loss.cause != "node" for loss in trial.losses) < self.study.retries

    def end(self, number: int, status: str, error: str, seconds: float = 0.0) -> None:
        """Journal the end of a trial, unless the journal has it."""
        self._end(number, status, error, seconds)
        self._stop_beaten()

    def _end(self, number: int, status: str, error: str, seconds: float = 0.0) -> None:
        self._running.discard(number)
        if not self.journal.history.ended(number):
            self._state.record("ended", trial=number, status=status, seconds=seconds, error=error)
            self._judge(number)
            self.kept.ended(number)

    def _well(self) -> None:
        """Some trial gets somewhere: it may be the points that are wrong, but not the code."""
        self._failed, self.failing = None, ""

    def _judge(self, number: int) -> None:
        """Give the session up when it is the code that is wrong, and not some points."""
        trial = self.journal.trial(number)
        if self._failed is None or trial.status != "failed" or trial.reports:
            self._well()
            return
        self._failed.append(number)
        if len(self._failed) < FAILING or self.failing:
            return
        first = self.journal.trial(self._failed[0])
        self.failing = f"the first {FAILING} trials all failed; trial {first.number}: {first.error}"

    def _taken_up(self) -> Trial | None:
        """A trial of an earlier session, or one that was lost."""
        while self._unfinished:
            trial = self._unfinished.popleft()
            if not self.journal.history.ended(trial.number):  # beaten meanwhile
                return trial
        return None

    def _continued(self) -> Trial | None:
        """A successor of a trial that is to have more epochs: the same executions, from its last checkpoint."""
        if not self._owed:
            return None
        parent, epochs = self._owed.popleft()
        point, last = {**parent.point, "epochs": epochs}, parent.last.epoch if parent.last else 0
        child = self._forked(Fork(parent.number, last, point), parent.seeds)
        return child or self._journalled(point, parent.seeds, source="fork", parent=[parent.number, 0])

    def _chosen(self) -> Trial | None:
        """A population is filled first; elsewhere who has paused comes before who is new."""
        if isinstance(self.scheduler, Population):
            return self._ask() or self._promoted()
        return self._promoted() or self._ask()

    def _promoted(self, last: bool = False) -> Trial | None:
        """A trial that has paused and may go on, or the one that it gives way to."""
        number = self.scheduler.promote(last)
        if number is None:
            return None
        if isinstance(self.scheduler, Population):
            fork = self.scheduler.fork(number, self.journal.trials, self._saved)
            if fork is not None and (child := self._forked(fork, instead=number)) is not None:
                self.end(number, "stopped", "")
                return child
        return self.journal.trial(number)

    def _ask(self) -> Trial | None:
        if self._asked >= self.study.target:
            return None
        trial = self._queued()
        if trial is None:
            point, source = self._fresh(self._next)
            if point is None:
                return None
            problems = self.study.space.check(point)
            if problems:
                raise RuntimeError(f"the sampler left the space: {'; '.join(map(str, problems))}")
            trial = self._journalled(point, **source)
        self._asked += 1
        return trial

    def _queued(self) -> Trial | None:
        """The oldest point that a person has queued and that no trial has had."""
        if self._asked < len(self.study.points):
            return None
        while (queued := self._oldest()) is not None:
            path, point = queued
            known = encode(point) in self._seen
            trial = None if known else self._journalled(point, source="queue")
            path.unlink()  # only now: what is killed in between is not lost
            if trial is not None:
                return trial
        return None

    def _oldest(self) -> tuple[Path, Point] | None:
        """The point that was queued first; none while the queue cannot be read: a share that is away ends no search."""
        try:
            return queue.oldest(self.journal.path.parent, self.study.space)
        except OSError as error:
            if not self._deaf:
                self.journal.append("said", text=f"Queued points cannot be read: {error}")
            self._deaf = True
            return None

    def _journalled(self, point: Point, seeds: Sequence[int] = (), **more: Any) -> Trial:
        number = self._next
        self._next += 1
        rng = random.Random(f"{self.study.seed}/{number}/seeds")
        own = list(seeds) or [rng.getrandbits(31) for _ in range(self.study.repeats)]
        self._seen.add(encode(point))
        self._state.record("asked", trial=number, point=point, seeds=own, **more)
        return self.journal.trial(number)

    def _fresh(self, number: int) -> tuple[Point | None, dict[str, Any]]:
        """A point that no trial has had, and where it is from. (Repeats are for `repeats:`, where they are counted.)"""
        for point in self.study.first():
            if encode(point) not in self._seen:
                return point, {"source": "points"}
        found: Point | None = None
        source: dict[str, Any] = {"source": "sampler"}
        for source["attempt"] in range(ATTEMPTS):
            found = self._state.sampler.ask(number, source["attempt"])
            if found is None or encode(found) not in self._seen:
                return found, source
        if (self.study.space.cardinality or GRID_LIMIT + 1) > GRID_LIMIT:
            return found, source
        # A small space, of which the sampler likes what it knows: what is left of it, in order.
        every = self.study.space.without_grids().grid()
        return next((p for p in every if encode(p) not in self._seen), None), source

    # --- the checkpoint that a fork begins with ---------------------------------------------------------------

    def _saved(self, number: int) -> int | None:
        """The epoch of a trial's newest checkpoint where it paused, from which another can go on."""
        return self.kept.newest(number, self.scheduler.milestones)

    def _forked(self, fork: Fork, seeds: Sequence[int] = (), **more: Any) -> Trial | None:
        """The new trial, with a copy of its parent's checkpoint; None if that was deleted in this instant."""
        if not self.kept.copy(fork.parent, fork.epoch, self._next):
            return None
        parent = [fork.parent, fork.epoch]
        return self._journalled(fork.point, seeds, source="fork", parent=parent, **more)
