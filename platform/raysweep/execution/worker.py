"""Drives a trainable inside a Ray Tune worker: one `step` is one epoch of every execution of the point.

The worker knows nothing about models; the trainable knows nothing about Ray. The worker returns what happened
as records for the journal. An exception in the user's code is a result like any other, so the process, with
torch loaded and the data mapped, can run the next trial. (torch is imported inside the functions: the driver
imports this module too, in order to send it, and does not need torch's 450 MB.)
"""

from __future__ import annotations

import gc
import os
import platform
import sys
import sysconfig
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray import tune

import raysweep
from raysweep.errors import Infeasible
from raysweep.execution.executions import Executions, Job
from raysweep.execution.lockstep import Lockstep, TrialEnds
from raysweep.execution.process_group import ProcessGroup
from raysweep.storage import checkpoints
from raysweep.storage.output import Output

Records = list[tuple[str, dict[str, Any]]]

NOT_THEIRS = (
    f"{os.sep}site-packages{os.sep}",
    f"{os.sep}dist-packages{os.sep}",
    f"{sysconfig.get_path('stdlib')}{os.sep}",
    f"{Path(raysweep.__file__).parent}{os.sep}",
    "<frozen ",
)
"""Parts of the names of files that hold no code of the user."""


def started(epoch: int = 0) -> tuple[str, dict[str, Any]]:
    """The record of a trial that begins in this process, after `epoch`."""
    return "started", {"worker": f"{platform.node()} (process {os.getpid()})", "epoch": epoch}


def ended(status: str, seconds: float, error: str = "", **more: bool) -> tuple[str, dict[str, Any]]:
    """The record of a trial that is over. `raised`: an exception ended it, which may not happen again.
    `always`: every other trial would end in the same way."""
    return "ended", {"status": status, "seconds": seconds, "error": error, **more}


class Worker(tune.Trainable):  # type: ignore[misc]
    """Runs one trial after another, on the resources of one."""

    _trial: Lockstep | None = None
    _group: ProcessGroup | None = None
    _makes: Executions | None = None
    _broken: BaseException | None = None
    _draining = False

    def setup(self, config: dict[str, Any], *, job: Job) -> None:
        self._job = job
        self._output = Output()
        self._settling = ThreadPoolExecutor(1)  # training does not wait for the disk
        if Path(job.working_dir).is_dir():
            os.chdir(job.working_dir)  # on another node this is not the default
        self._timed = "seconds" in job.objective.names
        self.reset_config(config)
        # Before the trial begins, whose time is limited; what is printed belongs to it all the same.
        self._output.open(self._folder)
        try:
            self._makes = Executions(self._job)
        except (Exception, SystemExit) as problem:  # importing the user's code may fail, too
            self._broken = problem

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
                self._output.open(self._folder)
                self._trial = self._open(self._executions())
                records = [started(self._trial.epoch)]
            # The steps of the other ranks, if there are any.
            going = self._group.step() if self._group is not None else []
            metrics = self._trial.advance()
            if self._group is not None:
                self._group.wait(going)
            if metrics is None:
                self._trial.flush()
                self._trial = None
                return self._ended(records, began, "completed", "")
            if self._timed:
                metrics["seconds"] = self._trial.seconds = self._trial.seconds + time.perf_counter() - began
            due = self._draining or self._trial.epoch in self._job.milestones
            self._trial.save_when_due(self._job.objective.leading(metrics), due)
        except TrialEnds as end:
            print(f"{end.status}: {end}", file=sys.stderr)
            self._drop()
            return self._ended(records, began, end.status, str(end), always=end.always)
        except (Exception, SystemExit) as problem:
            # Any error of the user's code, or of the disk, ends only this trial.
            error = self._parted(going, problem)
            traceback.print_exception(error)
            self._drop()
            status = status_of(error)
            return self._ended(records, began, status, told(error), raised=status == "failed")
        seconds, epoch = time.perf_counter() - began, self._trial.epoch
        records.append(("report", {"epoch": epoch, "metrics": metrics, "seconds": seconds}))
        return {**metrics, "epoch": epoch, "records": records}

    def _ended(self, records: Records, began: float, status: str, error: str, **more: bool) -> dict[str, Any]:
        self._output.close()
        last = ended(status, time.perf_counter() - began, error, **more)
        return {"done": True, "records": [*records, last]}

    def drain(self) -> None:
        """This node is about to be taken away: write a checkpoint now, and after every epoch from now on."""
        self._draining = True
        if self._trial is not None:
            self._trial.flush()

    def cleanup(self) -> None:
        self._close()
        self._output.end()
        self._settling.shutdown()

    def _close(self) -> None:
        """Write a checkpoint of a trial that was stopped from outside."""
        trial, self._trial = self._trial, None
        if trial is not None:
            try:
                with suppress(TrialEnds):  # the trial is over: its last epoch is not needed
                    trial.flush()
                trial.close()
            except Exception:
                traceback.print_exc()  # its results are journalled; an error must not harm the next trial
        self._output.close()

    def _parted(self, going: list[Any], problem: BaseException) -> BaseException:
        """Shut down the other ranks, which may be waiting for us in mid-step. Returns the original error."""
        group, self._group = self._group, None
        if group is None:
            return problem
        theirs: BaseException | None = group.first_error(going) if going else None
        group.shutdown()
        return theirs or problem

    def _drop(self) -> None:
        """Drop a broken trial without writing a checkpoint, and free its memory."""
        import torch

        trial, self._trial = self._trial, None
        if trial is not None:
            try:
                trial.close()
            except Exception:
                traceback.print_exc()
        del trial
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

    @property
    def _folder(self) -> Path:
        return checkpoints.trial_folder(self._job.folder, self._config["number"])

    def _open(self, makes: Executions) -> Lockstep:
        config, folder = self._config, self._folder
        checkpoints.claim(folder, config["attempt"])
        # Not past the last journalled epoch: a report lost with the last driver is made again, not skipped.
        saved = checkpoints.newest(folder, config["reported"])
        # A trainable that cannot resume starts over, and so do its epochs and metrics.
        resumes = saved is not None and makes.trainable.resumes and None not in saved["states"]
        states = saved["states"] if saved and resumes else [None] * len(config["seeds"])
        what = config["point"], config["seeds"], states
        executions = makes.create(*what)
        if self._job.ranks > 1:
            self._group = self._group or ProcessGroup(self._job)
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
