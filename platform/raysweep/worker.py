"""Drives a trainable inside a Ray Tune worker: one `step` is one epoch of every execution of the point.

The worker knows nothing of models; the trainable knows nothing of Ray. What happened goes back as records
for the journal. An exception of the user's code is a result like any other, so that the process, with torch
loaded and the data mapped, lives on to take the next trial. (torch is imported inside the functions: the driver
reads this module too, to send it, and does without those 450 MB.)
"""

from __future__ import annotations

import gc
import math
import os
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ray import tune

from raysweep import disk
from raysweep.crew import Crew
from raysweep.errors import Infeasible
from raysweep.executions import Execution, Executions, Job, here, resolved, restrain
from raysweep.trainables import find
from raysweep.trial import Point

Records = list[tuple[str, dict[str, Any]]]


def started(epoch: int = 0) -> tuple[str, dict[str, Any]]:
    """The record of a trial that begins in this process, after `epoch`."""
    return "started", {"worker": f"{platform.node()} (process {os.getpid()})", "epoch": epoch}


def ended(status: str, seconds: float, error: str = "", raised: bool = False) -> tuple[str, dict[str, Any]]:
    """The record of a trial that is over. `raised`: by an exception, which may not come again."""
    return "ended", {"status": status, "seconds": seconds, "error": error, "raised": raised}


class _Ends(Exception):
    """A trial that is over with a status of its own."""

    def __init__(self, status: str, what: str):
        super().__init__(what)
        self.status = status


class Worker(tune.Trainable):  # type: ignore[misc]
    """One trial after another on the resources of one."""

    _trial: _Running | None = None
    _crew: Crew | None = None
    _doomed = False

    def setup(self, config: dict[str, Any], *, job: Job) -> None:
        self._job = job
        self._settling = ThreadPoolExecutor(1)  # a disk's time is not a training's
        if Path(job.where).is_dir():
            os.chdir(job.where)  # on another node it is not so by itself
        self._makes = Executions(job)
        self._timed = "seconds" in job.objective.names
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._close()
        self._config = new_config
        return True

    def step(self) -> dict[str, Any]:
        """One epoch. Returns `epoch` and the metrics for the scheduler, and the `records` for the journal."""
        began = time.perf_counter()
        records: Records = []
        going: list[Any] = []
        try:
            if self._trial is None:
                records = [started()]  # before anything can go wrong
                self._trial = self._open()
                records = [started(self._trial.epoch)]
            going = self._crew.step() if self._crew is not None else []  # the other ranks', if there are any
            metrics = self._trial.advance()
            if self._crew is not None:
                self._crew.finish(going)
            if metrics is None:
                self._trial.flush()
                self._trial = None
                return self._ended(records, began, "completed", "")
            if self._timed:
                metrics["seconds"] = self._trial.seconds = self._trial.seconds + time.perf_counter() - began
            due = self._doomed or self._trial.epoch in self._job.milestones
            self._trial.save_when_due(self._job.objective.leading(metrics), due)
        except _Ends as end:
            self._drop()
            return self._ended(records, began, end.status, str(end))
        except Exception as problem:
            # Whatever the user's code raises, or the disk, ends this trial and no other.
            error = self._parted(going, problem)
            self._drop()
            status = _status(error)
            return self._ended(records, began, status, _told(error), raised=status == "failed")
        seconds, epoch = time.perf_counter() - began, self._trial.epoch
        records.append(("report", {"epoch": epoch, "metrics": metrics, "seconds": seconds}))
        return {**metrics, "epoch": epoch, "records": records}

    def _ended(
        self, records: Records, began: float, status: str, error: str, raised: bool = False
    ) -> dict[str, Any]:
        last = ended(status, time.perf_counter() - began, error, raised)
        return {"done": True, "records": [*records, last]}

    def doomed(self) -> None:
        """This node is to be taken away: write what there is, and from now on every epoch."""
        self._doomed = True
        if self._trial is not None:
            self._trial.flush()

    def cleanup(self) -> None:
        self._close()
        self._settling.shutdown()

    def _close(self) -> None:
        """Write what a trial has that was stopped from outside."""
        trial, self._trial = self._trial, None
        if trial is not None:
            try:
                trial.flush()
            except _Ends:
                return  # it is over: nobody wants its last epoch
            except Exception:
                traceback.print_exc()  # its results are journalled; the next trial must not pay for its files

    def _parted(self, going: list[Any], problem: Exception) -> Exception:
        """Let the other ranks go, who may wait for us in the middle of a step; what was wrong with the first of all."""
        crew, self._crew = self._crew, None
        if crew is None:
            return problem
        theirs: Exception | None = crew.trouble(going) if going else None
        crew.disband()
        return theirs or problem

    def _drop(self) -> None:
        """Let a broken trial go without a checkpoint, and give its memory back."""
        import torch

        self._trial = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _open(self) -> _Running:
        from raysweep import checkpoints

        config = self._config
        folder = Path(self._job.folder) / "trials" / f"{config['number']:06d}"
        checkpoints.claim(folder, config["attempt"])
        # Not past what the journal has: a report lost with the last driver is made again, not left out.
        saved = checkpoints.newest(folder, config["reported"])
        # A trainable that cannot resume starts over, and so do its numbers.
        resumes = saved is not None and "state" in self._makes.trainable.takes and None not in saved["states"]
        states = saved["states"] if saved and resumes else [None] * len(config["seeds"])
        what = config["point"], config["seeds"], states
        executions = self._makes.of(*what)
        if self._job.ranks > 1:
            self._crew = self._crew or Crew(self._job)
            self._crew.begin(*what)
        return _Running(
            executions,
            folder,
            self._job,
            saved if resumes else None,
            self._settling,
            config["begins"],
            config["attempt"],
        )


class _Running:
    """The executions of one point in lockstep: their epoch, their states, their checkpoints."""

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
        # The epoch that they go on from, where their states count epochs as we do, until they have yielded another.
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
        """One epoch of every execution; the mean of their metrics, and `_std`, their spread. None at the end.

        An execution that ends before the others (early stopping) keeps its last metrics.
        """
        moved = False
        for i, execution in enumerate(self._executions):
            if execution is None:
                continue
            try:
                metrics, state = next(execution)
            except StopIteration:
                self._executions[i] = None
                continue
            self._metrics[i] = self._checked({k: float(v) for k, v in metrics.items()})
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
                raise _Ends("diverged", f"{name} = {value} at epoch {self.epoch + 1}")
        missing = sorted(self._objective.names - metrics.keys() - {"seconds"})  # these are measured here
        if missing:
            said = f"Reported: {', '.join(metrics)}"
            raise _Ends("failed", f"epoch {self.epoch + 1} did not report '{missing[0]}'. {said}")
        return metrics

    def _resumable(self, i: int, state: Any) -> Any:
        """The state that an execution yields, if it can go on from it where it may have to."""
        if state is None and self._job.milestones:
            raise _Ends(
                "failed",
                "the trainable yields None as its state, so a trial that pauses could not go on. Yield all that"
                " resuming needs, or remove its argument `state`, or use scheduler: none",
            )
        began, self._begins[i] = self._begins[i], None
        if began is not None and (epoch := _epoch_of(state)) is not None and epoch <= began:
            raise _Ends(
                "failed",
                f"the trainable was given the state of epoch {began} and began again at epoch {epoch}",
            )
        return state

    def save_when_due(self, value: float | None, now: bool) -> None:
        """Keep a copy of the best epoch; write it and the last one when it is time, or now. An epoch that does
        not count has no value."""
        from raysweep import checkpoints

        due = now or (time.monotonic() - self._flushed >= self._job.every and disk.room(self._folder))
        if value is not None and (
            self._best_value is None or self._objective.better(value, self._best_value)
        ):
            self._best_value, self._best_epoch = value, self.epoch
            self._best = None  # its memory is given back before there is another copy
            if not due:  # one that is written now needs none
                self._best = checkpoints.copied(self._content())
        if due:
            self.flush()

    def flush(self) -> None:
        """Write the best and the last epoch, then delete all others but the one before. On a disk that is full,
        wait for room: what was written before is not touched."""
        from raysweep import checkpoints

        while self._dirty:
            if checkpoints.claimed(self._folder) > self._attempt:
                raise _Ends("failed", "another attempt at this trial has taken over")
            try:
                self._write()
                return
            except OSError as error:
                if not disk.is_full(error):
                    raise
                time.sleep(1.0)

    def _write(self) -> None:
        from raysweep import checkpoints

        if self._best is not None:
            checkpoints.save(self._folder, self._best_epoch, self._best)
        if self._best is None or self.epoch != self._best_epoch:
            checkpoints.save(self._folder, self.epoch, self._content())
        self._best = None
        # The one before stays as well: a disk may damage what it held whole a moment ago.
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


def _epoch_of(state: Any) -> int | None:
    epoch = state.get("epoch") if isinstance(state, dict) else None
    return epoch if isinstance(epoch, int) else None


def _tell_if_failed(settled: Future[None]) -> None:
    """A disk that did not take a checkpoint: the ones before are kept, and the worker's log says why."""
    if (error := settled.exception()) is not None:
        print(f"a checkpoint may not be on the disk: {type(error).__name__}: {error}", file=sys.stderr)


def tune_function(job: Job) -> Callable[[dict[str, Any]], None]:
    """The user's own `train(config)` as Ray Tune runs it, with its end told apart from a stop."""

    def run(config: dict[str, Any]) -> None:
        began = time.perf_counter()
        tune.report({"records": [started()]})
        status, error = "completed", ""
        try:
            Executions(job).trainable.function(resolved(config["point"]))
        except Exception as problem:  # as in Worker.step: the user's error is a result
            status, error = _status(problem), _told(problem)
        last = ended(status, time.perf_counter() - began, error, status == "failed")
        tune.report({"records": [last], "done": True})

    return run


def export(
    trainable: str,
    point: Point,
    epoch: int,
    study: str,
    number: int,
    data: Any,
    fetched: Mapping[str, str],
    gpus: float,
    threads: int,
) -> dict[str, float]:
    """The model of a trial at its best epoch, written to the folder `best` of the study.

    Of several executions the best one's is taken. Returns its metrics on the test split.
    """
    from raysweep import checkpoints

    saved = checkpoints.load(Path(study) / "trials" / f"{number:06d}", epoch)
    restrain(gpus, threads)
    found = find(trainable)
    if saved is None or found.export is None:
        raise RuntimeError(f"the checkpoint of trial {number} at epoch {epoch} is missing or damaged")
    point = {**point, **here(found, point, fetched)}
    return found.export(point, saved["states"][saved["best_execution"]], data, Path(study) / "best")


def _mean_and_spread(executions: list[dict[str, float]]) -> dict[str, float]:
    merged: dict[str, float] = {}
    for name in executions[0]:
        values = [m[name] for m in executions if name in m]
        merged[name] = statistics.fmean(values)
        merged[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else 0.0
    return merged


def _status(error: Exception) -> str:
    """What kind of end an exception is."""
    import torch

    if isinstance(error, Infeasible):
        return "infeasible"
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "out of memory"
    return "failed"


def _told(error: Exception) -> str:
    """Type and message, and the line of the user's code: what a table has room for."""
    if isinstance(error, Infeasible):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
