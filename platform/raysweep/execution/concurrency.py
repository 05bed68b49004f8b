"""How many trials run at once: it follows the nodes, the disk, and what a person asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.tune.experiment import Trial as TuneTrial

from raysweep.errors import ClusterError
from raysweep.execution.callbacks import Callback
from raysweep.execution.nodes import capacity
from raysweep.journal import queue
from raysweep.search.loop import Loop
from raysweep.storage import disk
from raysweep.storage.background import Background

LOOK = 1.0  # seconds between two looks at the disk, or at the nodes


class ConcurrencyLimiter(Callback):
    """Decides how many trials may run at once: as many as the present nodes hold, and some more that make the
    autoscaler add nodes; none while the study's disk is full, or once someone has asked the study to end."""

    def __init__(self, loop: Loop, say: Callable[[str], None], grows: bool, cancel: Callable[[], bool]):
        """`cancel` ends the search at once, and returns whether it could."""
        self._loop, self._say, self._grows, self._cancel = loop, say, grows, cancel
        self._folder = loop.journal.path.parent
        self._requests: list[queue.Request] = []
        self._end, self._fits = "", -1  # how many trials fitted at the last look; -1: not known yet
        # A shared folder that is away or a busy head makes one look fail, not the study.
        self._seeing = Background("The search could not look around", self._see, LOOK, say)
        self.limit = 1

    def look(self) -> None:
        if self._seeing.when_due():
            self._loop.check_rules()  # time passes even if nothing is reported
            self._loop.attend(self._requests)

    def _see(self) -> None:
        self._look_at_disk()
        self._look_at_nodes()
        self._look_for_end()
        self._requests = queue.requests(self._folder)

    def _look_at_nodes(self) -> None:
        study = self._loop.study
        try:
            found = capacity(study.per_trial.request(), self._grows)
        except (ClusterError, OSError, ray.exceptions.RayError):
            return  # the nodes that held trials are away, or the head is busy: lost trials wait for nodes
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
        elif how:  # outside the main thread, the search cannot be signalled
            self._say("Asked to end: no trial begins any more.")

    def _look_at_disk(self) -> None:
        full = not disk.has_room(self._folder)
        if full and not self._loop.paused:
            self._say(
                f"Paused: {disk.space_left(self._folder)} in {self._folder}. It continues once there is room."
            )
        elif self._loop.paused and not full:
            self._say("There is room again: going on.")
        self._loop.paused = full

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        self.look()
