"""The stopping rules under a study's `stop`. Each is a fold over the journal, so that a search that was
killed and resumed ends in the same way."""

from __future__ import annotations

import time
from collections.abc import Sequence

from raysweep.journal.history import History
from raysweep.journal.records import Record
from raysweep.study.options import duration
from raysweep.study.study import Study
from raysweep.trial import Trial

TERMINATOR = 20  # trials that must be there before Optuna's terminator is asked
ROUNDS = 20  # the terminator takes seconds, so it is asked when there are a twentieth more trials
FAILING = 5  # trials that fail, before any has a result, before a session gives up


class StoppingRules:
    """Told of every record. `reason` is empty until a rule says stop."""

    def __init__(self, study: Study):
        self._study, self._rules = study, study.stop
        self._best: float | None = None
        self._since = 0  # trials that have come since the best one
        self._shown: dict[int, Trial] = {}  # as they were when they paused or ended
        self._due: list[Trial] = []  # trials to ask the terminator about
        self.reason = ""

    def add(self, record: Record, history: History) -> None:
        """Take in one record, which `history` has already."""
        kind = record["kind"]
        if kind == "report":
            self._reached(record)
        elif kind in {"paused", "ended"}:
            self._show(history.trial(record["trial"]))

    def look(self, history: History) -> None:
        """Check whether time is up, and the other rules that take a while to check."""
        rules = self._rules
        if rules.time is not None and history.elapsed(time.time()) >= rules.time:
            self._say(f"its time, {duration(rules.time)}, is up")
        hours = history.computed / 3600 * self._study.per_trial.gpu
        if rules.gpu_hours is not None and hours >= rules.gpu_hours:
            self._say(f"its {rules.gpu_hours:g} GPU hours are spent")
        if self._due and not self.reason:
            from raysweep.search.samplers.optuna import should_terminate

            if should_terminate(self._study.space, self._study.objective, self._due):
                self._say("more trials are unlikely to bring more than noise (Optuna's terminator)")
            self._due = []

    def _reached(self, record: Record) -> None:
        wanted, objective = self._rules.value, self._study.objective
        value = objective.leading(record["metrics"]) if wanted is not None else None
        if wanted is not None and value is not None and not objective.better(wanted, value):
            self._say(f"{objective.metric} {value:g} reaches {wanted:g}")

    def _show(self, trial: Trial) -> None:
        """A trial has paused or ended: it counts once, and again only when it has become the best."""
        score, objective = trial.score(self._study.objective), self._study.objective
        if score is not None and (self._best is None or objective.better(score.value, self._best)):
            self._best, self._since = score.value, 0
        elif self._best is not None and trial.number not in self._shown:
            self._since += 1
        new = trial.number not in self._shown
        self._shown[trial.number] = trial
        patience, count = self._rules.no_improvement, len(self._shown)
        if patience is not None and self._since >= patience:
            self._say(f"the last {patience} trials brought no improvement")
        if self._rules.terminator and new and count >= TERMINATOR and count % max(1, count // ROUNDS) == 0:
            self._due = [t for t in self._shown.values() if not self._study.space.check(t.point)]

    def _say(self, why: str) -> None:
        self.reason = self.reason or why


class FirstFailures:
    """Gives up a session whose first trials all fail: then the code is wrong, not just some points."""

    def __init__(self, known: Sequence[Trial]) -> None:
        """`known` are the trials of earlier sessions."""
        self.reason = ""
        self._failed: list[Trial] | None = []  # until a trial does something else
        self._nothing_known = not any(t.reports for t in known)

    @property
    def undecided(self) -> bool:
        """Whether no trial of the study has got anywhere, so that its code may be wrong."""
        return self._failed is not None and self._nothing_known

    def none(self) -> None:
        """A trial has got somewhere, so the session is not given up."""
        self._failed, self.reason = None, ""

    def ended(self, trial: Trial, always: bool = False) -> None:
        """A trial has ended. `always`: every other trial would end in the same way."""
        if self._failed is None or trial.status != "failed" or trial.reports:
            self.none()
            return
        self._failed.append(trial)
        if always and self._nothing_known:
            self.reason = f"trial {trial.number} {trial.status}: {trial.error}"
        elif len(self._failed) >= FAILING and not self.reason:
            first = self._failed[0]
            self.reason = f"the first {FAILING} trials all failed; trial {first.number}: {first.error}"
