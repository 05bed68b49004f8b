"""A linear head on fixed features, solved to convergence instead of trained by epochs: logistic regression, or ridge
regression for numbers.

What is minimised is the mean loss plus `decay` / 2 times the squared weights, on features that are centred and divided
by their root mean square: those of one backbone may be a hundred times as large as those of another. (Each divided by
its own deviation, they were no better on photographs, and worse on digits.) The solution is given for the features
as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

DECAYS = tuple(10.0 ** (1 - i / 2) for i in range(13))
"""From which the best is chosen: 10 to 1e-5."""
WORSE = 3
"""Decays in a row without a lower validation loss, after which no smaller ones are tried."""
MOST = 1 << 26
"""Numbers in the features that are solved for, half a gigabyte; of more, a random part of the examples is taken."""
STEPS, TOLERANCE = 500, 1e-7  # of L-BFGS, at most; the gradient's largest entry at which it ends


@dataclass(frozen=True)
class Head:
    """`weight` `[outputs, width]` and `bias` `[outputs]`, and the decay they were solved with."""

    weight: Tensor
    bias: Tensor
    decay: float


@dataclass(frozen=True)
class Split:
    """Features `[n, width]`, and classes (int64) or standardised numbers `[n]`."""

    x: Tensor
    y: Tensor

    def part(self) -> Split:
        """At most MOST numbers of it, always the same."""
        rows = max(1, MOST // self.x.shape[1])
        if len(self.x) <= rows:
            return self
        chosen = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(0))[:rows].sort().values
        return Split(self.x[chosen], self.y[chosen.to(self.y.device)])


def solve(
    train: Split,
    val: Split,
    classes: int,
    decay: float = 0.0,
    smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> Head:
    """The head with this `decay`, or if that is 0, with the one that has the lowest loss on `val`.

    `classes` is 0 for a regression; `smoothing` is label smoothing, and `weights` are the classes' in the loss.
    """
    train, val = train.part(), val.part()
    x = train.x.double()
    mean = x.mean(0)
    scale = (x - mean).square().mean().sqrt().clamp(min=1e-12)
    x, x_val = (x - mean) / scale, (val.x.double() - mean) / scale
    rows = None
    if x.shape[1] > len(x):  # the weights are combinations of the examples, of which there are fewer
        u, s, rows = torch.linalg.svd(x, full_matrices=False)
        x, x_val = u * s, x_val @ rows.T
    heads = _logistic(x, train.y, classes, smoothing, weights) if classes else _ridge(x, train.y)
    weight, bias, chosen = _best(heads, x_val, val.y, decay, classes)
    weight = (weight if rows is None else weight @ rows) / scale
    return Head(weight.float(), (bias - weight @ mean).float(), chosen)


def leave_one_out(x: Tensor, y: Tensor, classes: int) -> Tensor:
    """How well ridge regression on all other examples says each one `[n]`: of classes, 1 where it is right and 0 where
    it is wrong; of numbers, minus the squared error. The decay is the best of DECAYS. The formula is
    exact (Allen 1974).
    """
    x = x.double()
    x = x - x.mean(0)
    u, s, _ = torch.linalg.svd(x / x.square().mean().sqrt().clamp(min=1e-12), full_matrices=False)
    target = functional.one_hot(y, classes).double() if classes else y.double()[:, None]
    center = target.mean(0)
    best, lowest = target, float("inf")
    for decay in DECAYS:
        shrunk = s**2 / (s**2 + len(x) * decay / 2)
        weight = (u**2 * shrunk).sum(1, keepdim=True) + 1 / len(x)  # of an example in what is said of it
        said = u @ (shrunk[:, None] * (u.T @ (target - center))) + center
        said = target - (target - said) / (1 - weight).clamp(min=1e-9)
        loss = float((said - target).square().mean())
        if loss < lowest:
            best, lowest = said, loss
    if classes:
        return (best.argmax(1) == y).double()
    return -(best - target)[:, 0].square()


Solver = Callable[[float], tuple[Tensor, Tensor]]
"""Weights `[outputs, width]` and biases `[outputs]` for a decay."""


def _best(heads: Solver, x: Tensor, y: Tensor, decay: float, classes: int) -> tuple[Tensor, Tensor, float]:
    """The solution for `decay`, or the one that is best on these examples."""
    if decay:
        return (*heads(decay), decay)
    lowest, best, waited = float("inf"), None, 0
    for one in DECAYS:
        weight, bias = heads(one)
        output = x @ weight.T + bias
        loss = (
            functional.cross_entropy(output, y) if classes else functional.mse_loss(output[:, 0], y.double())
        )
        if best is None or float(loss) < lowest:
            lowest, best, waited = float(loss), (weight, bias, one), 0
        else:
            waited += 1
        if waited == WORSE:
            break
    assert best is not None  # noqa: S101 - there are decays
    return best


def _ridge(x: Tensor, y: Tensor) -> Solver:
    values, vectors = torch.linalg.eigh(x.T @ x)
    y = y.double()
    center = y.mean()
    target = vectors.T @ (x.T @ (y - center))

    def solved(decay: float) -> tuple[Tensor, Tensor]:
        weight = vectors @ (target / (values.clamp(min=0) + len(x) * decay / 2))
        return weight[None], (center - (x @ weight).mean())[None]

    return solved


def _logistic(x: Tensor, y: Tensor, classes: int, smoothing: float, weights: Tensor | None) -> Solver:
    """Solutions by L-BFGS, each beginning from the one before."""
    head = torch.zeros(classes, x.shape[1] + 1, dtype=torch.float64, device=x.device, requires_grad=True)
    each = (
        torch.ones(len(x), dtype=torch.float64, device=x.device) if weights is None else weights[y].double()
    )

    def solved(decay: float) -> tuple[Tensor, Tensor]:
        optimizer = torch.optim.LBFGS(
            [head],
            max_iter=STEPS,
            tolerance_grad=TOLERANCE,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            output = torch.addmm(head[:, -1], x, head[:, :-1].T)
            losses = functional.cross_entropy(output, y, label_smoothing=smoothing, reduction="none")
            loss = (each * losses).mean() + decay / 2 * head[:, :-1].square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        found = head.detach().clone()
        return found[:, :-1], found[:, -1]

    return solved
