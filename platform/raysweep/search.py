"""What Ray Tune asks: which point comes next. And what it tells us: a callback that journals it."""

from __future__ import annotations

import math
import time
from typing import Any

import ray
from ray import tune
from ray.tune import search
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.result import AUTO_RESULT_KEYS

from raysweep.loop import Loop
from raysweep.plans import duration


class Searcher(search.Searcher):  # type: ignore[misc]
    """Hands Ray Tune the trials of a loop."""

    def __init__(self, loop: Loop):
        objective = loop.study.objective
        super().__init__(metric=objective.metric, mode="max" if objective.maximize else "min")
        self._loop = loop
        self._numbers: dict[str, int] = {}  # of the trials that are with Ray Tune, by its own ids

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The config of the next trial: its number, its point and the seeds of its executions."""
        trial = self._loop.next()
        if trial is None:
            finished: str = search.Searcher.FINISHED
            return None if self._loop.blocked else finished
        self._numbers[trial_id] = trial.number
        begins = trial.parent[1] if trial.parent else 0
        return {
            "number": trial.number,
            "point": trial.point,
            "seeds": list(trial.seeds),
            "begins": begins,
            "reported": trial.last.epoch if trial.last else begins,
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A leg of a trial is over."""
        number = self._numbers.pop(trial_id)
        if not error:  # what the error was comes to `Recorder.on_trial_error`
            self._loop.left(number)

    def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
        return True  # the study said all of it

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a resumed search is rebuilt from the journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a resumed search is rebuilt from the journal."""


class Recorder(tune.Callback):  # type: ignore[misc]
    """Journals what the workers report, in constant time and without network."""

    def __init__(self, loop: Loop):
        self._loop, self._journal = loop, loop.journal
        self._metrics = [o.metric for o in loop.study.objective.all]

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        number = trial.config["number"]
        for kind, fields in result.get("records") or _plain_records(result):
            if self._journal.trial(number).ended:
                return  # a Ray Tune function that diverged and goes on all the same
            if kind == "ended" and fields["status"] == "completed" and not self._has_value(number):
                named = ", ".join(f"'{m}'" for m in self._metrics)
                fields = {**fields, "status": "failed", "error": f"it never reported {named}"}
            self._journal.append(kind, trial=number, **fields)
            if kind == "report":
                self._loop.rules.reported(fields["metrics"])

    def _has_value(self, number: int) -> bool:
        return any(set(self._metrics) <= set(r.metrics) for r in self._journal.trial(number).reports)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        # The file holds the whole story, its end the cause.
        told = [line for line in str(trial.get_error() or "").splitlines() if line.strip()]
        self._loop.end(trial.config["number"], "failed", f"the worker was lost: {told[-1] if told else ''}")


def _plain_records(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The records of what an ordinary Ray Tune function reported, without what Ray Tune adds to it."""
    own = {k: v for k, v in result.items() if k not in AUTO_RESULT_KEYS}
    metrics = {k: float(v) for k, v in own.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    # The first report says that the trial has started (see worker.tune_function), so epochs count from the second.
    epoch = result["training_iteration"] - 1
    for name, value in metrics.items():
        if not math.isfinite(value):
            error = f"{name} = {value} at epoch {epoch}"
            return [("ended", {"status": "diverged", "seconds": 0.0, "error": error})]
    return [("report", {"epoch": epoch, "metrics": metrics, "seconds": 0.0})]


class Timeout(tune.Callback):  # type: ignore[misc]
    """Ends trials that compute longer than they may: at a report, or, where none comes, with their process."""

    def __init__(self, loop: Loop, seconds: float):
        self._loop, self._seconds = loop, seconds
        self._began: dict[int, float] = {}  # this leg, on the monotonic clock

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        number = trial.config["number"]
        # What it has computed before counts, as if this leg had begun so much earlier.
        self._began[number] = time.monotonic() - self._loop.journal.trial(number).seconds

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        for trial in trials:
            began = self._began.get(trial.config["number"])
            if (
                began is not None
                and time.monotonic() - began > self._seconds
                and trial.status == TuneTrial.RUNNING
            ):
                self._end(trial)

    def _end(self, trial: TuneTrial) -> None:
        number = trial.config["number"]
        del self._began[number]
        self._loop.end(number, "timeout", f"it took longer than {duration(self._seconds)}")
        if trial.temporary_state.ray_actor is not None:
            ray.kill(trial.temporary_state.ray_actor)
