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

DECAYS = tuple(10.0**power for power in range(1, -6, -1))
"""From which the best is chosen: 10 to 1e-5."""
WORSE = 2
"""Decays in a row without a lower validation loss, after which no smaller ones are tried."""
MOST = 1 << 25
"""Numbers in the features that are solved for, a quarter of a gigabyte; of more, a random part of the examples is
taken."""
STEPS, TOLERANCE = 500, 1e-7  # of L-BFGS, at most; the gradient's largest entry at which it ends


@dataclass(frozen=True)
class Head:
    """`weight` `[outputs, width]` and `bias` `[outputs]`, and the decay they were solved with."""

    weight: Tensor
    bias: Tensor
    decay: float


@dataclass(frozen=True)
class Split:
    """Features `[n, width]`, and classes (int64) or standardised numbers `[n]`, whose device computes."""

    x: Tensor
    y: Tensor

    def part(self) -> Split:
        """At most MOST numbers of it, always the same."""
        rows = max(1, MOST // self.x.shape[1])
        if len(self.x) <= rows:
            return self
        chosen = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(0))[:rows].sort().values
        return Split(self.x[chosen.to(self.x.device)], self.y[chosen.to(self.y.device)])


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
    x, mean, scale = _centred(train.x.to(train.y.device))
    z, vectors, values = _components(x)
    fit = (
        _logistic(z, values, train.y, classes, smoothing, weights) if classes else _ridge(z, values, train.y)
    )
    z_val = ((val.x.to(train.y.device).double() - mean) / scale) @ vectors
    weight, bias, chosen = _best(fit, z_val, val.y, decay, classes)
    weight = weight @ vectors.T / scale
    return Head(weight.float(), (bias - weight @ mean).float(), chosen)


def _centred(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features around 0 with a root mean square of 1; their mean, and what they were divided by."""
    x = x.double()
    mean = x.mean(0)
    scale = (x - mean).square().mean().sqrt().clamp(min=1e-12)
    return (x - mean) / scale, mean, scale


def _components(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The principal components `[n, q]` of features, the vectors `[width, q]` that give them, and the sums of their
    squares. There are no more than examples or features, so no more weights are solved for."""
    wide = x.shape[1] > len(x)
    values, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    kept = values > 1e-12 * values[-1].clamp(min=1e-12)
    values, vectors = values[kept], vectors[:, kept]
    if wide:
        vectors = x.T @ (vectors / values.sqrt())
    return x @ vectors, vectors, values


def leave_one_out(x: Tensor, y: Tensor, classes: int) -> Tensor:
    """How well ridge regression on all other examples says each one `[n]`: of classes, 1 where it is right and 0 where
    it is wrong; of numbers, minus the squared error. The decay is the best of DECAYS. The formula is
    exact (Allen 1974).
    """
    z, _, values = _components(_centred(x)[0])
    target = functional.one_hot(y, classes).double() if classes else y.double()[:, None]
    center = target.mean(0)
    best, lowest = target, float("inf")
    for decay in DECAYS:
        inverse = 1 / (values + len(z) * decay / 2)
        weight = (z.square() @ inverse)[:, None] + 1 / len(z)  # of an example in what is said of it
        said = z @ (inverse[:, None] * (z.T @ (target - center))) + center
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


def _ridge(z: Tensor, values: Tensor, y: Tensor) -> Solver:
    y = y.double()
    center = y.mean()
    target = z.T @ (y - center)
    return lambda decay: ((target / (values + len(z) * decay / 2))[None], center[None])


def _logistic(
    z: Tensor, values: Tensor, y: Tensor, classes: int, smoothing: float, weights: Tensor | None
) -> Solver:
    """Solutions by L-BFGS, each beginning from the one before. The components are scaled so that the loss is about as
    curved in every direction: half their variance bounds the curvature (Boehning 1992)."""
    each = torch.ones(len(z), dtype=z.dtype, device=z.device) if weights is None else weights[y].to(z)
    weight, bias = z.new_zeros(classes, z.shape[1]), z.new_zeros(classes)

    def solved(decay: float) -> tuple[Tensor, Tensor]:
        nonlocal weight, bias
        scale = (values / len(z) / 2 + decay).sqrt()
        scaled = z / scale
        w, b = (weight * scale).requires_grad_(), bias.clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [w, b],
            max_iter=STEPS,
            tolerance_grad=TOLERANCE,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            losses = functional.cross_entropy(
                functional.linear(scaled, w, b), y, label_smoothing=smoothing, reduction="none"
            )
            loss = (each * losses).mean() + decay / 2 * (w / scale).square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        weight, bias = w.detach() / scale, b.detach()
        return weight, bias

    return solved
