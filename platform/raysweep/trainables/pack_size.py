"""How many perceptrons pay off as one computation: measured, once for each kind of network on a machine."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

from raysweep.trainables.features import CACHE
from raysweep.trainables.optimizers import Rule
from raysweep.trainables.perceptron import Perceptrons, Shape, loss_gradient

MOST = 64
GAIN = 0.9  # more networks pay off if they bring a step of one below this share of what it took
MEMORY = 1 << 28  # bytes of parameters, gradients and what optimizers remember
WARM, STEPS, ROUNDS = 2, 5, 3  # steps before the measurement, steps that are timed, and how often


def pays_off(shape: Shape, batch_size: int) -> int:
    """How many networks of about this shape are best trained at once, by this process, on this machine. Kept in
    a table, since measuring takes some tenths of a second."""
    rounded = shape.rounded()
    what = (
        rounded,
        batch_size,
        torch.get_num_threads(),
        torch.__version__,
        platform.processor(),
        os.cpu_count(),
    )
    key, known = repr(what), _read()
    if key not in known:
        known = _read() | {key: _measured(rounded, batch_size)}
        _write(known)
    return int(known[key])


def _measured(shape: Shape, batch_size: int) -> int:
    taken = {1: seconds(shape, batch_size, 1)}
    for size in _sizes(shape):
        taken[size] = seconds(shape, batch_size, size)
        if size >= 4 and min(taken[size], taken[size // 2]) > GAIN * taken[size // 4]:
            break  # twice in a row: one may be by chance
    enough = min(taken.values()) / GAIN
    return min(size for size, second in taken.items() if second <= enough)


def _sizes(shape: Shape) -> Iterator[int]:
    size, bytes_each = 2, 4 * 4 * shape.count
    while size <= MOST and size * bytes_each <= MEMORY:
        yield size
        size *= 2


def seconds(shape: Shape, batch_size: int, networks: int) -> float:
    """What a training step of one network takes, if so many are trained at once."""
    with torch.random.fork_rng(devices=[]):
        parameters = torch.randn(networks, shape.count) * 0.05
        x = torch.randn(networks, batch_size, shape.inputs)
    statistics = [
        (torch.zeros(networks, 1, w), torch.ones(networks, 1, w))
        for w in (shape.hidden if shape.batch_norm else ())
    ]
    stack = Perceptrons(shape, parameters, ["relu"] * networks, statistics)
    rules = [Rule("adam", row) for row in parameters]
    output = x.new_empty(networks, batch_size, shape.outputs)
    target = torch.full_like(output, 1 / shape.outputs)

    def step() -> None:
        stack.forward(x, output, training=True)
        stack.backward(loss_gradient(output, target, True, stack.gradient_buffer(output)))
        for rule, row, gradient in zip(rules, parameters, stack.gradients, strict=True):
            rule.step(row, gradient, 1e-3)

    for _ in range(WARM):
        step()
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(STEPS):
            step()
        taken.append(time.perf_counter() - began)
    return min(taken) / STEPS / networks


def _table() -> Path:
    return CACHE.parent / "packs.json"


def _read() -> dict[str, int]:
    try:
        found: dict[str, int] = json.loads(_table().read_text())
        return found
    except (OSError, ValueError):
        return {}


def _write(known: dict[str, int]) -> None:
    """Keep the table, if there is room for it: else it is measured again."""
    table = _table()
    with suppress(OSError):
        table.parent.mkdir(parents=True, exist_ok=True)
        part = table.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(known))
        part.replace(table)
