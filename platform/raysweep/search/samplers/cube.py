"""Points as rows of numbers from 0 to 1, for models of values: many at once, without making each a point.

A share of the unit cube says where a coordinate stands in its range, as `Param.at` takes it. A row of features says
the same as a model wants it: a number for each ordered coordinate, one for each option of a choice, and a half where
a point has no such coordinate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from raysweep.study.coordinates import (
    Categories,
    Coordinate,
    Integers,
    Reals,
    coordinates,
    point_at,
    raw_numbers,
)
from raysweep.study.params import Choice, Int, same
from raysweep.study.space import Point, Space

Array = np.ndarray[Any, np.dtype[Any]]

CELLS = 1024  # of a share, in which a coordinate with few values has one each
FEW = 64  # values; more are as good as a continuum


@dataclass(frozen=True)
class _Axis:
    """One coordinate: its column of shares, its parameter's name, and its index if that has a list of values."""

    coordinate: Coordinate
    column: int
    name: str
    index: int

    @property
    def real(self) -> bool:
        """Whether its share is its feature."""
        domain = self.coordinate.domain
        return isinstance(domain, Reals) or (isinstance(domain, Integers) and domain.count > FEW)

    def share(self, raw: Any) -> float:
        """Where a raw number stands."""
        domain = self.coordinate.domain
        if not self.real:
            return self.share_of[raw]
        if isinstance(domain, Integers) and domain.log:  # as `Int.at`: each has the half unit on either side
            return math.log(raw / (domain.low - 0.5)) / math.log((domain.high + 0.5) / (domain.low - 0.5))
        if isinstance(domain, Integers):
            return float(((raw - domain.low) // domain.step + 0.5) / domain.count)
        return float(self.coordinate.place(raw))

    @cached_property
    def values(self) -> list[Any]:
        """The value of each cell."""
        return [self.coordinate.param.at((i + 0.5) / CELLS) for i in range(CELLS)]

    @cached_property
    def raws(self) -> list[Any]:
        return [self.coordinate.raw(v) for v in self.values]

    @cached_property
    def features(self) -> Array:
        """What stands for each cell `[CELLS, width]`."""
        domain = self.coordinate.domain
        if isinstance(domain, Categories):
            found: Array = np.eye(domain.count)[self.raws]
            return found
        return np.array([[self.coordinate.place(raw)] for raw in self.raws], dtype=float)

    @cached_property
    def share_of(self) -> dict[Any, float]:
        """The middle share of each raw number."""
        cells: dict[Any, list[int]] = {}
        for i, raw in enumerate(self.raws):
            cells.setdefault(raw, []).append(i)
        return {raw: (sum(c) / len(c) + 0.5) / CELLS for raw, c in cells.items()}


class Cube:
    """The unit cube over the coordinates of a space."""

    def __init__(self, space: Space):
        self._space = space
        self._axes: list[_Axis] = []
        for name, p in space.items():
            above = space[p.each] if p.each else None
            most = max(above.values()) if isinstance(above, Choice | Int) else None
            for i, coordinate in enumerate(coordinates(space, name, most)):
                self._axes.append(_Axis(coordinate, len(self._axes), name, i))
        self._columns = {a.coordinate.label: a.column for a in self._axes}
        self.groups = np.concatenate(
            [np.full(1 if a.real else a.features.shape[1], a.column) for a in self._axes]
            or [np.zeros(0, int)]
        )
        """The coordinate of each feature."""

    @property
    def size(self) -> int:
        """How many coordinates there are."""
        return len(self._axes)

    def point(self, shares: Array) -> Point:
        """The point at one row of shares."""
        middle = (_cells(shares) + 0.5) / CELLS
        exact = np.where([a.real for a in self._axes], shares, middle)
        return point_at(self._space, lambda label: float(exact[self._columns[label]]))

    def shares(self, point: Point) -> Array:
        """Where a point stands; a half where it has no such coordinate."""
        row = np.full(self.size, 0.5)
        for coordinate, raw in raw_numbers(self._space, point):
            axis = self._axes[self._columns[coordinate.label]]
            row[axis.column] = min(max(axis.share(raw), 0.0), 1.0)
        return row

    def features(self, shares: Array) -> Array:
        """What a model sees of rows of shares `[n, size]`."""
        cells = _cells(shares)
        active = {name: self._active(name, cells) for name in self._space if self._space[name].when}
        parts = []
        for axis in self._axes:
            column = axis.column
            part = shares[:, column : column + 1] if axis.real else axis.features[cells[:, column]]
            there = active.get(axis.name)
            each = self._space[axis.name].each
            if each is not None:
                long = self._lengths(each, cells) > axis.index
                there = long if there is None else there & long
            parts.append(part if there is None else np.where(there[:, None], part, 0.5))
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(shares), 0))

    def _active(self, name: str, cells: Array) -> Array:
        """Where a parameter exists."""
        there = np.ones(len(cells), bool)
        for above, wanted in (self._space[name].when or {}).items():
            if self._space[above].when:
                there &= self._active(above, cells)
            if above in self._columns:
                axis = self._axes[self._columns[above]]
                options = wanted if isinstance(wanted, list) else [wanted]
                right = np.array([any(same(v, o) for o in options) for v in axis.values])
                there &= right[cells[:, axis.column]]
        return there

    def _lengths(self, name: str, cells: Array) -> Array:
        """How long lists are that have a value for each unit of a parameter."""
        if name not in self._columns:
            return np.full(len(cells), int(self._space[name].values()[0]))
        axis = self._axes[self._columns[name]]
        found: Array = np.array(axis.values, dtype=int)[cells[:, axis.column]]
        return found


def _cells(shares: Array) -> Array:
    found: Array = np.minimum((shares * CELLS).astype(int), CELLS - 1)
    return found
