"""A point as independent coordinates, for algorithms that know nothing of lists, conditions and types.

Each coordinate is one value: `lr`, or `units_0`, `units_1` ... for a list. An algorithm models its raw
number: an option's index, the index of a step, or else the value itself. Its domain says which raw numbers
are allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from raysweep.study.params import Choice, Float, Int, Param, same
from raysweep.study.space import Point, Space


@dataclass(frozen=True)
class Categories:
    """The numbers 0 to count - 1, in no order."""

    count: int


@dataclass(frozen=True)
class Integers:
    """low, low + step ... high."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    @property
    def count(self) -> int:
        return (self.high - self.low) // self.step + 1


@dataclass(frozen=True)
class Reals:
    """Every number from low to high."""

    low: float
    high: float
    log: bool = False


Domain = Categories | Integers | Reals


@dataclass(frozen=True)
class Coordinate:
    """One value of a point, of parameter `param`."""

    label: str
    param: Param

    @property
    def domain(self) -> Domain:
        """What its raw numbers may be: what an algorithm needs to know of the kind of parameter."""
        p = self.param
        if isinstance(p, Choice):
            return Categories(len(p.options))
        if isinstance(p, Int):
            return Integers(p.low, p.high, p.step or 1, p.log)
        if isinstance(p, Float):
            return Reals(p.low, p.high, p.log) if p.step is None else Integers(0, (p.size() or 1) - 1)
        raise TypeError(f"{p} is of no known kind")

    @property
    def _indexed(self) -> bool:
        return isinstance(self.param, Float) and self.param.step is not None

    def raw(self, value: Any) -> Any:
        """The number that stands for `value`."""
        p = self.param
        if isinstance(p, Choice):
            return next(i for i, option in enumerate(p.options) if same(value, option))
        return round((value - p.low) / p.step) if self._indexed else value  # type: ignore[attr-defined]

    def value(self, raw: Any) -> Any:
        """The value that the number `raw` stands for."""
        p = self.param
        if isinstance(p, Choice):
            return p.options[int(raw)]
        return p.at_step(int(raw)) if self._indexed else p.nearest(raw)  # type: ignore[attr-defined]

    def place(self, raw: Any) -> float | str:
        """Where a raw number stands in its domain, from 0 to 1 on its scale; a category is just itself."""
        domain = self.domain
        if isinstance(domain, Categories):
            return str(raw)
        if domain.log:
            return math.log(raw / domain.low) / math.log(domain.high / domain.low)
        return float((raw - domain.low) / max(domain.high - domain.low, 1e-300))


def coordinates(space: Space, name: str, length: int | None) -> list[Coordinate]:
    """The coordinates of one active parameter; none when it has no freedom."""
    p = space[name]
    if isinstance(p, Choice) and len(p.options) == 1:
        return []
    if length is None:
        return [Coordinate(name, p)]
    return [Coordinate(f"{name}_{i}", p) for i in range(length)]


def raw_numbers(space: Space, point: Point) -> Iterator[tuple[Coordinate, Any]]:
    """The coordinates of a point with their raw numbers."""
    for name, value in point.items():
        length = len(value) if space[name].each else None
        values = value if length is not None else [value]
        for coordinate, one in zip(coordinates(space, name, length), values, strict=False):
            yield coordinate, coordinate.raw(one)


def all_coordinates(space: Space) -> list[Coordinate]:
    """Every coordinate that any point of the space may have."""
    found = []
    for name, p in space.items():
        above = space[p.each] if p.each else None
        most = (
            above.options if isinstance(above, Choice) else [above.high] if isinstance(above, Int) else None
        )
        found += coordinates(space, name, max(most) if most else None)
    return found


def point_of(space: Space, raw_of: Callable[[Coordinate], Any]) -> Point:
    """The point whose active coordinates have the numbers `raw_of(coordinate)`."""
    return _point(space, lambda c: c.value(raw_of(c)))


def point_at(space: Space, share_of: Callable[[str], float]) -> Point:
    """The point whose active coordinates stand at the shares `share_of(label)`, from 0 to 1, of their ranges."""
    return _point(space, lambda c: c.param.at(share_of(c.label)))


def _point(space: Space, value_of: Callable[[Coordinate], Any]) -> Point:
    point: Point = {}
    for name, p in space.items():
        if not space.active(name, point):
            continue
        length = space.length(name, point)
        found = [value_of(c) for c in coordinates(space, name, length)]
        if isinstance(p, Choice) and len(p.options) == 1:
            point[name] = p.options[0] if length is None else [p.options[0]] * length
        else:
            point[name] = found[0] if length is None else found
    return point


Places = dict[str, float | str]


def places(space: Space, point: Point) -> Places:
    """Where a point stands in the range of each coordinate that it has."""
    return {c.label: c.place(raw) for c, raw in raw_numbers(space, point)}


def distance(a: Places, b: Places) -> float:
    """Squared distance; a coordinate that only one of them has, or another option, counts as the whole range."""
    total = 0.0
    for label in a.keys() | b.keys():
        x, y = a.get(label), b.get(label)
        if isinstance(x, float) and isinstance(y, float):
            total += (x - y) ** 2
        else:
            total += x != y
    return total
