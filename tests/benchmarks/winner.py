"""Does it help on test data: finalists, folds, other splits, refitting the winner, an ensemble?

    python tests/benchmarks/winner.py --seeds 20

Each seed is a search of 30 perceptrons, whose data have few validation examples (100), so that luck counts. The test
split is large, and looked at for each way of choosing from the *same* search. What is printed is the difference in test
accuracy to the plain way (the trial with the best validation accuracy), in points, paired over the seeds, with a 95 %
interval from a bootstrap. The trials run in this process, without Ray: what is compared does not depend on that.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn import datasets

from raysweep import Study
from raysweep.search.samplers import sampler_of
from raysweep.trainables.data import Data, View, load
from raysweep.trainables.ensemble import select
from raysweep.trainables.mlp import export, mlp
from raysweep.trainables.predict import Predictor
from raysweep.trial import Report, Trial

TRIALS, EPOCHS, TOP, REPEATS, FOLDS, MEMBERS = 30, 10, 5, 5, 5, 10
SPACE = {
    "epochs": EPOCHS,
    "layers": {"int": [1, 3]},
    "units": {"int": [8, 128], "log": True, "each": "layers"},
    "activation": ["relu", "tanh"],
    "dropout": {"float": [0.0, 0.5]},
    "lr": {"float": [1e-4, 1e-1], "log": True},
    "batch_size": [16, 32, 64],
}


@dataclass
class Trained:
    """One execution of a point, at its best epoch."""

    point: dict[str, Any]
    seed: int
    value: float
    epoch: int
    state: dict[str, Any]


def data_of(name: str, seed: int, folder: Path) -> Data:
    """A data set with about 100 validation examples and a large test split."""
    if name == "digits":
        return load("digits", validation=100 / 1797, test=0.5, split_seed=seed)
    frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
    path = folder / f"{name}.csv"
    frame.to_csv(path, index=False)
    return load(str(path), validation=min(0.15, 100 / len(frame)), test=0.4, split_seed=seed)


def trained(data: Data, point: dict[str, Any], seed: int, epochs: int = EPOCHS) -> Trained:
    """Train a point for so many epochs; its best one counts, or the last if there are less than all."""
    best: Trained | None = None
    for epoch, (metrics, state) in enumerate(mlp(data, seed=seed, **point), 1):
        if epochs < EPOCHS:
            best = Trained(point, seed, metrics["val_accuracy"], epoch, state)
        elif best is None or metrics["val_accuracy"] > best.value:
            best = Trained(
                point, seed, metrics["val_accuracy"], epoch, {"model": copy.deepcopy(state["model"])}
            )
        if epoch == epochs:
            break
    assert best is not None
    return best


def executed(
    data: Data, point: dict[str, Any], seeds: list[int], kind: str = ""
) -> tuple[float, list[Trained]]:
    """Several executions of a point; the mean of their values at the epoch that is best on average."""
    views = [
        View("fold", i, FOLDS) if kind == "folds" else View("resplit", s) if kind else None
        for i, s in enumerate(seeds)
    ]
    runs = [trained(replace(data, view=view), point, seed) for view, seed in zip(views, seeds, strict=True)]
    return statistics.fmean(r.value for r in runs), runs


def search(data: Data, seed: int, kind: str = "") -> list[tuple[float, list[Trained]]]:
    """The trials of a search, the best first."""
    study = Study(
        trainable="mlp", maximize="val_accuracy", trials=TRIALS, seed=seed, scheduler="none", space=SPACE
    )
    sampler, found = sampler_of(study), []
    for number in range(TRIALS):
        point = sampler.ask(number)
        assert point is not None
        seeds = [1000 * number + i for i in range(FOLDS if kind == "folds" else 1)]
        value, runs = executed(data, point, seeds, kind)
        found.append((value, runs))
        sampler.tell(Trial(number, point, "completed", (Report(1, {"val_accuracy": value}, 0.0),)))
    return sorted(found, key=lambda one: -one[0])


def tested(data: Data, one: Trained) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        return export(one.point, one.state, data, Path(scratch))["test_accuracy"]


def refitted(data: Data, one: Trained) -> float:
    """The test accuracy of a point that is trained on all but the test data, for its best number of epochs."""
    whole = replace(data, view=View("whole"))
    again = trained(whole, one.point, one.seed, one.epoch) if one.epoch < EPOCHS else last(whole, one)
    return tested(data, again)


def last(data: Data, one: Trained) -> Trained:
    """A point after all its epochs."""
    *_, (_, state) = mlp(data, seed=one.seed, **one.point)
    return replace(one, state=state)


def ensemble(data: Data, members: list[Trained]) -> float:
    """The test accuracy of the members' ensemble, whose weights are chosen on the validation data."""
    outputs: dict[str, list[np.ndarray]] = {"val": [], "test": []}
    for one in members:
        with tempfile.TemporaryDirectory() as scratch:
            export(one.point, one.state, data, Path(scratch))
            network = Predictor(Path(scratch)).network
        with torch.inference_mode():
            for split, x in (("val", data.x_val), ("test", data.x_test)):
                pixels = torch.as_tensor(x)
                inputs = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
                outputs[split].append(network(inputs).softmax(1).double().numpy())
    weights = select(np.array(outputs["val"]), data.y_val, True)
    mean = np.tensordot(weights, np.array(outputs["test"]), 1)
    return float((mean.argmax(1) == data.y_test).mean())


def compared(data: Data, seed: int) -> dict[str, float]:
    """The test accuracy of each way to choose."""
    plain = search(data, seed)
    best = plain[0][1][0]
    again = [
        executed(data, runs[0].point, [10**6 + seed * 100 + i for i in range(REPEATS)])
        for _, runs in plain[:TOP]
    ]
    _, final = max(again, key=lambda one: one[0])
    winner = max(final, key=lambda r: r.value)
    _, folded = search(data, seed, "folds")[0]
    _, split = search(data, seed, "resplit")[0]
    return {
        "plain": tested(data, best),
        "refit": refitted(data, best),
        "finalists": tested(data, winner),
        "finalists, refit": refitted(data, winner),
        "folds": tested(data, max(folded, key=lambda r: r.value)),
        "folds, refit": refitted(data, max(folded, key=lambda r: r.value)),
        "resplit": tested(data, split[0]),
        "resplit, refit": refitted(data, split[0]),
        "ensemble": ensemble(data, [runs[0] for _, runs in plain[:MEMBERS]]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--data", nargs="+", default=["digits", "breast_cancer"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.data:
            rows = [compared(data_of(name, seed, Path(scratch)), seed) for seed in range(options.seeds)]
            base = np.array([row["plain"] for row in rows])
            print(f"{name}, {options.seeds} seeds: plain {base.mean():.4f}", flush=True)
            for way in list(rows[0])[1:]:
                gain = 100 * (np.array([row[way] for row in rows]) - base)
                means = rng.choice(gain, (10_000, len(gain))).mean(1)
                low, high = np.percentile(means, [2.5, 97.5])
                print(f"  {way:18} {gain.mean():+.2f} points [{low:+.2f}, {high:+.2f}]", flush=True)


if __name__ == "__main__":
    main()
