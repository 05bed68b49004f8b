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

from raysweep.trainables.cuda_graph import Capture, capture, ran_out_of_memory
from raysweep.trainables.features import CACHE
from raysweep.trainables.optimizers import JoinedRule, Rule
from raysweep.trainables.perceptron import Perceptrons, Shape, loss_gradient

MOST = {"cpu": 64, "cuda": 512}
LATER = {True: 0.3, False: 0.1}
"""Twice as many at once must bring a step of one to 2 ** -LATER of what it took: 0.81, and 0.93 in a search that learns
nothing from its trials. One that does learns later from those that run at once. With so large a gain, the default
search was no worse for it in replays (tests/benchmarks/quality.py)."""
MEMORY = 1 << 28  # bytes of parameters, gradients and what optimizers remember, on a CPU
GATHERED = 64  # batches in a GPU's memory: 32 of samples, and as much again for masks and activations
WARM, STEPS, ROUNDS = 2, 5, 3  # steps before the measurement, steps that are timed, and how often


def pays_off(shape: Shape, batch_size: int, device: torch.device, learns: bool) -> int:
    """How many networks of about this shape are best trained at once, by this process, on this machine, in a search
    that `learns` from its trials or does not. Measured once, which takes some tenths of a second."""
    rounded = shape.rounded()
    computer = (torch.get_num_threads(), torch.__version__, platform.processor(), os.cpu_count())
    gpu: tuple[object, ...] = ()
    if device.type == "cuda":  # others may use it too
        gpu = torch.cuda.get_device_name(device), torch.cuda.mem_get_info(device)[0].bit_length()
    key, known = repr((rounded, batch_size, *computer, *gpu, "seconds")), _read()
    if key not in known:
        known = _read() | {key: _measured(rounded, batch_size, device)}
        _write(known)
    cost = {int(size): second * int(size) ** LATER[learns] for size, second in known[key].items()}
    return min(cost, key=lambda size: cost[size], default=1)


def _measured(shape: Shape, batch_size: int, device: torch.device) -> dict[str, float]:
    """What a training step of one takes, by how many are trained at once."""
    taken: dict[int, float] = {}
    for size in (1, *_sizes(shape, batch_size, device)):
        try:
            taken[size] = seconds(shape, batch_size, size, device)
        except RuntimeError as error:
            if device.type == "cuda" and ran_out_of_memory(error):
                break
            raise
        if size >= 4 and min(taken[size], taken[size // 2]) > 0.9 * taken[size // 4]:
            break  # twice in a row: one may be by chance
    return {str(size): second for size, second in taken.items()}


def _sizes(shape: Shape, batch_size: int, device: torch.device) -> Iterator[int]:
    size, bytes_each, memory = 2, 4 * 4 * shape.count, MEMORY
    if device.type == "cuda":
        bytes_each += 4 * GATHERED * batch_size * (shape.inputs + sum(shape.hidden) + shape.outputs)
        memory = torch.cuda.mem_get_info(device)[0] // 2  # trials beside it may need some
    while size <= MOST[device.type] and size * bytes_each <= memory:
        yield size
        size *= 2


def seconds(
    shape: Shape,
    batch_size: int,
    networks: int,
    device: torch.device,
    replay: Capture | None = None,
) -> float:
    """What a training step of one network takes, if so many are trained at once; on a GPU, or with `replay`, as
    stack.py does it there."""
    with torch.random.fork_rng(devices=[]):
        parameters = (torch.randn(networks, shape.count) * 0.05).to(device)
        x = torch.randn(networks, batch_size, shape.inputs).to(device)
    statistics = [
        (x.new_zeros(networks, 1, w), x.new_ones(networks, 1, w))
        for w in (shape.hidden if shape.batch_norm else ())
    ]
    stack = Perceptrons(shape, parameters, ["relu"] * networks, statistics)
    rules = [Rule("adam", row) for row in parameters]
    output = x.new_empty(networks, batch_size, shape.outputs)
    target = torch.full_like(output, 1 / shape.outputs)
    replay = replay or (capture if device.type == "cuda" else None)
    memory = {name: torch.zeros_like(parameters) for name in rules[0].memory}
    joined = None if replay is None else JoinedRule(rules, memory, parameters)
    rates = x.new_full((networks, 1), 1e-3)

    def step() -> None:
        stack.forward(x, output, training=True)
        stack.backward(loss_gradient(output, target, True, stack.gradient_buffer(output)))
        if joined is not None:
            joined.step(parameters, stack.gradients, rates)
            return
        for rule, row, gradient in zip(rules, parameters, stack.gradients, strict=True):
            rule.step(row, gradient, 1e-3)

    def timed() -> float:
        began = time.perf_counter()
        for _ in range(STEPS):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    for _ in range(WARM):
        step()
    if replay is not None:
        step = replay(step)
    timed()
    return min(timed() for _ in range(ROUNDS)) / STEPS / networks


def _table() -> Path:
    return CACHE.parent / "packs.json"


def _read() -> dict[str, dict[str, float]]:
    try:
        found: dict[str, dict[str, float]] = json.loads(_table().read_text())
        return found
    except (OSError, ValueError):
        return {}


def _write(known: dict[str, dict[str, float]]) -> None:
    """Keep the table, if there is room for it: else it is measured again."""
    table = _table()
    with suppress(OSError):
        table.parent.mkdir(parents=True, exist_ok=True)
        part = table.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(known))
        part.replace(table)
