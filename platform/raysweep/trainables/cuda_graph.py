"""CUDA graphs: on a GPU, launching the many small operations of a training step takes longer than computing them. A
graph has them recorded once, in fixed buffers, and launched all at once from then on."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

WARM = 2
"""Steps before the capture: libraries set themselves up, and all buffers are made."""


@dataclass(frozen=True)
class Batch:
    """Samples for K networks: `x` `[K, B, inputs]`, `target` and `output` `[K, B, outputs]`, dropout's `masks`
    `[K, B, width]` of each hidden layer, the `weights` `[K, B, 1]` of samples in the loss."""

    x: Tensor
    target: Tensor
    output: Tensor
    """Where the networks' outputs go."""
    masks: Sequence[Tensor] = ()
    weights: Tensor | None = None

    @property
    def size(self) -> int:
        """The number of samples of each network."""
        return self.x.shape[1]

    def part(self, samples: slice) -> Batch:
        """Some of the samples."""
        return self._each(lambda tensor: tensor[:, samples])

    def clone(self) -> Batch:
        """The same in memory of its own."""
        return self._each(torch.clone)

    def copy_(self, other: Batch) -> None:
        """Take over the samples of another batch."""
        for mine, its in zip(self._given(), other._given(), strict=True):
            mine.copy_(its)

    def _given(self) -> list[Tensor]:
        return [self.x, self.target, *self.masks, *([] if self.weights is None else [self.weights])]

    def _each(self, function: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            x=function(self.x),
            target=function(self.target),
            output=function(self.output),
            masks=[function(mask) for mask in self.masks],
            weights=None if self.weights is None else function(self.weights),
        )


Capture = Callable[[Callable[[], None]], Callable[[], None]]
"""Takes a function that computes in fixed buffers; returns one that does the same again. May call it or not."""


def capture(function: Callable[[], None]) -> Callable[[], None]:
    """A CUDA graph of what the function launches. This runs nothing."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads write checkpoints
        function()
    return graph.replay


def ran_out_of_memory(error: Exception) -> bool:
    """Whether a GPU had no memory left. What CUDA itself and its libraries allocate has errors of its own."""
    said = str(error)
    cuda = "CUDA error: out of memory" in said or "STATUS_ALLOC_FAILED" in said
    return isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and cuda)


def free() -> None:
    """Give back what a GPU's memory holds of things that are no longer used."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


class Replayed:
    """A training step whose batches are all of one size: from its third call on, what the capture has made of it. The
    step is given with each call, since whoever owns this must be freed with its memory as soon as it is dropped."""

    def __init__(self, capture: Capture):
        self._capture = capture
        self._calls = 0
        self._fixed: Batch | None = None
        self._replay: Callable[[], None] | None = None

    def __call__(self, step: Callable[[Batch], None], batch: Batch) -> None:
        self._calls += 1
        if self._fixed is None:
            self._fixed = batch.clone()
        self._fixed.copy_(batch)
        if self._calls <= WARM:
            step(self._fixed)
        else:
            self._replay = self._replay or self._capture(partial(step, self._fixed))
            self._replay()
        batch.output.copy_(self._fixed.output)
