"""What a search knows: its scheduler, stopping rules and sampler, which are told every record of the journal
in order.

A running search and a resumed one use the same code, so that what was decided before a kill is decided after
it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raysweep.journal.history import History
from raysweep.journal.journal import Journal
from raysweep.journal.records import Record
from raysweep.search.samplers import Sampler, sampler_of
from raysweep.search.schedulers import Decision, scheduler_of
from raysweep.search.stopping import StoppingRules
from raysweep.search.warm_start import imported
from raysweep.study.study import Study
from raysweep.trial import Trial

ATTEMPTS = 20
"""How often a sampler is asked for a point that no trial has had."""


class State:
    """Replays a journal, then takes in each new record through `record`, which also journals it."""

    def __init__(self, study: Study, journal: Journal):
        self._study, self._journal = study, journal
        self.scheduler, self.rules = scheduler_of(study), StoppingRules(study)
        self.decisions: dict[int, Decision] = {}
        """The scheduler's decision on each trial's last report, until the trial goes on or ends."""
        self.favoured: dict[int, None] = {}
        """The paused trials that go on because a person wants it (an ordered set)."""
        self._unwanted: set[int] = set()  # those that a person wants to end after their epoch
        self._sampler: Sampler | None = None
        for record, history in journal.replay():
            self._decide(record, history)
        self.rules.look(journal.history)

    def record(self, kind: str, **fields: Any) -> None:
        """Journal one thing that happened, and learn from it."""
        record = self._journal.append(kind, **fields)
        with self._journal.lock:  # the live table reads the same history
            self._decide(record, self._journal.history)
            if self._sampler is not None:
                self._learn(self._sampler, record, self._journal.history)
        self.rules.look(self._journal.history)

    @property
    def sampler(self) -> Sampler:
        """The sampler, created when it is first used: a complete study never needs one."""
        if self._sampler is None:
            sources = [[t for t in found if self.fits(t)] for found in imported(self._journal.history)]
            sampler = sampler_of(self._study, sources)
            for record, history in self._journal.replay():
                if record["kind"] == "asked" and self._study.algorithm.remembers:
                    self._ask_again(sampler, record)
                self._learn(sampler, record, history)
            self._sampler = sampler
        return self._sampler

    def fits(self, trial: Trial) -> bool:
        """Whether a sampler can learn from a trial: it is in the space, which may have changed since."""
        return not self._study.space.check(trial.point)

    def _decide(self, record: Record, history: History) -> None:
        kind, number = record["kind"], record.get("trial", -1)
        if number >= 0 and history.is_finalist(number):
            if kind == "wanted" and record["act"] == "stop":
                self._unwanted.add(number)
            elif kind == "report" and number in self._unwanted:
                self.decisions[number] = "stop"
            return  # the search is over: no scheduler decides, and no rule counts it
        if number >= 0 and history.is_baseline(number):
            self.rules.add(record, history)
            return  # it is not the search's, so the scheduler does not know it
        if kind == "report" and not history.continues(number):
            objective = self._study.objective
            value = (objective.values if objective.more else objective.leading)(record["metrics"])
            self.decisions[number] = self.scheduler.report(number, record["epoch"], value)
            if number in self._unwanted:
                self.decisions[number] = "stop"
        elif kind == "wanted":
            if record["act"] == "stop":
                self._unwanted.add(number)
            else:
                self.scheduler.resumed(number)
                self.favoured[number] = None
        elif kind == "paused":
            self.scheduler.paused(number)
        elif kind in {"started", "lost"}:  # a lost trial had been promoted, though it may not have begun
            self.decisions.pop(number, None)
            self.favoured.pop(number, None)
            self.scheduler.resumed(number)
        elif kind == "ended":
            self.decisions.pop(number, None)
            self.favoured.pop(number, None)
            self._unwanted.discard(number)
            self.scheduler.ended(number)
        elif kind == "again":
            self.scheduler.retried(number)
        elif "instead" in record:
            # A fork replaced a member of a population: that one is over, though its end is journalled a
            # moment later.
            self.decisions[record["instead"]] = "stop"
        self.rules.add(record, history)

    def _learn(self, sampler: Sampler, record: Record, history: History) -> None:
        if record["kind"] not in {"asked", "paused", "ended", "again"}:
            return
        trial = history.trial(record["trial"])
        if self.fits(trial) and trial.in_search:
            # A sampler counts the trials of the search alone.
            sampler.tell(
                replace(trial, number=trial.number - history.baselines) if history.baselines else trial
            )

    def _ask_again(self, sampler: Sampler, record: Record) -> None:
        """Repeat, to a sampler that remembers its asks, what the killed one was asked for this trial."""
        number, last = record["trial"] - self._journal.history.baselines, record.get("attempt")
        if last is None and ("source" in record or number < len(self._study.points)):
            return  # the point came from elsewhere
        for attempt in range(ATTEMPTS if last is None else last + 1):  # version 0.1 did not record it
            if sampler.ask(number, attempt) == record["point"] and last is None:
                break
