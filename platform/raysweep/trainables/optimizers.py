"""The optimizers, over all parameters as one vector: a handful of operations a step, however deep the network.

`torch.optim` gives the same numbers (a test holds them equal), but its first use imports PyTorch's compiler:
1.2 seconds and 145 MB for every worker (torch 2.14), and each of its rules takes one learning rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raysweep.trainables.data_parallel import Ranks

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # adam and adamw, as Kingma & Ba (2015)
ALPHA = 0.99  # rmsprop's memory, as PyTorch has it


class Rule:
    """sgd, adam, adamw or rmsprop on one vector of parameters, with what it remembers of earlier steps."""

    def __init__(
        self, name: str, like: Tensor, momentum: float = 0.0, nesterov: bool = False, decay: float = 0.0
    ):
        """For vectors `like` this one."""
        self._name, self._momentum, self._nesterov, self._decay = name, momentum, nesterov, decay
        self._steps = 0
        self._step = torch.zeros((), device=like.device)  # the same for PyTorch's fused update
        kept = {"sgd": ["velocity"] * (momentum > 0), "adam": ["mean", "square"], "adamw": ["mean", "square"]}
        names = kept.get(name, ["square"] + ["velocity"] * (momentum > 0))
        self.memory = {kind: torch.zeros_like(like) for kind in names}

    def step(self, values: Tensor, g: Tensor, lr: float) -> None:
        """Update `values`, which must not require a gradient, with the gradient `g`."""
        self._steps += 1
        if self._name in {"adam", "adamw"} and values.device.type == "cpu":
            self._fused_adam(values, g, lr)
            return
        if self._name == "adamw":  # decay apart from the gradient, as Loshchilov & Hutter (2019)
            values.mul_(1 - lr * self._decay)
        elif self._decay:
            g = g.add(values, alpha=self._decay)
        if self._name == "sgd":
            self._sgd(values, g, lr)
        elif self._name == "rmsprop":
            self._rmsprop(values, g, lr)
        else:
            self._adam(values, g, lr)

    def _sgd(self, values: Tensor, g: Tensor, lr: float) -> None:
        if self._momentum:
            velocity = self.memory["velocity"].mul_(self._momentum).add_(g)
            g = g.add(velocity, alpha=self._momentum) if self._nesterov else velocity
        values.add_(g, alpha=-lr)

    def _rmsprop(self, values: Tensor, g: Tensor, lr: float) -> None:
        square = self.memory["square"].mul_(ALPHA).addcmul_(g, g, value=1 - ALPHA)
        root = square.sqrt().add_(EPSILON)
        if self._momentum:
            values.add_(self.memory["velocity"].mul_(self._momentum).addcdiv_(g, root), alpha=-lr)
        else:
            values.addcdiv_(g, root, value=-lr)

    def _adam(self, values: Tensor, g: Tensor, lr: float) -> None:
        mean = self.memory["mean"].lerp_(g, 1 - BETA1)
        square = self.memory["square"].mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
        root = square.sqrt().div_((1 - BETA2**self._steps) ** 0.5).add_(EPSILON)
        values.addcdiv_(mean, root, value=-lr / (1 - BETA1**self._steps))

    def _fused_adam(self, values: Tensor, g: Tensor, lr: float) -> None:
        """The same as `_adam` (and, for adamw, its decay) in one pass over memory instead of seven."""
        update = torch._fused_adamw_ if self._name == "adamw" else torch._fused_adam_
        self._step.fill_(self._steps)
        update(
            [values], [g], [self.memory["mean"]], [self.memory["square"]], [], [self._step],
            lr=lr, beta1=BETA1, beta2=BETA2, weight_decay=self._decay, eps=EPSILON, amsgrad=False, maximize=False,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """All that a later `load` needs; the tensors are the live ones."""
        return {"steps": self._steps, **self.memory}

    def load(self, state: dict[str, Any]) -> None:
        """Restore `state`."""
        self._steps = state["steps"]
        for kind, memory in self.memory.items():
            if kind in state:  # momentum may begin in the middle of a training
                memory.copy_(state[kind])


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
