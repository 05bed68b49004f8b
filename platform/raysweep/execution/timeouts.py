"""Trials that take too long, or report nothing for too long, are ended."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.tune.experiment import Trial as TuneTrial

from raysweep.cluster import ray_internals
from raysweep.execution.callbacks import Callback
from raysweep.execution.slots import Slots
from raysweep.search.loop import Loop
from raysweep.study.options import duration

STEP = 5.0  # seconds that a step of Ray Tune's loop takes at most, unless something blocks it


@dataclass
class Due:
    """When a trial must end, and when it must next report."""

    end: float
    report: float


class Timeout(Callback):
    """Ends trials that run for longer than allowed, or report nothing for too long. If such a trial has its
    worker for itself, the process is killed, since a trial that hangs reacts to nothing else."""

    def __init__(self, loop: Loop, slots: Slots, whole: float | None, silence: float | None):
        # A Ray Tune function imports the user's code first, and then reports that it has started.
        self._imports_first = loop.study.found.of_ray_tune
        self._loop, self._slots, self._whole, self._silence = loop, slots, whole, silence
        self._due: dict[int, Due] = {}
        self._stepped = time.monotonic()

    def _begin(self, number: int) -> None:
        now = time.monotonic()
        left = self._whole - self._loop.journal.trial(number).seconds if self._whole else math.inf
        self._due[number] = Due(now + left, now + (self._silence or math.inf))

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        for number in self._slots.held(trial.trial_id) if not self._imports_first else ():
            self._begin(number)

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        heard = {number: kind for number, kind, _ in result.get("records", ())}
        for number, kind in heard.items():
            if kind == "ended" or (kind == "started" and self._imports_first):
                self._due.pop(number, None)
            elif number in self._due:
                self._due[number].report = time.monotonic() + (self._silence or math.inf)
        for number in self._slots.held(trial.trial_id):
            if number not in self._due:
                self._begin(number)

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        now = time.monotonic()
        gap, self._stepped = now - self._stepped, now
        if gap > STEP or self._loop.paused:  # the disk was full: this loop was waiting, or the trials are
            for due in self._due.values():
                due.end, due.report = due.end + gap, due.report + gap
        for trial in [t for t in trials if t.status == TuneTrial.RUNNING]:
            for number in self._slots.held(trial.trial_id):
                due = self._due.get(number, Due(math.inf, math.inf))
                if now > due.end:
                    self._end(trial, number, f"it took longer than {duration(self._whole or 0.0)}")
                elif now > due.report:
                    self._end(trial, number, f"it reported nothing for {duration(self._silence or 0.0)}")

    def _end(self, trial: TuneTrial, number: int, why: str) -> None:
        del self._due[number]
        alone = len(self._slots.held(trial.trial_id)) == 1
        self._loop.end(number, "timeout", why)
        if alone and (actor := ray_internals.actor_of(trial)) is not None:
            ray.kill(actor)  # else it leaves with the next report
