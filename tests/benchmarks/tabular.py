"""A search over perceptrons on tables, beside scikit-learn's untuned perceptron and its gradient boosting.

    python tests/benchmarks/tabular.py --data breast_cancer diabetes adult.csv --splits 3

Each split of each table is searched once by `raysweep.run` for the lowest validation loss, 24 trials on this machine's
cores; what counts is the test split, which only the exports look at: that of the best trial, and that of the ensemble
which `ensemble: true` makes of the best ones. The peers have their defaults, and learn from the training and the
validation data together, which they need for nothing else. The perceptron gets the numbers scaled and the categories
one-hot, as our own; gradient boosting gets the table as it is. A name is one of scikit-learn's own tables, a path a CSV
whose last column is predicted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn import datasets, ensemble, neural_network

from raysweep import Study, run
from raysweep.journal.history import History
from raysweep.journal.records import FILE, read
from raysweep.trainables.data import _split, load
from raysweep.trainables.readers import read_table

SMALL = 5_000
"""Rows below which trials train for more epochs, on smaller batches."""


def space_of(rows: int) -> dict[str, Any]:
    """The space of search_spaces/adult_mlp.yaml; of a small table, with more epochs and smaller batches."""
    return {
        "numbers": ["standard", "piecewise"],
        "epochs": 100 if rows < SMALL else 15,
        "schedule": "cosine",
        "layers": {"int": [1, 3]},
        "units": {"int": [32, 256], "log": True},
        "dropout": {"float": [0.0, 0.5]},
        "optimizer": "adamw",
        "lr": {"float": [3e-4, 1e-2], "log": True},
        "weight_decay": {"float": [1e-4, 1e-1], "log": True},
        "batch_size": [32, 64, 128] if rows < SMALL else [128, 256, 512],
    }


def first(rows: int) -> dict[str, Any]:
    """The point that a search begins with."""
    if rows < SMALL:
        point = {"numbers": "standard", "layers": 1, "dropout": 0.0, "lr": 1e-3, "weight_decay": 1e-4}
        return point | {"units": 128, "batch_size": 64}
    point = {"numbers": "piecewise", "layers": 2, "dropout": 0.15, "lr": 2e-3, "weight_decay": 0.02}
    return point | {"units": 128, "batch_size": 256}


def searched(path: Path, split: int, trials: int, folder: Path) -> tuple[float, float, float]:
    """Our test metric, the ensemble's, and the seconds that all of `run` took."""
    rows = len(read_table(path))
    study = Study(
        name=f"{path.stem}_{split}",
        trainable="mlp",
        minimize="val_loss",
        ensemble=True,
        trials=trials,
        points=[first(rows)],
        space={"data": str(path), "split_seed": split, **space_of(rows)},
    )
    began = time.perf_counter()
    result = run(study, folder=folder, store="off", verbose=0)
    seconds = time.perf_counter() - began
    together = History(read(result.folder / FILE)[0]).best["ensemble"]["metrics"]
    if "test_accuracy" in together:
        return result.test["test_accuracy"], together["test_accuracy"], seconds
    # Of numbers, an ensemble has its root mean squared error.
    variance = load(str(path), split_seed=split).y_test.var()
    return result.test["test_r2"], float(1 - together["test_rmse"] ** 2 / variance), seconds


def peers(path: Path, split: int) -> dict[str, float]:
    """Their test metrics."""
    data, table = load(str(path), split_seed=split), read_table(path)
    y = table.iloc[:, -1].to_numpy()
    x, target = table.iloc[:, :-1], np.asarray([data.classes.index(str(v)) for v in y]) if data.classes else y
    train, val, test = _split(np.asarray(target), bool(data.classes), 0.15, 0.15, split)
    for name in x.columns:
        if not pd.api.types.is_numeric_dtype(x[name]):
            x = x.assign(**{name: x[name].astype("category")})
    both = np.concatenate([train, val])
    kind = "Classifier" if data.classes else "Regressor"
    boosting = getattr(ensemble, f"HistGradientBoosting{kind}")(
        categorical_features="from_dtype", random_state=split
    )
    perceptron = getattr(neural_network, f"MLP{kind}")(random_state=split)
    perceptron.fit(np.concatenate([data.x_train, data.x_val]), np.concatenate([data.y_train, data.y_val]))
    return {
        f"MLP{kind}": float(perceptron.score(data.x_test, data.y_test)),
        f"HistGradientBoosting{kind}": float(
            boosting.fit(x.iloc[both], target[both]).score(x.iloc[test], target[test])
        ),
    }


def table_of(name: str, folder: Path) -> Path:
    """A CSV of one of scikit-learn's tables, or the one that `name` is the path of."""
    if name.endswith(".csv"):
        return Path(name)
    frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
    frame.to_csv(path := folder / f"{name}.csv", index=False)
    return path


def spread(values: list[float]) -> str:
    return f"{np.mean(values):.4f} ({', '.join(f'{v:.4f}' for v in values)})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["breast_cancer", "diabetes"])
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--trials", type=int, default=24)
    given = parser.parse_args()
    for name in given.data:
        with tempfile.TemporaryDirectory() as scratch:
            path = table_of(name, Path(scratch))
            ours = [searched(path, split, given.trials, Path(scratch)) for split in range(given.splits)]
            theirs = [peers(path, split) for split in range(given.splits)]
        print(f"{path.stem}: test metric, mean (each split)")
        print(
            f"  raysweep, {given.trials} trials, {ours[0][2]:.0f} s    {spread([best for best, _, _ in ours])}"
        )
        print(f"  {'and their ensemble':<30} {spread([together for _, together, _ in ours])}")
        for peer in theirs[0]:
            print(f"  {peer:<30} {spread([one[peer] for one in theirs])}")


if __name__ == "__main__":
    main()
