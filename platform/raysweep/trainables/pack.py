"""Packs: perceptrons that are trained together, as one batched computation (perceptron.py), epoch by epoch.

Each member of a pack is a training of its own: `next` gives its next epoch's metrics and its state, as if it were
alone. Whichever member is asked first has the epoch computed for all. Members come and go between epochs. What they
must have in common is their *signature*: the data, the batch size, the number of layers, batch norm; and their widths
to the next power of two where networks are large. All else is theirs: widths (narrower networks are padded),
activation, dropout, optimizer, learning rate, schedule, seed.
A member draws its random numbers from its seed, the epoch and the layer alone, whoever else is in the pack.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from raysweep.errors import Infeasible
from raysweep.trainables.arguments import MLP, Training, Transfer
from raysweep.trainables.data import Data
from raysweep.trainables.optimizers import Rule
from raysweep.trainables.pack_size import pays_off
from raysweep.trainables.perceptron import Perceptrons, Shape, loss_gradient, weights_only
from raysweep.trainables.training import (
    Tensors,
    class_weights,
    denormals_as_zero,
    epoch_seed,
    lr_factor,
    metrics_of,
    scores_of,
    totals_of,
)

CHUNK = 1 << 18
"""Numbers that are gathered at once: some batches of a small network, or one."""
LARGE = 1 << 16
"""Parameters from which on it is the arithmetic that takes time, that of padding too: then the members of a pack
have similar widths."""
EVALUATE_AT_ONCE = 1 << 20
"""Numbers in the widest layer of an evaluation."""


class Packs:
    """The packs of one process, by the signatures of their members."""

    def __init__(self) -> None:
        self._packs: dict[Hashable, Pack] = {}

    @property
    def slots(self) -> int:
        """How many trainings pay off at once, of the kind that most are of; 1 where none is in a pack."""
        largest = max(self._packs.values(), key=lambda pack: len(pack.members), default=None)
        return largest.pays_off if largest is not None and largest.members else 1

    def of(
        self,
        data: Data,
        key: str,
        p: Training,
        shape: Shape,
        views: int = 1,
        dtype: torch.dtype = torch.float32,
    ) -> Pack:
        """The pack for such a training. `key` names the data. With several `views` of each sample, the rows of
        `data.x_train` are the views of the first sample, of the second, ...; an epoch has a random one of each."""
        widths = shape.rounded().hidden if shape.count > LARGE else ()
        signature = (key, p.batch_size, shape.inputs, len(shape.hidden), widths, shape.batch_norm, dtype)
        for known in [s for s, pack in self._packs.items() if not pack.members and s != signature]:
            del self._packs[known]
        if signature not in self._packs:
            self._packs[signature] = Pack(data, views, p.batch_size, dtype)
        return self._packs[signature]


class Pack:
    """The trainings of one signature, and their data."""

    def __init__(self, data: Data, views: int, batch_size: int, dtype: torch.dtype):
        self.data, self._views, self._batch_size, self.dtype = data, views, batch_size, dtype
        device = torch.device("cpu")
        self._train = Tensors(data.x_train, data.y_train, data, device)
        self._val = Tensors(data.x_val, data.y_val, data, device)
        self._stack: Stack | None = None
        self.members: list[Member] = []

    @functools.cached_property
    def pays_off(self) -> int:
        """How many members it should have."""
        return pays_off(self.members[0].shape, self._batch_size)

    def advance(self) -> None:
        """Compute the next epoch of all members that have one to come. An error is that of each: their parameters
        are somewhere in the middle of an epoch."""
        among = sorted((m for m in self.members if m.waits), key=lambda m: m.p.activation)
        try:
            self._advance(among)
        except Exception as error:
            if len(among) > 1 and not isinstance(error, Infeasible):  # it may not happen to one alone
                error = RuntimeError(f"{len(among)} trained together: {type(error).__name__}: {error}")
            for member in among:
                member.error = error

    def _advance(self, among: list[Member]) -> None:
        if self._stack is None or self._stack.members != among:
            self._stack = Stack(among, self.dtype)
        for member in among:
            member.begin()
        seen = self._seen(self._stack.shape.batch_norm)
        with denormals_as_zero():
            trained, validated = self._train_epoch(self._stack, seen), self._evaluate(self._stack)
        for member, train, val in zip(among, trained.tolist(), validated, strict=True):
            member.end(metrics_of(train, seen, "train", self.data, self._train) | val)

    def _seen(self, batch_norm: bool) -> int:
        """How many samples an epoch has: batch norm cannot learn from a last batch of one."""
        n, size = len(self._train), self._batch_size
        seen = n - 1 if batch_norm and n % size == 1 else n
        if not seen or (batch_norm and size == 1):
            raise Infeasible(f"batch_size {size}: batch norm cannot learn from batches of one")
        return seen

    def _train_epoch(self, stack: Stack, seen: int) -> Tensor:
        """Train each network on its samples in its own order. Return what `totals_of` says of each."""
        k, size, classes = len(stack.members), self._batch_size, bool(self.data.classes)
        totals = torch.zeros(k, 2, dtype=torch.float64)
        orders = torch.stack([m.order(len(self._train)) for m in stack.members])
        at_once = size * max(1, CHUNK // (k * size * stack.widest))
        for first in range(0, seen, at_once):
            order = orders[:, first : min(first + at_once, seen)]
            x, y, target = self._gathered(stack, order)
            weights = None if stack.class_weights is None else stack.class_weights.gather(1, y).unsqueeze(2)
            masks, outputs = stack.masks(order.shape[1]), x.new_empty(*order.shape, stack.shape.outputs)
            for start in range(0, order.shape[1], size):
                batch = slice(start, start + size)
                dropped = [mask[:, batch] for mask in masks]
                output = stack.networks.forward(x[:, batch], outputs[:, batch], dropped, training=True)
                g = loss_gradient(output, target[:, batch], classes, stack.networks.gradient_buffer(output))
                if weights is not None:
                    g.mul_(weights[:, batch])
                stack.networks.backward(g, dropped)
                stack.update()
            totals += totals_of(outputs, y, classes)
        for member in stack.members:
            member.batches += -(-seen // size)
        return totals

    def _gathered(self, stack: Stack, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, targets, and targets as the loss takes them, of the samples `order` `[K, n]`."""
        rows = order
        if self._views > 1:
            rows = order * self._views + torch.stack(
                [m.views(order.shape[1], self._views) for m in stack.members]
            )
        x = self._inputs(self._train.x, rows.reshape(-1)).view(*rows.shape, -1)
        y = self._train.y[order]
        if not self.data.classes:
            return x, y, y.unsqueeze(2).to(x.dtype)
        smoothing = x.new_tensor([m.p.label_smoothing for m in stack.members]).view(-1, 1, 1)
        base = smoothing / stack.shape.outputs
        target = base.expand(*order.shape, stack.shape.outputs).clone()
        return x, y, target.scatter_(2, y.unsqueeze(2), (1 - smoothing + base).expand(*order.shape, 1))

    def _inputs(self, x: Tensor, rows: Tensor | slice) -> Tensor:
        """Samples as numbers; images are stored as bytes."""
        found = x[rows].flatten(1)
        return found.to(self.dtype).div_(255) if found.dtype == torch.uint8 else found.to(self.dtype)

    def _evaluate(self, stack: Stack) -> list[dict[str, float]]:
        """The metrics of each network on the validation split."""
        k, classes = len(stack.members), bool(self.data.classes)
        totals = torch.zeros(k, 2, dtype=torch.float64)
        at_once = max(1, EVALUATE_AT_ONCE // (k * stack.widest))
        said = []
        for start in range(0, len(self._val), at_once):
            part = slice(start, start + at_once)
            x, y = self._inputs(self._val.x, part), self._val.y[part]
            outputs = x.new_empty(k, len(y), stack.shape.outputs)
            stack.networks.forward(x.expand(k, *x.shape), outputs)
            totals += totals_of(outputs, y.expand(k, -1), classes)
            if self.data.scored:
                said.append(outputs)
        found = [metrics_of(row, len(self._val), "val", self.data, self._val) for row in totals.tolist()]
        for metrics, output in zip(found, torch.cat(said, 1) if said else (), strict=False):
            metrics |= scores_of(output, self._val, self.data, "val", self.data.scored)
        return found


class Stack:
    """Members of a pack with their parameters as the rows of one matrix."""

    def __init__(self, members: list[Member], dtype: torch.dtype):
        self.members, k = members, len(members)
        self.shape = functools.reduce(Shape.wider, (m.shape for m in members))
        self.widest = max(self.shape.inputs, *self.shape.hidden, self.shape.outputs)
        self._parameters = torch.zeros(k, self.shape.count, dtype=dtype)
        widths = self.shape.hidden
        statistics = [
            (torch.zeros(k, 1, w, dtype=dtype), torch.ones(k, 1, w, dtype=dtype))
            for w in (widths if self.shape.batch_norm else ())
        ]
        padded = any(m.shape != self.shape for m in members)
        units = [torch.zeros(k, 1, w, dtype=dtype) for w in (widths if padded else ())]
        for row, member in enumerate(members):
            member.move(
                self._parameters[row], [(mean[row, 0], var[row, 0]) for mean, var in statistics], self.shape
            )
            for unit, width in zip(units, member.shape.hidden, strict=False):
                unit[row, :, :width] = 1
        activations = [m.p.activation for m in members]
        self.networks = Perceptrons(self.shape, self._parameters, activations, statistics, units)
        self.class_weights: Tensor | None = None
        """The weight of each class in the loss, `[K, classes]`; None if all are 1."""
        given = [m.class_weights for m in members]
        if any(w is not None for w in given):
            even = torch.ones(self.shape.outputs)
            self.class_weights = torch.stack([even if w is None else w for w in given]).to(dtype)
        self._l1: Tensor | None = None
        if any(m.p.l1 for m in members):
            penalised = torch.tensor(list(weights_only(self.shape)), dtype=dtype)
            self._l1 = torch.stack([m.p.l1 * penalised for m in members])

    def masks(self, samples: int) -> list[Tensor]:
        """Dropout's masks `[K, samples, width]` of each hidden layer; none if no member has any."""
        if not any(m.p.dropout for m in self.members):
            return []
        return [
            torch.stack([m.mask(layer, samples, width) for m in self.members])
            for layer, width in enumerate(self.shape.hidden)
        ]

    def update(self) -> None:
        """Update each network by its own rule, with the gradients from backpropagation."""
        gradients = self.networks.gradients
        if self._l1 is not None:
            gradients.addcmul_(self._l1, self._parameters.sign())
        for row, member in enumerate(self.members):
            member.rule.step(self._parameters[row], gradients[row], member.lr)


class Member:
    """One training in a pack: an iterator over its epochs, `(metrics, state)`. The tensors of a state may be the
    live ones: whoever keeps them must copy or write them before the next epoch."""

    def __init__(
        self,
        pack: Pack,
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
        held = model.state_dict()
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
            self._pack.members.remove(self)

    @property
    def waits(self) -> bool:
        """Whether the member has an epoch to come that has not been computed."""
        stopped = self.p.patience is not None and self._waited >= self.p.patience
        waits = self._result is None and self.error is None and self._epoch < self.p.epochs
        return waits and not self._over and not stopped

    def begin(self) -> None:
        """The next epoch begins."""
        self._epoch += 1
        self.lr = self.p.lr * lr_factor(self.p.schedule, self._epoch, self.p.epochs, self.p.warmup)
        self._views = self._generator("views")
        self._dropping = [self._generator(layer) for layer in range(len(self.shape.hidden))]

    def _generator(self, *what: object) -> torch.Generator:
        return torch.Generator().manual_seed(epoch_seed(self._seed, self._epoch, *what))

    def order(self, samples: int) -> Tensor:
        """The order of the samples in this epoch."""
        return torch.randperm(samples, generator=self._generator())

    def views(self, samples: int, views: int) -> Tensor:
        """Which view is shown of the next samples."""
        return torch.randint(views, (samples,), generator=self._views)

    def mask(self, layer: int, samples: int, width: int) -> Tensor:
        """Dropout's mask `[samples, width]` for the next samples: 0, or what keeps the mean as it is."""
        whole = self._row.new_ones(samples, width)
        if self.p.dropout:
            own = self.shape.hidden[layer]
            kept = torch.rand(samples, own, generator=self._dropping[layer]) >= self.p.dropout
            whole[:, :own] = kept / (1 - self.p.dropout)
        return whole

    def move(self, row: Tensor, statistics: Sequence[tuple[Tensor, Tensor]], shape: Shape) -> None:
        """From now on, the parameters are in this row of a matrix of networks of `shape`."""
        places = None if shape == self.shape else shape.places(self.shape)
        row[slice(None) if places is None else places] = self._own(self._row)
        for new, old in zip(statistics, self._statistics, strict=True):
            for to, value in zip(new, old, strict=True):
                to[: len(value)] = value[: len(to)]
        for kind, memory in self.rule.memory.items():
            moved = torch.zeros_like(row)
            moved[slice(None) if places is None else places] = self._own(memory)
            self.rule.memory[kind] = moved
        self._row, self._statistics, self._places = row, list(statistics), places

    def _own(self, row: Tensor) -> Tensor:
        """The part of a row that is this network's."""
        return row if self._places is None else row[self._places]

    def end(self, metrics: dict[str, float]) -> None:
        """The epoch is over."""
        self._waited = 0 if metrics["val_loss"] < self._lowest else self._waited + 1
        self._lowest = min(self._lowest, metrics["val_loss"])
        self._result = (
            metrics,
            {
                "epoch": self._epoch,
                "model": self._model(),
                "optimizer": {
                    k: self._own(v) if torch.is_tensor(v) else v for k, v in self.rule.state().items()
                },
                "lowest": self._lowest,
                "waited": self._waited,
            },
        )

    def _model(self) -> dict[str, Tensor]:
        """The network as its module's `state_dict` has it. The row is copied: saving a view of it would save the
        whole matrix."""
        left = self._own(self._row.clone())
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
