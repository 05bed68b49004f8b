"""Drives a trainable inside a Ray Tune worker: one `step` is one epoch of each of its trials.

The worker knows nothing about models; the trainable knows nothing about Ray. The worker returns what happened
as records for the journal. An exception in the user's code is a result like any other, so the process, with
torch loaded and the data mapped, can run the next trial. (torch is imported inside the functions: the driver
imports this module too, in order to send it, and does not need torch's 450 MB.)
"""

from __future__ import annotations

import gc
import logging
import os
import platform
import sys
import sysconfig
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray import tune

import raysweep
from raysweep.errors import Infeasible
from raysweep.execution.executions import Executions, Job
from raysweep.execution.export import export
from raysweep.execution.lockstep import Lockstep, TrialEnds
from raysweep.execution.process_group import ProcessGroup
from raysweep.execution.usage import Meter
from raysweep.storage import checkpoints
from raysweep.storage.output import Output
from raysweep.trial import Trial

Records = list[tuple[int, str, dict[str, Any]]]
"""What happened, for the journal: the trial's number, the kind of record, its fields."""

NOT_THEIRS = (
    f"{os.sep}site-packages{os.sep}",
    f"{os.sep}dist-packages{os.sep}",
    f"{sysconfig.get_path('stdlib')}{os.sep}",
    f"{Path(raysweep.__file__).parent}{os.sep}",
    "<frozen ",
)
"""Parts of the names of files that hold no code of the user."""


def started(number: int, epoch: int = 0) -> tuple[int, str, dict[str, Any]]:
    """The record of a trial that begins in this process, after `epoch`."""
    return number, "started", {"worker": f"{platform.node()} (process {os.getpid()})", "epoch": epoch}


def ended(
    number: int, status: str, seconds: float, error: str = "", **more: bool
) -> tuple[int, str, dict[str, Any]]:
    """The record of a trial that is over. `raised`: an exception ended it, which may not happen again.
    `always`: every other trial would end in the same way."""
    return number, "ended", {"status": status, "seconds": seconds, "error": error, **more}


class Worker(tune.Trainable):  # type: ignore[misc]
    """Runs trials on the resources of one, epoch by epoch, in as many slots as pay off: see slots.py."""

    _group: ProcessGroup | None = None
    _makes: Executions | None = None
    _broken: BaseException | None = None
    _draining = False

    def setup(self, config: dict[str, Any], *, job: Job) -> None:
        self._job = job
        logging.getLogger(tune.Trainable.__module__).setLevel(logging.ERROR)  # it has advice on slow imports
        self._output = Output()
        self._settling = ThreadPoolExecutor(1)  # training does not wait for the disk
        self._trials: dict[int, Lockstep] = {}
        self._meter = Meter()
        self._unpaid = 0.0  # seconds of the last step that its trials have not been charged for
        if Path(job.working_dir).is_dir():
            os.chdir(job.working_dir)  # on another node this is not the default
        self._timed = "seconds" in job.objective.names
        self.reset_config(config)
        # Before the trial begins, whose time is limited; what is printed belongs to it all the same.
        self._output.open(self._folder(config["number"]))
        try:
            self._makes = Executions(self._job)
        except (Exception, SystemExit) as problem:  # importing the user's code may fail, too
            self._broken = problem

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another run."""
        self._close()
        self._joining = [new_config]
        return True

    def assign(self, leaving: Sequence[int], joining: Sequence[dict[str, Any]]) -> None:
        """Before the next step, end the trials `leaving`, and begin those of `joining`."""
        for number in leaving:
            self._leave(number)
        self._joining += joining

    def step(self) -> dict[str, Any]:
        """One epoch of each trial. Returns the `records` for the journal, and how many slots there are."""
        began = time.perf_counter()
        records: Records = []
        joining, self._joining = self._joining, []
        for config in joining:
            records += self._begin(config)
        running = list(self._trials)
        advanced = {number: self._advance(number) for number in running}
        # What trials compute together is charged in equal parts.
        parts = max(1, len({*running, *(config["number"] for config in joining)}))
        share, used = (time.perf_counter() - began + self._unpaid) / parts, self._meter.lap(parts)
        for i, record in enumerate(records):
            if record[1] == "ended":
                records[i] = (*record[:2], record[2] | {"seconds": share})
        began = time.perf_counter()
        for number, found in advanced.items():
            records.append(self._reported(number, found, share, used))
        self._unpaid = time.perf_counter() - began
        return {"records": records, "slots": self._makes.slots if self._makes is not None else 1}

    def _begin(self, config: dict[str, Any]) -> Records:
        """Begin a trial, or resume it from its checkpoint."""
        number = config["number"]
        if not self._trials:
            self._meter.begin()
        try:
            self._print_to(number)
            trial = self._trials[number] = self._open(self._executions(), config)
            return [started(number, trial.epoch)]
        except (Exception, SystemExit) as problem:
            return [started(number), self._end(number, problem)]

    def _advance(self, number: int) -> dict[str, float] | BaseException | None:
        """One epoch of a trial: its metrics, None at its end, or what ended it."""
        going: list[Any] = []
        try:
            # The steps of the other ranks, if there are any.
            going = self._group.step() if self._group is not None else []
            metrics = self._trials[number].advance()
            if self._group is not None:
                self._group.wait(going)
            return metrics
        except (Exception, SystemExit) as problem:
            # Any error of the user's code, or of the disk, ends only this trial.
            return self._parted(going, problem)

    def _reported(
        self,
        number: int,
        found: dict[str, float] | BaseException | None,
        seconds: float,
        used: dict[str, float],
    ) -> tuple[int, str, dict[str, Any]]:
        """The record of what `_advance` has found, after `seconds`. Writes a checkpoint if one is due."""
        trial = self._trials[number]
        try:
            if isinstance(found, BaseException):
                raise found
            if found is None:
                trial.flush()
                self._forget(number)
                return ended(number, "completed", seconds)
            trial.seconds += seconds
            if self._timed:
                found["seconds"] = trial.seconds
            due = self._draining or trial.epoch in self._job.milestones
            trial.save_when_due(self._job.objective.leading(found), due)
        except (Exception, SystemExit) as problem:
            return self._end(number, problem, seconds)
        return number, "report", {"epoch": trial.epoch, "metrics": found, "seconds": seconds, "used": used}

    def _end(
        self, number: int, problem: BaseException, seconds: float = 0.0
    ) -> tuple[int, str, dict[str, Any]]:
        """The record of a trial that this has ended. It is dropped without a checkpoint."""
        self._output.open(self._folder(number))
        if isinstance(problem, TrialEnds):
            print(f"{problem.status}: {problem}", file=sys.stderr)
            last = ended(number, problem.status, seconds, str(problem), always=problem.always)
        else:
            traceback.print_exception(problem)
            status = status_of(problem)
            last = ended(number, status, seconds, told(problem), raised=status == "failed")
        self._drop(number)
        return last

    def _print_to(self, number: int) -> None:
        """What is printed from now on belongs to this trial, unless there are others. (Those that are trained
        together print nothing but errors.)"""
        if self._trials.keys() <= {number}:
            self._output.open(self._folder(number))
        else:
            self._output.close()

    def export(self, trial: Trial, epoch: int, members: Sequence[tuple[Trial, int]] = ()) -> dict[str, Any]:
        """Export the best trial's model: see export.py."""
        self._close()
        return export(self._job, trial, epoch, members)

    def drain(self) -> None:
        """This node is about to be taken away: write a checkpoint now, and after every epoch from now on."""
        self._draining = True
        for trial in self._trials.values():
            trial.flush()

    def cleanup(self) -> None:
        self._close()
        self._output.end()
        self._settling.shutdown()

    def _close(self) -> None:
        """Write checkpoints of the trials that were stopped from outside."""
        for number in list(self._trials):
            self._leave(number)
        self._output.close()

    def _leave(self, number: int) -> None:
        """Write a checkpoint of a trial that was stopped from outside, unless it is over."""
        trial = self._trials.get(number)
        if trial is None:
            return
        try:
            with suppress(TrialEnds):  # the trial is over: its last epoch is not needed
                trial.flush()
            trial.close()
        except Exception:
            traceback.print_exc()  # its results are journalled; an error must not harm the next trial
        self._forget(number)

    def _forget(self, number: int) -> None:
        self._trials.pop(number, None)
        if not self._trials:
            self._output.close()

    def _parted(self, going: list[Any], problem: BaseException) -> BaseException:
        """Shut down the other ranks, which may be waiting for us in mid-step. Returns the original error."""
        group, self._group = self._group, None
        if group is None:
            return problem
        theirs: BaseException | None = group.first_error(going) if going else None
        group.shutdown()
        return theirs or problem

    def _drop(self, number: int) -> None:
        """Drop a broken trial without writing a checkpoint, and free its memory."""
        import torch

        trial = self._trials.get(number)
        if trial is not None:
            try:
                trial.close()
            except Exception:
                traceback.print_exc()  # of the user's `finally`: the trial is over all the same
        del trial
        self._forget(number)
        self._output.close()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _executions(self) -> Executions:
        """What makes a trial's executions. If importing the user's code has failed, the next trial tries again."""
        broken, self._broken = self._broken, None
        if broken is not None:
            raise broken
        self._makes = self._makes or Executions(self._job)
        return self._makes

    def _folder(self, number: int) -> Path:
        return checkpoints.trial_folder(self._job.folder, number)

    def _open(self, makes: Executions, config: dict[str, Any]) -> Lockstep:
        folder = self._folder(config["number"])
        checkpoints.claim(folder, config["attempt"])
        # Not past the last journalled epoch: a report lost with the last driver is made again, not skipped.
        saved = checkpoints.newest(folder, config["reported"])
        # A trainable that cannot resume starts over, and so do its epochs and metrics.
        resumes = saved is not None and makes.trainable.resumes and None not in saved["states"]
        states = saved["states"] if saved and resumes else [None] * len(config["seeds"])
        what = config["point"], config["seeds"], states
        if self._job.ranks > 1:  # before anything is made that asks whether it is alone
            self._group = self._group or ProcessGroup(self._job)
        executions = makes.create(*what)
        if self._group is not None:
            self._group.begin(*what)
        return Lockstep(
            executions,
            folder,
            self._job,
            saved if resumes else None,
            self._settling,
            config["begins"],
            config["attempt"],
        )


def status_of(error: BaseException) -> str:
    """The status of a trial that ended with this exception."""
    import torch

    if isinstance(error, Infeasible):
        return "infeasible"
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "out of memory"
    return "failed"


def told(error: BaseException) -> str:
    """Type, message and the last line of the user's own code: short enough for a table."""
    if isinstance(error, Infeasible):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not any(part in f.filename for part in NOT_THEIRS)] or frames
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}{where}"
