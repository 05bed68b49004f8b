"""Tuning tables as tasks: a space, and the curve that a point would have. Read from a folder that is not part of the
project: LCBench's surrogate (YAHPO), TaskSet's curves, HPOBench's MLPs, FC-Net, NAS-Bench-201.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import math
import pickle
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raysweep import Choice, Float, Int, Space
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
    pool: tuple[tuple[Point, float], ...]
    """The pool's points and losses."""
    related: tuple[tuple[Point, float], ...] = ()
    """Another task's, of the same table."""

    @property
    def table(self) -> str:
        """The table that it belongs to."""
        return self.name.partition("/")[0]


def task_of(name: str, space: Space, curve: Callable[[Point], list[tuple[float, float]]]) -> Task:
    """The task of a space and its curves; what is good in it is measured on random points."""
    rng = random.Random(f"{name}/pool")
    points = [space.sample(rng) for _ in range(POOL)]
    curves = [curve(p) for p in points]
    found = [min((loss for _, loss in c if math.isfinite(loss)), default=math.inf) for c in curves]
    losses, pool = sorted(found), tuple(zip(points, found, strict=True))
    full = sorted(sum(seconds for seconds, _ in c) for c in curves)[POOL // 2]
    good, best, middle = losses[POOL // 100], losses[0], losses[POOL // 2]
    return Task(name, space, curve, len(curves[0]), good, best, middle, full, pool)


# --- LCBench: perceptrons on tabular data, epochs 1 to 52, seconds as measured ------------------------------

LCBENCH = ("126026", "146212", "167104", "168330", "189354", "189908")
OTHERS = ("126029", "167083", "167152", "167168", "167184", "167200", "168335", "189862", "34539", "7593")


def lcbench_others(folder: Path) -> list[Task]:
    """Ten more of its tasks, which nothing was chosen by."""
    return lcbench(folder, OTHERS)


def lcbench(folder: Path, tasks: Sequence[str] = LCBENCH) -> list[Task]:
    """Six of the 34 tasks of the surrogate, spread over the list, or others."""
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

    return [task_of(f"lcbench/{t}", space, functools.partial(curve, codes[t])) for t in tasks]


# --- TaskSet: recurrent networks, 50 evaluations, real curves; every one is said to take 2 s -----------------


NEIGHBOURS, POWER = 8, 4  # a curve is interpolated between so many, with weights of 1 / distance ** 4


def taskset(folder: Path) -> list[Task]:
    """All six tasks. A point's curve lies between those of the nearest of the 1,000 points that were trained: with
    the curve of the nearest one alone, a search that looks closely at one place would see the same again and again.
    Training diverges where it did at the nearest one."""
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
    losses = np.array([[v if v is not None else np.nan for v in row["valid"]["loss"][1:]] for row in rows])
    logs = np.log(losses)  # they are positive, and those of bad points are huge

    def curve(point: Point) -> list[tuple[float, float]]:
        place = np.log([point[n] for n in names])
        squares = (((places - place) / (high - low)) ** 2).sum(axis=1)
        near = np.argsort(squares)[:NEIGHBOURS]
        weights = np.where(np.isfinite(logs[near]), squares[near, None] + 1e-12, np.inf) ** (-POWER / 2)
        with np.errstate(invalid="ignore"):  # where all have diverged
            between = np.exp((weights * np.nan_to_num(logs[near])).sum(axis=0) / weights.sum(axis=0))
        return [(2.0, float(v)) for v in np.where(np.isfinite(logs[near[0]]), between, np.nan)]

    return task_of(f"taskset/{file.name.removesuffix('.json.gz')[-24:]}", space, curve)


# --- HPOBench: perceptrons on a grid of 30,000 points, the end only, said to take a minute -------------------


class _Plain(pickle.Unpickler):
    """Reads numbers, text, lists and mappings, and nothing that runs code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is not plain data")


def _read(file: Path) -> Any:
    return _Plain(io.BytesIO(gzip.decompress(file.read_bytes()))).load()


def hpobench(folder: Path) -> list[Task]:
    """The four tasks; the loss is 1 - balanced accuracy, the mean of five seeds."""
    return [_hpobench(file) for file in sorted((folder / "hpobench_mlp").glob("*.pkl.gz"))]


def _hpobench(file: Path) -> Task:
    table = _read(file)
    # Keys are digits, one a hyperparameter, as OptunaHub's HPOBench tables have them.
    sizes = [max(int(key[i]) for key in table) + 1 for i in range(len(next(iter(table))))]
    space = Space({f"x{i}": Int(0, size - 1) for i, size in enumerate(sizes)} | {"epochs": 1})

    def curve(point: Point) -> list[tuple[float, float]]:
        key = "".join(str(point[f"x{i}"]) for i in range(len(sizes)))
        entry = table[key]
        values = entry if isinstance(entry, list) else next(iter(entry.values()))
        return [(60.0, 1 - float(np.mean(values)))]

    return task_of(f"hpobench/{file.name.removesuffix('.pkl.gz')}", space, curve)


# --- FC-Net and NAS-Bench-201: grids and choices, the end only, said to take a minute ------------------------

FCNET = {"activation_1": 2, "activation_2": 2, "batch_size": 4, "dropout_1": 3, "dropout_2": 3, "lr": 6,
         "schedule": 2, "units_1": 6, "units_2": 6}  # fmt: skip
"""The hyperparameters in the order of a key's digits, and how many values each has."""
UNORDERED = {"activation_1", "activation_2", "schedule"}


def _digit(name: str, size: int, **link: Any) -> Choice | Int:
    return (
        Choice([f"{name}-{i}" for i in range(size)], **link)
        if name in UNORDERED
        else Int(0, size - 1, **link)
    )


def _index(value: Any) -> str:
    return str(value).rpartition("-")[2]


def fcnet(folder: Path) -> list[Task]:
    """Perceptrons of two layers; the loss is the mean squared error, the mean of four seeds."""
    space = Space({n: _digit(n, size) for n, size in FCNET.items()} | {"epochs": 1})
    return [
        _of_key("fcnet", file, space, lambda point: "".join(_index(point[n]) for n in FCNET))
        for file in sorted((folder / "fcnet").glob("*.pkl.gz"))
    ]


def conditional(folder: Path) -> list[Task]:
    """FC-Net's table through a tree: the second layer is like the first unless it is said to be its own, and
    dropout has rates only where there is any."""
    first = {n: _digit(n, FCNET[n]) for n in ("activation_1", "units_1", "batch_size", "lr", "schedule")}
    second = {n: _digit(n, FCNET[n], when={"second": "own"}) for n in ("activation_2", "units_2")}
    rates = {n: Int(0, FCNET[n] - 1, when={"dropout": True}) for n in ("dropout_1", "dropout_2")}
    space = Space(
        {**first, "second": Choice(["same", "own"]), **second, "dropout": Choice([False, True]), **rates}
        | {"epochs": 1}
    )

    def key(point: Point) -> str:
        whole = {
            "activation_2": point["activation_1"], "units_2": point["units_1"],
            "dropout_1": 0, "dropout_2": 0, **point,
        }  # fmt: skip
        return "".join(_index(whole[n]) for n in FCNET)

    return [_of_key("conditional", f, space, key) for f in sorted((folder / "fcnet").glob("*.pkl.gz"))]


def nasbench201(folder: Path) -> list[Task]:
    """Cells of six edges, each with one of five operations; the loss is 1 - accuracy, the mean of its seeds."""
    edges = [f"edge_{i}" for i in range(6)]
    space = Space({e: Choice([f"operation-{o}" for o in range(5)]) for e in edges} | {"epochs": 1})
    return [
        _of_key(
            "nasbench201", file, space, lambda point: "".join(_index(point[e]) for e in edges),
            lambda values: 1 - float(np.mean(values)) / 100,
        )
        for file in sorted((folder / "nasbench201").glob("*.pkl.gz"))
    ]  # fmt: skip


def _of_key(
    table: str,
    file: Path,
    space: Space,
    key: Callable[[Point], str],
    loss: Callable[[Any], float] = lambda values: float(np.mean(values)),
) -> Task:
    values = _read(file)
    name = f"{table}/{file.name.removesuffix('.pkl.gz')}"
    return task_of(name, space, lambda point: [(60.0, loss(values[key(point)]))])


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
    "lcbench_others": lcbench_others,
    "taskset": taskset,
    "hpobench": hpobench,
    "fcnet": fcnet,
    "nasbench201": nasbench201,
    "conditional": conditional,
    "toy": toy,
}
ENDS = {"hpobench", "fcnet", "nasbench201", "conditional"}
"""Tables that know what trainings came to in the end, and no curves."""
