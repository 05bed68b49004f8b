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
import shutil
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raysweep import queue
from raysweep.checks import GRID_LIMIT
from raysweep.errors import RaysweepError
from raysweep.journal import Journal
from raysweep.plans import AshaScheduler, HyperbandScheduler, PopulationScheduler
from raysweep.population import Fork, Population
from raysweep.retention import Retention
from raysweep.rungs import MANY_EPOCHS, Brackets, Legs, Rungs, replay
from raysweep.samplers import ATTEMPTS, sampler_of
from raysweep.sessions import admit
from raysweep.space import encode
from raysweep.stopping import Rules
from raysweep.study import Study
from raysweep.tracking import store_of
from raysweep.trial import ENDED, Cause, Loss, Point, Status, Trial, asked
from raysweep.warm_start import take_over, taken

FAILING = 5  # trials that fail, before any has a result, until a session is given up
NODES = 10  # that a trial may lose one after the other without an epoch in between
PARENT_FILES = ("epoch-{:06d}.pt", "epoch-{:06d}.json")  # the data first: the manifest makes it count


class Loop:
    """A study whose journal is open: hands out trials, unfinished ones of an earlier session first, and takes
    in what became of them."""

    def __init__(self, study: Study, journal: Journal):
        self.study, self.journal = study, journal
        trials = journal.trials
        fitting = [t for t in trials if self._fits(t)]
        earlier = [t for t in taken(journal.history) if self._fits(t)]
        self._sampler = sampler_of(study, fitting, earlier)
        self._owed = deque(journal.history.owed)
        self._seen = {encode(t.point) for t in trials}
        self.legs = legs_of(study)
        if self.legs is not None:
            replay(self.legs, trials, study.objective)
        self.rules, self.kept = Rules(study, journal), Retention(journal, study.objective)
        self._waiting = {t.number for t in trials if not t.ended and self._waits(t)}
        self._unfinished = deque(t for t in trials if not t.ended and t.number not in self._waiting)
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

    @classmethod
    @contextmanager
    def open(cls, study: Study, folder: str | Path = "studies", store: str | None = None) -> Iterator[Loop]:
        """The loop of a study whose trials you run yourself; its journal is in `folder`/NAME, as with `run`.

        `raysweep trials`, `best` and `sync` (which brings it to MLflow, at `store`) work on it. When to stop a
        trial is for you to say, so the study must have no scheduler. Raises a RaysweepError when the study is
        another's or is being run.
        """
        study = study.without_scheduler()
        place = Path(folder).resolve() / study.name
        uri = store_of(place, store)
        journal = Journal(place)
        try:
            admit(study, journal, uri)
            for _ in take_over(study, journal, uri):
                pass
            loop = cls(study, journal)
            yield loop
            journal.append("over", complete=not loop._running and loop._asked >= study.target)
        finally:
            journal.close()

    # --- a loop of one's own -----------------------------------------------------------------------------------

    def ask(self) -> Trial | None:
        """A trial to run now, or None when the study has enough (or its first trials all failed: see `failing`)."""
        self.ending = bool(queue.wanted_end(self.journal.path.parent))
        trial = self.next()
        if trial is not None:
            worker = f"{platform.node()} (process {os.getpid()})"
            self.journal.append("started", trial=trial.number, worker=worker)
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
            self.journal.append("report", trial=trial.number, epoch=epoch, metrics=values, seconds=seconds)
            self.reported(values)
        self.end(trial.number, status, error)

    # --- what a runner needs -----------------------------------------------------------------------------------

    def next(self) -> Trial | None:
        """The trial that comes next, or None: for now if the study is `blocked`, else for good."""
        trial = None
        if self.paused or self.ending or self.failing:
            return None
        if self.rules.why:  # what was begun in an earlier session is not taken up again
            self._waiting |= {t.number for t in self._unfinished}
            self._unfinished.clear()
            self._owed.clear()
        else:
            trial = self._taken_up() or self._continued() or self._chosen()
            if trial is None and not self.blocked:
                trial = self._called(last=True)
        if trial is None:
            if not self.blocked:
                for number in sorted(self._waiting):
                    self.end(number, "stopped", "")
            return None
        self._running.add(trial.number)
        return trial

    def attempt(self, trial: Trial) -> int:
        """A number for the attempt at a trial that begins now, higher than that of any before it, of this session
        or an earlier one: by it a worker that was cut off knows that it must write no more."""
        return self.journal.fence * 1_000_000 + trial.attempts + len(trial.losses) + 1

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

    def left(self, number: int) -> None:
        """A trial's runner has let it go. If it did not say how it ended, it was stopped, or has to wait."""
        if number not in self._running:
            return  # it was lost, or ended from here
        self._running.discard(number)
        trial = self.journal.trial(number)
        if not trial.ended and self._waits(trial) and not self.rules.why:
            self.journal.append("paused", trial=number)
            self._waiting.add(number)
            self._tell(number)
        else:
            self.end(number, "stopped", "")

    def lost(self, number: int, cause: Cause, error: str, seconds: float = 0.0) -> None:
        """An attempt at a trial is over before the trial is. It is taken up again, from its newest checkpoint,
        unless it has failed in the same way at the same epoch before, or too often.

        The loss of a node counts for nothing, until it is one after the other without an epoch in between.
        """
        self._running.discard(number)
        trial = self.journal.trial(number)
        if trial.ended:
            return
        if self._again(trial, cause, error):
            self.journal.append("lost", trial=number, cause=cause, error=error, seconds=seconds)
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
        """Journal the end of a trial unless the journal has it, and let the sampler learn from it."""
        self._running.discard(number)
        self._waiting.discard(number)
        if not self.journal.trial(number).ended:
            self.journal.append("ended", trial=number, status=status, seconds=seconds, error=error)
        self._tell(number)
        self.kept.ended(number)
        self.rules.ended()
        self._judge(number)

    def reported(self, metrics: Mapping[str, float]) -> None:
        """A trial has reported: the journal has it."""
        self._well()
        self.rules.reported(metrics)

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

    def _fits(self, trial: Trial) -> bool:
        """Whether a sampler can learn from a trial: it is in the space, which may have changed since."""
        return not self.study.space.check(trial.point)

    def _tell(self, number: int) -> None:
        trial = self.journal.trial(number)
        if self._fits(trial):
            self._sampler.tell(trial)

    def _taken_up(self) -> Trial | None:
        """A trial of an earlier session, or one that was lost."""
        return self._unfinished.popleft() if self._unfinished else None

    def _continued(self) -> Trial | None:
        """A successor of a trial that is to have more epochs: the same executions, from its last checkpoint."""
        if not self._owed:
            return None
        parent, epochs = self._owed.popleft()
        point, last = {**parent.point, "epochs": epochs}, parent.last.epoch if parent.last else 0
        child = self._forked(Fork(parent.number, last, point), parent.seeds)
        return child or self._journalled(point, parent.seeds, parent=[parent.number, 0])

    def _waits(self, trial: Trial) -> bool:
        last = trial.last
        if self.legs is None or last is None or self.goes_on(trial.number):
            return False
        return self.legs.waits(trial.number, last.epoch)

    def goes_on(self, number: int) -> bool:
        """Whether a trial is one that was given more epochs, and is to have them all."""
        parent = self.journal.trial(number).parent
        epochs = self.journal.trial(number).point.get("epochs")
        return parent is not None and (parent[0], epochs) in self.journal.history.continued

    def _chosen(self) -> Trial | None:
        """A population is filled first; elsewhere who waits at a rung comes before who is new."""
        if isinstance(self.legs, Population):
            return self._ask() or self._called()
        return self._called() or self._ask()

    def _called(self, last: bool = False) -> Trial | None:
        """A trial that waits and may go on, or the one that it gives way to."""
        number = self.legs.call(self._waiting, last) if self.legs is not None else None
        if number is None:
            return None
        if isinstance(self.legs, Population):
            fork = self.legs.fork(number, self.journal.trials, self._saved)
            if fork is not None and (child := self._forked(fork)) is not None:
                self.end(number, "stopped", "")
                return child
        self._waiting.discard(number)
        return self.journal.trial(number)

    def _ask(self) -> Trial | None:
        if self._asked >= self.study.target:
            return None
        trial = self._queued()
        if trial is None:
            point = self._fresh(self._next)
            if point is None:
                return None
            problems = self.study.space.check(point)
            if problems:
                raise RuntimeError(f"the sampler left the space: {'; '.join(map(str, problems))}")
            trial = self._journalled(point)
        self._asked += 1
        return trial

    def _queued(self) -> Trial | None:
        """The oldest point that a person has queued and that no trial has had."""
        if self._asked < len(self.study.points):
            return None
        while (queued := queue.oldest(self.journal.path.parent, self.study.space)) is not None:
            path, point = queued
            known = encode(point) in self._seen
            trial = None if known else self._journalled(point)
            path.unlink()  # only now: what is killed in between is not lost
            if trial is not None:
                return trial
        return None

    def _journalled(self, point: Point, seeds: Sequence[int] = (), **more: Any) -> Trial:
        number = self._next
        self._next += 1
        rng = random.Random(f"{self.study.seed}/{number}/seeds")
        own = list(seeds) or [rng.getrandbits(31) for _ in range(self.study.repeats)]
        self.journal.append("asked", trial=number, point=point, seeds=own, **more)
        self._seen.add(encode(point))
        self._tell(number)
        return self.journal.trial(number)

    def _fresh(self, number: int) -> Point | None:
        """A point that no trial has had. (Repeats are for `repeats:`, where they are counted as such.)"""
        if self._asked < len(self.study.points):
            return self.study.first()[self._asked]
        for attempt in range(ATTEMPTS):
            point = self._sampler.ask(number, attempt)
            if point is None or encode(point) not in self._seen:
                return point
        if (self.study.cardinality or GRID_LIMIT + 1) > GRID_LIMIT:
            return point
        # A small space, of which the sampler likes what it knows: what is left of it, in order.
        every = self.study.space.without_grids().grid()
        return next((p for p in every if encode(p) not in self._seen), None)

    # --- the checkpoint that a fork begins with ---------------------------------------------------------------

    def _saved(self, number: int) -> int | None:
        """The epoch of a trial's newest checkpoint at the end of a leg, where another can go on."""
        manifests = self.kept.folder(number).glob("epoch-*.json")
        epochs = [int(m.stem.removeprefix("epoch-")) for m in manifests]
        milestones = self.legs.milestones if self.legs else frozenset()
        return max((e for e in epochs if e in milestones), default=None)

    def _forked(self, fork: Fork, seeds: Sequence[int] = ()) -> Trial | None:
        """The new trial, with a copy of its parent's checkpoint; None if that was deleted in this instant."""
        folder = self.kept.folder(self._next)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            for name in PARENT_FILES:
                shutil.copyfile(
                    self.kept.folder(fork.parent) / name.format(fork.epoch), folder / name.format(fork.epoch)
                )
        except FileNotFoundError:
            shutil.rmtree(folder)
            return None
        return self._journalled(fork.point, seeds, parent=[fork.parent, fork.epoch])


def legs_of(study: Study) -> Legs | None:
    """What cuts the trials of a study into legs, where they have to wait; or None."""
    plan, objective, epochs = study.scheduler, study.objective, study.epochs or MANY_EPOCHS
    if isinstance(plan, AshaScheduler) and plan.kind == "promotion":
        return Rungs(objective, plan.grace, plan.reduction, epochs)
    if isinstance(plan, HyperbandScheduler):
        return Brackets(objective, plan.grace, plan.reduction, epochs, plan.brackets)
    if isinstance(plan, PopulationScheduler):
        return Population(
            study.space,
            objective,
            study.seed,
            plan.interval,
            epochs,
            study.vary,
            plan.quantile,
            plan.resample,
            plan.name == "pb2",
        )
    return None
