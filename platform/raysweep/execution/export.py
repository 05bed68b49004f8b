"""The best trial's model as files, after the search: tested once, on the split that nothing else saw."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysweep.errors import RaysweepError
from raysweep.journal.journal import Journal
from raysweep.study.space import Point
from raysweep.study.study import Study
from raysweep.trial import Trial, best

if TYPE_CHECKING:
    from raysweep.execution.executions import Code
    from raysweep.execution.preparation import Shared


def to_export(study: Study, journal: Journal) -> tuple[Trial, int] | None:
    """The best trial and its best epoch, if they have not been exported yet."""
    winner = best(journal.trials, study.objective)
    report = winner.best(study.objective) if winner else None
    if winner is None or report is None:
        return None
    known = journal.history.best
    done = (known.get("trial"), known.get("epoch")) == (winner.number, report.epoch)
    if done and not known.get("model", True) and study.found.export is not None:
        done = False  # the function `export` was written since
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


def export_best(
    study: Study, journal: Journal, shared: Shared, winner: Trial, epoch: int, say: Callable[[str], None]
) -> None:
    """Export a trial's model at `epoch` in a task of its own, and journal its metrics on the test split."""
    import ray

    from raysweep.execution.executions import Code, data_key
    from raysweep.execution.preparation import as_options

    say(f"{'Testing' if study.found.builtin else 'Exporting'} the best trial, {winner.number} ...")
    data = shared.data[data_key(study.found, winner.point)] if study.found.builtin else None
    task = ray.remote(**as_options(study))(_export if study.found.builtin else _export_own)
    what = _Exported(
        code=Code.of(study.found),
        point=winner.point,
        number=winner.number,
        epoch=epoch,
        folder=journal.path.parent,
        fetched=shared.fetched,
        gpus=study.per_trial.gpu,  # as for a trial, so that it computes in the same way
        threads=study.per_trial.threads,
    )
    try:
        metrics, model = ray.get(task.remote(what, data))
    except ray.exceptions.RayTaskError as error:
        cause = f"{type(error.cause).__name__}: {error.cause}".splitlines()[0]
        more = "" if study.found.builtin else f" (raysweep logs {study.name} {winner.number})"
        raise RaysweepError(
            f"the best trial, {winner.number}, could not be exported: {cause}{more}"
        ) from error
    journal.append("best", trial=winner.number, epoch=epoch, metrics=metrics, model=model)


@dataclass(frozen=True, kw_only=True)
class _Exported:
    """Which model to export, and from which study."""

    code: Code
    point: Point
    number: int
    epoch: int
    folder: Path
    fetched: Mapping[str, str]
    gpus: float
    threads: int

    @property
    def trial(self) -> Path:
        return self.folder / "trials" / f"{self.number:06d}"


def _export(what: _Exported, data: Any) -> tuple[dict[str, float], bool]:
    """Write a trial's model to the study's folder `best`; if there are several executions, the best one's
    model. Returns its metrics on the test split, and whether there is a model."""
    from raysweep.execution.executions import limit_process, located
    from raysweep.storage import checkpoints

    saved = checkpoints.load(what.trial, what.epoch)
    limit_process(what.gpus, what.threads)
    found = what.code.load()
    if saved is None or found.export is None:
        raise RuntimeError(
            f"the checkpoint of trial {what.number} at epoch {what.epoch} is missing or damaged"
        )
    point = {**what.point, **located(found, what.point, what.fetched)}
    return found.export(point, saved["states"][saved["best_execution"]], data, what.folder / "best"), True


def _export_own(what: _Exported, _: Any) -> tuple[dict[str, float], bool]:
    """The same for a user's own trainable: what its function `export` writes, in `best/model`. That function
    prints to the trial's log."""
    from raysweep.execution.executions import limit_process
    from raysweep.storage import checkpoints
    from raysweep.storage.output import Output

    limit_process(what.gpus, what.threads)
    folder, output = what.folder / "best" / "model", Output()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    state = checkpoints.best_state(what.trial, what.epoch)
    output.open(what.trial)
    try:
        found = what.code.load()
        if found.export is None:
            raise RuntimeError("the function `export` is gone")
        metrics = found.export(dict(what.point), state, folder) or {}
        if not (folder / "MLmodel").exists():
            raise RuntimeError(
                "`export` wrote no MLflow model, as mlflow.pytorch.save_model(model, folder) does"
            )
        return {str(k): float(v) for k, v in metrics.items()}, True
    except Exception:
        traceback.print_exc()
        raise
    finally:
        output.end()
