"""One training on several devices of a machine: a process (rank) for each, with the whole network and its part of every
batch; all of them move by the sum of their gradients (data parallelism, as Li et al. 2020 describe it for PyTorch).
Whoever starts the processes joins them by torch.distributed; alone, everything here does nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is."""

    rank: int = 0
    size: int = 1

    def shard(self, whole: Tensor) -> Tensor:
        """This rank's part of a batch. Of a batch smaller than there are ranks some have none."""
        return whole[self.rank :: self.size]

    def bounds(self, length: int) -> tuple[int, int]:
        """Where this rank's part of `length` samples in order begins and ends."""
        return length * self.rank // self.size, length * (self.rank + 1) // self.size

    def all_reduce(self, tensor: Tensor) -> None:
        """Replace a tensor, in place, by the sum over all ranks."""
        if self.size > 1:
            distributed.all_reduce(tensor)

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Give every rank the first one's running statistics, of which each has seen its own samples only."""
        for buffer in model.buffers() if self.size > 1 else ():
            distributed.broadcast(buffer, 0)

    def reseed(self) -> None:
        """Let every rank draw random numbers of its own from now on: its samples are others."""
        if self.rank:
            torch.manual_seed(torch.initial_seed() + self.rank)


def ranks() -> Ranks:
    """What this process is."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Ranks()
    return Ranks(distributed.get_rank(), distributed.get_world_size())
