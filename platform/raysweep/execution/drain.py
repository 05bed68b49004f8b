"""Checkpoints just before a node is taken away: a spot instance, by its cloud."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial as TuneTrial

from raysweep.cluster import ray_internals
from raysweep.execution.callbacks import Callback
from raysweep.storage.background import Background

LOOK = 1.0  # seconds between two looks for nodes that drain


class DrainNotice(Callback):
    """Tells the workers of a node that is about to be taken away (such as a spot instance, by its cloud) to
    write their checkpoints in time. Ray calls this draining a node."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._told: set[str] = set()  # actors, by their ids
        self._nodes: set[str] = set()
        self._trials: list[TuneTrial] = []
        self._seeing = Background("The search could not see which nodes leave", self._see, LOOK, say)

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        self._trials = trials
        self._seeing.when_due()

    def _see(self) -> None:
        trials = self._trials
        leaving = ray_internals.draining_nodes()
        for node in set(leaving) - self._nodes:
            self._say(f"Node {node[:8]} is about to be taken away: its trials now checkpoint every epoch.")
        self._nodes |= set(leaving)
        for trial in trials if leaving else []:
            actor = ray_internals.actor_of(trial) if trial.status == TuneTrial.RUNNING else None
            if actor is None or ray_internals.actor_id(actor) in self._told:
                continue
            if ray_internals.node_of(actor) in leaving:
                self._told.add(ray_internals.actor_id(actor))
                actor.drain.remote()
