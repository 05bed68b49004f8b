"""A network for transfer learning: an input module, frozen blocks, trainable blocks, a head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from raysweep.trainables.images import Transform
from raysweep.trainables.mlp import network

SMALLEST = 0.5  # the smallest share of an image's area that a random crop keeps


class Net(nn.Module):
    """`entry`, frozen blocks, then `tuned` ones. Their pooled output is the embedding, the input of
    `head`."""

    embedding: Tensor

    def __init__(
        self,
        entry: nn.Module,
        frozen: nn.Sequential | None,
        tuned: nn.Sequential,
        head: nn.Module,
        pooling: str,
        fixed_norm: bool = False,
    ):
        """`fixed_norm`: batch norm in the tuned blocks keeps the statistics it came with."""
        super().__init__()
        self.entry, self.tuned, self.head = entry, tuned, head
        self._pooling, self._fixed_norm = pooling, fixed_norm
        # Not a submodule: its weights are the source's, so checkpoints need not hold them.
        self._frozen = [frozen.eval().requires_grad_(False)] if frozen is not None else []

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        for frozen in self._frozen:
            with torch.no_grad():
                x = frozen(x)
        self.embedding = pooled(self.tuned(x), self._pooling)
        out: Tensor = self.head(self.embedding)
        return out

    def train(self, mode: bool = True) -> Net:
        """Keep blocks that are not trained in evaluation mode. Otherwise batch norm would update its
        statistics even with frozen weights."""
        super().train(mode)
        for block in self.tuned:
            if not any(p.requires_grad for p in block.parameters()):
                block.eval()
        for module in self.tuned.modules() if self._fixed_norm else ():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm):
                module.eval()
        return self

    def to(self, *args: Any, **kwargs: Any) -> Net:
        for frozen in self._frozen:
            frozen.to(*args, **kwargs)
        super().to(*args, **kwargs)
        return self


class Residual(nn.Module):
    """A linear layer and a perceptron beside it, which begins as zero: so the whole begins as the linear layer."""

    def __init__(self, linear: nn.Linear, perceptron: nn.Sequential):
        super().__init__()
        self.linear, self.perceptron = linear, perceptron
        for parameter in last_layers(perceptron)[0].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x) + self.perceptron(x)
        return out


def head_of(inputs: int, outputs: int, residual: bool = False, **perceptron: Any) -> nn.Sequential | Residual:
    """A head: a perceptron (the arguments are those of `mlp.network`), or one beside a linear layer."""
    head = network(inputs, outputs, **perceptron)
    return Residual(nn.Linear(inputs, outputs), head) if residual else head


def last_layers(head: nn.Module) -> list[nn.Linear]:
    """The layers whose sum is a head's output."""
    if isinstance(head, Residual):
        return [head.linear, *last_layers(head.perceptron)]
    return [m for m in head.modules() if isinstance(m, nn.Linear)][-1:]


def start(head: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Have a new head give the outputs of a linear layer with these parameters."""
    first = last_layers(head)[0]
    with torch.no_grad():
        first.weight.copy_(weight)
        first.bias.copy_(bias)


def pooled(x: Tensor, how: str) -> Tensor:
    """`[n, width]`: averaged over the image, or all of it."""
    if x.ndim == 4 and how == "average":
        x = functional.adaptive_avg_pool2d(x, 1)
    return x.flatten(1)


class Pixels(nn.Module):
    """Turns images `[n, size, size, 3]` from 0 to 1 into inputs of the first block. In training they are
    randomly mirrored (`flip`), or mirrored and cropped (`crop`)."""

    mean: Tensor
    std: Tensor

    def __init__(self, transform: Transform, augment: str):
        super().__init__()
        self._augment = augment
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (transform.mean, transform.std))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2)
        if self.training and self._augment != "none":
            x = self._changed(x)
        x = (x - self.mean) / self.std
        return x.contiguous(memory_format=torch.channels_last) if x.is_cuda else x.contiguous()

    def _changed(self, x: Tensor) -> Tensor:
        n = len(x)
        mirrored = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
        scale, shift = torch.ones(n), torch.zeros(n, 2)
        if self._augment == "crop":
            scale = torch.empty(n).uniform_(SMALLEST, 1.0).sqrt()
            shift = (2 * torch.rand(n, 2) - 1) * (1 - scale)[:, None]
        grid = torch.zeros(n, 2, 3)
        grid[:, 0, 0], grid[:, 1, 1], grid[:, :, 2] = scale * mirrored, scale, shift
        places = functional.affine_grid(grid.to(x.device), list(x.shape), align_corners=False)
        return functional.grid_sample(x, places, align_corners=False, padding_mode="reflection")


class Views(nn.Module):
    """Picks a view from features `[n, views, width]`: in training a random one per sample, else the first."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.shape[1] == 1:
            return x[:, 0]
        chosen = torch.randint(x.shape[1], (len(x),))
        return x[torch.arange(len(x)), chosen.to(x.device)]
