"""How far chance alone moves a trial's value, and what follows from it: which trials tie with the best, and how much
of the best one's lead is luck."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysweep.study.objective import Objective
from raysweep.trial import Trial

TOP = 5  # trials whose curves say how much a value changes from one epoch to the next
TAIL = 4  # epochs at the end of a curve, at least
DRAWS = 1000  # of the parametric bootstrap


@dataclass(frozen=True)
class Noise:
    """The standard error of one trial's value, in the metric's units, and where it is from."""

    error: float = 0.0
    """0 if nothing is known of it."""
    sampling: float | None = None
    """Of a share of `examples`: sqrt(p (1 - p) / n)."""
    seeds: float | None = None
    """The standard deviation between a point's executions, divided by the root of their number."""
    epochs: float | None = None
    """The standard deviation of the last epochs around a straight line; used if nothing better is known."""
    examples: int = 0
    repeats: int = 1

    def __str__(self) -> str:
        """Where it is from, for a person to read."""
        parts = []
        if self.sampling is not None:
            parts.append(f"{self.examples:,} validation examples")
        if self.seeds is not None:
            parts.append(f"{self.repeats} executions of each point")
        if self.epochs is not None:
            parts.append("the last epochs of the best trials, which fluctuate that much")
        return " and ".join(parts)


def noise_of(ranked: Sequence[Trial], objective: Objective, examples: int, repeats: int) -> Noise:
    """The noise of a study's values. `ranked`: its trials, the best first. `examples`: how many the metric is a
    mean over, if that is known, else 0."""
    values = [s.value for t in ranked if (s := t.score(objective))]
    if not values:
        return Noise()
    share = examples and objective.metric.endswith("accuracy") and 0 <= values[0] <= 1
    sampling = math.sqrt(values[0] * (1 - values[0]) / examples) if share else None
    seeds = _between_executions(ranked, objective, repeats)
    if sampling is None and seeds is None:
        epochs = _between_epochs(ranked[:TOP], objective)
        return Noise(epochs or 0.0, epochs=epochs)
    error = math.hypot(sampling or 0.0, seeds or 0.0)
    return Noise(error, sampling, seeds, examples=examples if share else 0, repeats=repeats)


def _between_executions(ranked: Sequence[Trial], objective: Objective, repeats: int) -> float | None:
    """The standard error of a mean over executions, pooled over the better half of the trials."""
    if repeats < 2:
        return None
    name = f"{objective.metric}_std"
    better = ranked[: max(TOP, len(ranked) // 2)]
    spreads = [r.metrics[name] for t in better if (r := t.best(objective)) and name in r.metrics]
    return math.sqrt(statistics.fmean(s * s for s in spreads) / repeats) if spreads else None


def _between_epochs(top: Sequence[Trial], objective: Objective) -> float | None:
    """How much the last third of a curve scatters around a straight line: the median over the best trials."""
    found = []
    for trial in top:
        curve = [v for r in trial.reports if (v := objective.leading(r.metrics)) is not None]
        tail = np.array(curve[-max(TAIL, len(curve) // 3) :])
        if len(curve) >= 2 * TAIL:
            line = np.polynomial.Polynomial.fit(np.arange(len(tail)), tail, 1)
            rest = tail - line(np.arange(len(tail)))
            found.append(float(np.sqrt((rest**2).sum() / (len(tail) - 2))))
    return statistics.median(found) if found else None


def ties(ranked: Sequence[Trial], objective: Objective, noise: Noise) -> list[Trial]:
    """The trials within one standard error of the best (the one-standard-error rule of Breiman et al. 1984),
    which may be as good."""
    losses = [objective.loss(s.value) for t in ranked if (s := t.score(objective))]
    return [t for t, loss in zip(ranked, losses, strict=True) if loss <= losses[0] + noise.error]


def optimism(ranked: Sequence[Trial], objective: Objective, noise: Noise) -> float:
    """How much better the best trial looks than it is, because it is the best of many: the mean error of the winner
    when noise is added to all values again (a parametric bootstrap). 0 if the noise is not known."""
    losses = np.array([objective.loss(s.value) for t in ranked if (s := t.score(objective))])
    if not noise.error or not len(losses):
        return 0.0
    near = losses[losses <= losses.min() + 6 * noise.error]  # no other one can win
    error = np.random.default_rng(0).normal(0.0, noise.error, (DRAWS, len(near)))
    winners = (near + error).argmin(1)
    return float(-error[np.arange(DRAWS), winners].mean())
