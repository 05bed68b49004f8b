"""A checkpoint is whole or does not count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from raysweep import checkpoints


def _content(epoch: int) -> dict[str, object]:
    return {"epoch": epoch, "states": [{"w": torch.full((3,), float(epoch))}]}


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _missing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [_truncate, _flip, _empty, _missing])
@pytest.mark.parametrize("suffix", [".pt", ".json"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    damage: Callable[[Path], None], suffix: str, tmp_path: Path
) -> None:
    for epoch in (3, 5):
        checkpoints.save(tmp_path, epoch, _content(epoch))
    damage(tmp_path / f"epoch-000005{suffix}")
    found = checkpoints.newest(tmp_path, at_most=9)
    assert found is not None and found["epoch"] == 3
    assert torch.equal(found["states"][0]["w"], torch.full((3,), 3.0))


def test_a_checkpoint_ahead_of_the_journal_is_passed_over(tmp_path: Path) -> None:
    for epoch in (3, 5):
        checkpoints.save(tmp_path, epoch, _content(epoch))
    found = checkpoints.newest(tmp_path, at_most=4)
    assert found is not None and found["epoch"] == 3
    assert checkpoints.newest(tmp_path, at_most=2) is None


def test_only_what_is_wanted_is_kept(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        checkpoints.save(tmp_path, epoch, _content(epoch))
    replaced = [1, 2, 3]
    checkpoints.settle(tmp_path, {1, 3}, replaced)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "epoch-000001.json",
        "epoch-000001.pt",
        "epoch-000003.json",
        "epoch-000003.pt",
    ]
    assert all(p.stat().st_mode & 0o77 == 0 for p in tmp_path.iterdir())
