"""The kinds of transfer beside training from scratch: digits 5 to 9 by 63 examples, from a network that knows 0 to 4.

The source is trained first (search_spaces/digits_source.yaml's network). Then each kind, scratch included, and also the
head that is solved exactly and fine-tuning that starts from it, gets the same number of random points of the same
ranges, on three splits of the data; the best of them by validation counts, and its mean and spread over the splits are
shown, with the test accuracy of the same epoch's network beside it.

    python tests/benchmarks/kinds.py [--points 8] [--seeds 3]
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from raysweep.trainables.data import load_images
from raysweep.trainables.transfer import export, transfer

KINDS: dict[str, dict[str, Any]] = {
    "scratch": {"transfer": "scratch"},
    "feature": {"transfer": "feature"},
    "feature, exact": {"transfer": "feature", "solver": "exact"},
    "model": {"transfer": "model"},
    "model from the probe": {"transfer": "model", "start": "probe"},
    "relation": {"transfer": "relation"},
}
NETWORK: dict[str, Any] = {"backbone": "shufflenet_v2_x0_5", "size": 32, "epochs": 15, "schedule": "cosine"}


def point(rng: random.Random) -> dict[str, Any]:
    """A random point of digits_transfer.yaml's space; each kind is given the same ones, and makes use of its own."""
    return {
        "lr": 10 ** rng.uniform(-3, -2),
        "batch_size": rng.choice([8, 16]),
        "backbone_lr": 10 ** rng.uniform(-1, 0),
        "norm": rng.choice(["batch", "frozen"]),
        "relation": 10 ** rng.uniform(-1.5, 0.5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    work = Path(tempfile.mkdtemp())
    shared = {**NETWORK, "cache_dir": str(work / "cache")}
    known = load_images("digits", classes="0, 1, 2, 3, 4")
    learn = {**shared, "transfer": "scratch", "weights": "none", "lr": 3e-3}
    *_, (metrics, state) = transfer(data=known, **learn)
    export(learn, state, known, work / "source")
    print(f"source: val_accuracy {metrics['val_accuracy']:.4f} on 0 to 4", flush=True)
    for kind, arguments in KINDS.items():
        found, tested, began = [], [], time.perf_counter()
        for seed in range(given.seeds):
            rng, best = random.Random(seed), (-1.0, {}, {})
            data = load_images("digits", classes="5, 6, 7, 8, 9", validation=0.46, test=0.47, split_seed=seed)
            for _ in range(given.points):
                tried = {
                    **shared,
                    **point(rng),
                    **arguments,
                    "weights": str(work / "source"),
                    "seed": seed,
                }
                for metrics, state in transfer(data=data, **tried):
                    if metrics["val_accuracy"] > best[0]:
                        best = (metrics["val_accuracy"], tried, copy.deepcopy(state))
            found.append(best[0])
            tested.append(export(best[1], best[2], data, work / "tested")["test_accuracy"])
        told = [f"{statistics.mean(v):.4f} +- {statistics.stdev(v):.4f}" for v in (found, tested)]
        print(f"{kind:20} val {told[0]}  test {told[1]}  ({time.perf_counter() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
