"""The search, whatever runs its trials: which trial comes next, how each one ended, when the search is over.

Ray Tune's searcher (execution/searcher.py) is one user; a person with a loop of their own is another:

    with raysweep.Loop.open(study) as loop:
        while trial := loop.ask():
            loop.tell(trial, {"loss": train(**trial.point)})
"""

from __future__ import annotations

import math
import os
import platform
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from raysweep.errors import RaysweepError
from raysweep.journal import queue
from raysweep.journal.journal import Journal
from raysweep.journal.retention import Retention
from raysweep.search.next_trial import NextTrial
from raysweep.search.schedulers import Decision, Population
from raysweep.search.sessions import code_changed, open_session
from raysweep.search.state import State
from raysweep.search.stopping import FirstFailures
from raysweep.search.warm_start import import_trials
from raysweep.study.objective import Metrics
from raysweep.study.study import Study
from raysweep.tracking.store import store_of
from raysweep.trial import ENDED, Cause, Loss, Status, Trial

NODES = 10  # that a trial may lose in a row without an epoch in between


class Loop:
    """A study with its journal open: hands out trials, first those that an earlier session left unfinished,
    and takes in their results."""

    def __init__(self, study: Study, journal: Journal):
        self.study, self.journal = study, journal
        self._state = State(study, journal)
        self.scheduler, self.rules = self._state.scheduler, self._state.rules
        self.retention = Retention(journal, study.objective, study.keep)
        self._next_trial = NextTrial(study, journal, self._state, self.retention)
        self._failures = FirstFailures(journal.trials)
        self._running: set[int] = set()
        self.paused = False
        """Whether no trials are handed out for now, because the disk is full."""
        self.ending = False
        """Whether no more trials are handed out, because a person wants the search to end."""
        self.interrupted = False
        """Whether those that run are to leave their workers after this epoch, too, and go on in another session."""
        self._turn = threading.RLock()  # one ask or tell at a time, where a person's loop has threads
        for trial in journal.trials:
            if not trial.ended:
                self._take_up(trial)
        self._stop_beaten()
        self.attend(queue.requests(journal.path.parent))

    @property
    def failing(self) -> str:
        """Why no more trials are handed out, if the first trials of this session all failed without a
        result."""
        return self._failures.reason

    def _take_up(self, trial: Trial) -> None:
        """A trial that an earlier session left unfinished."""
        decision = self._state.decisions.get(trial.number)
        if decision == "stop":  # the session ended before it was stopped
            self.end(trial.number, "stopped", "")
        elif decision != "pause":
            self._next_trial.unfinished.append(trial)
        elif trial.status != "paused":  # its pause was not journalled
            self._pause(trial.number)

    @classmethod
    @contextmanager
    def open(cls, study: Study, folder: str | Path = "studies", store: str | None = None) -> Iterator[Loop]:
        """The loop of a study whose trials you run yourself; its journal is in `folder`/NAME, as with `run`.

        `raysweep trials`, `best` and `sync` (which publishes it to MLflow, at `store`) work on it. You decide
        when to stop a trial, so the study must have no scheduler. Threads may ask and tell at the same time.
        Raises a RaysweepError when the journal belongs to another study or the study is being run.
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
            queue.clear_end(place)  # a request to end an earlier session
            for _ in import_trials(study, journal, uri):
                pass
            loop = cls(study, journal)
            yield loop
            journal.append("over", complete=loop.complete)
        finally:
            journal.close()

    # --- what a person wants of one trial ----------------------------------------------------------------------

    def attend(self, requests: Sequence[queue.Request]) -> None:
        """Meet requests about single trials, or say why that cannot be."""
        waiting = {fork.path for fork in self._next_trial.forks}
        for request in requests:
            if request.path in waiting or not request.path.exists():
                continue
            why = self._refusal(request)
            if request.act == "fork" and not why:
                self._next_trial.forks.append(request)  # its file goes when the new trial is journalled
                continue
            if why:
                self.journal.append("said", text=f"{request.act} {request.trial}: {why}.")
            else:
                self._act(request)
            request.path.unlink()

    def _refusal(self, request: queue.Request) -> str:
        """Why a request cannot be met; empty if it can."""
        number = request.trial
        if number >= len(self.journal.trials) or number < 0:
            return f"there is no trial {number}"
        trial = self.journal.trial(number)
        if request.act == "fork":
            point = {**trial.point, **request.values}
            if isinstance(self.scheduler, Population):
                return "a population forks its trials itself"
            return "; ".join(map(str, self.study.space.check(point)))
        if trial.ended:
            return f"trial {number} has ended ({trial.status})"
        if request.act == "promote" and trial.status != "paused":
            return f"trial {number} has not paused: it is {trial.status}"
        if request.act == "promote" and number in self._running:
            return f"trial {number} goes on already"
        return ""

    def _act(self, request: queue.Request) -> None:
        number = request.trial
        running = number in self._running
        if request.act == "promote" or running:
            self._state.record("wanted", trial=number, act=request.act)
        if request.act == "stop" and not running:
            self.end(number, "stopped", "")

    # --- a loop of one's own -----------------------------------------------------------------------------------

    def ask(self) -> Trial | None:
        """A trial to run now, or None when the study has enough (or its first trials all failed: see `failing`)."""
        with self._turn:
            self.ending = bool(queue.requested_end(self.journal.path.parent))
            self.attend(queue.requests(self.journal.path.parent))
            trial = self.next()
            if trial is not None:
                self.started(trial.number, f"{platform.node()} (process {os.getpid()})")
                trial = self.journal.trial(trial.number)
            return trial

    def tell(
        self,
        trial: Trial,
        metrics: Mapping[str, float] | Sequence[Mapping[str, float]] = (),
        status: Status = "completed",
        error: str = "",
    ) -> None:
        """Report the result of a trial: the metrics of its one epoch or of each epoch, and how it ended.

        A metric that is not finite makes the trial `diverged`. The search learns from `infeasible` and
        `out of memory`, but does not hold `failed` against the point. Raises RaysweepError when a trial said
        to have completed does not report an objective, or when the trial has been told before.
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
        if self.paused or self.ending or self.failing:
            return None
        if self.rules.reason:
            self._give_up()
        trial, replaced = (None, None) if self.rules.reason else self._next()
        if replaced is not None:
            self.end(replaced, "stopped", "")
        if trial is None and not self.blocked:
            for one in self.journal.trials:
                if one.status == "paused":
                    self.end(one.number, "stopped", "")
        if trial is None and self.searched:
            trial = self._next_trial.finalist()
        if trial is not None:
            self._state.decisions.pop(trial.number, None)  # it goes on
            self._running.add(trial.number)
        return trial

    def _give_up(self) -> None:
        """A rule has ended the search: trials that an earlier session began are not resumed, but for finalists."""
        self._next_trial.continued.clear()
        self._next_trial.forks.clear()
        unfinished, kept = self._next_trial.unfinished, []
        while unfinished:
            trial = unfinished.popleft()
            if trial.of is None:
                self.end(trial.number, "stopped", "")
            else:
                kept.append(trial)
        unfinished.extend(kept)

    def _next(self) -> tuple[Trial | None, int | None]:
        found = self._next_trial.next()
        return found if found[0] or self.blocked else self._next_trial.promoted(last=True)

    def attempt(self, trial: Trial) -> int:
        """A number for the attempt at a trial that begins now, higher than that of any earlier attempt, in
        this session or before. It tells a worker that was cut off that it must not write any more."""
        return self.journal.fence * 1_000_000 + trial.attempts + len(trial.losses) + 1

    @property
    def searched(self) -> bool:
        """Whether the search is over, so that only its finalists may be left to run."""
        wanted = self.journal.history.owed or self._next_trial.forks
        enough = self._next_trial.asked >= self.study.target and not wanted
        return bool(self.rules.reason or enough) and all(t.ended for t in self.journal.trials if t.of is None)

    @property
    def complete(self) -> bool:
        """Whether the study has all that it asks for."""
        return self.searched and all(t.ended for t in self.journal.trials) and not self._next_trial.due()

    def goes_on(self, number: int) -> bool:
        """Whether a trial goes on although a rule has ended the search: a finalist does, and a baseline."""
        history = self.journal.history
        return not self.rules.reason or history.is_finalist(number) or history.is_baseline(number)

    def interrupt(self) -> None:
        """Have all trials leave their workers after this epoch; another session goes on with them."""
        self.interrupted = True

    @property
    def remaining(self) -> int:
        """How many trials are still to begin, without those that the scheduler may promote."""
        new = max(0, self.study.target - self._next_trial.asked)
        waiting = len(self._next_trial.unfinished) + len(self._next_trial.continued)
        finalists = self._next_trial.due() if self.study.finalists and self.searched else []
        return new + waiting + len(self._next_trial.baselines) + len(self._next_trial.forks) + len(finalists)

    @property
    def blocked(self) -> bool:
        """Whether more trials may come once a running one pauses, makes room for another, or is lost."""
        more = self._next_trial.waiting or self.paused
        return bool(self._running or (more and not self.ending and not self.failing))

    @property
    def hands_out(self) -> bool:
        """Whether trials may still begin. If not, those that were handed out and have not begun must be taken
        back."""
        over = self.rules.reason and not self.searched  # its finalists may still begin
        return not (self.ending or self.interrupted or self.failing or over)

    def take_back(self, number: int) -> None:
        """A trial that was handed out has not begun, and must not begin."""
        self._running.discard(number)
        self._next_trial.unfinished.appendleft(self.journal.trial(number))

    def started(self, number: int, worker: str, epoch: int = 0) -> None:
        """A trial that was handed out has begun on `worker`, after `epoch`."""
        self._state.record("started", trial=number, worker=worker, epoch=epoch)

    def reported(
        self, number: int, epoch: int, metrics: Metrics, seconds: float, used: Metrics | None = None
    ) -> Decision:
        """A trial has reported an epoch, which took so many seconds, and `used` so much of its machine (see
        usage.py). Returns what the trial does next."""
        more = {"used": used} if used else {}
        self._state.record("report", trial=number, epoch=epoch, metrics=metrics, seconds=seconds, **more)
        self._failures.none()
        return self._state.decisions.get(number, "go on") if self.goes_on(number) else "stop"

    def check_rules(self) -> None:
        """Check whether the study has had enough, even though nothing happened."""
        self.rules.look(self.journal.history)

    def released(self, number: int) -> None:
        """A runner has released its trial. If the trial did not say how it ended, it was stopped, or must
        pause."""
        if number not in self._running:
            return  # it was lost, or ended from here
        self._running.discard(number)
        ended = self.journal.history.ended(number)
        if not ended and self._state.decisions.get(number) == "pause" and not self.rules.reason:
            self._pause(number)
        else:
            self.end(number, "stopped", "")

    def _pause(self, number: int) -> None:
        self._state.record("paused", trial=number)
        self._stop_beaten()

    def _stop_beaten(self) -> None:
        """End the paused trials that can no longer be promoted: their checkpoints take room."""
        while (number := self.scheduler.beaten(self._next_trial.most)) is not None:
            self._end(number, "stopped", "")

    def lost(self, number: int, cause: Cause, error: str, seconds: float = 0.0) -> None:
        """An attempt at a trial ended before the trial did. The trial is retried from its newest checkpoint,
        unless it has failed in the same way at the same epoch before, or too often.

        The loss of a node does not count, unless too many are lost in a row without an epoch in between.
        """
        if self._state.decisions.get(number, "go on") != "go on":
            self.released(number)  # it was to pause or stop anyway
            return
        self._running.discard(number)
        trial = self.journal.trial(number)
        if trial.ended:
            return
        if self._again(trial, cause, error):
            self._state.record("lost", trial=number, cause=cause, error=error, seconds=seconds)
            self._next_trial.unfinished.appendleft(self.journal.trial(number))
        else:
            self.end(number, "failed", error, seconds)

    def _again(self, trial: Trial, cause: Cause, error: str) -> bool:
        if cause == "code" and self._failures.undecided:
            return False  # nothing has run yet: the code is wrong, and would be wrong again
        epoch = trial.last.epoch if trial.last else 0
        if cause == "node":
            return sum(loss.epoch == epoch for loss in trial.losses) < NODES
        if cause == "code" and Loss(cause, epoch, error) in trial.losses:
            return False
        return sum(loss.cause != "node" for loss in trial.losses) < self.study.retries

    def end(self, number: int, status: str, error: str, seconds: float = 0.0, always: bool = False) -> None:
        """Journal the end of a trial, unless the journal already has it. `always`: every other trial would end
        in the same way."""
        self._end(number, status, error, seconds, always)
        self._stop_beaten()

    def _end(self, number: int, status: str, error: str, seconds: float = 0.0, always: bool = False) -> None:
        self._running.discard(number)
        if not self.journal.history.ended(number):
            self._state.record("ended", trial=number, status=status, seconds=seconds, error=error)
            self._failures.ended(self.journal.trial(number), always)
            self.retention.ended(number)
