"""Ensembles of networks that are trained already: greedy selection with replacement (Caruana et al. 2004)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ROUNDS = 30  # additions to the ensemble; its weights are multiples of one over them

Array = NDArray[np.float64]


def select(outputs: Array, y: NDArray[Any], classes: bool) -> list[float]:
    """The weight of each model in the ensemble that is best on these examples.

    `outputs` are probabilities `[models, examples, classes]`, or for a regression numbers `[models, examples, 1]`;
    `y` are the classes' indices or the numbers. Beginning with none, the model that lowers the loss of the mean the
    most is added, again and again; the best ensemble on the way counts.
    """
    chosen: list[int] = []
    total, best, kept = np.zeros_like(outputs[0]), np.inf, 0
    for count in range(1, ROUNDS + 1):
        losses = [_loss((total + one) / count, y, classes) for one in outputs]
        chosen.append(int(np.argmin(losses)))
        total = total + outputs[chosen[-1]]
        if losses[chosen[-1]] < best:
            best, kept = losses[chosen[-1]], count
    return [chosen[:kept].count(i) / kept for i in range(len(outputs))]


def _loss(mean: Array, y: NDArray[Any], classes: bool) -> float:
    """The log loss of probabilities, or the mean squared error of numbers."""
    if classes:
        return float(-np.log(np.clip(mean[np.arange(len(y)), y.astype(int)], 1e-12, None)).mean())
    return float(((mean[:, 0] - y) ** 2).mean())
