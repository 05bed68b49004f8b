"""Searches for real: the study of `make run`, by the default search and by random search under promotion, beside
Optuna's TPE with its Hyperband pruner, which trains with raysweep's own `mlp` in two threads.

    python tests/benchmarks/digits.py [--seeds 20]

For each seed the best trial's accuracy on the validation and on the test split, at its best epoch, and the seconds of
the search: from the first trial asked for to the last one ended. Means, with intervals of 90 % from drawing seeds anew.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import raysweep
from raysweep import Study
from raysweep.execution.ray_session import connected
from raysweep.trainables.data import load
from raysweep.trainables.mlp import export, mlp

FILE = Path(__file__).parents[2] / "search_spaces" / "digits_mlp.yaml"
Found = tuple[float, float, float]
"""Accuracy on validation and on test, and seconds."""


def ours(seed: int, name: str, **changes: Any) -> Found:
    raw = Study.load(FILE).to_dict() | {"name": f"{name}{seed}", "seed": seed} | changes
    result = raysweep.run(Study(**raw), store="off", verbose=0)
    assert result.best is not None and result.best.value is not None
    began, ended = min(t.asked for t in result.trials), max(t.finished for t in result.trials)
    return result.best.value, result.test["test_accuracy"], ended - began


def optuna_alone(seed: int, trials: int) -> Found:
    """What a person writes who knows Optuna well."""
    import copy

    import optuna
    import torch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    data, best = load("digits"), (0.0, {}, {})

    def objective(trial: optuna.Trial) -> float:
        nonlocal best
        layers = trial.suggest_int("layers", 1, 3)
        point: dict[str, Any] = {
            "epochs": 30,
            "schedule": "cosine",
            "layers": layers,
            "units": [trial.suggest_int(f"units_{i}", 32, 256, log=True) for i in range(layers)],
            "activation": trial.suggest_categorical("activation", ["relu", "tanh", "sigmoid"]),
            "dropout": trial.suggest_float("dropout", 0.0, 0.5),
            "optimizer": trial.suggest_categorical("optimizer", ["adam", "sgd"]),
            "lr": trial.suggest_float("lr", 1e-3, 1e-1, log=True),
            "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128]),
        }
        if point["optimizer"] == "sgd":
            point["momentum"] = trial.suggest_float("momentum", 0.5, 0.99)
        highest = 0.0
        for epoch, (metrics, state) in enumerate(mlp(data=data, seed=seed, **point), 1):
            value = metrics["val_accuracy"]
            if value > best[0]:
                best = (value, point, copy.deepcopy(state))
            highest = max(highest, value)
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return highest

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.HyperbandPruner(max_resource=30),
    )
    began = time.perf_counter()
    study.optimize(objective, n_trials=trials, n_jobs=2)
    seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        return best[0], export(best[1], best[2], data, Path(folder))["test_accuracy"], seconds


def interval(values: list[float]) -> str:
    rng = np.random.default_rng(0)
    means = [rng.choice(values, len(values)).mean() for _ in range(2000)]
    low, high = np.quantile(means, (0.05, 0.95))
    return f"{np.mean(values):7.4f} ({low:.4f} to {high:.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=24)
    given = parser.parse_args()
    os.chdir(tempfile.mkdtemp())
    plan = {"name": "asha", "kind": "promotion"}
    found: dict[str, list[Found]] = {"raysweep auto": [], "raysweep random": [], "Optuna, Hyperband": []}
    with connected(None, Path("ray.log")):
        for seed in range(given.seeds):
            found["raysweep auto"].append(ours(seed, "auto", trials=given.trials))
            random = {"algorithm": "random", "scheduler": plan, "trials": given.trials}
            found["raysweep random"].append(ours(seed, "random", **random))
            found["Optuna, Hyperband"].append(optuna_alone(seed, given.trials))
    print(f"{given.trials} trials of up to 30 epochs, {given.seeds} seeds, {os.cpu_count()} cores")
    for name, each in found.items():
        val, test, seconds = (interval([f[i] for f in each]) for i in range(3))
        print(f"  {name:18} validation {val}  test {test}  seconds {seconds}")


if __name__ == "__main__":
    main()
