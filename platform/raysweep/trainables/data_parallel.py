"""Data-parallel training on several devices of one machine, as Li et al. (2020) describe it for PyTorch. Each
device has a process (rank) with the whole network and its part of every batch; the ranks sum their gradients.
Whoever starts the processes joins them with torch.distributed. In a single process, nothing here has an
effect."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Ranks:
    """The rank of this process and the number of processes."""

    rank: int = 0
    size: int = 1

    def shard(self, whole: Tensor) -> Tensor:
        """This rank's part of a batch. If a batch has fewer samples than there are ranks, some get none."""
        return whole[self.rank :: self.size]

    def bounds(self, length: int) -> tuple[int, int]:
        """Where this rank's part of `length` samples in order begins and ends."""
        return length * self.rank // self.size, length * (self.rank + 1) // self.size

    def all_reduce(self, tensor: Tensor) -> None:
        """Replace a tensor, in place, by the sum over all ranks."""
        if self.size > 1:
            distributed.all_reduce(tensor)

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Copy rank 0's running statistics to all ranks: each rank has seen only its own samples."""
        for buffer in model.buffers() if self.size > 1 else ():
            distributed.broadcast(buffer, 0)

    def reseed(self) -> None:
        """From now on, draw different random numbers on each rank, since their samples differ."""
        if self.rank:
            torch.manual_seed(torch.initial_seed() + self.rank)


def ranks() -> Ranks:
    """What this process is."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Ranks()
    return Ranks(distributed.get_rank(), distributed.get_world_size())
