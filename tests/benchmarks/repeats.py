"""What repeating each trial with other seeds costs: `repeats: 5` beside `repeats: 1`, on the same points, in one run.

Perceptrons of three sizes on the digits, 10 epochs; one trial at a time, so that only its own executions can be
trained together. Trained one after the other, five would take five times as long as one. What a search takes as a
whole stands beside it.

    python tests/benchmarks/repeats.py [--trials 8] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import raysweep
from raysweep import Float, Study
from raysweep.execution.ray_session import connected

NETWORKS = {"64-32-10": (1, 32), "64-128-128-10": (2, 128), "64-256-256-256-10": (3, 256)}
"""Hidden layers and their width."""
REPEATS = 5


def seconds(name: str, layers: int, units: int, repeats: int, trials: int) -> tuple[float, float]:
    """The median training time of a trial, and the time of the search for each trial."""
    space = {"layers": layers, "units": units, "lr": Float(1e-3, 1e-2, log=True), "epochs": 10}
    study = Study(
        name=name, trainable="mlp", space=space, maximize="val_accuracy", algorithm="random", trials=trials,
        scheduler="none", repeats=repeats, concurrency=1, seed=1,
    )  # fmt: skip
    began = time.perf_counter()
    found = raysweep.run(study).trials
    taken = time.perf_counter() - began
    assert all(t.status == "completed" and len(t.seeds) == repeats for t in found)
    return statistics.median(t.seconds for t in found[1:] or found), taken / trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.chdir(tempfile.mkdtemp())
    os.environ["MLFLOW_TRACKING_URI"] = "off"
    with connected(None, Path("ray.log")):
        for name, shape in NETWORKS.items():
            rounds = [
                [seconds(f"{name}-{n}-{i}", *shape, n, given.trials) for n in (1, REPEATS)]
                for i in range(given.rounds)
            ]
            (one, whole_one), (five, whole_five) = (
                tuple(min(r[k][what] for r in rounds) for what in range(2)) for k in range(2)
            )
            print(
                f"{name:18} training {one:.3f} s a trial, repeated {five:.3f} s: {five / one:.2f}x;"
                f" all of the search {whole_one:.2f} and {whole_five:.2f} s a trial: {whole_five / whole_one:.2f}x"
            )


if __name__ == "__main__":
    main()
