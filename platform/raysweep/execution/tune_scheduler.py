"""What Ray Tune asks after each report: whether the worker's run goes on. It does while it holds trials."""

from __future__ import annotations

from typing import Any

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from raysweep.cluster import ray_internals
from raysweep.execution.recorder import Recorder
from raysweep.execution.slots import Slots
from raysweep.search.loop import Loop


class LoopScheduler(FIFOScheduler):  # type: ignore[misc]
    """Ends the run of a worker that has no trial left.

    Of the waiting runs, a worker that becomes free takes one whose trial is being resumed, or else the newest.
    The oldest is waiting for its own worker to start. Ray Tune's rule would give it the free worker and cancel
    the starting one.
    """

    def __init__(self, loop: Loop, slots: Slots, recorder: Recorder):
        super().__init__()
        self._loop, self._slots, self._recorder = loop, slots, recorder

    def on_trial_add(self, controller: Any, trial: TuneTrial) -> None:
        ray_internals.prepare_for_the_end(trial)

    def choose_trial_to_run(self, controller: Any) -> TuneTrial | None:
        waiting = ray_internals.waiting_trials(controller)
        if (
            not self._loop.hands_out
        ):  # trials that wait for a node, which may never come, must no longer begin
            for trial in [t for t in waiting if not ray_internals.is_resetting(controller, t)]:
                self._slots.take_back(trial.trial_id)
                ray_internals.take_back(controller, trial)
            return None
        return max(waiting, key=_urgency, default=None)

    def on_trial_result(self, controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        goes_on = self._recorder.record(trial, result)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray Tune pickles what it is given, for snapshots that we do not use.
        return FIFOScheduler, ()


def _urgency(trial: TuneTrial) -> tuple[bool, int]:
    config = trial.config
    return config["reported"] > config["begins"], config["number"]
