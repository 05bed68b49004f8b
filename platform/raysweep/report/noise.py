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
NEAR = 2000  # trials that take part in it: the best
ROUNDING = 1e-9  # of a value: less is no noise


@dataclass(frozen=True)
class Noise:
    """The standard error of one trial's value, in the metric's units, and where it is from."""

    error: float = 0.0
    """0 if nothing is known of it."""
    sampling: float | None = None
    """Of a share of `examples`, by Agresti and Coull (1998)."""
    seeds: float | None = None
    """The standard deviation between a point's executions, divided by the root of their number."""
    epochs: float | None = None
    """The standard deviation of the last epochs around a straight line; used if nothing better is known."""
    examples: int = 0
    repeats: int = 1
    folds: bool = False
    """Whether the executions are folds, which differ by their examples, too."""

    def __str__(self) -> str:
        """Where it is from, for a person to read."""
        parts = []
        if self.sampling is not None:
            parts.append(f"{self.examples:,} validation examples")
        if self.seeds is not None:
            parts.append(f"{self.repeats} {'folds' if self.folds else 'executions'} of each point")
        if self.epochs is not None:
            parts.append("the last epochs of the best trials, which fluctuate that much")
        return " and ".join(parts)


def noise_of(
    ranked: Sequence[Trial],
    finalists: Sequence[Trial],
    objective: Objective,
    examples: int,
    executions: int,
    folds: int | None,
) -> Noise:
    """The noise of a search's values. `ranked`: its trials, the best first. `examples`: how many the metric is a
    mean over, if that is known, else 0. `executions`: how often each point is trained; finalists, which are trained
    more often, say how much one training differs from another."""
    values = [s.value for t in ranked if (s := t.score(objective))]
    if not values:
        return Noise()
    share = examples and objective.metric.endswith("accuracy") and 0 <= values[0] <= 1
    sampling = _of_share(values[0], examples) if share else None
    spread = _between_executions(finalists or ranked, objective, 2 if finalists else executions)
    seeds = None if spread is None else spread / math.sqrt(executions)
    if folds and seeds is not None:
        sampling = None  # folds differ by their examples, too
    if sampling is None and seeds is None:
        epochs = _between_epochs(ranked[:TOP], objective)
        return Noise(epochs or 0.0, epochs=epochs)
    error = math.hypot(sampling or 0.0, seeds or 0.0)
    repeats = len(finalists[0].seeds) if finalists else executions
    return Noise(
        error, sampling, seeds, examples=examples if share else 0, repeats=repeats, folds=bool(folds)
    )


def _of_share(value: float, examples: int) -> float:
    """The standard error of a share, as if four more examples had been seen, half of them right: that of 1 is not 0."""
    n = examples + 4
    p = (value * examples + 2) / n
    return math.sqrt(p * (1 - p) / n)


def _between_executions(ranked: Sequence[Trial], objective: Objective, executions: int) -> float | None:
    """The standard deviation between executions of a point, pooled over the better half of the trials."""
    if executions < 2:
        return None
    name = f"{objective.metric}_std"
    better = ranked[: max(TOP, len(ranked) // 2)]
    spreads = [r.metrics[name] for t in better if (r := t.best(objective)) and name in r.metrics]
    return math.sqrt(statistics.fmean(s * s for s in spreads)) if spreads else None


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
    middle = statistics.median(found) if found else 0.0
    largest = max(abs(s.value) for t in top if (s := t.score(objective)))
    return middle if middle > ROUNDING * largest else None


def ties(ranked: Sequence[Trial], objective: Objective, noise: Noise) -> list[Trial]:
    """The trials within one standard error of the best (the one-standard-error rule of Breiman et al. 1984),
    which may be as good."""
    losses = [objective.loss(s.value) for t in ranked if (s := t.score(objective))]
    return [t for t, loss in zip(ranked, losses, strict=True) if loss <= losses[0] + noise.error]


def optimism(ranked: Sequence[Trial], objective: Objective, noise: Noise) -> float:
    """About how much better the best trial looks than it is, as the best of many. 0 if the noise is not known.

    A parametric bootstrap: the values, shrunk by as much as noise has spread them (empirical Bayes, as in Efron 2011),
    get new noise, and the error of the winner counts. The errors are taken as independent; those of trials that are
    judged by the same examples are less so, and the best of them is less lucky.
    """
    losses = np.sort([objective.loss(s.value) for t in ranked if (s := t.score(objective))])
    if not noise.error or not len(losses):
        return 0.0
    near = losses[losses <= losses[0] + 6 * noise.error][:NEAR]  # no other one can win
    variance = float(near.var())
    kept = max(0.0, 1 - noise.error**2 / variance) if variance else 0.0
    error = np.random.default_rng(0).normal(0.0, noise.error, (DRAWS, len(near)))
    winners = (near.mean() + kept * (near - near.mean()) + error).argmin(1)
    return float(-error[np.arange(DRAWS), winners].mean())
