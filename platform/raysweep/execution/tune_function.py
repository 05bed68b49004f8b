"""An ordinary Ray Tune function `train(config)`, run as Ray Tune runs it. What it reports becomes epochs in the
journal; the checkpoints that it reports are kept in the study, and given back by `tune.get_checkpoint()`."""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from numbers import Real
from pathlib import Path
from typing import Any

from ray import tune

from raysweep.cluster import ray_internals
from raysweep.execution.executions import Job, limit_process, seed_globals, with_secrets
from raysweep.execution.lockstep import Lockstep, TrialEnds
from raysweep.execution.usage import Meter
from raysweep.execution.worker import ended, started, status_of, told
from raysweep.storage import checkpoints
from raysweep.storage.output import Output


def tune_function(job: Job) -> Callable[[dict[str, Any]], None]:
    """What Ray Tune runs for a trial of a study whose trainable is a Ray Tune function."""

    def run(config: dict[str, Any]) -> None:
        output = Output()
        output.open(checkpoints.trial_folder(job.folder, config["number"]))
        try:
            last = _outcome(job, config)
        finally:
            output.end()
        tune.report({"records": [last], "done": True})

    return run


def _outcome(job: Job, config: dict[str, Any]) -> tuple[int, str, dict[str, Any]]:
    """Run a trial. Returns the record of its end."""
    broken: BaseException | None = None
    try:
        limit_process(job.gpus, job.threads)
        function = job.code.load().function
    except (Exception, SystemExit) as problem:
        broken = problem
    number = config["number"]
    tune.report({"records": [started(number)]})  # importing was not part of it
    clock = _Clock()
    status, error, always = "completed", "", False
    try:
        if broken is not None:
            raise broken
        _run(function, job, config, clock)
    except TrialEnds as end:
        status, error, always = end.status, str(end), end.always
    except ray_internals.TrialStopped as stopped:
        raise SystemExit(0) from stopped  # as Ray Tune ends the thread of a trial that it has stopped
    except (Exception, SystemExit) as problem:
        traceback.print_exception(problem)
        status, error = status_of(problem), told(problem)
    raised = status == "failed" and not always
    return ended(number, status, clock.lap(), error, raised=raised, always=always)


class _Clock:
    """Seconds since the last lap."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def lap(self) -> float:
        began, self._began = self._began, time.perf_counter()
        return self._began - began


def _run(function: Callable[..., Any], job: Job, config: dict[str, Any], clock: _Clock) -> None:
    folder = checkpoints.trial_folder(job.folder, config["number"])
    checkpoints.claim(folder, config["attempt"])
    saved = checkpoints.newest(folder, config["reported"])
    seed_globals(config["seeds"][0])
    with ThreadPoolExecutor(1) as settling, tempfile.TemporaryDirectory(prefix="raysweep-") as scratch:
        reports = _Reports(job, config, saved, settling, Path(scratch), clock)
        with ray_internals.tune_session(reports.report, reports.checkpoint):
            returned = function(with_secrets(config["point"]))
            if isinstance(returned, Mapping):
                tune.report(dict(returned))
        if reports.end is not None:
            raise reports.end


class _Reports:
    """Takes what a Ray Tune function reports, as one execution of a trial."""

    end: TrialEnds | None = None
    """Why the trial is over, whatever the function still does."""

    def __init__(
        self,
        job: Job,
        config: dict[str, Any],
        saved: dict[str, Any] | None,
        settling: ThreadPoolExecutor,
        scratch: Path,
        clock: _Clock,
    ):
        self._job, self._config, self._saved, self._settling = job, config, saved, settling
        self._scratch, self._clock = scratch, clock
        self._resumed = False
        self._meter = Meter()
        self._meter.begin()
        self._trial: Lockstep | None = None
        self._given: tuple[dict[str, Any], Any] = {}, None

    def checkpoint(self) -> tune.Checkpoint | None:
        """What `tune.get_checkpoint` returns. A function that does not ask for it starts over."""
        if self._saved is None:
            return None
        self._resumed = True
        checkpoints.unpack(checkpoints.files(self._saved["states"][0]), self._scratch)
        return tune.Checkpoint.from_directory(self._scratch)

    def report(self, metrics: Mapping[str, Any], checkpoint: tune.Checkpoint | None = None) -> dict[str, Any]:
        """Keep the checkpoint, and add the record of an epoch to what Ray Tune gets."""
        record = None if self.end is not None else self._record(metrics, checkpoint)
        return {**metrics, "records": [record] if record else []}

    def _record(self, metrics: Mapping[str, Any], checkpoint: tune.Checkpoint | None) -> Any:
        if self._trial is None:
            self._trial = self._opened()
        number = self._config["number"]
        numbers = {k: v for k, v in metrics.items() if _is_number(v)}  # Ray Tune takes anything else, too
        try:
            self._given = numbers, None
            if checkpoint is not None:
                with checkpoint.as_directory() as folder:
                    self._given = numbers, checkpoints.pack(Path(folder))
            reported = self._trial.advance() or {}
            seconds = self._clock.lap()
            self._trial.seconds += seconds
            if "seconds" in self._job.objective.names:
                reported["seconds"] = self._trial.seconds
            if checkpoint is not None:
                self._trial.save_when_due(self._job.objective.leading(reported), now=True)
        except TrialEnds as end:
            self.end = end
            print(f"{end.status}: {end}", file=sys.stderr)
            return ended(number, end.status, self._clock.lap(), str(end), always=end.always)
        epoch, used = self._trial.epoch, self._meter.lap()
        return number, "report", {"epoch": epoch, "metrics": reported, "seconds": seconds, "used": used}

    def _opened(self) -> Lockstep:
        job, config = self._job, self._config
        folder, saved = (
            checkpoints.trial_folder(job.folder, config["number"]),
            self._saved if self._resumed else None,
        )
        return Lockstep(
            [self._reported()], folder, job, saved, self._settling, config["begins"], config["attempt"]
        )

    def _reported(self) -> Iterator[Any]:
        while True:
            yield self._given


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
