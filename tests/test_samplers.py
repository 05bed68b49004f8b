"""Laws of samplers, run over the table of samplers: a new row brings its tests."""

from __future__ import annotations

from collections import Counter

import pytest

from raysweep import Choice, Float, Int, Space
from raysweep.samplers import SAMPLERS
from raysweep.space import encode

DISCRETE = {
    "layers": Int(1, 3),
    "units": Int(8, 24, step=8, each="layers"),
    "optimizer": ["adam", "sgd"],
    "momentum": Float(0.0, 0.9, step=0.3, when={"optimizer": "sgd"}),
    "widths": Choice([[64, 32], [128]]),
}
SPACE = Space({**DISCRETE, "lr": Float(1e-4, 1e-1, log=True, grid=3)})
EVERY = pytest.mark.parametrize("name", SAMPLERS)
DRAWING = [n for n in SAMPLERS if n != "grid"]


@EVERY
def test_every_point_is_legal(name: str) -> None:
    sampler = SAMPLERS[name](SPACE, 0)
    points = [sampler.ask(n) for n in range(100)]
    assert all(p is not None and SPACE.check(p) == [] for p in points)


@EVERY
def test_the_same_seed_gives_the_same_points(name: str) -> None:
    one, two = SAMPLERS[name](SPACE, 7), SAMPLERS[name](SPACE, 7)
    assert [one.ask(n) for n in range(20)] == [two.ask(n) for n in range(20)]


@pytest.mark.parametrize("name", DRAWING)
def test_another_seed_gives_other_points(name: str) -> None:
    assert SAMPLERS[name](SPACE, 7).ask(0) != SAMPLERS[name](SPACE, 8).ask(0)


@pytest.mark.parametrize("name", DRAWING)
def test_with_nothing_told_every_sampler_draws_the_space_s_own_distribution(name: str) -> None:
    n = 4000
    sampler = SAMPLERS[name](SPACE, 0)
    points = [p for p in (sampler.ask(i) for i in range(n)) if p is not None]
    for key, value, share in [
        ("layers", 2, 1 / 3),
        ("optimizer", "sgd", 1 / 2),
        ("widths", [64, 32], 1 / 2),
    ]:
        assert sum(p[key] == value for p in points) / n == pytest.approx(share, abs=0.03)
    momenta = Counter(p["momentum"] for p in points if "momentum" in p)
    assert set(momenta) == {0.0, 0.3, 0.6, 0.9}
    assert all(c / momenta.total() == pytest.approx(1 / 4, abs=0.04) for c in momenta.values())
    lrs = sorted(p["lr"] for p in points)
    for quartile, value in [(n // 4, 10**-3.25), (n // 2, 10**-2.5), (3 * n // 4, 10**-1.75)]:
        assert lrs[quartile] == pytest.approx(value, rel=0.15)


def test_the_grid_is_each_point_once_and_then_ends() -> None:
    sampler = SAMPLERS["grid"](SPACE, 0)
    points = []
    while (point := sampler.ask(len(points))) is not None:
        points.append(encode(point))
    assert len(points) == len(set(points)) == SPACE.size()
