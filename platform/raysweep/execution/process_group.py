"""The process group of a trial that holds several GPUs: one process per GPU, in the trial's placement group.
The worker is rank 0, and drives the others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import ray
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from raysweep.execution.executions import Execution, Executions, Job
from raysweep.study.space import Point

LINGER = 5.0  # seconds that a rank gets to say what went wrong
PATIENCE = timedelta(minutes=10)  # that a rank waits for another: all do the same, and none is a step ahead


class ProcessGroup:
    """All ranks of a trial except the worker's own."""

    def __init__(self, job: Job):
        group = get_current_placement_group()
        actor = ray.remote(_Rank)
        self._ranks = []
        for rank in range(1, job.ranks):
            held = group.bundle_specs[rank]
            place = PlacementGroupSchedulingStrategy(group, rank)
            options = actor.options(
                num_cpus=held.get("CPU", 0), num_gpus=held["GPU"], scheduling_strategy=place
            )
            self._ranks.append(options.remote(job))
        try:
            ray.get([r.ready.remote() for r in self._ranks])
            store = _store(job.ranks)
            joins = [r.join.remote(rank, job.ranks, store.port) for rank, r in enumerate(self._ranks, 1)]
            _join(0, job.ranks, store)
            ray.get(joins)
        except Exception:
            self.shutdown()  # they hold resources that the next group needs
            raise

    def begin(self, point: Point, seeds: Sequence[int], states: Sequence[Any]) -> None:
        """Have all ranks begin a trial, or resume it from the states of its executions."""
        shared = ray.put(list(states))
        ray.get([r.begin.remote(point, list(seeds), shared) for r in self._ranks])

    def step(self) -> list[Any]:
        """Have all ranks compute the next epoch, as the worker must too. Returns what `wait` waits for."""
        return [r.step.remote() for r in self._ranks]

    def wait(self, steps: list[Any]) -> None:
        """Wait until all ranks have done so. Raises the error of a rank that failed."""
        try:
            ray.get(steps)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None

    def first_error(self, steps: list[Any]) -> Any:
        """A failed rank's exception, or None. The worker may only have seen that it is gone."""
        for step in ray.wait(steps, num_returns=len(steps), timeout=LINGER)[0]:
            try:
                ray.get(step)
            except ray.exceptions.RayTaskError as error:
                return Exception(str(error)) if error.cause is None else error.cause
            except ray.exceptions.RayError as error:
                return Exception(str(error))
        return None

    def shutdown(self) -> None:
        """Kill all ranks, whatever they are doing."""
        for rank in self._ranks:
            ray.kill(rank)
        _leave()


class _Rank:
    """One rank: it computes what the worker computes, on other samples, and keeps nothing."""

    def __init__(self, job: Job):
        self._makes = Executions(job)
        self._executions: list[Execution | None] = []

    def ready(self) -> None:
        """Do nothing: an answer means that this rank is ready."""

    def join(self, rank: int, size: int, port: int) -> None:
        _join(rank, size, _store(size, port))

    def begin(self, point: Point, seeds: Sequence[int], states: Sequence[Any]) -> None:
        self._executions = list(self._makes.create(point, seeds, states))

    def step(self) -> None:
        try:
            for i, execution in enumerate(self._executions):
                if execution is not None and next(execution, None) is None:
                    self._executions[i] = None
        except Exception:
            _leave()  # else the others wait for it
            raise


def _leave() -> None:
    """Leave the process group."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def _store(size: int, port: int = 0) -> Any:
    """Where the ranks of a machine meet. The first rank opens the store at a port that the system picks, so
    that nobody can take the port in between; the others connect to that port."""
    from torch import distributed

    master = not port
    return distributed.TCPStore("127.0.0.1", port, size, master, PATIENCE, wait_for_workers=False)  # type: ignore[attr-defined]


def _join(rank: int, size: int, store: Any) -> None:
    """Make this process one of the `size` ranks that meet at `store`."""
    import torch
    from torch import distributed

    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
