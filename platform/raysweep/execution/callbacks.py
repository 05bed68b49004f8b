"""Ray Tune's callback that journals what the workers report, through the loop."""

from __future__ import annotations

import re
from typing import Any

import ray
from ray import cloudpickle, tune
from ray.tune.experiment import Trial as TuneTrial

from raysweep.cluster import ray_internals
from raysweep.search.loop import Loop
from raysweep.search.schedulers import Decision
from raysweep.trial import Cause

TEXT = 500  # characters of an error of Ray that are kept


class Callback(tune.Callback):  # type: ignore[misc]
    """Ray Tune pickles callbacks for snapshots, which we do not use: the pickled copy does nothing."""

    def __reduce__(self) -> tuple[Any, ...]:
        return tune.Callback, ()


class Recorder(Callback):
    """Passes the workers' reports to the loop, which journals them, in constant time and without network."""

    def __init__(self, loop: Loop):
        self._loop = loop
        self._metrics = [o.metric for o in loop.study.objective.all]
        self._recorded: dict[str, int] = {}  # the last report of each trial, by Ray Tune's own names

    def record(self, trial: TuneTrial, result: dict[str, Any]) -> Decision:
        """Record `result`, and decide what happens to its trial."""
        number: int = trial.config["number"]
        decision: Decision = "go on"
        self._recorded[trial.trial_id] = result["training_iteration"]
        for kind, fields in result.get("records", ()):
            if self._loop.journal.history.ended(number):
                return "stop"  # it took too long, or is a Ray Tune function that diverged but keeps running
            if kind == "started":
                self._loop.started(number, **fields)
            elif kind == "report":
                decision = self._loop.reported(number, **fields)
            else:
                self._over(number, **fields)
        return "stop" if self._loop.rules.reason or self._loop.journal.history.ended(number) else decision

    def _over(
        self,
        number: int,
        status: str,
        seconds: float,
        error: str,
        raised: bool = False,
        always: bool = False,
    ) -> None:
        if raised:
            self._loop.lost(number, "code", error, seconds)
        elif status == "completed" and not self._has_value(number):
            named = ", ".join(f"'{m}'" for m in self._metrics)
            self._loop.end(number, "failed", f"it never reported {named}", seconds)
        else:
            self._loop.end(number, status, error, seconds, always)

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        # Ray Tune asks its scheduler first, but not about a trial that says that it is done.
        if self._recorded.get(trial.trial_id) != result["training_iteration"]:
            self.record(trial, result)

    def _has_value(self, number: int) -> bool:
        return any(set(self._metrics) <= set(r.metrics) for r in self._loop.journal.trial(number).reports)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        number, error = trial.config["number"], _error_of(trial)
        told = _on_one_line(str(error or ""))
        if isinstance(error, KilledForMemory):
            self._loop.end(number, "out of memory", f"Ray killed it to free its node's memory: {told}")
        else:
            cause: Cause = "node" if _node_died(error) else "worker"
            self._loop.lost(number, cause, f"the worker was lost: {told}")


def _on_one_line(text: str) -> str:
    """Ray's text, without colours, as far as it is of use: of a traceback the end, which has the cause."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    whole = " ".join(line.strip() for line in plain.splitlines() if line.strip(" ^~"))
    return whole[-TEXT:] if "Traceback" in whole else whole[:TEXT]


def _error_of(trial: TuneTrial) -> BaseException | None:
    """A trial's error, from the file that Ray Tune wrote in this process and moves only later."""
    path = ray_internals.error_file_of(trial)
    if path is None or not path.exists():
        return None
    error: BaseException = cloudpickle.loads(path.read_bytes())
    return error


def _node_died(error: BaseException | None) -> bool:
    """Whether an actor died with its node, was preempted, or can no longer be reached (it may still be
    running somewhere: see `checkpoints.claim`)."""
    unreachable = isinstance(error, ray.exceptions.ActorUnavailableError)
    gone = any(words in str(error) for words in ray_internals.GONE)
    return unreachable or gone or bool(getattr(error, "preempted", False))


class KilledForMemory(ray.exceptions.RayActorError):  # type: ignore[misc]
    """The death of a worker that Ray killed because its node was short of memory."""
