"""Export the best trial's model and test it, once, after the search, on the split that nothing else saw."""

from __future__ import annotations

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
    from raysweep.execution.preparation import Shared


def to_export(study: Study, journal: Journal) -> tuple[Trial, int] | None:
    """The best trial and its best epoch, if that model has not been tested and exported yet."""
    winner = best(journal.trials, study.objective)
    report = winner.best(study.objective) if winner else None
    if winner is None or report is None or study.found.export is None:
        return None
    known = journal.history.best
    done = (known.get("trial"), known.get("epoch")) == (winner.number, report.epoch)
    return None if done else (winner, report.epoch)


def test_metrics(study: Study, journal: Journal) -> dict[str, float]:
    """The metrics of the best trial on the test split, if it was tested."""
    metrics: dict[str, float] = journal.history.best.get("metrics", {})
    return {} if to_export(study, journal) else metrics


def export_best(
    study: Study, journal: Journal, shared: Shared, winner: Trial, epoch: int, say: Callable[[str], None]
) -> None:
    """Export a trial's model at `epoch` in a task of its own, and journal its metrics on the test split."""
    import ray

    from raysweep.execution.executions import data_key
    from raysweep.execution.preparation import as_options

    say(f"Testing the best trial, {winner.number} ...")
    data = shared.data[data_key(study.found, winner.point)]
    task = ray.remote(**as_options(study))(_export)
    what = _Exported(
        trainable=study.found.name,
        point=winner.point,
        number=winner.number,
        epoch=epoch,
        folder=journal.path.parent,
        fetched=shared.fetched,
        gpus=study.per_trial.gpu,  # as for a trial, so that it computes in the same way
        threads=study.per_trial.threads,
    )
    try:
        metrics = ray.get(task.remote(what, data))
    except ray.exceptions.RayTaskError as error:
        raise RaysweepError(
            f"the best trial, {winner.number}, could not be exported: {error.cause}"
        ) from error
    journal.append("best", trial=winner.number, epoch=epoch, metrics=metrics)


@dataclass(frozen=True, kw_only=True)
class _Exported:
    """Which model to export, and from which study."""

    trainable: str
    point: Point
    number: int
    epoch: int
    folder: Path
    fetched: Mapping[str, str]
    gpus: float
    threads: int


def _export(what: _Exported, data: Any) -> dict[str, float]:
    """Write a trial's model to the study's folder `best`; if there are several executions, the best one's
    model. Returns its metrics on the test split."""
    from raysweep.execution.executions import limit_process, located
    from raysweep.storage import checkpoints
    from raysweep.trainables.trainable import find

    saved = checkpoints.load(what.folder / "trials" / f"{what.number:06d}", what.epoch)
    limit_process(what.gpus, what.threads)
    found = find(what.trainable)
    if saved is None or found.export is None:
        raise RuntimeError(
            f"the checkpoint of trial {what.number} at epoch {what.epoch} is missing or damaged"
        )
    point = {**what.point, **located(found, what.point, what.fetched)}
    return found.export(point, saved["states"][saved["best_execution"]], data, what.folder / "best")
