"""Trainables of a user: what each does is its name."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from typing import Any

Step = tuple[dict[str, float], Any]


def parabola(
    x: float, epochs: int = 3, seed: int = 0, state: Any = None, pause: float = 0.0
) -> Iterator[Step]:
    """A loss that falls towards x squared; the seed shifts it a little, so that repeats differ."""
    epoch = state["epoch"] if state else 0
    while epoch < epochs:
        epoch += 1
        time.sleep(pause)
        yield {"loss": x * x + 1 / epoch + seed * 1e-12}, {"epoch": epoch}


def gated(x: float, gate: str, epochs: int = 3, state: Any = None, pause: float = 0.0) -> Iterator[Step]:
    """The same, but that after its first epoch it waits until the file `gate` is there."""
    for step in parabola(x, epochs, state=state, pause=pause):
        yield step
        while not os.path.exists(gate):
            time.sleep(0.02)


def bowl(x: float, y: float = 0.0, epochs: int = 3, seed: int = 0, state: Any = None) -> Iterator[Step]:
    """A loss that falls towards how far (x, y) is from the origin."""
    for epoch in range((state["epoch"] if state else 0) + 1, epochs + 1):
        yield {"loss": x * x + y * y + 1 / epoch}, {"epoch": epoch}


def moody(x: int, epochs: int = 2) -> Iterator[Step]:
    """Each value of x ends in its own way."""
    for epoch in range(1, epochs + 1):
        if x == 1:
            raise ValueError("x must not be 1")
        if x == 2:
            yield {"loss": math.nan}, None
        if x == 3:
            yield {"losss": 1.0}, None
        yield {"loss": x + 1 / epoch}, None


def halves(x: float, seed: int = 0) -> Iterator[Step]:
    """Of its executions, those with an even seed diverge."""
    yield {"loss": x}, None
    yield {"loss": math.inf if seed % 2 == 0 else x}, None


def heavy(x: float) -> Iterator[Step]:
    """A state that cannot be resumed from safely."""
    import numpy

    yield {"loss": x}, {"epoch": numpy.float64(1)}


def impossible(x: float) -> Iterator[Step]:
    from raysweep import Infeasible

    raise Infeasible("x cannot be trained")
    yield {}, None


def greedy(x: float) -> Iterator[Step]:
    import torch

    yield {"loss": x}, None
    raise torch.OutOfMemoryError("CUDA out of memory")


def forgetful(x: float, epochs: int = 9, state: Any = None) -> Iterator[Step]:
    """Takes a state, as it will once it can go on from one, and gives none."""
    for epoch in range(1, epochs + 1):
        yield {"loss": x + 1 / epoch}, None


def restarting(x: float, epochs: int = 9, state: Any = None) -> Iterator[Step]:
    """Gives a state, and makes nothing of the one that it is given."""
    for epoch in range(1, epochs + 1):
        yield {"loss": x + 1 / epoch}, {"epoch": epoch}


def drawing(x: float, epochs: int = 1) -> Iterator[Step]:
    """Draws from the global generators of its process, and leaves them changed."""
    import random

    import numpy
    import torch

    drawn = random.random() + numpy.random.random() + float(torch.rand(()))
    yield {"loss": drawn}, None
    numpy.random.seed()
    random.seed()


def silent(x: float) -> Iterator[Step]:
    """Never reports anything."""
    yield from ()


def troubled(trouble: str, x: float, seed: int = 0) -> Iterator[Step]:
    """One of those above."""
    functions = {"heavy": heavy, "impossible": impossible, "greedy": greedy, "silent": silent}
    yield from halves(x, seed) if trouble == "halves" else functions[trouble](x)


def diverging(config: dict[str, Any]) -> None:
    """An ordinary Ray Tune function that goes on after a NaN."""
    from ray import tune

    for loss in (1.0, math.nan, 0.5):
        tune.report({"loss": loss})


def tuned(config: dict[str, Any]) -> None:
    """An ordinary Ray Tune function."""
    from ray import tune

    for epoch in range(1, 4):
        tune.report({"loss": config["x"] ** 2 + 1 / epoch})
    if config["x"] > 0.9:
        raise RuntimeError("too far")


def endless(x: float, state: Any = None) -> Iterator[Step]:
    """Does not say how many epochs there are."""
    yield {"loss": x}, {"epoch": 1}


class Nothing:
    """No trainable at all."""


async def later(x: float) -> dict[str, float]:
    """None, either."""
    return {"loss": x}


def anything(**point: Any) -> Iterator[Step]:
    """Takes whatever there is."""
    yield {"loss": 0.0}, {"epoch": 1}
