"""Ensembles of networks that are trained already: greedy selection with replacement (Caruana et al. 2004)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysweep.trainables.data import Data

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


@dataclass(frozen=True)
class Member:
    """A trained network that may become part of an ensemble."""

    trial: int
    point: dict[str, Any]
    state: dict[str, Any]


def build(
    members: Sequence[Member],
    data: Data,
    outputs: Callable[..., tuple[Array, Array]],
    export: Callable[..., Any],
    folder: Path,
) -> dict[str, Any]:
    """Select an ensemble on the validation data and write it to `folder`, as predict.py reads it: a folder for each
    member and their weights. `outputs` and `export` are the trainable's. Returns the weight of each trial, and what the
    ensemble's mean reaches on the validation data, on which it was selected, and on the test data.
    """
    said = [outputs(m.point, m.state, data) for m in members]
    weights = select(np.array([val for val, _ in said]), data.y_val, bool(data.classes))
    kept = [(member, weight) for member, weight in zip(members, weights, strict=True) if weight]
    for i, (member, _) in enumerate(kept):
        export(member.point, member.state, data, folder / str(i))
    about = json.loads((folder / "0" / "model.json").read_text())
    (folder / "model.json").write_text(
        json.dumps({**about, "members": [weight for _, weight in kept]}, indent=2)
    )
    metrics: dict[str, float] = {}
    for name, y, part in (("val", data.y_val, 0), ("test", data.y_test, 1)):
        mean = np.tensordot(weights, np.array([one[part] for one in said]), 1)
        if data.classes:
            metrics[f"{name}_loss"] = _loss(mean, y, True)
            metrics[f"{name}_accuracy"] = float((mean.argmax(1) == y).mean())
        else:
            metrics[f"{name}_rmse"] = float(np.sqrt(_loss(mean, y, False)))
    return {"weights": {str(m.trial): weight for m, weight in kept}, "metrics": metrics}
