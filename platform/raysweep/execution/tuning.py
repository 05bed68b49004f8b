"""Run a study as one `tune.Tuner`, used only here: Ray Tune places the trials, the loop decides."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from ray import tune

from raysweep.cluster import ray_internals
from raysweep.execution.callbacks import Callback
from raysweep.execution.concurrency import ConcurrencyLimiter
from raysweep.execution.drain import DrainNotice
from raysweep.execution.executions import Job
from raysweep.execution.ray_session import environment
from raysweep.execution.recorder import Recorder
from raysweep.execution.searcher import Searcher
from raysweep.execution.signals import End, Signals
from raysweep.execution.slots import Slots
from raysweep.execution.timeouts import Timeout
from raysweep.execution.tune_function import tune_function
from raysweep.execution.tune_scheduler import LoopScheduler
from raysweep.execution.worker import Worker
from raysweep.search.loop import Loop
from raysweep.study.study import Study

Say = Callable[[str], None]


def tune_study(loop: Loop, job: Job, grows: bool, say: Say, at_end: Callable[[Any], None]) -> End:
    """Run the trials that the loop hands out until it has no more. Ctrl-C and SIGTERM end it cleanly.
    `grows`: the cluster may get more nodes. `at_end` gets the last worker, when the study is complete."""
    study = loop.study
    signals = Signals(loop.interrupt)
    limiter = ConcurrencyLimiter(loop, say, grows, signals.cancel)
    slots = Slots(loop, limiter)
    recorder = Recorder(loop, slots, at_end)
    callbacks: list[Any] = [
        _Announcement(signals, say),
        recorder,
        limiter,
        *([] if study.found.of_ray_tune else [DrainNotice(say)]),
    ]
    if study.trial_timeout or study.no_progress_timeout:
        callbacks.append(Timeout(loop, slots, study.trial_timeout, study.no_progress_timeout))
    # For files that Ray Tune writes and that we do not use.
    unused = tempfile.TemporaryDirectory(prefix="raysweep-", ignore_cleanup_errors=True)
    with unused as scratch, signals.handled():
        tuner = tune.Tuner(
            tune.with_resources(_runs(study, job), _resources(study, job)),
            tune_config=tune.TuneConfig(
                search_alg=Searcher(study.objective, slots, limiter),
                scheduler=LoopScheduler(loop, slots, recorder),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=_run_config(study, scratch, callbacks),
        )
        try:
            # Paths mean the same in trials as here; Ray Tune's own functions may rely on Ray Tune's way.
            waiting = (
                ray_internals.PRELOAD.items() <= os.environ.items()
            )  # we have started this Ray ourselves
            chdir = {"RAY_CHDIR_TO_TRIAL_DIR": "1" if study.found.of_ray_tune else "0"}
            with environment(chdir), ray_internals.waiting_processes() if waiting else nullcontext():
                tuner.fit()
        finally:
            loop.retention.sweep()  # a worker may have written once more after its trial was beaten
    wanted = signals.cancelled or loop.ending or loop.failing
    # Before a first trial runs, Ctrl-C goes to Ray Tune, which ends cleanly and does not report it.
    ended = not (slots.finished or loop.complete)
    signalled = signals.terminated or ((signals.interrupted or ended) and not wanted)
    return End(signals.terminated or signals.cancelled, signalled, loop.failing)


class _Announcement(Callback):
    """Once the search runs, Ctrl-C is answered."""

    def __init__(self, signals: Signals, say: Say):
        self._signals, self._say, self._done = signals, say, False

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        if not self._done:
            self._signals.announce(self._say)
            self._done = True


def _runs(study: Study, job: Job) -> Any:
    """What Ray Tune runs for a trial."""
    return tune_function(job) if study.found.of_ray_tune else tune.with_parameters(Worker, job=job)


def _resources(study: Study, job: Job) -> Any:
    """A trial's resources, in the form that Ray Tune expects."""
    if job.ranks > 1:
        bundles = study.per_trial.bundles()
        return tune.PlacementGroupFactory(bundles, strategy="STRICT_PACK")  # on one node
    return study.per_trial.request()


def _run_config(study: Study, scratch: str, callbacks: list[Any]) -> tune.RunConfig:
    no_last = None if study.found.of_ray_tune else tune.CheckpointConfig(checkpoint_at_end=False)
    return tune.RunConfig(
        name="tune", storage_path=scratch, verbose=0, callbacks=callbacks, checkpoint_config=no_last
    )


def _trial_name(trial: Any) -> str:
    return f"{trial.config['number']:06d}"
