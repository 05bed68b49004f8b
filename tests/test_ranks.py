"""Training on several devices: what several processes learn together is what one learns alone."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from raysweep.trainables import mlp
from raysweep.trainables.data_parallel import Ranks, ranks

pytestmark = pytest.mark.xdist_group("ranks")  # two processes train for all of them

SETTINGS: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": "adam", "lr": 1e-2, "batch_size": 64},
    "sgd, decayed": {
        "optimizer": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-3,
        "l1": 1e-4,
        "batch_size": 50,
    },
}

OTHERS: list[
    dict[str, Any]
] = [  # of which each rank sees its own part, so that it matters how many there are
    {"optimizer": "sgd", "lr": 0.05, "batch_size": 34},  # 1259 = 37 x 34 + 1: one is left out
    {"optimizer": "adam", "lr": 1e-2, "batch_size": 64, "batch_norm": True, "dropout": 0.2},
]


def train(settings: dict[str, Any]) -> list[dict[str, float]]:
    data = mlp.load(data="digits")
    return [dict(m) for m, _ in mlp.mlp(data, units=32, epochs=3, seed=5, device="cpu", **settings)]


def one(rank: int, size: int, port: int, settings: list[dict[str, Any]], out: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    torch.save([train(s) for s in settings], f"{out}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[list[list[dict[str, float]]]]:
    """What two ranks report, for each of the settings."""
    place = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(one, (2, port, [*SETTINGS.values(), *OTHERS], str(place)), nprocs=2)
    return [torch.load(place / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", SETTINGS)
def test_two_learn_what_one_learns(name: str, together: list[list[list[dict[str, float]]]]) -> None:
    alone = train(SETTINGS[name])
    index = list(SETTINGS).index(name)
    for both, single in zip(together[0][index], alone, strict=True):
        assert both == pytest.approx(single, rel=1e-3, abs=1e-4)


def test_all_ranks_report_the_same(together: list[list[list[dict[str, float]]]]) -> None:
    """Else they would not stop at the same epoch."""
    assert together[0] == together[1] and len(together[0]) == len(SETTINGS) + len(OTHERS)
    assert together[0][-1][-1]["val_accuracy"] > 0.9


@pytest.mark.parametrize(("length", "size"), [(10, 1), (10, 3), (2, 4), (0, 2)])
def test_parts_are_all_of_it_once(length: int, size: int) -> None:
    whole = torch.arange(length)
    parts = [Ranks(r, size).shard(whole) for r in range(size)]
    assert sorted(torch.cat(parts).tolist()) == list(range(length))
    bounds = [Ranks(r, size).bounds(length) for r in range(size)]
    assert [i for begin, end in bounds for i in range(begin, end)] == list(range(length))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_there_is_one_rank(tmp_path: Path) -> None:
    assert ranks() == Ranks(0, 1)
