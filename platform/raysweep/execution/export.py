"""The best trial's model as files, after the search: tested once, on the split that nothing else saw."""

from __future__ import annotations

import importlib
import shutil
import traceback
from collections.abc import Callable, Sequence
from contextlib import chdir, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysweep.errors import StorageError
from raysweep.journal.journal import Journal
from raysweep.storage import checkpoints
from raysweep.storage.output import Output
from raysweep.study.space import Point
from raysweep.study.study import Study
from raysweep.trainables.trainable import EXAMPLE, Trainable
from raysweep.trial import Trial, best, ranking

if TYPE_CHECKING:
    from raysweep.execution.executions import Executions, Job


def to_export(study: Study, journal: Journal) -> tuple[Trial, int] | None:
    """The best trial and its best epoch, if they have not been exported yet."""
    winner = best(journal.trials, study.objective)
    report = winner.best(study.objective) if winner else None
    if winner is None or report is None:
        return None
    known, found = journal.history.best, study.found
    done = (known.get("trial"), known.get("epoch")) == (winner.number, report.epoch)
    done = done and known.get("refit", False) == study.refit and bool(known.get("ensemble")) == study.ensemble
    if done and found.export is not None:  # it may have failed, or have been written or changed since
        done = known.get("model", True) and known.get("code", found.code.digest) == found.code.digest
    return None if done else (winner, report.epoch)


def choose_best(study: Study, journal: Journal) -> None:
    """Journal which trial is the best of a study whose trainable has no `export`, so that nothing is to be done."""
    chosen = to_export(study, journal)
    if chosen and study.found.export is None:
        winner, epoch = chosen
        journal.append("best", trial=winner.number, epoch=epoch, metrics={}, model=False)


def test_metrics(study: Study, journal: Journal) -> dict[str, float]:
    """The metrics of the best trial on the test split, if it was tested."""
    metrics: dict[str, float] = journal.history.best.get("metrics", {})
    return {} if to_export(study, journal) else metrics


class Export:
    """The export of a study's best model."""

    def __init__(self, study: Study, journal: Journal, job: Job, say: Callable[[str], None]):
        self._study, self._journal, self._job, self._say = study, journal, job, say
        self._begun: tuple[int, int, Any] | None = None

    def begin(self, worker: Any) -> None:
        """The search is complete, and this worker has nothing more to do: it exports a built-in's model, as it has
        loaded all that this needs. A user's own `export` gets a process of its own."""
        chosen = to_export(self._study, self._journal)
        if chosen is None or not self._study.found.builtin or self._job.ranks > 1 or self._begun is not None:
            return
        winner, epoch = chosen
        self._tell(winner)
        self._begun = winner.number, epoch, worker.export.remote(winner, epoch, self._members())

    def finish(self) -> None:
        """Export the best trial's model, if that is not done. Journal its metrics on the test split, or why it
        could not be exported: the search has its result all the same."""
        chosen = to_export(self._study, self._journal)
        if chosen is None:
            return
        winner, epoch = chosen
        result = self._from_worker(winner, epoch) or self._in_task(winner, epoch)
        digest = self._study.found.code.digest
        more = {"refit": True} if self._study.refit else {}
        self._journal.append("best", trial=winner.number, epoch=epoch, code=digest, **more, **result)

    def _from_worker(self, winner: Trial, epoch: int) -> dict[str, Any]:
        """What the worker has come to; nothing if it was not asked for this, or has failed."""
        import ray

        if self._begun is None or self._begun[:2] != (winner.number, epoch):
            return {}
        try:
            return {**ray.get(self._begun[2]), "model": True}
        except ray.exceptions.RayError:
            return {}  # it is tried again, in surroundings of its own

    def _in_task(self, winner: Trial, epoch: int) -> dict[str, Any]:
        import ray

        from raysweep.execution.preparation import as_options

        self._tell(winner)
        task = ray.remote(**as_options(self._study))(export)
        try:
            return {**ray.get(task.remote(self._job, winner, epoch, self._members())), "model": True}
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", error)
            what = f"{type(cause).__name__}: {cause}".splitlines()[0]
            return {"metrics": {}, "model": False, "error": what}

    def _members(self) -> list[tuple[Trial, int]]:
        """The trials that may be part of the ensemble, with their best epochs; none if there is to be none."""
        ended = [t for t in self._journal.trials if t.ended] if self._study.ensemble else []
        best = ranking(ended, self._study.objective)[: self._study.keep]
        return [(t, r.epoch) for t in best if (r := t.best(self._study.objective))]

    def _tell(self, winner: Trial) -> None:
        what = "Testing" if self._study.found.builtin else "Exporting"
        first = "Training the best point on all but the test data. " if self._study.refit else ""
        self._say(f"{first}{what} the best trial, {winner.number} ...")


def export(job: Job, trial: Trial, epoch: int, members: Sequence[tuple[Trial, int]] = ()) -> dict[str, Any]:
    """Write a trial's model, in the same surroundings as the trial. Returns its `metrics` on the test split, and what
    became of the `ensemble` of `members`, if there is to be one. What is printed goes to the trial's log."""
    from raysweep.execution.executions import limit_process

    output, where = Output(), Path(job.working_dir)
    output.open(checkpoints.trial_folder(job.folder, trial.number))
    try:
        limit_process(job.gpus, job.threads)
        found = job.code.load()
        if found.export is None:
            raise RuntimeError("the function `export` is gone")
        state = _state(found, job, trial.number, epoch)
        with chdir(where) if where.is_dir() else nullcontext():
            if found.builtin:
                return _export_builtin(job, trial, epoch, state, members)
            return {"metrics": _export_own(found.export, job, trial.point, state)}
    except Exception:
        traceback.print_exc()
        raise
    finally:
        output.end()


def _state(found: Trainable, job: Job, number: int, epoch: int) -> Any:
    """The state to export; if there are several executions, the best one's."""
    folder = checkpoints.trial_folder(job.folder, number)
    if not checkpoints.epochs(folder) and not found.of_ray_tune:  # which need not report any
        raise StorageError(f"the checkpoint of trial {number} is missing")
    return checkpoints.best_state(folder, epoch)


def _export_builtin(
    job: Job, trial: Trial, epoch: int, state: Any, members: Sequence[tuple[Trial, int]]
) -> dict[str, Any]:
    """Write a built-in's model to the study's folder `best`."""
    from raysweep.execution.executions import Executions
    from raysweep.trainables.data import View

    makes = Executions(job)
    one = checkpoints.best_execution(checkpoints.trial_folder(job.folder, trial.number), epoch)
    view = job.view(one, trial.seeds[one])
    if job.refit:
        view, state = View("whole"), makes.refitted(trial.point, trial.seeds[one], epoch)
    arguments = makes.arguments(trial.point)
    data = replace(arguments.pop(makes.trainable.data_arguments()[0]), view=view)
    write = makes.trainable.export
    assert write is not None  # noqa: S101 - a built-in has one
    result = {"metrics": write(arguments, state, data, Path(job.folder) / "best")}
    return result | ({"ensemble": _ensemble(job, makes, trial, members)} if members else {})


def _ensemble(
    job: Job, makes: Executions, winner: Trial, members: Sequence[tuple[Trial, int]]
) -> dict[str, Any]:
    """Write the ensemble of those members that saw the same data as the best trial to `best/ensemble`."""
    from raysweep.execution.executions import data_key
    from raysweep.trainables.ensemble import Member, build

    name = makes.trainable.data_arguments()[0]
    key, found = data_key(makes.trainable, winner.point), []
    for trial, epoch in members:
        state = _state(makes.trainable, job, trial.number, epoch)
        if state is not None and data_key(makes.trainable, trial.point) == key:
            point = {n: v for n, v in makes.arguments(trial.point).items() if n != name}
            found.append(Member(trial.number, point, state))
    folder = Path(job.folder) / "best" / "ensemble"
    shutil.rmtree(folder, ignore_errors=True)
    module = importlib.import_module(makes.trainable.function.__module__)
    return build(found, makes.arguments(winner.point)[name], module.outputs, module.export, folder)


def _export_own(export: Callable[..., Any], job: Job, point: Point, state: Any) -> dict[str, float]:
    """Have a user's own function `export` write its model to `best/model`."""
    from raysweep.execution.executions import with_secrets
    from raysweep.tracking.models import add_code

    folder = Path(job.folder) / "best" / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    metrics = export(with_secrets(point), state, folder) or {}
    if not (folder / "MLmodel").exists():
        raise RuntimeError(f"`export` wrote no MLflow model, as {EXAMPLE} does")
    add_code(folder, job.code.files)
    return {str(k): float(v) for k, v in metrics.items()}
