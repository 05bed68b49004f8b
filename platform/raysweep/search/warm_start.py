"""What earlier studies found, for a new one to start from: read from their journals, or from MLflow."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from raysweep.errors import JournalError, TrackingError
from raysweep.journal.history import History
from raysweep.journal.journal import Journal
from raysweep.journal.records import FILE, Record, read
from raysweep.study.objective import Objective
from raysweep.study.params import Choice
from raysweep.study.space import Point, Space, decode
from raysweep.study.study import Study
from raysweep.tracking.store import runs
from raysweep.trial import NO_RESULT, RANKED, Report, Trial

MLFLOW = "mlflow:"


def import_trials(study: Study, journal: Journal, store: str) -> Iterator[str]:
    """Journal the trials that fit from every study under `warm_start`; say for each study how many did.

    A source is the name of a study in the same folder, the path of a study's folder, or `mlflow:NAME`, a study
    in the MLflow store at `store`. A source that is already in the journal is not read again.
    """
    known = {record["source"] for record in journal.history.warm}
    for source in study.warm_start:
        if source in known:
            continue
        trials = list(
            _of_mlflow(source, study.objective, store)
            if source.startswith(MLFLOW)
            else _of_journal(source, journal.path.parent.parent)
        )
        rows = [row for trial in trials if (row := _row(trial, study)) is not None]
        journal.append("warm", source=source, trials=rows, dropped=len(trials) - len(rows))
        if not rows:
            raise JournalError(
                f"warm_start: none of the {len(trials)} trials of '{source}' fits this space and"
                f" reports {study.objective.metric}"
            )
        yield f"Imported from {source}: {len(rows)} trials; {len(trials) - len(rows)} did not fit."


def imported(history: History) -> list[list[Trial]]:
    """The trials imported from each source, with numbers below 0: a sampler learns from them, and nothing else sees
    them."""
    numbers = itertools.count(1)
    return [
        [
            Trial(
                -next(numbers),
                row["point"],
                row["status"],
                (Report(1, row["metrics"], 0.0),) if row["metrics"] else (),
            )
            for row in record["trials"]
        ]
        for record in history.warm
    ]


def fitted(space: Space, point: Point) -> Point | None:
    """`point` as a point of `space`: its values for the free parameters, or None if one is missing or
    outside."""
    found: Point = {}
    for name, p in space.items():
        if not space.active(name, found):
            continue
        if isinstance(p, Choice) and len(p.options) == 1 and p.each is None:
            found[name] = p.options[0]
        elif name in point:
            found[name] = point[name]
    return None if space.check(found) else found


def _row(trial: Trial, study: Study) -> Record | None:
    """The part of an earlier trial that is kept, or None if it does not fit or tells nothing."""
    point, status = fitted(study.space, trial.point) if trial.in_search else None, trial.status
    if not trial.ended and trial.score(study.objective):  # it may or may not go on: its result so far counts
        status = "stopped"
    # If no epoch meets the requirements, the sampler should learn just that.
    report = trial.best(study.objective) or trial.best(replace(study.objective, require=()))
    if point is None or status not in RANKED | NO_RESULT or (status in RANKED and report is None):
        return None
    metrics = dict(report.metrics) if report and status in RANKED else {}
    return {"point": point, "status": status, "metrics": metrics}


def _of_journal(source: str, studies: Path) -> list[Trial]:
    folder = studies / source if (studies / source / FILE).exists() else Path(source)
    if not (folder / FILE).exists():
        raise JournalError(f"warm_start: there is no study '{source}' in {studies}")
    return History(read(folder / FILE)[0]).trials


def _of_mlflow(source: str, objective: Objective, store: str) -> Iterator[Trial]:
    from mlflow import MlflowClient

    name, client = source.removeprefix(MLFLOW), MlflowClient(tracking_uri=store)
    experiments = [e.experiment_id for e in client.search_experiments()]
    found = False
    for run in runs(client, experiments, f"tags.role = 'trial' and tags.study = '{name}'"):
        found = True
        if "point" not in run.data.tags or "baseline" in run.data.tags:
            continue  # from a version that did not record it, or not one of the search's
        metrics = {
            m: run.data.metrics[f"best_{m}"] for m in objective.names if f"best_{m}" in run.data.metrics
        }
        yield Trial(
            int(run.data.tags["trial"]),
            decode(run.data.tags["point"]),
            run.data.tags.get("stop_reason", ""),
            (Report(1, metrics, 0.0),) if metrics else (),
        )
    if not found:
        raise TrackingError(f"warm_start: MLflow at {store} has no trials of a study '{name}'")
