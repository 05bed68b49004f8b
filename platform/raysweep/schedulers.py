"""When a trial is not worth going on with, as Ray Tune asks it: our own legs (rungs.py, population.py), or one of its
stopping rules, whose memory the journal can rebuild.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from raysweep.loop import Loop
from raysweep.plans import AshaScheduler, MedianScheduler
from raysweep.rungs import MANY_EPOCHS

TIME = "epoch"  # what every report counts
CONTINUE, STOP = str(TrialScheduler.CONTINUE), str(TrialScheduler.STOP)


class Newest(FIFOScheduler):  # type: ignore[misc]
    """Stops what the study's own rules stop. Of the trials that wait, a worker that comes free takes one that goes on,
    or else the newest.

    The oldest is waiting for a worker of its own to start. Ray Tune's rule gives it the free one and ends the
    other's start, so that trials shorter than a start, some seconds, all run on the first worker there is.
    """

    def __init__(self, loop: Loop):
        super().__init__()
        self._loop, self._objective = loop, loop.study.objective

    def choose_trial_to_run(self, controller: Any) -> TuneTrial | None:
        waiting = [t for t in controller.get_live_trials() if t.status == TuneTrial.PENDING]
        if not self._loop.gives:  # those that wait for a node, which may never come, are not begun any more
            for trial in [t for t in waiting if t not in controller._resetting_trials]:
                self._loop.take_back(trial.config["number"])
                controller.stop_trial(trial)
            return None
        return max(waiting, key=_urgency, default=None)

    def on_trial_result(self, controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        number = trial.config["number"]
        if self._objective.metric not in result:
            return CONTINUE
        if TIME not in result:
            # An ordinary Ray Tune function counts its reports, of which the first says that it has started.
            result = {**result, TIME: result["training_iteration"] - 1}
        told = self._judge(number, result, self._objective.leading(result))
        over = self._loop.rules.why or self._loop.journal.trial(number).ended
        return STOP if over else told

    def _judge(self, number: int, result: dict[str, Any], value: float | None) -> str:
        """What becomes of a trial after a report; its `value` is None if it does not count."""
        return CONTINUE

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray Tune pickles what it is given, for snapshots that we do not use.
        return FIFOScheduler, ()


def _urgency(trial: TuneTrial) -> tuple[bool, int]:
    config = trial.config
    return config["reported"] > config["begins"], config["number"]


class Legs(Newest):
    """Ends a leg of a trial where it has to wait. The searcher begins the next one when the trial is called up
    again, so that Ray Tune sees two trials, and resuming a killed search and going on are the same thing."""

    def _judge(self, number: int, result: dict[str, Any], value: float | None) -> str:
        legs = self._loop.legs
        if legs is None or self._loop.goes_on(number):
            return CONTINUE
        legs.report(number, result[TIME], value)
        return STOP if legs.waits(number, result[TIME]) else CONTINUE


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

    def __init__(self, loop: Loop, rule: Any, grace: int):
        super().__init__(loop)
        self._rule, self._grace = rule, grace
        self._last: dict[int, dict[str, Any]] = {}
        trials = loop.journal.trials
        for trial in trials:
            known = _Known(str(trial.number))
            rule.on_trial_add(_Nobody(), known)
            for report in trial.reports:
                self._judge(
                    trial.number,
                    {**report.metrics, TIME: report.epoch},
                    self._objective.leading(report.metrics),
                )
            if trial.ended and trial.number in self._last:
                rule.on_trial_complete(_Nobody(), known, self._last[trial.number])
        self._known = {t.number for t in trials}

    def on_trial_add(self, controller: Any, trial: TuneTrial) -> None:
        number = trial.config["number"]
        if number not in self._known:
            self._known.add(number)
            self._rule.on_trial_add(_Nobody(), _Known(str(number)))

    def _judge(self, number: int, result: dict[str, Any], value: float | None) -> str:
        if self._loop.goes_on(number):
            return CONTINUE
        if value is None:  # a requirement is not met: that is worse than any value
            return STOP if result.get(TIME, 0) >= self._grace else CONTINUE
        self._last[number] = result
        return str(self._rule.on_trial_result(_Nobody(), _Known(str(number)), result))

    def on_trial_complete(self, controller: Any, trial: TuneTrial, result: dict[str, Any]) -> None:
        number = trial.config["number"]
        self._known.discard(number)  # it comes again if it was lost
        if number in self._last:  # the end itself is a result without metrics
            self._rule.on_trial_complete(_Nobody(), _Known(str(number)), self._last[number])


def scheduler_of(loop: Loop) -> TrialScheduler:
    """The scheduler that a loop's study names, told what its journal says."""
    study = loop.study
    plan, objective = study.scheduler, study.objective
    common = {"time_attr": TIME, "metric": objective.metric, "mode": "max" if objective.maximize else "min"}
    if loop.legs is not None:
        return Legs(loop)
    if isinstance(plan, AshaScheduler):
        rule = AsyncHyperBandScheduler(
            max_t=study.epochs or MANY_EPOCHS,
            grace_period=plan.grace,
            reduction_factor=plan.reduction,
            stop_last_trials=False,  # the trainable ends by itself
            **common,
        )
        return Replayed(loop, rule, plan.grace)
    if isinstance(plan, MedianScheduler):
        rule = MedianStoppingRule(grace_period=plan.grace, min_samples_required=plan.samples, **common)
        return Replayed(loop, rule, plan.grace)
    return Newest(loop)
