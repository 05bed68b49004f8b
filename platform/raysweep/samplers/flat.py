"""A point as independent coordinates, for algorithms that know nothing of lists, conditions and types.

Each coordinate is one value: `lr`, or `units_0`, `units_1` ... for a list. Its raw number is what an algorithm
models: an option's index, the index of a step, else the value itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from raysweep.params import Choice, Float, Int, Param, same
from raysweep.space import Space
from raysweep.trial import Point


@dataclass(frozen=True)
class Coordinate:
    """One value of a point, of parameter `param`."""

    label: str
    param: Param

    @property
    def options(self) -> int:
        """How many raw numbers there are, or 0 for a range of its own numbers."""
        p = self.param
        if isinstance(p, Choice):
            return len(p.options)
        return p.size() or 0 if isinstance(p, Float) and p.step is not None else 0

    def raw(self, value: Any) -> Any:
        """The number that stands for `value`."""
        p = self.param
        if isinstance(p, Choice):
            return next(i for i, option in enumerate(p.options) if same(value, option))
        if isinstance(p, Float) and p.step is not None:
            return round((value - p.low) / p.step)
        return value

    def value(self, raw: Any) -> Any:
        """The value that the number `raw` stands for."""
        p = self.param
        if isinstance(p, Choice):
            return p.options[int(raw)]
        if isinstance(p, Float):
            return p.at_step(int(raw)) if p.step is not None else p.nearest(float(raw))
        if isinstance(p, Int):
            return p.nearest(raw)
        raise TypeError(f"{p} is of no known kind")


def coordinates(space: Space, name: str, length: int | None) -> list[Coordinate]:
    """The coordinates of one active parameter; none when it has no freedom."""
    p = space[name]
    if isinstance(p, Choice) and len(p.options) == 1:
        return []
    if length is None:
        return [Coordinate(name, p)]
    return [Coordinate(f"{name}_{i}", p) for i in range(length)]


def raws(space: Space, point: Point) -> Iterator[tuple[Coordinate, Any]]:
    """The coordinates of a point with their raw numbers."""
    for name, value in point.items():
        length = len(value) if space[name].each else None
        values = value if length is not None else [value]
        for coordinate, one in zip(coordinates(space, name, length), values, strict=False):
            yield coordinate, coordinate.raw(one)


def every(space: Space) -> list[Coordinate]:
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
