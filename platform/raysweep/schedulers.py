"""When a trial is not worth going on with: Ray Tune's schedulers, whose memory the journal can rebuild, and
ASHA as its paper has it (Li et al. 2020), which no release of Ray Tune has: trials wait at rungs and the best
of those that wait are promoted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from raysweep.plans import AshaScheduler, MedianScheduler
from raysweep.study import Study
from raysweep.trial import Objective, Trial

TIME = "epoch"  # what every report counts
MANY_EPOCHS = 100_000  # rungs up to here, where the study does not say how many epochs there are


class Rungs:
    """The values that trials had at the epochs grace, grace x reduction, grace x reduction^2 ..., and who may
    go on from there: the best 1/reduction of those that have come so far."""

    def __init__(self, objective: Objective, grace: int, reduction: int, epochs: int):
        self._objective, self._reduction = objective, reduction
        self._values: dict[int, dict[int, float]] = {}
        self._promoted: dict[int, set[int]] = {}
        milestone = grace
        while milestone < epochs:
            self._values[milestone], self._promoted[milestone] = {}, set()
            milestone *= reduction

    @property
    def milestones(self) -> frozenset[int]:
        return frozenset(self._values)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Take in one report of a trial."""
        if epoch in self._values:
            self._values[epoch][number] = value
        for milestone, promoted in self._promoted.items():
            if milestone < epoch and number in self._values[milestone]:
                promoted.add(number)

    def replay(self, trials: Iterable[Trial]) -> None:
        """Take in all that a journal says of `trials`."""
        for trial in trials:
            for report in trial.reports:
                if self._objective.metric in report.metrics:
                    self.report(trial.number, report.epoch, report.metrics[self._objective.metric])

    def waits(self, number: int, epoch: int) -> bool:
        """Whether a trial that is at `epoch` has to wait there."""
        return epoch in self._values and number not in self._promoted[epoch]

    def promote(self, waiting: Iterable[int]) -> int | None:
        """The one of the trials that are `waiting` that goes on next: of the highest rung, the best."""
        free = set(waiting)
        for milestone in sorted(self._values, reverse=True):
            values = self._values[milestone]
            ranked = sorted(values, key=lambda n: (-values[n] if self._objective.maximize else values[n], n))
            for number in ranked[: len(ranked) // self._reduction]:
                if number in free and number not in self._promoted[milestone]:
                    self._promoted[milestone].add(number)
                    return number
        return None


class Newest(FIFOScheduler):  # type: ignore[misc]
    """Stops nothing. Of the trials that wait, a worker that comes free takes the newest.

    The oldest is waiting for a worker of its own to start. Ray Tune's rule gives it the free one and ends the
    other's start, so that trials shorter than a start, some seconds, all run on the first worker there is.
    """

    def choose_trial_to_run(self, controller: Any) -> TuneTrial | None:
        waiting = [t for t in controller.get_live_trials() if t.status == TuneTrial.PENDING]
        return max(waiting, key=lambda t: int(t.config["number"]), default=None)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True


class Promotion(Newest):
    """Ends a leg of a trial at a rung. The searcher begins the next one when the trial is promoted, so that
    Ray Tune sees two trials, and resuming a killed search and promoting are one and the same thing."""

    def __init__(self, rungs: Rungs, objective: Objective):
        super().__init__()
        self._rungs, self._metric = rungs, objective.metric

    def on_trial_result(self, controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        if self._metric not in result:
            return str(TrialScheduler.CONTINUE)
        number, epoch = trial.config["number"], result[TIME]
        self._rungs.report(number, epoch, result[self._metric])
        return str(TrialScheduler.STOP if self._rungs.waits(number, epoch) else TrialScheduler.CONTINUE)


@dataclass(frozen=True)
class _Known:
    """A trial as Ray Tune's schedulers know it; by our number, since Ray Tune's own id is new in each session."""

    trial_id: str
    config: Any = None


class _Nobody:
    """The controller that a stopping rule sees: nobody waits, so no trial is asked to make room by pausing."""

    def get_live_trials(self) -> list[Any]:
        return []


class Replayed(Newest):
    """One of Ray Tune's stopping rules, told again what the journal says when a search is resumed."""

    def __init__(self, rule: Any, objective: Objective, trials: Iterable[Trial]):
        super().__init__()
        self._rule, self._metric = rule, objective.metric
        self._last: dict[int, dict[str, Any]] = {}
        for trial in trials:
            known = _Known(str(trial.number))
            rule.on_trial_add(_Nobody(), known)
            for report in trial.reports:
                if self._metric in report.metrics:
                    result = self._last[trial.number] = {**report.metrics, TIME: report.epoch}
                    rule.on_trial_result(_Nobody(), known, result)
            if trial.ended and trial.number in self._last:
                rule.on_trial_complete(_Nobody(), known, self._last[trial.number])
        self._known = {t.number for t in trials}

    def on_trial_add(self, controller: Any, trial: TuneTrial) -> None:
        number = trial.config["number"]
        if number not in self._known:
            self._known.add(number)
            self._rule.on_trial_add(_Nobody(), _Known(str(number)))

    def on_trial_result(self, controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        if self._metric not in result:
            return str(TrialScheduler.CONTINUE)
        number = trial.config["number"]
        self._last[number] = result
        return str(self._rule.on_trial_result(_Nobody(), _Known(str(number)), result))

    def on_trial_complete(self, controller: Any, trial: TuneTrial, result: dict[str, Any]) -> None:
        number = trial.config["number"]
        if number in self._last:  # the end itself is a result without metrics
            self._rule.on_trial_complete(_Nobody(), _Known(str(number)), self._last[number])


def rungs_of(study: Study) -> Rungs | None:
    """The rungs of a study whose trials wait to be promoted, or None."""
    plan = study.scheduler
    if not isinstance(plan, AshaScheduler) or plan.kind != "promotion":
        return None
    return Rungs(study.objective, plan.grace, plan.reduction, study.epochs or MANY_EPOCHS)


def scheduler_of(study: Study, trials: list[Trial], rungs: Rungs | None) -> TrialScheduler:
    """The scheduler that a study names, told what became of `trials`."""
    plan, objective = study.scheduler, study.objective
    common = {"time_attr": TIME, "metric": objective.metric, "mode": "max" if objective.maximize else "min"}
    if rungs is not None:
        return Promotion(rungs, objective)
    if isinstance(plan, AshaScheduler):
        rule = AsyncHyperBandScheduler(
            max_t=study.epochs or MANY_EPOCHS,
            grace_period=plan.grace,
            reduction_factor=plan.reduction,
            stop_last_trials=False,  # the trainable ends by itself
            **common,
        )
        return Replayed(rule, objective, trials)
    if isinstance(plan, MedianScheduler):
        rule = MedianStoppingRule(grace_period=plan.grace, min_samples_required=plan.samples, **common)
        return Replayed(rule, objective, trials)
    return Newest()
