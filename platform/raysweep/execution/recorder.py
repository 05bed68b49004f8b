"""Ray Tune's callback that journals what the workers report, through the loop."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import ray
from ray import cloudpickle
from ray.tune.experiment import Trial as TuneTrial

from raysweep.cluster import ray_internals
from raysweep.execution.callbacks import Callback
from raysweep.execution.slots import Slots
from raysweep.search.loop import Loop
from raysweep.trial import Cause

TEXT = 500  # characters of an error of Ray that are kept


class Recorder(Callback):
    """Passes the workers' reports to the loop, which journals them, in constant time and without network, and
    tells each worker which of its trials end and which begin."""

    def __init__(self, loop: Loop, slots: Slots, at_end: Callable[[Any], None]):
        """`at_end` gets the last worker, when the study is complete."""
        self._loop, self._slots, self._at_end = loop, slots, at_end
        self._metrics = [o.metric for o in loop.study.objective.all]
        self._recorded: dict[str, int] = {}  # the last report of each run, by Ray Tune's own names

    def record(self, trial: TuneTrial, result: dict[str, Any]) -> bool:
        """Record what a worker reports, and tell it what comes next. Returns whether it has anything to do."""
        run = trial.trial_id
        self._recorded[run] = result["training_iteration"]
        over = {
            number
            for number, kind, fields in result.get("records", ())
            if not self._goes_on(number, kind, fields)
        }
        over |= {number for number in self._slots.held(run) if not self._loop.goes_on(number)}
        leaving = [number for number in self._slots.held(run) if number in over]
        for number in leaving:
            self._slots.leave(run, number)
        joining = self._slots.fill(run, result.get("slots", 0))
        if joining or (leaving and self._slots.held(run)):
            # Before the next step: an actor's calls run in the order in which they are made.
            ray_internals.actor_of(trial).assign.remote(leaving, joining)
        goes_on = bool(self._slots.held(run)) and not self._loop.interrupted
        if not goes_on and self._loop.complete and not self._loop.study.found.of_ray_tune:
            self._at_end(ray_internals.actor_of(trial))
        return goes_on

    def _goes_on(self, number: int, kind: str, fields: dict[str, Any]) -> bool:
        """Record one thing that a trial reports. Returns whether the trial goes on."""
        if self._loop.journal.history.ended(number):
            return False  # it took too long, or is a Ray Tune function that diverged but keeps running
        if kind == "started":
            self._loop.started(number, **fields)
        elif kind == "report":
            return self._loop.reported(number, **fields) == "go on"
        else:
            self._over(number, **fields)
            return False
        return True

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
        error, held = _error_of(trial), self._slots.lose(trial.trial_id)
        told = _on_one_line(str(error or ""))
        for number in held:
            if isinstance(error, KilledForMemory) and len(held) == 1:
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
