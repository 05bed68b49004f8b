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
from collections.abc import Hashable

import torch
from torch import Tensor

from raysweep.errors import Infeasible
from raysweep.trainables.arguments import Training
from raysweep.trainables.cuda_graph import Batch, Capture, capture, free, ran_out_of_memory
from raysweep.trainables.data import Data
from raysweep.trainables.member import Member
from raysweep.trainables.pack_size import pays_off
from raysweep.trainables.perceptron import Shape
from raysweep.trainables.stack import Stack
from raysweep.trainables.training import Tensors, denormals_as_zero, metrics_of, scores_of, totals_of

CPU = torch.device("cpu")
CHUNK = 1 << 18
"""Numbers that are gathered at once on a CPU: some batches of a small network, or one."""
BLOCK = 32
"""Batches that are gathered at once on a GPU: the same for whoever is in the pack, since what a GPU draws at once is no
part of what it draws of more."""
LARGE = 1 << 16
"""Parameters from which on it is the arithmetic that takes time, that of padding too: then the members of a pack
have similar widths."""
EVALUATE_AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Numbers in the widest layer of an evaluation."""
ARITHMETIC = 5e9
"""Operations in a step of one network from which on a GPU is busy with them, and not with being told what to do."""


def belongs(device: torch.device, shape: Shape, batch_size: int) -> bool:
    """Whether a perceptron is trained in a pack. One that keeps a GPU busy by itself is not, but in half precision
    (training.py)."""
    return device.type == "cpu" or 6 * shape.count * batch_size < ARITHMETIC


class Packs:
    """The packs of one process, by the signatures of their members."""

    def __init__(self, learns: bool = False):
        """`learns`: whether they are of a search that learns from its trials."""
        self._learns = learns
        self._packs: dict[tuple[Hashable, ...], Pack] = {}

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
        device: torch.device = CPU,
    ) -> Pack:
        """The pack for such a training. `key` names the data. With several `views` of each sample, the rows of
        `data.x_train` are the views of the first sample, of the second, ...; an epoch has a random one of each."""
        widths = shape.rounded().hidden if shape.count > LARGE else ()
        signature = (key, p.batch_size, shape.inputs, len(shape.hidden), widths, shape.batch_norm, device)
        found = self._packs.get(signature)
        if found is None:  # those that train on the same data share it
            same = (pack.splits for s, pack in self._packs.items() if (s[0], s[-1]) == (key, device))
            found = Pack(data, views, p.batch_size, device, splits=next(same, None), learns=self._learns)
        self._packs = {s: pack for s, pack in self._packs.items() if pack.members} | {signature: found}
        return found


class Pack:
    """The trainings of one signature, and their data."""

    def __init__(
        self,
        data: Data,
        views: int,
        batch_size: int,
        device: torch.device = CPU,
        dtype: torch.dtype = torch.float32,
        replay: Capture | None = None,
        splits: tuple[Tensors, ...] | None = None,
        learns: bool = False,
    ):
        """On a GPU, or with `replay`, training steps are replayed. `splits` are the training and validation data, if
        they are on the device already; `learns` is as in `Packs`."""
        self.data, self._views, self._batch_size, self.dtype = data, views, batch_size, dtype
        self._device, self._replay = device, replay or (capture if device.type == "cuda" else None)
        given = (data.x_train, data.y_train), (data.x_val, data.y_val)
        self.splits = splits or tuple(Tensors(x, y, data, device) for x, y in given)
        self._train, self._val = self.splits
        self._learns = learns
        self._stack: Stack | None = None
        self._fit: int | None = None  # how many fit into a GPU's memory, once more did not
        self.members: list[Member] = []

    @property
    def pays_off(self) -> int:
        """How many members it should have."""
        return self._measured if self._fit is None else min(self._fit, self._measured)

    @functools.cached_property
    def _measured(self) -> int:
        return pays_off(self.members[0].shape, self._batch_size, self._device, self._learns)

    def advance(self) -> None:
        """Compute the next epoch of all members that have one to come. If a GPU has no memory for so many, it is
        computed for half of them, and then for the others. Any other error is that of each: their parameters are
        somewhere in the middle of an epoch."""
        waiting = sorted((m for m in self.members if m.waits), key=Stack.place)
        while waiting:
            among, halved = waiting[: self._fit], False
            try:
                self._advance(among)
            except Exception as error:
                self._stack = None
                halved = len(among) > 1 and self._replay is not None and ran_out_of_memory(error)
                if not halved:
                    _fail(among, error)
            if halved:
                free()  # now that the error is gone, and with it what it held
                self._fit = len(among) // 2
            else:
                waiting = waiting[len(among) :]

    def leave(self, member: Member) -> None:
        """A member leaves."""
        self.members.remove(member)
        if not self.members:
            self._stack = None

    def _advance(self, among: list[Member]) -> None:
        stack = self._stacked(among)
        stack.begin()
        seen = self._seen(stack.shape.batch_norm)
        with denormals_as_zero():
            trained, validated = self._train_epoch(stack, seen).tolist(), self._evaluate(stack)
        batches = -(-seen // self._batch_size)
        stack.end(batches)
        for member, train, val in zip(among, trained, validated, strict=True):
            member.end(metrics_of(train, seen, "train", self.data, self._train) | val, batches)

    def _stacked(self, among: list[Member]) -> Stack:
        if self._stack is None or self._stack.members != among:
            self._stack = None  # so that there is memory for another
            self._stack = Stack(among, self.dtype, self._device, bool(self.data.classes), self._replay)
        return self._stack

    def _seen(self, batch_norm: bool) -> int:
        """How many samples an epoch has: batch norm cannot learn from a last batch of one."""
        n, size = len(self._train), self._batch_size
        seen = n - 1 if batch_norm and n % size == 1 else n
        if not seen or (batch_norm and size == 1):
            raise Infeasible(f"batch_size {size}: batch norm cannot learn from batches of one")
        return seen

    def _train_epoch(self, stack: Stack, seen: int) -> Tensor:
        """Train each network on its samples in its own order. Return what `totals_of` says of each."""
        k, size = len(stack.members), self._batch_size
        totals = torch.zeros(k, 2, dtype=torch.float64, device=self._device)
        orders = torch.stack([m.order(len(self._train)) for m in stack.members])
        at_once = size * (BLOCK if self._replay else max(1, CHUNK // (k * size * stack.widest)))
        for first in range(0, seen, at_once):
            samples, y = self._gathered(stack, orders[:, first : min(first + at_once, seen)])
            for start in range(0, samples.size, size):
                stack.train(samples.part(slice(start, start + size)))
            totals += totals_of(samples.output, y, bool(self.data.classes))
        return totals

    def _gathered(self, stack: Stack, order: Tensor) -> tuple[Batch, Tensor]:
        """The samples `order` `[K, n]`, and their targets as the data has them, `[K, n]`."""
        rows = order
        if self._views > 1:
            rows = order * self._views + torch.stack(
                [m.views(order.shape[1], self._views) for m in stack.members]
            )
        x = self._inputs(self._train.x, rows.reshape(-1)).view(*rows.shape, -1)
        y = self._train.y[order.to(self._device)]
        weights = None if stack.class_weights is None else stack.class_weights.gather(1, y).unsqueeze(2)
        output = x.new_empty(*order.shape, stack.shape.outputs)
        return Batch(x, self._target(stack, y, output), output, stack.masks(order.shape[1]), weights), y

    def _target(self, stack: Stack, y: Tensor, output: Tensor) -> Tensor:
        """Targets as the loss takes them: of classes, probabilities."""
        if not self.data.classes:
            return y.unsqueeze(2).to(output.dtype)
        smoothing = output.new_tensor([m.p.label_smoothing for m in stack.members]).view(-1, 1, 1)
        base = smoothing / stack.shape.outputs
        right = (1 - smoothing + base).expand(*y.shape, 1)
        return base.expand_as(output).clone().scatter_(2, y.unsqueeze(2), right)

    def _inputs(self, x: Tensor, rows: Tensor | slice) -> Tensor:
        """Samples as numbers, on the device; images are stored as bytes, perhaps elsewhere."""
        found = x[rows.to(x.device) if isinstance(rows, Tensor) else rows].flatten(1).to(self._device)
        return found.to(self.dtype).div_(255) if found.dtype == torch.uint8 else found.to(self.dtype)

    def _evaluate(self, stack: Stack) -> list[dict[str, float]]:
        """The metrics of each network on the validation split."""
        k, classes = len(stack.members), bool(self.data.classes)
        totals = torch.zeros(k, 2, dtype=torch.float64, device=self._device)
        at_once = max(1, EVALUATE_AT_ONCE[self._device.type] // (k * stack.widest))
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


def _fail(members: list[Member], error: Exception) -> None:
    """An error is that of each."""
    if len(members) > 1 and not isinstance(error, Infeasible):  # it may not happen to one alone
        error = RuntimeError(f"{len(members)} trained together: {type(error).__name__}: {error}")
    for member in members:
        member.error = error
