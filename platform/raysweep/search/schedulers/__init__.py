"""Schedulers decide which trials go on. Each is a fold over a journal's records, in the order they were
written. A search tells its scheduler every event as it is journalled. A resumed search replays the whole
journal to a new scheduler, which decides as the old one did."""

from __future__ import annotations

from raysweep.search.schedulers.asha import Hyperband, Promotion, Stopping
from raysweep.search.schedulers.base import MANY_EPOCHS, Decision, Scheduler
from raysweep.search.schedulers.median import Median
from raysweep.search.schedulers.population import Fork, Population
from raysweep.study.options import AshaScheduler, HyperbandScheduler, MedianScheduler, PopulationScheduler
from raysweep.study.study import Study

__all__ = ["Decision", "Fork", "Population", "Scheduler", "scheduler_of"]


def scheduler_of(study: Study) -> Scheduler:
    """A new scheduler of the kind that the study names, which has been told nothing yet."""
    plan, objective, epochs = study.scheduler, study.objective, study.most_epochs or MANY_EPOCHS
    if isinstance(plan, AshaScheduler):
        kind = Promotion if plan.kind == "promotion" else Stopping
        return kind(objective, plan.grace, plan.reduction, epochs)
    if isinstance(plan, HyperbandScheduler):
        return Hyperband(objective, plan.grace, plan.reduction, epochs, plan.brackets)
    if isinstance(plan, MedianScheduler):
        return Median(objective, plan.grace, plan.samples)
    if isinstance(plan, PopulationScheduler):
        return Population(
            study.space,
            objective,
            study.seed,
            plan.interval,
            epochs,
            study.vary,
            plan.quantile,
            plan.resample,
            plan.name == "pb2",
        )
    return Scheduler()
