"""One epoch of one point in this process, without Ray: whether a trainable keeps to its contract."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.errors import Infeasible, Problem, StudyError
from raysweep.execution.executions import Code, Executions, Job
from raysweep.execution.lockstep import Lockstep, TrialEnds
from raysweep.search.samplers import sampler_of
from raysweep.search.schedulers import scheduler_of
from raysweep.storage import checkpoints
from raysweep.study.objective import Metrics
from raysweep.study.shared import REMOTE
from raysweep.study.space import Point
from raysweep.study.study import Study


@dataclass(frozen=True)
class Tried:
    """What one epoch came to."""

    point: Point
    metrics: Metrics
    seconds: float
    state_bytes: int
    """The size of a checkpoint; 0 if the trainable yields no state."""
    ended: str = ""
    """How this point ended at once, if that says nothing of the others: it diverged, or is infeasible."""


def job_of(study: Study, folder: str) -> Job:
    """What trials of a study need in this process, without Ray."""
    return Job(
        code=Code(study.found.name),
        gpus=study.per_trial.gpu,
        objective=study.objective,
        folder=folder,
        threads=study.per_trial.threads,
        data={},
        checkpoint_every=0.0,
        milestones=scheduler_of(study).milestones,
        learns=study.learns,
        folds=study.folds,
        resplit=study.resplit,
    )


def try_one(study: Study, data: Mapping[str, Any]) -> Tried:
    """Run the first epoch of the first point. `data` holds what is loaded, by `data_key`.

    Raises StudyError when the trainable does not report what the study needs, or yields a state that cannot be
    stored, or when this cannot be tried here. An exception of the user's code is raised as it is.
    """
    if study.found.of_ray_tune:
        raise StudyError(
            [Problem("trainable", "a Ray Tune function runs in a worker of Ray only: --try cannot")]
        )
    study = study.narrowed(study.candidates[:1])
    point = next(iter(study.first()), None) or sampler_of(study).ask(0) or {}
    for name in sorted(study.found.locations & point.keys()):
        if str(point[name]).startswith(REMOTE):
            what = f"{point[name]} is in MLflow, and is fetched when the search begins: --try cannot"
            raise StudyError([Problem(f"space.{name}", what)])
    with ThreadPoolExecutor(1) as settling, tempfile.TemporaryDirectory(prefix="raysweep-") as scratch:
        job = job_of(study, scratch)
        makes, began, trial = Executions(job, data), time.perf_counter(), None
        try:
            executions = makes.create(point, [0], [None])
            trial = Lockstep(executions, Path(scratch), job, None, settling, 0, attempt=1)
            metrics = trial.advance()
            if metrics is None:
                raise TrialEnds("failed", "it ended before its first report")
            seconds = time.perf_counter() - began
            trial.save_when_due(study.objective.leading(metrics), now=True)
        except (TrialEnds, Infeasible) as end:
            status = "infeasible" if isinstance(end, Infeasible) else end.status
            if status != "failed":
                return Tried(point, {}, time.perf_counter() - began, 0, f"{status}: {end}")
            raise StudyError([Problem(f"{study.found.name} at {point}", str(end))]) from None
        finally:
            if trial is not None:
                trial.close()
        saved = checkpoints.newest(Path(scratch), 1)
        written = sum(p.stat().st_size for p in Path(scratch).glob("*.pt"))
        stored = saved is not None and saved["states"] != [None]
    return Tried(point, metrics, seconds, written if stored else 0)
