"""Metrics of a network's outputs beside its loss: those that a search may maximise, or minimise.

All are scikit-learn's by definition: `balanced_accuracy_score`, `f1_score` with `average="macro"`, `roc_auc_score`
with `multi_class="ovr"`, `mean_absolute_error`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def scores(output: Tensor, y: Tensor, names: Iterable[str], scale: float = 1.0) -> dict[str, float]:
    """The metrics `names` of outputs `[n, classes]` and classes `[n]`; or of outputs `[n, 1]` and numbers `[n]`, each
    in units of `scale`. A metric that has no value for these examples is not a number."""
    return {name: SCORES[name](output.double(), y) * (scale if name == "mae" else 1.0) for name in names}


def balanced_accuracy(output: Tensor, y: Tensor) -> float:
    """The mean of the classes' recalls."""
    counts = _confusion(output, y)
    samples = counts.sum(1)
    present = samples > 0
    return float((counts.diagonal()[present] / samples[present]).mean())


def f1(output: Tensor, y: Tensor) -> float:
    """The mean of the classes' F1 scores (macro F1)."""
    counts = _confusion(output, y)
    both = counts.sum(0) + counts.sum(1)
    present = both > 0
    return float((2 * counts.diagonal()[present] / both[present]).mean())


def auc(output: Tensor, y: Tensor) -> float:
    """The area under the ROC curve: of the second class if there are two, else the mean of each class against all
    others."""
    columns = [1] if output.shape[1] == 2 else range(output.shape[1])
    areas = [_area(_log_odds(output, c), y == c) for c in columns if 0 < int((y == c).sum()) < len(y)]
    return sum(areas) / len(areas) if areas and bool(output.isfinite().all()) else math.nan


def _log_odds(output: Tensor, c: int) -> Tensor:
    """Of class c, whose order is that of its probabilities; those may round to 1. Rounded, so that ties stay ties."""
    others = torch.cat([output[:, :c], output[:, c + 1 :]], 1)
    return (output[:, c] - others.logsumexp(1)).round(decimals=9)


def mae(output: Tensor, y: Tensor) -> float:
    """The mean absolute error."""
    return float((output.squeeze(1) - y).abs().mean())


def _confusion(output: Tensor, y: Tensor) -> Tensor:
    """How many examples `[class, predicted]`."""
    k = output.shape[1]
    return torch.bincount(y * k + output.argmax(1), minlength=k * k).view(k, k).double()


def _area(score: Tensor, positive: Tensor) -> float:
    """The share of pairs of a positive and a negative example in which the positive one has the higher score; ties
    count half (Mann & Whitney 1947)."""
    _, place, ties = torch.unique(score, return_inverse=True, return_counts=True)
    ranks = (ties.cumsum(0) - (ties - 1) / 2)[place]
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(score) - n)))


SCORES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "auc": auc,
    "mae": mae,
}
