"""Trials that take too long, or report nothing for too long, are killed."""

from __future__ import annotations

import math
import time
from typing import Any

import ray
from ray.tune.experiment import Trial as TuneTrial

from raysweep.cluster import ray_internals
from raysweep.execution.callbacks import Callback
from raysweep.search.loop import Loop
from raysweep.study.options import duration

STEP = 5.0  # seconds that a step of Ray Tune's loop takes at most, unless something blocks it


class Timeout(Callback):
    """Ends trials that run for longer than allowed, or report nothing for too long. Kills their process,
    since a trial that hangs reacts to nothing else."""

    def __init__(self, loop: Loop, whole: float | None, silence: float | None):
        # A Ray Tune function imports the user's code first, and then reports that it has started.
        self._imports_first = loop.study.found.of_ray_tune
        self._loop, self._whole, self._silence = loop, whole, silence
        self._due: dict[int, tuple[float, float]] = {}  # when the trial must end, and must next report
        self._stepped = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        if not self._imports_first:
            self._begin(trial.config["number"])

    def _begin(self, number: int) -> None:
        now = time.monotonic()
        left = self._whole - self._loop.journal.trial(number).seconds if self._whole else math.inf
        self._due[number] = (now + left, now + (self._silence or math.inf))

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        number = trial.config["number"]
        if self._imports_first and any(kind == "started" for kind, _ in result.get("records", ())):
            self._begin(number)
        elif number in self._due:
            self._due[number] = (self._due[number][0], time.monotonic() + (self._silence or math.inf))

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        now = time.monotonic()
        gap, self._stepped = now - self._stepped, now
        if gap > STEP or self._loop.paused:  # the disk was full: this loop was waiting, or the trials are
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
