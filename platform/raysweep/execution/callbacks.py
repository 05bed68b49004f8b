"""What Ray Tune calls as trials go: one callback journals their reports, others watch nodes, disk and clocks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import ray
from ray import cloudpickle, tune
from ray.tune.experiment import Trial as TuneTrial

from raysweep.cluster import ray_internals
from raysweep.errors import ClusterError
from raysweep.execution.nodes import capacity
from raysweep.journal import queue
from raysweep.search.loop import Loop
from raysweep.search.schedulers import Decision
from raysweep.storage import disk
from raysweep.storage.background import Background
from raysweep.study.options import duration
from raysweep.trial import Cause

LOOK = 1.0  # seconds between two looks at the disk, or at the nodes
STEP = 5.0  # seconds that Ray Tune's loop takes for a step at most, unless something holds it up


class Callback(tune.Callback):  # type: ignore[misc]
    """Ray Tune pickles what it is given, for snapshots that we do not use: a copy does nothing."""

    def __reduce__(self) -> tuple[Any, ...]:
        return tune.Callback, ()


class Recorder(Callback):
    """Hands what the workers report to the loop, which journals it, in constant time and without network."""

    def __init__(self, loop: Loop):
        self._loop = loop
        self._metrics = [o.metric for o in loop.study.objective.all]
        self._recorded: dict[str, int] = {}  # the last report of each trial, by Ray Tune's own names

    def record(self, trial: TuneTrial, result: dict[str, Any]) -> Decision:
        """What is to become of a trial that has reported `result`."""
        number: int = trial.config["number"]
        decision: Decision = "go on"
        self._recorded[trial.trial_id] = result["training_iteration"]
        for kind, fields in result.get("records") or _plain_records(result):
            if self._loop.journal.history.ended(number):
                return "stop"  # it took too long, or is a Ray Tune function that diverged and goes on all the same
            if kind == "started":
                self._loop.started(number, **fields)
            elif kind == "report":
                decision = self._loop.reported(number, **fields)
            else:
                self._over(number, **fields)
        return "stop" if self._loop.rules.reason or self._loop.journal.history.ended(number) else decision

    def _over(self, number: int, status: str, seconds: float, error: str, raised: bool = False) -> None:
        if raised:
            self._loop.lost(number, "code", error, seconds)
        elif status == "completed" and not self._has_value(number):
            named = ", ".join(f"'{m}'" for m in self._metrics)
            self._loop.end(number, "failed", f"it never reported {named}", seconds)
        else:
            self._loop.end(number, status, error, seconds)

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        # Ray Tune asks its scheduler first, but not of a trial that says that it is done.
        if self._recorded.get(trial.trial_id) != result["training_iteration"]:
            self.record(trial, result)

    def _has_value(self, number: int) -> bool:
        return any(set(self._metrics) <= set(r.metrics) for r in self._loop.journal.trial(number).reports)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        number, error = trial.config["number"], _error_of(trial)
        # The text holds the whole story, its first lines the names of things.
        told = " ".join(line.strip() for line in str(error or "").splitlines() if line.strip())
        if isinstance(error, KilledForMemory):
            self._loop.end(number, "out of memory", f"Ray ended it for its node's memory: {told[:500]}")
        else:
            cause: Cause = "node" if _node_died(error) else "worker"
            self._loop.lost(number, cause, f"the worker was lost: {told[:500]}")


def _plain_records(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The records of what an ordinary Ray Tune function reported, without what Ray Tune adds to it."""
    own = ray_internals.metrics_of(result)
    metrics = {k: float(v) for k, v in own.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    # The first report says that the trial has started (see worker.tune_function), so epochs count from the second.
    epoch = result["training_iteration"] - 1
    for name, value in metrics.items():
        if not math.isfinite(value):
            error = f"{name} = {value} at epoch {epoch}"
            return [("ended", {"status": "diverged", "seconds": 0.0, "error": error})]
    return [("report", {"epoch": epoch, "metrics": metrics, "seconds": 0.0})]


def _error_of(trial: TuneTrial) -> BaseException | None:
    """The error that Ray Tune wrote down for a trial, in a file of this process that it moves only later."""
    path = ray_internals.error_file_of(trial)
    if path is None or not path.exists():
        return None
    error: BaseException = cloudpickle.loads(path.read_bytes())
    return error


def _node_died(error: BaseException | None) -> bool:
    """Whether an actor was lost with its node, had it taken away, or can no longer be reached (it may still run
    somewhere: see `checkpoints.claim`)."""
    unreachable = isinstance(error, ray.exceptions.ActorUnavailableError)
    gone = any(words in str(error) for words in ray_internals.GONE)
    return unreachable or gone or bool(getattr(error, "preempted", False))


class KilledForMemory(ray.exceptions.RayActorError):  # type: ignore[misc]
    """The death of a worker that Ray ended for its node's memory."""


class ConcurrencyLimiter(Callback):
    """How many trials there is room for: as many as the nodes hold that are there, and some that make others come;
    none while the study's disk is full, or once a person wants it to end."""

    def __init__(self, loop: Loop, say: Callable[[str], None], grows: bool, cancel: Callable[[], bool]):
        """`cancel` ends the search at once, and says whether it can."""
        self._loop, self._say, self._grows, self._cancel = loop, say, grows, cancel
        self._folder, self._looked = loop.journal.path.parent, 0.0
        self._end, self._fits = "", -1  # how many fitted: not known yet
        # A share that is away, a head that is busy: that ends a look, and not the study.
        self._seeing = Background("The search could not look around", self._see, LOOK, say)
        self.limit = 1

    def look(self) -> None:
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        self._seeing.once()
        self._loop.check_rules()  # time goes by though nothing is reported

    def _see(self) -> None:
        self._look_at_disk()
        self._look_at_nodes()
        self._look_for_end()

    def _look_at_nodes(self) -> None:
        study = self._loop.study
        try:
            found = capacity(study.per_trial.request(), self._grows)
        except (ClusterError, OSError, ray.exceptions.RayError):
            return  # the nodes that held trials are away, or the head is busy: those that are lost wait for them
        self.limit = max(1, min(found.wanted, study.concurrency or found.wanted))
        if self._fits >= 0 and found.now != self._fits:
            self._say(f"The cluster holds {found.now} trials at once now (it was {self._fits}).")
        self._fits = found.now

    def _look_for_end(self) -> None:
        how = queue.requested_end(self._folder)
        if how == self._end:
            return
        self._end = how
        self._loop.ending = bool(how)
        if how == "cancel" and self._cancel():
            self._say("Cancelled.")
        elif how:  # in a thread of somebody's program there is nobody to signal
            self._say("Asked to end: no trial begins any more.")

    def _look_at_disk(self) -> None:
        full = not disk.has_room(self._folder)
        if full and not self._loop.paused:
            self._say(
                f"Paused: {disk.space_left(self._folder)} in {self._folder}. Make room, and it goes on by itself."
            )
        elif self._loop.paused and not full:
            self._say("There is room again: going on.")
        self._loop.paused = full

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        self.look()


class DrainNotice(Callback):
    """Has the workers of a node that is about to be taken away (a spot instance, by its cloud) write their
    checkpoints just in time. Ray knows of it as a node that drains."""

    def __init__(self, say: Callable[[str], None]):
        self._say, self._looked = say, 0.0
        self._told: set[str] = set()  # actors, by their ids
        self._nodes: set[str] = set()
        self._trials: list[TuneTrial] = []
        self._seeing = Background("The search could not see which nodes leave", self._see, LOOK, say)

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked, self._trials = time.monotonic(), trials
        self._seeing.once()

    def _see(self) -> None:
        trials = self._trials
        leaving = ray_internals.draining_nodes()
        for node in set(leaving) - self._nodes:
            self._say(f"Node {node[:8]} is about to be taken away: its trials write every epoch now.")
        self._nodes |= set(leaving)
        for trial in trials if leaving else []:
            actor = ray_internals.actor_of(trial) if trial.status == TuneTrial.RUNNING else None
            if actor is None or ray_internals.actor_id(actor) in self._told:
                continue
            if ray_internals.node_of(actor) in leaving:
                self._told.add(ray_internals.actor_id(actor))
                actor.drain.remote()


class Timeout(Callback):
    """Ends trials that compute for longer than they may, or report nothing for too long: with their process, since
    one that hangs listens to nothing else."""

    def __init__(self, loop: Loop, whole: float | None, silence: float | None):
        self._loop, self._whole, self._silence = loop, whole, silence
        self._due: dict[int, tuple[float, float]] = {}  # the end of the trial, and of its patience
        self._stepped = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        number, now = trial.config["number"], time.monotonic()
        left = self._whole - self._loop.journal.trial(number).seconds if self._whole else math.inf
        self._due[number] = (now + left, now + (self._silence or math.inf))

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        number = trial.config["number"]
        if number in self._due:
            self._due[number] = (self._due[number][0], time.monotonic() + (self._silence or math.inf))

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        now = time.monotonic()
        gap, self._stepped = now - self._stepped, now
        if gap > STEP or self._loop.paused:  # the disk was full: we were waiting, or they are
            self._due = {n: (end + gap, patience + gap) for n, (end, patience) in self._due.items()}
        for trial in [t for t in trials if t.status == TuneTrial.RUNNING]:
            number = trial.config["number"]
            end, patience = self._due.get(number, (math.inf, math.inf))
            if now > end:
                self._end(trial, f"it took longer than {duration(self._whole or 0.0)}")
            elif now > patience:
                self._end(trial, f"it reported nothing for {duration(self._silence or 0.0)}")

    def _end(self, trial: TuneTrial, why: str) -> None:
        number = trial.config["number"]
        del self._due[number]
        self._loop.end(number, "timeout", why)
        if (actor := ray_internals.actor_of(trial)) is not None:
            ray.kill(actor)
