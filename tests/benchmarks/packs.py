"""What an epoch of a small perceptron takes, validation included: by PyTorch's autograd, as transfer learning is trained
here, and written out, alone and in packs. Milliseconds for each network, the least of all rounds, in one run.

    python tests/benchmarks/packs.py [--data digits] [--device cpu|cuda] [--at-once 1 4 16]

One thread on a CPU. On a GPU the steps of packs are CUDA graphs; the networks that are too large for packs there are
measured in them all the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from raysweep.trainables import training
from raysweep.trainables.arguments import MLP
from raysweep.trainables.data import Data, load
from raysweep.trainables.member import Member
from raysweep.trainables.mlp import network
from raysweep.trainables.optimizers import FlatOptimizer
from raysweep.trainables.pack import Pack
from raysweep.trainables.perceptron import Shape

NETWORKS = [([64], 64), ([128, 64], 32), ([256, 256, 256], 128)]
"""Hidden layers and batch size."""


def together(data: Data, hidden: list[int], p: MLP, device: torch.device, k: int) -> list[Iterator[Any]]:
    """K members of one pack."""
    inputs = data.x_train[0].size
    pack, shape = Pack(data, 1, p.batch_size, device), Shape(inputs, tuple(hidden), data.outputs, False)
    return [
        Member(pack, network(inputs, data.outputs, hidden, "relu", 0.0, False), shape, p, seed, None)
        for seed in range(k)
    ]


def by_autograd(data: Data, hidden: list[int], p: MLP, device: torch.device) -> list[Iterator[Any]]:
    model = network(data.x_train[0].size, data.outputs, hidden, "relu", 0.0, False).to(device)
    return [training.fit(model, data, FlatOptimizer(p.optimizer, model), p, device, 0, None)]


def milliseconds(make: Callable[[], list[Iterator[Any]]], epochs: int) -> float:
    """The time of an epoch of each, after one that does not count."""
    trainings = make()
    for one in trainings:
        next(one)
    began = time.perf_counter()
    for _ in range(epochs):
        for one in trainings:
            next(one)
    return (time.perf_counter() - began) / epochs / len(trainings) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    device, data = torch.device(given.device), load(given.data)
    print(
        f"{torch.cuda.get_device_name() if device.type == 'cuda' else 'one core'}, torch {torch.__version__}"
    )
    print(f"{'network, batch':32}{'autograd':>10}" + "".join(f"{f'{k} at once':>14}" for k in given.at_once))
    for hidden, batch in NETWORKS:
        p = MLP(units=hidden, batch_size=batch, epochs=given.epochs + 1, lr=1e-3)
        ways = [
            partial(by_autograd, data, hidden, p, device),
            *(partial(together, data, hidden, p, device, k) for k in given.at_once),
        ]
        taken = [min(milliseconds(way, given.epochs) for _ in range(given.rounds)) for way in ways]
        name = "-".join(map(str, (data.x_train[0].size, *hidden, data.outputs))) + f", {batch}"
        print(f"{name:32}{taken[0]:>10.2f}" + "".join(f"{ms:>14.2f}" for ms in taken[1:]))


if __name__ == "__main__":
    main()
