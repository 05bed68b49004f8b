"""Which backbones a search chooses among: a race on samples of the data, before they see all of it.

Computing features is what costs; a linear head on those of some hundred images shows, in a moment, which backbones have
no chance. So each candidate sees a sample, what is clearly worse goes, and the sample is doubled as long as more than
two are left, a few times. The cache keeps what was computed.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from raysweep.errors import DataError, RaysweepError
from raysweep.execution.executions import Job, limit_process
from raysweep.execution.preparation import Say, as_options, got
from raysweep.journal.journal import Journal
from raysweep.storage import disk
from raysweep.study.shared import race_arguments
from raysweep.study.study import Study

KEPT = 2
SMALLEST, OF_EACH = 100, 10  # images of a first sample: at least so many, and so many of each class
DOUBLINGS = 4
CLEAR = (
    2.0  # standard errors by which a candidate is behind when it goes; one is enough if it is twice as slow
)

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Ran:
    """What a sample has shown of one candidate."""

    scores: Array
    """Of each image: see `exact.leave_one_out`."""
    seconds: float
    """Of computing the features of an image."""

    @property
    def mean(self) -> float:
        return float(self.scores.mean())


def race(study: Study, journal: Journal, job: Job, say: Say) -> Study:
    """The study with the best of its candidates. Raises DataError when there are none."""
    (reference,) = job.data.values()
    candidates = race_arguments(study, job.fetched)
    data = ray.get(reference)
    order = sample_order(data.y_train, len(data.classes))
    module, limits = study.found.function.__module__, (study.per_trial.gpu, study.per_trial.threads)
    task = ray.remote(**as_options(study))(_sampled)
    say(f"Racing {len(candidates)} backbones on samples of {len(order):,} images ...")

    def run(names: Sequence[str], rows: Array) -> dict[str, Ran]:
        tasks = {n: task.remote(module, candidates[n], reference, rows, *limits) for n in names}
        results = {name: got(one) for name, one in tasks.items()}
        for name, why in results.items():
            if isinstance(why, str) and not study.proposes:
                raise DataError(why)
            if isinstance(why, str):
                say(f"Racing: {name} is left out: {why}")
        there = {n: r for n, r in results.items() if not isinstance(r, str)}
        return {n: Ran(np.array(r["scores"]), r["seconds"]) for n, r in there.items()}

    kept, known, images = compete(list(candidates), order, len(data.classes), run, say)
    each = {n: {"mean": r.mean, "images": len(r.scores), "seconds": r.seconds} for n, r in known.items()}
    narrowed = study.narrowed(kept)
    say(f"Racing: kept {' and '.join(kept)}; {images:,} images were seen.")
    journal.append("raced", kept=kept, images=images, each=each)
    journal.append("changed", study=narrowed.to_dict(), added={})
    disk.write(journal.path.parent / "study.yaml", narrowed.to_yaml())
    return narrowed


def compete(
    names: list[str],
    order: Array,
    classes: int,
    run: Callable[[Sequence[str], Array], dict[str, Ran]],
    say: Say,
) -> tuple[list[str], dict[str, Ran], int]:
    """The best of the candidates, what is known of each after the race, and how many images were seen, counting each
    candidate's."""
    size, images = min(len(order), max(SMALLEST, OF_EACH * classes)), 0
    most, alive, seen = min(len(order), size << DOUBLINGS), names, 0
    known: dict[str, Ran] = {}
    while alive:
        images, seen = images + (size - seen) * len(alive), size
        found = run(alive, np.sort(order[:size]))
        alive = survivors(found)
        known |= found
        for name in [n for n in found if n not in alive]:
            say(f"Racing: {name} goes after {size:,} images ({found[name].mean:.3f}).")
        if len(alive) <= KEPT or size == most:
            break
        size = min(2 * size, most)
    if not known:
        raise DataError("backbone: none of the candidates can be had here")
    best = best_of({name: known[name] for name in alive or known})
    return [name for name in names if name in best], known, images


def survivors(found: dict[str, Ran]) -> list[str]:
    """The candidates that are not clearly behind the best one on the same images."""
    leader = best_of(found)[0] if found else ""
    alive = []
    for name, ran in found.items():
        ahead = found[leader].scores - ran.scores
        error = float(ahead.std()) / math.sqrt(len(ahead))
        slow = ran.seconds > 2 * found[leader].seconds
        if ahead.mean() <= (CLEAR / 2 if slow else CLEAR) * error:
            alive.append(name)
    return alive


def best_of(known: dict[str, Ran], count: int = KEPT) -> list[str]:
    """The best ones by their means, and of equal ones the fastest."""
    return sorted(known, key=lambda n: (-known[n].mean, known[n].seconds))[:count]


def sample_order(y: Array, classes: int) -> Array:
    """The training examples in an order of which every beginning has each class in its share."""
    order = np.random.default_rng(0).permutation(len(y))
    if not classes:
        return order
    place = np.empty(len(y))
    for c in range(classes):
        mine = np.flatnonzero(y[order] == c)
        place[mine] = (np.arange(len(mine)) + 0.5) / max(1, len(mine))
    return order[np.argsort(place, kind="stable")]


def _sampled(
    module: str, arguments: dict[str, Any], data: Any, rows: Array, gpus: float, threads: int
) -> dict[str, Any] | str:
    """What the trainable says of a candidate; a sentence if it cannot be had."""
    limit_process(gpus, threads)
    try:
        found: dict[str, Any] = importlib.import_module(module).sampled(arguments, data, rows)
        return found
    except RaysweepError as error:
        return str(error)
