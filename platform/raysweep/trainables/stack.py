"""Members of a pack with their parameters as the rows of one matrix, on the device that computes."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from itertools import groupby

import torch
from torch import Tensor

from raysweep.trainables.cuda_graph import Batch, Capture, Replayed
from raysweep.trainables.member import Member
from raysweep.trainables.optimizers import JoinedRule
from raysweep.trainables.perceptron import Perceptrons, Shape, loss_gradient, weights_only


class Stack:
    """Between epochs, what the members hold is in the computer's memory. On a CPU it is computed with there. With a
    `capture`, as on a GPU, the stack has copies on its device, updates all members at once, and replays its steps."""

    def __init__(
        self,
        members: list[Member],
        dtype: torch.dtype,
        device: torch.device,
        classes: bool,
        capture: Capture | None = None,
    ):
        """`members` are sorted by `place`."""
        self.members, self._dtype, self._device, self._classes = members, dtype, device, classes
        self.shape = functools.reduce(Shape.wider, (m.shape for m in members))
        self.widest = max(self.shape.inputs, *self.shape.hidden, self.shape.outputs)
        self._replayed = None if capture is None else Replayed(capture)
        self._copies: list[tuple[Tensor, Tensor]] = []  # those in memory, those on the device
        k, count = len(members), self.shape.count
        parameters = torch.zeros(k, count, dtype=dtype)
        memories = torch.zeros(max(len(m.rule.memory) for m in members), k, count, dtype=dtype)
        statistics = [
            (torch.zeros(k, 1, w, dtype=dtype), torch.ones(k, 1, w, dtype=dtype))
            for w in (self.shape.hidden if self.shape.batch_norm else ())
        ]
        for row, member in enumerate(members):
            own = [(mean[row, 0], var[row, 0]) for mean, var in statistics]
            member.move(parameters[row], memories[:, row], own, self.shape)
        self._parameters = self._computed_with(parameters)
        self.networks = Perceptrons(
            self.shape,
            self._parameters,
            [m.p.activation for m in members],
            [(self._computed_with(mean), self._computed_with(var)) for mean, var in statistics],
            self._units(),
        )
        self._rates = torch.zeros(k, 1, dtype=dtype, device=device)
        self._joined = [] if capture is None else list(self._rules(self._computed_with(memories)))
        self._rows = list(zip(members, self._parameters, self.networks.gradients, strict=True))
        self.class_weights = self._class_weights()
        """The weight of each class in the loss, `[K, classes]`; None if all are 1."""
        self._l1: Tensor | None = None
        if any(m.p.l1 for m in members):
            penalised = torch.tensor(list(weights_only(self.shape)), dtype=dtype)
            self._l1 = torch.stack([m.p.l1 * penalised for m in members]).to(device)

    @staticmethod
    def place(member: Member) -> tuple[str, tuple[str, bool, bool]]:
        """What members are sorted by: those that are computed alike stand together."""
        return member.p.activation, JoinedRule.kind(member.rule)

    def begin(self) -> None:
        """The members' next epoch begins."""
        for member in self.members:
            member.begin(self._device)
        if self._joined:
            self._rates.copy_(torch.tensor([[m.lr] for m in self.members], dtype=self._dtype))

    def train(self, batch: Batch) -> None:
        """Train each network on its samples: forward, loss, backpropagation, update."""
        if self._replayed is not None and batch.size == self.members[0].p.batch_size:
            self._replayed(self._step, batch)
        else:
            self._step(batch)

    def _step(self, batch: Batch) -> None:
        output = self.networks.forward(batch.x, batch.output, batch.masks, training=True)
        g = loss_gradient(output, batch.target, self._classes, self.networks.gradient_buffer(output))
        if batch.weights is not None:
            g.mul_(batch.weights)
        self.networks.backward(g, batch.masks)
        self._update()

    def _update(self) -> None:
        """Update each network by its own rule, with the gradients from backpropagation."""
        gradients = self.networks.gradients
        if self._l1 is not None:
            gradients.addcmul_(self._l1, self._parameters.sign())
        if self._joined:
            for rule, rows in self._joined:
                rule.step(self._parameters[rows], gradients[rows], self._rates[rows])
        else:
            for member, values, g in self._rows:
                member.rule.step(values, g, member.lr)

    def end(self, steps: int) -> None:
        """The epoch is over: let the members know what they have become."""
        for held, computed in self._copies:
            held.copy_(computed)
        for member in self.members if self._joined else ():
            member.rule.steps += steps

    def masks(self, samples: int) -> list[Tensor]:
        """Dropout's masks `[K, samples, width]` of each hidden layer: 0, or what keeps the mean as it is. None if no
        member has any."""
        rates = [m.p.dropout for m in self.members]
        if not any(rates):
            return []
        dropped = torch.tensor(rates, dtype=self._dtype, device=self._device).view(-1, 1, 1)
        masks = []
        for layer, width in enumerate(self.shape.hidden):
            drawn = dropped.new_ones(len(rates), samples, width)
            for member, own in zip(self.members, drawn, strict=True):
                member.draw(layer, own)
            masks.append((drawn >= dropped).to(self._dtype).div_(1 - dropped))
        return masks

    def _computed_with(self, held: Tensor) -> Tensor:
        """What is computed with in place of numbers that are held in memory."""
        if self._replayed is None:
            return held
        self._copies.append((held, held.to(self._device, copy=True)))
        return self._copies[-1][1]

    def _units(self) -> list[Tensor]:
        """1 for each unit that is no padding, `[K, 1, width]` of each hidden layer; none if there is no padding."""
        if all(m.shape == self.shape for m in self.members):
            return []
        own = torch.tensor([m.shape.hidden for m in self.members]).to(self._device)
        return [
            (torch.arange(width, device=self._device) < own[:, layer, None, None]).to(self._dtype)
            for layer, width in enumerate(self.shape.hidden)
        ]

    def _rules(self, memories: Tensor) -> Iterator[tuple[JoinedRule, slice]]:
        """One rule for each run of members whose rules are of one kind, and their rows."""
        for _, group in groupby(
            range(len(self.members)), lambda row: JoinedRule.kind(self.members[row].rule)
        ):
            first, *others = group
            rows = slice(first, first + 1 + len(others))
            rules = [m.rule for m in self.members[rows]]
            memory = {name: memories[i, rows] for i, name in enumerate(rules[0].memory)}
            yield JoinedRule(rules, memory, self._parameters), rows

    def _class_weights(self) -> Tensor | None:
        given = [m.class_weights for m in self.members]
        if all(weights is None for weights in given):
            return None
        even = torch.ones(self.shape.outputs)
        weights = torch.stack([even if w is None else w for w in given])
        return weights.to(self._device, self._dtype)
