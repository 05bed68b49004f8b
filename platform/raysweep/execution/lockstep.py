"""The executions of one point, a generator for each seed, epoch by epoch: their metrics, states and checkpoints."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from raysweep.execution.executions import Execution, Job
from raysweep.storage import disk
from raysweep.trainables.trainable import WANTED, described


class TrialEnds(Exception):
    """Ends a trial with a given status. `always`: every trial of the study would end so."""

    def __init__(self, status: str, what: str, always: bool = False):
        super().__init__(what)
        self.status, self.always = status, always


class Lockstep:
    """All executions of one point, which are always at the same epoch."""

    def __init__(
        self,
        executions: list[Execution],
        folder: Path,
        job: Job,
        saved: dict[str, Any] | None,
        settling: Executor,
        begins: int,
        attempt: int,
    ):
        self._settling, self._attempt = settling, attempt
        self._executions: list[Execution | None] = list(executions)
        self._folder, self._job, self._objective = folder, job, job.objective
        self.epoch: int = saved["epoch"] if saved else 0
        self._states: list[Any] = list(saved["states"]) if saved else [None] * len(executions)
        # The epoch that each resumes from, if its state counts epochs as we do; None once it yields again.
        counted = (_epoch_of(state) for state in self._states)
        self._begins = [epoch if epoch == self.epoch else None for epoch in counted]
        self.seconds: float = saved["seconds"] if saved else 0.0
        self._metrics: list[dict[str, float]] = list(saved["metrics"]) if saved else [{} for _ in executions]
        own = (
            saved if saved and saved["epoch"] > begins else None
        )  # else it is the parent's, with another point
        self._best_value: float | None = own["best_value"] if own else None
        self._best_epoch: int = own["best_epoch"] if own else 0
        self._best: dict[str, Any] | None = None  # a copy, until it is written
        self._flushed = time.monotonic()
        self._dirty = False
        self._previous = self.epoch  # of the checkpoint before the newest

    def advance(self) -> dict[str, float] | None:
        """Run one epoch of every execution. Returns the mean and the spread (`_std`) of each metric; None at
        the end.

        An execution that ends before the others (early stopping) keeps its last metrics.
        """
        moved = False
        for i, execution in enumerate(self._executions):
            if execution is None:
                continue
            try:
                metrics, state = _parts(next(execution))
            except StopIteration:
                self._executions[i] = None
                continue
            self._metrics[i] = self._checked({str(k): _number(k, v) for k, v in metrics.items()})
            self._states[i] = self._resumable(i, state)
            moved = True
        if not moved:
            return None
        self.epoch += 1
        self._dirty = True
        if len(self._metrics) == 1:
            return dict(self._metrics[0])
        return _mean_and_spread(self._metrics)

    def _checked(self, metrics: dict[str, float]) -> dict[str, float]:
        """The metrics of one execution, if they are numbers and the objective is among them."""
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise TrialEnds("diverged", f"{name} = {value} at epoch {self.epoch + 1}")
        missing = sorted(self._objective.names - metrics.keys() - {"seconds"})  # `seconds` is measured here
        if missing:
            said = f"Reported: {', '.join(metrics)}"
            what = f"epoch {self.epoch + 1} did not report '{missing[0]}'. {said}"
            raise TrialEnds("failed", what, always=self.epoch == 0)
        return metrics

    def _resumable(self, i: int, state: Any) -> Any:
        """The state that an execution yields, checked: if it may have to resume, it must be able to."""
        if state is None and self._job.milestones:
            raise TrialEnds(
                "failed",
                "the trainable yields no state, so a trial that pauses could not go on. Yield all that resuming"
                " needs, or remove its argument `state`, or use scheduler: none",
                always=True,
            )
        began, self._begins[i] = self._begins[i], None
        if began is not None and (epoch := _epoch_of(state)) is not None and epoch <= began:
            raise TrialEnds(
                "failed",
                f"the trainable was given the state of epoch {began} and began again at epoch {epoch}",
            )
        return state

    def close(self) -> None:
        """End the executions, so that their `finally` clauses run."""
        for execution in self._executions:
            if execution is not None and hasattr(execution, "close"):  # a generator, or a member of a pack
                execution.close()

    def save_when_due(self, value: float | None, now: bool) -> None:
        """Keep a copy of the best epoch; write it and the last one if a checkpoint is due or `now` is set.
        `value` is None for an epoch that does not count."""
        from raysweep.storage import checkpoints

        due = now or (
            time.monotonic() - self._flushed >= self._job.checkpoint_every and disk.has_room(self._folder)
        )
        if value is not None and (
            self._best_value is None or self._objective.better(value, self._best_value)
        ):
            self._best_value, self._best_epoch = value, self.epoch
            self._best = None  # free its memory before another copy is made
            if not due:  # an epoch that is written now needs no copy
                self._best = checkpoints.snapshot(self._content())
        if due:
            self.flush()

    def flush(self) -> None:
        """Write the best and the last epoch, then delete all others except the previous one. If the disk is
        full, wait for room; what was written before is not touched."""
        from raysweep.storage import checkpoints

        while self._dirty:
            if checkpoints.claimed(self._folder) > self._attempt:
                raise TrialEnds("failed", "another attempt at this trial has taken over")
            try:
                self._write()
                return
            except OSError as error:
                if not disk.is_full(error):
                    raise
                time.sleep(1.0)

    def _write(self) -> None:
        from raysweep.storage import checkpoints

        if self._best is not None:
            checkpoints.save(self._folder, self._best_epoch, self._best)
        if self._best is None or self.epoch != self._best_epoch:
            checkpoints.save(self._folder, self.epoch, self._content())
        self._best = None
        # Keep the previous one too: a disk may damage a file that was intact a moment ago.
        kept = {self._best_epoch, self.epoch, self._previous}
        settled = self._settling.submit(
            checkpoints.settle, self._folder, kept, checkpoints.epochs(self._folder)
        )
        settled.add_done_callback(_tell_if_failed)
        self._previous = self.epoch
        self._dirty = False
        self._flushed = time.monotonic()

    def _content(self) -> dict[str, Any]:
        name = self._objective.metric
        pick = max if self._objective.maximize else min
        return {
            "best_execution": pick(range(len(self._metrics)), key=lambda i: self._metrics[i][name]),
            "epoch": self.epoch,
            "seconds": self.seconds,
            "states": self._states,
            "metrics": self._metrics,
            "best_value": self._best_value,
            "best_epoch": self._best_epoch,
        }


def _parts(given: Any) -> tuple[Mapping[Any, Any], Any]:
    """The metrics and the state that a trainable has given."""
    if isinstance(given, Mapping):
        return given, None
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], Mapping):
        return given
    raise TrialEnds("failed", f"{WANTED}, but this one gave {described(given)}", always=True)


def _number(name: Any, value: Any) -> float:
    """The value of a metric: any number, also of NumPy, or a tensor of one."""
    try:
        if not isinstance(value, str | bytes):
            return float(value)
    except (TypeError, ValueError, RuntimeError):  # of a tensor of several
        pass
    raise TrialEnds("failed", f"metric '{name}' must be a number, got {described(value)}", always=True)


def _epoch_of(state: Any) -> int | None:
    epoch = state.get("epoch") if isinstance(state, dict) else None
    return epoch if isinstance(epoch, int) else None


def _tell_if_failed(settled: Future[None]) -> None:
    """Log in the worker why the disk did not take a checkpoint; the earlier ones are kept."""
    if (error := settled.exception()) is not None:
        print(f"a checkpoint may not be on the disk: {type(error).__name__}: {error}", file=sys.stderr)


def _mean_and_spread(executions: list[dict[str, float]]) -> dict[str, float]:
    merged: dict[str, float] = {}
    for name in executions[0]:
        values = [m[name] for m in executions if name in m]
        merged[name] = statistics.fmean(values)
        merged[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else 0.0
    return merged
