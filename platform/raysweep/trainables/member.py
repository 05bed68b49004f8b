"""One training in a pack (pack.py): its epochs, its random numbers, its state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from raysweep.trainables.arguments import MLP, Transfer
from raysweep.trainables.data import Data
from raysweep.trainables.optimizers import Rule
from raysweep.trainables.perceptron import Shape
from raysweep.trainables.training import class_weights, epoch_seed, lr_factor


class Company(Protocol):
    """A pack, as its members see it."""

    data: Data
    dtype: torch.dtype
    members: list[Member]

    def advance(self) -> None: ...

    def leave(self, member: Member) -> None: ...


class Member:
    """One training in a pack: an iterator over its epochs, `(metrics, state)`. The tensors of a state may be the
    live ones: whoever keeps them must copy or write them before the next epoch."""

    def __init__(
        self,
        pack: Company,
        model: nn.Module,
        shape: Shape,
        p: MLP | Transfer,
        seed: int,
        state: dict[str, Any] | None,
    ):
        """`model`, whose only parameters are those of a perceptron of this shape, gives their first values and
        their names."""
        self.shape, self.p, self._seed, self._pack = shape, p, seed, pack
        self.class_weights = class_weights(p.class_weight, pack.data, torch.device("cpu"))
        self._epoch, self._lowest, self._waited = 0, math.inf, 0
        if state is not None:
            model.load_state_dict(state["model"])
            self._epoch, self._lowest, self._waited = state["epoch"], state["lowest"], state["waited"]
        held = {name: value.cpu() for name, value in model.state_dict().items()}
        self._names = {name: value.shape for name, value in held.items()}
        self._row = torch.cat([v.reshape(-1) for n, v in held.items() if not _is_statistic(n)]).to(pack.dtype)
        self._statistics = [
            (held[n].to(pack.dtype), held[n.replace("running_mean", "running_var")].to(pack.dtype))
            for n in held
            if n.endswith("running_mean")
        ]
        self.batches = next((int(v) for n, v in held.items() if n.endswith("num_batches_tracked")), 0)
        self.rule = Rule(p.optimizer, self._row, p.momentum, p.nesterov, p.weight_decay)
        if state is not None:
            self.rule.load(state["optimizer"])
        self._places: Tensor | None = None  # where they are in the row, if that is a wider network's
        self._result: tuple[dict[str, float], dict[str, Any]] | None = None
        self._over = False
        self.error: Exception | None = None
        """What has ended its epoch before its end."""
        pack.members.append(self)

    def __iter__(self) -> Member:
        return self

    def __next__(self) -> tuple[dict[str, float], dict[str, Any]]:
        if self.waits:
            self._pack.advance()
        result, self._result = self._result, None
        if result is not None:
            return result
        error, self.error = self.error, None
        self.close()
        raise error or StopIteration

    def close(self) -> None:
        """Leave the pack."""
        if not self._over:
            self._over = True
            self._pack.leave(self)

    @property
    def waits(self) -> bool:
        """Whether the member has an epoch to come that has not been computed."""
        stopped = self.p.patience is not None and self._waited >= self.p.patience
        waits = self._result is None and self.error is None and self._epoch < self.p.epochs
        return waits and not self._over and not stopped

    def begin(self, device: torch.device) -> None:
        """The next epoch begins, computed on this device."""
        self.lr = self.p.lr * lr_factor(self.p.schedule, self._epoch + 1, self.p.epochs, self.p.warmup)
        self._views = self._generator("views")
        layers = range(len(self.shape.hidden) if self.p.dropout else 0)
        self._dropping = [self._generator(layer, device=device) for layer in layers]

    def _generator(self, *what: object, device: torch.device | str = "cpu") -> torch.Generator:
        """Random numbers for one thing in the epoch that has begun."""
        return torch.Generator(device).manual_seed(epoch_seed(self._seed, self._epoch + 1, *what))

    def order(self, samples: int) -> Tensor:
        """The order of the samples in this epoch."""
        return torch.randperm(samples, generator=self._generator())

    def views(self, samples: int, views: int) -> Tensor:
        """Which view is shown of the next samples."""
        return torch.randint(views, (samples,), generator=self._views)

    def draw(self, layer: int, out: Tensor) -> None:
        """Draw between 0 and 1 for the units of a layer and the next samples, `out` `[samples, width]`, if the member
        has dropout. Padding is left as it is."""
        if self.p.dropout:
            out[:, : self.shape.hidden[layer]].uniform_(generator=self._dropping[layer])

    def move(
        self, row: Tensor, memories: Tensor, statistics: Sequence[tuple[Tensor, Tensor]], shape: Shape
    ) -> None:
        """From now on, the parameters are in this row of a matrix of networks of `shape`; what the optimizer remembers,
        in the first of `memories`; what batch norm has seen of each layer, in `statistics`."""
        places = None if shape == self.shape else shape.places(self.shape)
        row[slice(None) if places is None else places] = self._own(self._row)
        for new, old in zip(statistics, self._statistics, strict=True):
            for to, value in zip(new, old, strict=True):
                to[: len(value)] = value[: len(to)]
        for (kind, memory), moved in zip(self.rule.memory.items(), memories, strict=False):
            moved[slice(None) if places is None else places] = self._own(memory)
            self.rule.memory[kind] = moved
        self._row, self._statistics, self._places = row, list(statistics), places

    def _own(self, row: Tensor) -> Tensor:
        """The part of a row that is this network's."""
        return row if self._places is None else row[self._places]

    def end(self, metrics: dict[str, float], batches: int) -> None:
        """The epoch is over, after so many batches. Rows are copied: saving a view of one would save the whole
        matrix."""
        self._epoch += 1
        self.batches += batches
        self._waited = 0 if metrics["val_loss"] < self._lowest else self._waited + 1
        self._lowest = min(self._lowest, metrics["val_loss"])
        self._result = (
            metrics,
            {
                "epoch": self._epoch,
                "model": self._model(),
                "optimizer": {
                    k: self._own(v).clone() if torch.is_tensor(v) else v for k, v in self.rule.state().items()
                },
                "lowest": self._lowest,
                "waited": self._waited,
            },
        )

    def _model(self) -> dict[str, Tensor]:
        """The network as its module's `state_dict` has it."""
        left = self._own(self._row).clone()
        statistics = iter(self._statistics)
        found: dict[str, Tensor] = {}
        start, layer = 0, 0
        for name, size in self._names.items():
            if name.endswith("num_batches_tracked"):
                found[name] = torch.tensor(self.batches)
            elif name.endswith("running_mean"):
                mean, variance = next(statistics)
                width, layer = self.shape.hidden[layer], layer + 1
                found[name] = mean[:width].clone()
            elif name.endswith("running_var"):
                found[name] = variance[:width].clone()
            else:
                end = start + size.numel()
                found[name], start = left[start:end].view(size), end
        return found


def _is_statistic(name: str) -> bool:
    """Whether a tensor of a module is no parameter, but what batch norm has seen."""
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))
