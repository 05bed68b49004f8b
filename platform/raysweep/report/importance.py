"""Which parameters matter, by PED-ANOVA: how much the distribution of the best tenth of the trials differs from that of
all, parameter by parameter (Watanabe et al. 2023, arXiv 2304.10255). A parameter with a condition is compared where it
is active (arXiv 2601.20800).

The numbers are those of Optuna's `PedAnovaImportanceEvaluator` (a test compares them). Importing that takes three
seconds, twice as long as a whole report may.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysweep.study.coordinates import Categories, Coordinate, Integers, raw_numbers
from raysweep.study.objective import Objective
from raysweep.study.space import Space
from raysweep.trial import Trial

ENOUGH = 30  # trials that it takes
MOST = 2000  # trials that are looked at: a sample of more
TOP = 0.1  # the share of the trials that are the best ones
STEPS = 50  # of the grid on which distributions of numbers are compared, at most
NARROWEST = (
    0.5 / 1.64
)  # steps: the standard deviation of a kernel, at least, so that 90 % of it is in one step
DRAWS = 40  # halves of the trials, for the interval
LOW, HIGH = 10, 90  # percentiles of the interval

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """How much one parameter matters. All parameters together have 1."""

    name: str
    value: float
    low: float
    high: float
    """An 80 % interval, from halves of the trials: they vary about as much as all of them."""
    trials: int
    """How many trials have the parameter."""


@dataclass(frozen=True)
class _Column:
    """One parameter: the place of each trial's value on a grid of `size`, or -1 where it has none."""

    places: NDArray[np.int64]
    size: int
    ordered: bool


def importances(space: Space, trials: Sequence[Trial], objective: Objective) -> list[Importance]:
    """The importance of each parameter (each value of a list), the highest first; of several objectives, for the
    leading one. None below `ENOUGH` trials."""
    scored = [(t, s.value) for t in trials if (s := t.score(objective)) and not space.check(t.point)]
    rng = np.random.default_rng(0)
    if len(scored) > MOST:
        scored = [scored[i] for i in sorted(rng.choice(len(scored), MOST, replace=False))]
    if len(scored) < ENOUGH or len({value for _, value in scored}) < 2:
        return []
    columns = _columns(space, [trial for trial, _ in scored])
    losses = np.array([objective.loss(value) for _, value in scored])
    # Halves without replacement: a trial that is drawn twice would look like a peak.
    halves = [rng.choice(len(losses), len(losses) // 2, replace=False) for _ in range(DRAWS)]
    found = _shares(columns, losses, np.arange(len(losses)))
    draws = [_shares(columns, losses, half) for half in halves]
    named = []
    for name in sorted(found, key=lambda n: -found[n]):
        low, high = np.percentile([draw[name] for draw in draws], [LOW, HIGH])
        there = int((columns[name].places >= 0).sum())
        named.append(
            Importance(name, found[name], min(float(low), found[name]), max(float(high), found[name]), there)
        )
    return named


def _columns(space: Space, trials: Sequence[Trial]) -> dict[str, _Column]:
    rows = [{c.label: (c, raw) for c, raw in raw_numbers(space, trial.point)} for trial in trials]
    known = {label: c for row in rows for label, (c, _) in row.items()}
    columns = {}
    for label, coordinate in known.items():
        size = _grid_size(coordinate)
        places = [_place(*row[label], size) if label in row else -1 for row in rows]
        columns[label] = _Column(np.array(places), size, not isinstance(coordinate.domain, Categories))
    return columns


def _grid_size(coordinate: Coordinate) -> int:
    domain = coordinate.domain
    if isinstance(domain, Categories):
        return domain.count
    if isinstance(domain, Integers):
        return min(STEPS, math.ceil(math.log2(domain.count)) + 1 if domain.log else domain.count)
    return STEPS


def _place(coordinate: Coordinate, raw: float, size: int) -> int:
    """The step of the grid that is nearest to a value; halfway, the lower one."""
    domain = coordinate.domain
    if isinstance(domain, Categories):
        return int(raw)
    low, high = (math.log(domain.low), math.log(domain.high)) if domain.log else (domain.low, domain.high)
    share = ((math.log(raw) if domain.log else raw) - low) / (high - low)
    return min(max(math.ceil(share * (size - 1) - 0.5), 0), size - 1)


def _shares(columns: dict[str, _Column], losses: Array, chosen: NDArray[np.int64]) -> dict[str, float]:
    """The importance of each parameter among the chosen trials; all together have 1."""
    mine = losses[chosen]
    best = mine <= np.partition(mine, math.ceil(TOP * len(mine)) - 1)[math.ceil(TOP * len(mine)) - 1]
    found = {name: _divergence(column, column.places[chosen], best) for name, column in columns.items()}
    total = sum(found.values())
    return {name: value / total if total else 1 / len(found) for name, value in found.items()}


def _divergence(column: _Column, places: NDArray[np.int64], best: NDArray[np.bool_]) -> float:
    """The Pearson divergence of the best from all, where the parameter is active, weighted by how often it is."""
    active = places >= 0
    if active.sum() < 2 or not (active & best).any() or column.size < 2:
        return 0.0
    density = _kernels if column.ordered else _frequencies
    every, top = (
        density(np.bincount(places[which], minlength=column.size)) + 1e-12
        for which in (active, active & best)
    )
    among_best, among_all = (active & best).sum() / best.sum(), active.mean()
    return float(among_best**2 / among_all * (every @ (top / every - 1) ** 2))


def _frequencies(counts: NDArray[np.int64]) -> Array:
    """The distribution of categories: a kernel for each of them that occurs, weighted by its count, and one for a
    uniform prior."""
    seen = np.flatnonzero(counts)
    kernels = np.full((len(seen) + 1, len(counts)), 1 / (len(seen) + 1))
    kernels[np.arange(len(seen)), seen] += 1
    kernels /= kernels.sum(1, keepdims=True)
    weights = np.append(counts[seen], 1.0)
    return np.asarray(weights / weights.sum() @ kernels)


def _kernels(counts: NDArray[np.int64]) -> Array:
    """The distribution of numbers on a grid: normal kernels, as wide as Scott's rule (1992) says, cut off at the ends,
    and a wide one as the prior."""
    seen = np.flatnonzero(counts)
    weights, size = counts[seen].astype(float), len(counts)
    total = weights.sum()
    mean = seen @ weights / total
    spread = math.sqrt((seen - mean) ** 2 @ weights / max(1, total - 1))
    upto = np.cumsum(counts[seen])
    first = np.searchsorted(upto, total // 4, side="left")
    third = min(len(seen) - 1, int(np.searchsorted(upto, total * 3 // 4, side="right")))
    width = 1.059 * min((seen[third] - seen[first]) / 1.34, spread) * total**-0.2
    observed = _masses(seen, max(width, NARROWEST), size)
    prior = _masses(np.array([(size - 1) / 2]), size, size)
    return np.asarray((weights @ observed + prior[0]) / (total + 1))


def _masses(means: NDArray[np.generic], width: float, size: int) -> Array:
    """The mass of normal kernels in each step of a grid, cut off half a step beyond its ends: `[means, size]`."""
    edges = (np.arange(size + 1) - 0.5 - np.asarray(means, float)[:, None]) / (width * math.sqrt(2))
    reached = np.frompyfunc(math.erf, 1, 1)(edges).astype(float)
    return np.asarray(np.diff(reached, axis=1) / (reached[:, -1:] - reached[:, :1]))
