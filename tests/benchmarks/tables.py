"""Tuning tables as tasks: a space, and the curve that a point would have. Read from a folder that is not part of the
project: LCBench's surrogate (YAHPO), TaskSet's curves, HPOBench's MLPs.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import math
import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raysweep import Float, Int, Space
from raysweep.study.space import Point

POOL = 1000  # points whose best values say what is good


@dataclass(frozen=True)
class Task:
    """`curve(point)`: of each epoch the seconds it takes and the loss after it, NaN where training diverged."""

    name: str
    space: Space
    curve: Callable[[Point], list[tuple[float, float]]]
    epochs: int
    target: float
    """The loss that one in a hundred points of the pool reaches."""
    best: float
    middle: float
    """The median of the pool, where regret is 1."""
    full: float
    """Seconds that a whole training takes, the median of the pool."""


def task_of(name: str, space: Space, curve: Callable[[Point], list[tuple[float, float]]]) -> Task:
    """The task of a space and its curves; what is good in it is measured on random points."""
    rng = random.Random(f"{name}/pool")
    curves = [curve(space.sample(rng)) for _ in range(POOL)]
    losses = sorted(min((loss for _, loss in c if math.isfinite(loss)), default=math.inf) for c in curves)
    full = sorted(sum(seconds for seconds, _ in c) for c in curves)[POOL // 2]
    return Task(name, space, curve, len(curves[0]), losses[POOL // 100], losses[0], losses[POOL // 2], full)


# --- LCBench: perceptrons on tabular data, epochs 1 to 52, seconds as measured ------------------------------

LCBENCH = ("126026", "146212", "167104", "168330", "189354", "189908")


def lcbench(folder: Path) -> list[Task]:
    """Six of the 34 tasks of the surrogate, spread over the list."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "lcbench_surrogate" / "model.onnx"), options)
    codes = json.loads((folder / "lcbench_surrogate" / "encoding.json").read_text())["OpenML_task_id"]
    space = Space(
        {
            "batch_size": Int(16, 512, log=True),
            "learning_rate": Float(1e-4, 1e-1, log=True),
            "momentum": Float(0.1, 0.99),
            "weight_decay": Float(1e-5, 1e-1),
            "num_layers": Int(1, 5),
            "max_units": Int(64, 1024, log=True),
            "max_dropout": Float(0.0, 1.0),
            "epochs": 52,
        }
    )
    names = [n for n in space if n != "epochs"]

    def curve(code: int, point: Point) -> list[tuple[float, float]]:
        rows = np.empty((52, 8), np.float32)
        rows[:, 0] = np.arange(1, 53)
        rows[:, 1:] = [point[n] for n in names]
        told = session.run(None, {"x_cat": np.full((52, 1), code, np.int32), "x_cont": rows})[0]
        until = np.maximum.accumulate(told[:, 0])  # the surrogate's time is not quite monotone
        seconds = np.maximum(np.diff(until, prepend=0.0), 1e-3)
        return [(float(s), 1 - float(a) / 100) for s, a in zip(seconds, told[:, 1], strict=True)]

    return [task_of(f"lcbench/{t}", space, functools.partial(curve, codes[t])) for t in LCBENCH]


# --- TaskSet: recurrent networks, 50 evaluations, real curves; every one is said to take 2 s -----------------


def taskset(folder: Path) -> list[Task]:
    """All six tasks. A point has the curve of the nearest of the 1,000 that were trained."""
    return [_taskset(file) for file in sorted((folder / "taskset").glob("*.json.gz"))]


def _taskset(file: Path) -> Task:
    rows = json.loads(gzip.decompress(file.read_bytes()))
    names = list(rows[0]["hp"])
    places = np.log([[row["hp"][n] for n in names] for row in rows])
    low, high = places.min(axis=0), places.max(axis=0)
    space = Space(
        {
            n: Float(float(np.exp(a)), float(np.exp(b)), log=True)
            for n, a, b in zip(names, low, high, strict=True)
        }
        | {"epochs": 50}
    )
    # Point 0 of a curve is before training.
    losses = [[math.nan if v is None else float(v) for v in row["valid"]["loss"][1:]] for row in rows]

    def curve(point: Point) -> list[tuple[float, float]]:
        place = np.log([point[n] for n in names])
        nearest = int(np.argmin((((places - place) / (high - low)) ** 2).sum(axis=1)))
        return [(2.0, loss) for loss in losses[nearest]]

    return task_of(f"taskset/{file.name.removesuffix('.json.gz')[-24:]}", space, curve)


# --- HPOBench: perceptrons on a grid of 30,000 points, the end only, said to take a minute -------------------


class _Plain(pickle.Unpickler):
    """Reads numbers, text, lists and mappings, and nothing that runs code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is not plain data")


def hpobench(folder: Path) -> list[Task]:
    """The four tasks; the loss is 1 - balanced accuracy, the mean of five seeds."""
    return [_hpobench(file) for file in sorted((folder / "hpobench_mlp").glob("*.pkl.gz"))]


def _hpobench(file: Path) -> Task:
    table = _Plain(io.BytesIO(gzip.decompress(file.read_bytes()))).load()
    # Keys are digits, one a hyperparameter, as OptunaHub's HPOBench tables have them.
    sizes = [max(int(key[i]) for key in table) + 1 for i in range(len(next(iter(table))))]
    space = Space({f"x{i}": Int(0, size - 1) for i, size in enumerate(sizes)} | {"epochs": 1})

    def curve(point: Point) -> list[tuple[float, float]]:
        key = "".join(str(point[f"x{i}"]) for i in range(len(sizes)))
        entry = table[key]
        values = entry if isinstance(entry, list) else next(iter(entry.values()))
        return [(60.0, 1 - float(np.mean(values)))]

    return task_of(f"hpobench/{file.name.removesuffix('.pkl.gz')}", space, curve)


# --- a bowl, which needs no table: to see that all of it runs ------------------------------------------------


def toy(folder: Path) -> list[Task]:
    """One task of nine epochs of a second each."""
    space = Space({"x": Float(0.0, 1.0), "y": Float(1e-3, 1.0, log=True), "epochs": 9})

    def curve(point: Point) -> list[tuple[float, float]]:
        end = (point["x"] - 0.3) ** 2 + (math.log10(point["y"]) + 2) ** 2
        return [(1.0, end + 1 / epoch) for epoch in range(1, 10)]

    return [task_of("toy/bowl", space, curve)]


TABLES: dict[str, Callable[[Path], list[Task]]] = {
    "lcbench": lcbench,
    "taskset": taskset,
    "hpobench": hpobench,
    "toy": toy,
}
