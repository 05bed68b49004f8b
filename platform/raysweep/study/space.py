"""The search space: an ordered mapping of names to parameters, with the same meaning for every algorithm.

A parameter may depend on those above it: with `when` it exists only for some of their values; with `each` it
has one value for each unit of another parameter (a width for every layer).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, cached_property
from itertools import product
from typing import Any

from raysweep.errors import Problem, StudyError, did_you_mean
from raysweep.study.params import Choice, Float, Int, Param, Range, param, same, show

Point = dict[str, Any]


_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_RESERVED = frozenset(
    {"config", "trial_id", "done", "pid", "training_iteration", "time_total_s", "seed", "state"}
)
LONGEST = 1_000
"""The most values of a list made by `each`. More is a mistake, and would take too long to count."""
SECRET = re.compile(r"password|passwd|secret|api_?key|credential|(^|_)token$", re.IGNORECASE)


class Space(Mapping[str, Param]):
    """An ordered mapping of names to parameters, with the operations on their points.

    Takes parameters, or their form in a study file: `Space({"lr": Float(1e-4, 1e-1, log=True),
    "optimizer": ["adam", "sgd"], "epochs": 5})`. Raises StudyError with every problem found.
    """

    _params: dict[str, Param]

    def __init__(self, params: Mapping[str, Any]):
        space, problems = Space.read(params)
        if problems:
            raise StudyError(problems)
        self._params = space._params

    @classmethod
    def read(cls, params: Any) -> tuple[Space, list[Problem]]:
        """The space of the valid parameters, and the problems of the others."""
        space = cls.__new__(cls)
        space._params = {}
        if not isinstance(params, Mapping):
            return space, [Problem("", f"must map names to values, got {show(params)}")]
        if not params:
            return space, [Problem("", "is empty. Give at least one parameter")]
        problems: list[Problem] = []
        for name, form in params.items():
            found = [Problem(str(name), what) for what in _name_problems(name, form)]
            if not found:
                try:
                    one = param(form)
                    found = [Problem(name, what) for what in _link_problems(space, name, one)]
                    space._params[name] = one
                except StudyError as error:
                    found = [p.under(name) for p in error.problems]
            problems += found
        return space, problems + list(_flat_clashes(space))

    def __getitem__(self, name: str) -> Param:
        return self._params[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._params)

    def __len__(self) -> int:
        return len(self._params)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.forms() == other.forms()

    def __hash__(self) -> int:
        return hash(json.dumps(self.forms(), sort_keys=True))

    def __repr__(self) -> str:
        return f"Space({self._params!r})"

    def forms(self) -> dict[str, Any]:
        """The space as a study file writes it."""
        return {name: p.form() for name, p in self.items()}

    @property
    def free(self) -> list[str]:
        """The names of the parameters that can take more than one value."""
        return [n for n, p in self.items() if not (isinstance(p, Choice) and len(p.options) == 1)]

    def active(self, name: str, above: Point) -> bool:
        """Whether `name` exists in a point whose parameters above it are `above`."""
        p = self[name]
        return (p.each is None or p.each in above) and all(
            a in above and _among(above[a], wanted) for a, wanted in (p.when or {}).items()
        )

    def length(self, name: str, above: Point) -> int | None:
        """How many values an active `name` takes: None for one plain value, n for a list of n."""
        each = self[name].each
        return None if each is None else int(above[each])

    def sample(self, rng: random.Random) -> Point:
        """A point drawn from the space's own distribution."""
        return self._drawn(lambda p: p.at(rng.random()))

    def believed(self, rng: random.Random) -> Point:
        """A point drawn near the priors; what has none, from its own distribution."""
        return self._drawn(lambda p: p.believed(rng.random()))

    def prior(self, rng: random.Random) -> Point:
        """The priors themselves; what has none, from its own distribution."""
        return self._drawn(lambda p: p.at(rng.random()) if p.prior is None else p.prior)

    def _drawn(self, value: Callable[[Param], Any]) -> Point:
        point: Point = {}
        for name, p in self.items():
            if self.active(name, point):
                n = self.length(name, point)
                point[name] = value(p) if n is None else [value(p) for _ in range(n)]
        return point

    @property
    def believes(self) -> bool:
        """Whether any parameter has a prior."""
        return any(p.prior is not None for p in self.values())

    def check(self, point: Mapping[str, Any]) -> list[Problem]:
        """The problems of `point`: illegal values, unknown names, missing names."""
        if not isinstance(point, Mapping):
            return [Problem("", f"must map names to values, got {show(point)}")]
        problems = [
            Problem(str(n), f"is not in the space.{did_you_mean(str(n), self)}")
            for n in point
            if n not in self
        ]
        above: Point = {}
        for name in self:
            active = self.active(name, above)
            if name in point:
                problems += self._value_problems(name, point[name], active, above)
                above[name] = point[name]
            elif active:
                problems.append(Problem(name, "is missing"))
        return problems

    def _value_problems(self, name: str, value: Any, active: bool, above: Point) -> list[Problem]:
        p = self[name]
        if not active:
            return [Problem(name, "has no value here: its condition does not hold")]
        n = self.length(name, above)
        if n is None:
            return [] if p.legal(value) else [Problem(name, f"{show(value)} is outside {show(p.form())}")]
        if not isinstance(value, list) or len(value) != n:
            return [Problem(name, f"must be a list of {n} ({p.each}), got {show(value)}")]
        return [
            Problem(f"{name}[{i}]", f"{show(v)} is outside {show(p.form())}")
            for i, v in enumerate(value)
            if not p.legal(v)
        ]

    def continuous(self) -> list[str]:
        """The parameters whose values a grid cannot count."""
        return [n for n, p in self.items() if p.size() is None]

    def without_grids(self) -> Space:
        """The same space without grids: integer ranges count all their values, not only their grids'."""
        return Space({n: replace(p, grid=None) if isinstance(p, Range) else p for n, p in self.items()})

    def size(self) -> int:
        """The exact number of different points of the grid, conditions counted once."""
        names = list(self)
        # Only parameters that later conditions use need separate counts; the sizes of the others multiply.
        needed = [
            {a for later in names[i:] for a in (*(self[later].when or {}), self[later].each) if a}
            for i in range(len(names) + 1)
        ]

        @cache
        def below(i: int, seen: str) -> int:
            if i == len(names):
                return 1
            name, p = names[i], self[names[i]]
            point: Point = json.loads(seen)
            rest = needed[i + 1]
            if self.active(name, point) and name in rest:
                return sum(below(i + 1, _kept({**point, name: v}, rest)) for v in p.values())
            n = self.length(name, point) if self.active(name, point) else 0
            here: int = (p.size() or 0) ** (1 if n is None else n)
            return here * below(i + 1, _kept(point, rest))

        return below(0, "{}")

    def grid(self) -> Iterator[Point]:
        """Every point of the grid once, the last parameter varying fastest."""
        yield from self._grid(list(self), {})

    def _grid(self, names: list[str], point: Point) -> Iterator[Point]:
        if not names:
            yield dict(point)
            return
        name, rest = names[0], names[1:]
        if not self.active(name, point):
            yield from self._grid(rest, point)
            return
        n = self.length(name, point)
        values = self[name].values()
        for value in values if n is None else map(list, product(values, repeat=n)):
            yield from self._grid(rest, {**point, name: value})

    def part(self, names: Iterable[str]) -> Iterator[Point]:
        """The value combinations of those `names` that can be counted. (A combination may be repeated.)"""
        wanted = {n for n in names if n in self}
        for name in reversed(list(self)):
            if name in wanted:
                p = self[name]
                wanted |= {*(p.when or {}), *([p.each] if p.each else [])}
        uncounted = set(self.continuous())
        for point in self._grid([n for n in self if n in wanted - uncounted], {}):
            yield {n: point[n] for n in names if n in point}

    @property
    def most_epochs(self) -> int | None:
        """The largest `epochs` that a point may have; None if the space does not say."""
        p = self.get("epochs")
        if isinstance(p, Choice):
            numbers = [o for o in p.options if type(o) is int]
            return max(numbers) if numbers else None
        return p.high if isinstance(p, Int) else None

    @cached_property
    def cardinality(self) -> int | None:
        """How many different points there are, or None when they cannot be counted."""
        space = self.without_grids()
        return None if space.continuous() else space.size()

    def completed(self, given: Point) -> Point:
        """`given` plus omitted fixed values, in the space's order; whole numbers become floats where
        needed."""
        given = {n: _floats(self.get(n), v) for n, v in given.items()}
        fixed = {n: p.options[0] for n, p in self.items() if isinstance(p, Choice) and len(p.options) == 1}
        return {n: given[n] if n in given else fixed[n] for n in self if n in given or n in fixed} | {
            n: v for n, v in given.items() if n not in self
        }

    def fixed(self, point: Point) -> Space:
        """The space that holds only `point`: `best` prints it, and any sampler can run it."""
        return Space({name: Choice([value]) for name, value in point.items()})


def _floats(p: Param | None, value: Any) -> Any:
    """`value`, with whole numbers converted to float if the parameter is a Float."""
    if not isinstance(p, Float):
        return value
    if isinstance(value, list):
        return [_floats(p, v) for v in value]
    return float(value) if type(value) is int else value


def flat(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point with its lists spread out: `units: [64, 32]` becomes `units_0: 64, units_1: 32`."""
    row: dict[str, Any] = {}
    for name, value in point.items():
        if isinstance(value, list):
            row.update({f"{name}_{i}": v for i, v in enumerate(value)})
        else:
            row[name] = value
    return row


def encode(point: Point) -> str:
    """A point as one line of text; `decode` gives it back exactly, floats to the last bit."""
    return json.dumps(point, allow_nan=False, ensure_ascii=False)


def decode(text: str) -> Point:
    """The point that `encode` wrote."""
    point: Point = json.loads(text)
    return point


def _among(value: Any, wanted: Any) -> bool:
    return any(same(value, w) for w in (wanted if isinstance(wanted, list) else [wanted]))


def _kept(point: Point, names: set[str]) -> str:
    return json.dumps({k: v for k, v in point.items() if k in names})


def _name_problems(name: Any, form: Any) -> Iterator[str]:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield "names use letters, digits and _, start with a letter, and have at most 64 characters"
    elif name in _RESERVED:
        yield "the name is reserved. Choose another"
    elif SECRET.search(name) and not (isinstance(form, str) and form.startswith("env:")):
        yield f"looks like a secret and would be recorded. Use 'env:{name.upper()}'"


def _link_problems(space: Space, name: str, p: Param) -> Iterator[str]:
    for above, wanted in (p.when or {}).items():
        if above not in space:
            yield f"when: '{above}' is not a name above.{did_you_mean(above, space) if space else ''}"
            continue
        parent = space[above]
        if isinstance(parent, Float) or parent.each:
            yield f"when: '{above}' is not an int or a choice of one value, so it cannot be a condition"
            continue
        for value in wanted if isinstance(wanted, list) else [wanted]:
            if not parent.legal(value):
                yield f"when: '{above}' is never {show(value)}; it is one of {parent.form()}"
    if p.each is not None:
        if p.each not in space:
            yield f"each: '{p.each}' is not a name above.{did_you_mean(p.each, space) if space else ''}"
        else:
            parent = space[p.each]
            numbers = parent.options if isinstance(parent, Choice) else [getattr(parent, "low", None)]
            if (
                parent.each
                or isinstance(parent, Float)
                or not all(type(v) is int and v >= 0 for v in numbers)
            ):
                yield f"each: '{p.each}' is not a whole number of 0 or more"
            elif (most := max(parent.options if isinstance(parent, Choice) else [_high(parent)])) > LONGEST:
                yield f"each: '{p.each}' may be {most:,}; a list has at most {LONGEST:,} values"


def _high(parent: Param) -> int:
    return parent.high if isinstance(parent, Int) else 0


def _flat_clashes(space: Space) -> Iterator[Problem]:
    for name in space:
        stem, _, digits = name.rpartition("_")
        if digits.isdigit() and stem in space and space[stem].each:
            yield Problem(name, f"is also how one of the values of '{stem}' is recorded. Choose another name")
