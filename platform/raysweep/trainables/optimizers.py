"""The optimizers, over all parameters as one vector: a handful of operations a step, however deep the network.
Or over those of several networks, as the rows of a matrix.

`torch.optim` gives the same numbers (a test holds them equal), but its first use imports PyTorch's compiler:
1.2 seconds and 145 MB for every worker (torch 2.14), and each of its rules takes one learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raysweep.trainables.data_parallel import Ranks

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # adam and adamw, as Kingma & Ba (2015)
ALPHA = 0.99  # rmsprop's memory, as PyTorch has it


Scalar = float | Tensor
"""A number, or a column `[K, 1]` of them: one for each row of a matrix."""


def update(
    name: str,
    values: Tensor,
    g: Tensor,
    memory: Mapping[str, Tensor],
    lr: Scalar,
    momentum: Scalar,
    nesterov: bool,
    decay: Scalar | None,
    corrections: tuple[Scalar, Scalar],
) -> None:
    """Update `values` with the gradient `g` and the `memory` of earlier steps, by sgd, adam, adamw or rmsprop.
    `corrections` are adam's, 1 - beta^steps; `decay` None is no weight decay."""
    if decay is not None and name == "adamw":  # apart from the gradient, as Loshchilov & Hutter (2019)
        values.mul_(1 - lr * decay)
    elif decay is not None:
        g = g + values * decay
    if name == "sgd":
        if "velocity" in memory:
            velocity = memory["velocity"].mul_(momentum).add_(g)
            g = g + velocity * momentum if nesterov else velocity
        values.sub_(g * lr)
    elif name == "rmsprop":
        square = memory["square"].mul_(ALPHA).addcmul_(g, g, value=1 - ALPHA)
        g = g / square.sqrt().add_(EPSILON)
        if "velocity" in memory:
            g = memory["velocity"].mul_(momentum).add_(g)
        values.sub_(g * lr)
    else:
        first, second = corrections
        mean = memory["mean"].lerp_(g, 1 - BETA1)
        square = memory["square"].mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
        root = square.sqrt().div_(second**0.5).add_(EPSILON)
        values.sub_((mean / root).mul_(lr / first))


class Rule:
    """sgd, adam, adamw or rmsprop on one vector of parameters, with what it remembers of earlier steps."""

    def __init__(
        self, name: str, like: Tensor, momentum: float = 0.0, nesterov: bool = False, decay: float = 0.0
    ):
        """For vectors `like` this one."""
        self.name, self.momentum, self.nesterov, self.decay = name, momentum, nesterov, decay
        self.steps = 0
        self._step = torch.zeros((), device=like.device)  # the same for PyTorch's fused update
        kept = {"sgd": ["velocity"] * (momentum > 0), "adam": ["mean", "square"], "adamw": ["mean", "square"]}
        names = kept.get(name, ["square"] + ["velocity"] * (momentum > 0))
        self.memory = {kind: torch.zeros_like(like) for kind in names}

    def step(self, values: Tensor, g: Tensor, lr: float) -> None:
        """Update `values`, which must not require a gradient, with the gradient `g`."""
        self.steps += 1
        if self.name in {"adam", "adamw"} and values.device.type == "cpu":
            self._fused_adam(values, g, lr)
            return
        corrections = 1 - BETA1**self.steps, 1 - BETA2**self.steps
        rest = self.momentum, self.nesterov, self.decay or None, corrections
        update(self.name, values, g, self.memory, lr, *rest)

    def _fused_adam(self, values: Tensor, g: Tensor, lr: float) -> None:
        """The same as `update` in one pass over memory instead of seven."""
        fused = torch._fused_adamw_ if self.name == "adamw" else torch._fused_adam_
        self._step.fill_(self.steps)
        fused(
            [values], [g], [self.memory["mean"]], [self.memory["square"]], [], [self._step],
            lr=lr, beta1=BETA1, beta2=BETA2, weight_decay=self.decay, eps=EPSILON, amsgrad=False, maximize=False,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """All that a later `load` needs; the tensors are the live ones."""
        return {"steps": self.steps, **self.memory}

    def load(self, state: dict[str, Any]) -> None:
        """Restore `state`."""
        self.steps = state["steps"]
        for kind, memory in self.memory.items():
            if kind in state:  # momentum may begin in the middle of a training
                memory.copy_(state[kind])


class JoinedRule:
    """Rules of one kind, of the rows of a matrix, as one: on a GPU a step takes as long as it has operations, however
    many numbers each is for. All that changes from step to step is on the device, so that steps can be replayed."""

    def __init__(self, rules: Sequence[Rule], memory: Mapping[str, Tensor], like: Tensor):
        """`memory` `[K, n]` are the rules' memories on the device and with the type of `like`."""
        self._name, self._nesterov = rules[0].name, rules[0].nesterov
        self._memory, self._like = memory, like
        self._momentum = self._column([r.momentum for r in rules])
        self._decay = self._column([r.decay for r in rules]) if any(r.decay for r in rules) else None
        self._steps = torch.tensor([[r.steps] for r in rules], dtype=torch.float64, device=like.device)

    @staticmethod
    def kind(rule: Rule) -> tuple[str, bool, bool]:
        """What joined rules have in common."""
        return rule.name, rule.momentum > 0, rule.nesterov

    def _column(self, numbers: Sequence[float]) -> Tensor:
        """A number for each row."""
        return torch.tensor(numbers, dtype=self._like.dtype, device=self._like.device).unsqueeze(1)

    def step(self, values: Tensor, g: Tensor, lr: Tensor) -> None:
        """Update `values` `[K, n]` with the gradients `g` and the rates `lr` `[K, 1]`."""
        self._steps.add_(1)
        first, second = ((1 - beta**self._steps).to(values.dtype) for beta in (BETA1, BETA2))
        rest = self._momentum, self._nesterov, self._decay, (first, second)
        update(self._name, values, g, self._memory, lr, *rest)


class FlatOptimizer:
    """A rule on the trainable parameters of `model`, which become views of one vector."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ):
        parameters = [p for p in model.parameters() if p.requires_grad]
        self._flat = torch.cat([p.detach().reshape(-1) for p in parameters])
        self._grad = torch.zeros_like(self._flat)
        self._rule = Rule(name, self._flat, momentum, nesterov, weight_decay)
        start = 0
        for p in parameters:
            end = start + p.numel()
            p.data = self._flat[start:end].view_as(p)
            p.grad = self._grad[start:end].view_as(p)  # backpropagation adds to it in place
            start = end

    def begin(self, epoch: int) -> None:
        """Nothing to do: all epochs are alike."""

    def zero(self) -> None:
        """Set the gradient to zero."""
        self._grad.zero_()

    def sum(self, ranks: Ranks) -> None:
        """Sum the gradients of all ranks in one all-reduce, however deep the network."""
        ranks.all_reduce(self._grad)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Update the parameters with the gradient from backpropagation."""
        self._rule.step(self._flat, self._grad, lr)

    def state(self) -> dict[str, Any]:
        return self._rule.state()

    def load(self, state: dict[str, Any]) -> None:
        self._rule.load(state)


@dataclass(frozen=True)
class Group:
    """Parameters with an optimizer of their own: its rate is `factor` times the model's, from epoch `since` on."""

    module: nn.Module
    optimizer: FlatOptimizer
    factor: float = 1.0
    since: int = 1


class Groups:
    """The optimizers of a model whose parts are trained differently. Parts not trained yet are frozen."""

    def __init__(self, groups: Sequence[Group]):
        self._groups, self._learning = list(groups), list(groups)

    def begin(self, epoch: int) -> None:
        self._learning = [g for g in self._groups if g.since <= epoch]
        for group in self._groups:
            group.module.requires_grad_(group.since <= epoch)

    def zero(self) -> None:
        for group in self._learning:
            group.optimizer.zero()

    def sum(self, ranks: Ranks) -> None:
        for group in self._learning:
            group.optimizer.sum(ranks)

    def step(self, lr: float) -> None:
        for group in self._learning:
            group.optimizer.step(lr * group.factor)

    def state(self) -> dict[str, Any]:
        return {str(i): group.optimizer.state() for i, group in enumerate(self._groups)}

    def load(self, state: dict[str, Any]) -> None:
        for i, group in enumerate(self._groups):
            group.optimizer.load(state[str(i)])
