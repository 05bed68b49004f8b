"""The search space: three kinds of parameter, one meaning on every algorithm.

Bounds are inclusive, always. A parameter may depend on those above it: `when` says for which of their
values it exists at all, `each` gives it one value for each unit of another (a width for every layer).
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields, replace
from decimal import Decimal
from functools import cache
from itertools import product
from typing import Any, ClassVar

from raysweep.errors import Problem, StudyError, did_you_mean
from raysweep.trial import Point

Bad = Iterator[tuple[str, str]]  # (the key it concerns, or "", and the rule that is broken)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_RESERVED = frozenset(
    {"config", "trial_id", "done", "pid", "training_iteration", "time_total_s", "seed", "state"}
)
SECRET = re.compile(r"password|passwd|secret|api_?key|credential|(^|_)token$", re.IGNORECASE)


@dataclass(frozen=True)
class Param:
    """What the three kinds share: when they exist, and whether they are one value or a list of them."""

    _: KW_ONLY
    when: Mapping[str, Any] | None = None
    each: str | None = None

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        problems = [Problem(where, what) for where, what in (*self._common(), *self._rules())]
        if problems:
            raise StudyError(problems)

    def _common(self) -> Bad:
        if self.when is not None and (
            not isinstance(self.when, Mapping)
            or not self.when
            or not all(isinstance(k, str) for k in self.when)
        ):
            yield "when", f"must map names to values, as {{optimizer: sgd}}, got {show(self.when)}"
        if self.each is not None and not isinstance(self.each, str):
            yield "each", f"must be the name of an integer above, got {show(self.each)}"

    def _rules(self) -> Bad:
        raise NotImplementedError

    def at(self, u: float) -> Any:
        """The value at quantile `u` in [0, 1): uniform `u` gives the parameter's own distribution."""
        raise NotImplementedError

    def legal(self, value: Any) -> bool:
        """Whether `value` is one of this parameter's values, of exactly its type."""
        raise NotImplementedError

    def size(self) -> int | None:
        """How many values a grid takes; None when they cannot be counted."""
        raise NotImplementedError

    def values(self) -> list[Any]:
        """The values a grid takes, in order. Only when `size()` is a number."""
        raise NotImplementedError

    def _more(self) -> dict[str, Any]:
        default = {f.name: f.default for f in fields(self)}
        return {k: v for k, v in vars(self).items() if k in _FORMS and v != default[k]}

    def form(self) -> Any:
        """This parameter as it is written in a study file."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Range(Param):
    low: Any
    high: Any
    _: KW_ONLY
    log: bool = False
    step: Any = None
    grid: int | None = None

    def _number(self, key: str, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"must be a number, got {show(value)}"
        return "" if math.isfinite(value) else f"must be a finite number, got {value}"

    def _rules(self) -> Bad:
        bad = {k: self._number(k, getattr(self, k)) for k in ("low", "high")}
        if self.step is not None:
            bad["step"] = self._number("step", self.step)
        if not isinstance(self.log, bool):
            bad["log"] = f"must be true or false, got {show(self.log)}"
        if self.grid is not None and (type(self.grid) is not int or self.grid < 2):
            bad["grid"] = f"must be a number of points, 2 or more, got {show(self.grid)}"
        found = [(key, what) for key, what in bad.items() if what]
        yield from found or self._order()

    def _order(self) -> Bad:
        low, high, step = self.low, self.high, self.step
        if low > high:
            yield "", f"low ({low}) is greater than high ({high}). Swap them"
        elif low == high:
            yield "", f"low and high are both {low}. Write the plain value {low} instead"
        elif self.log and step is not None:
            yield "", "log and step cannot be combined. Use grid to say how many points a grid takes"
        elif step is not None and self.grid is not None:
            yield "", "step already gives the points of a grid. Remove grid"
        elif step is not None and step <= 0:
            yield "step", f"must be above 0, got {step}"
        elif step is not None and step > high - low:
            yield "", f"step {step} is larger than the range {_exact(high) - _exact(low)}"
        elif step is not None and (_exact(high) - _exact(low)) % _exact(step):
            last = self.at_step(int((_exact(high) - _exact(low)) // _exact(step)))
            more = type(self.low)(_exact(last) + _exact(step))
            yield (
                "",
                f"{high} - {low} is not a multiple of step {step}; the last value would be {last}."
                f" Use high {last} or {more}",
            )

    def at_step(self, i: int) -> Any:
        """The value i steps above low."""
        # Through decimals: 3 steps of 0.1 are 0.3, not 0.30000000000000004, in every file and table.
        return type(self.low)(_exact(self.low) + i * _exact(self.step))

    def _steps(self) -> int:
        return int((_exact(self.high) - _exact(self.low)) / _exact(self.step)) + 1

    def _spread(self, n: int) -> list[float]:
        """n numbers from low to high, evenly on the parameter's scale, both ends exactly."""
        if self.log:
            ratio = math.log(self.high / self.low)
            inner = [self.low * math.exp(ratio * i / (n - 1)) for i in range(1, n - 1)]
        else:
            inner = [self.low + (self.high - self.low) * i / (n - 1) for i in range(1, n - 1)]
        return [self.low, *inner, self.high]

    def form(self) -> Any:
        return {self.kind: [self.low, self.high], **self._more()}


@dataclass(frozen=True)
class Float(_Range):
    """A real number from low to high, both included: uniform, log-uniform with `log`, or on `step`s."""

    low: float
    high: float
    step: float | None = None

    kind: ClassVar[str] = "float"

    def __post_init__(self) -> None:
        for key in ("low", "high", "step"):
            if type(getattr(self, key)) is int:
                object.__setattr__(self, key, float(getattr(self, key)))
        super().__post_init__()

    def _order(self) -> Bad:
        if self.log and self.low <= 0:
            yield "low", f"must be above 0 on a log scale, got {self.low}"
        yield from super()._order()

    def at(self, u: float) -> float:
        if self.step is not None:
            return float(self.at_step(min(int(u * self._steps()), self._steps() - 1)))
        if self.log:
            value = self.low * math.exp(u * math.log(self.high / self.low))
        else:
            value = self.low + u * (self.high - self.low)
        return min(max(float(value), self.low), self.high)  # rounding must not leave the range

    def legal(self, value: Any) -> bool:
        if type(value) is not float or not self.low <= value <= self.high:
            return False
        if self.step is None:
            return True
        return bool(value == self.at_step(round((value - self.low) / self.step)))

    def size(self) -> int | None:
        return self._steps() if self.step is not None else self.grid

    def values(self) -> list[float]:
        if self.step is not None:
            return [self.at_step(i) for i in range(self._steps())]
        return self._spread(self.grid or 2)


@dataclass(frozen=True)
class Int(_Range):
    """An integer from low to high, both included: uniform, log-uniform with `log`, or on `step`s."""

    low: int
    high: int
    step: int | None = None

    kind: ClassVar[str] = "int"

    def _number(self, key: str, value: Any) -> str:
        problem = super()._number(key, value)
        if not problem and not isinstance(value, int):
            return f"{value} is not an integer"
        return problem

    def _order(self) -> Bad:
        if self.log and self.low < 1:
            yield "low", f"must be 1 or more on a log scale, got {self.low}"
        yield from super()._order()

    def at(self, u: float) -> int:
        if self.log:
            # Each integer owns the half unit on either side of it, so that both ends get their full share.
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return int(min(max(round(math.exp(low + u * (high - low))), self.low), self.high))
        step = self.step or 1
        n = (self.high - self.low) // step + 1
        return int(self.low + step * min(int(u * n), n - 1))

    def legal(self, value: Any) -> bool:
        if type(value) is not int or not self.low <= value <= self.high:
            return False
        return (value - self.low) % (self.step or 1) == 0

    def size(self) -> int:
        return len(self.values()) if self.grid else (self.high - self.low) // (self.step or 1) + 1

    def values(self) -> list[int]:
        if self.grid:
            return sorted({round(v) for v in self._spread(self.grid)})
        return list(range(self.low, self.high + 1, self.step or 1))


@dataclass(frozen=True)
class Choice(Param):
    """One of a list of options: numbers, text, true, false, null, or lists of those."""

    options: Sequence[Any]

    kind: ClassVar[str] = "choice"

    def _rules(self) -> Bad:
        if isinstance(self.options, str):
            yield "", f"got the text '{self.options}'. Write a list: ['{self.options}']"
        elif not isinstance(self.options, list | tuple):
            yield "", f"must be a list of options, got {show(self.options)}"
        elif not self.options:
            yield "", "the list is empty"
        else:
            object.__setattr__(self, "options", list(self.options))
            yield from self._options()

    def _options(self) -> Bad:
        for i, option in enumerate(self.options):
            if not _plain(option):
                yield (
                    f"[{i}]",
                    f"{type(option).__name__} is not allowed here. Use a name and map it in your code"
                    if not isinstance(option, float)
                    else f"must be a finite number, got {option}",
                )
                continue
            first = next(j for j, other in enumerate(self.options) if other == option)
            if first < i:
                yield "", f"{show(option)} appears twice (options {first + 1} and {i + 1})"

    def at(self, u: float) -> Any:
        return self.options[min(int(u * len(self.options)), len(self.options) - 1)]

    def legal(self, value: Any) -> bool:
        return any(same(value, option) for option in self.options)

    def size(self) -> int:
        return len(self.options)

    def values(self) -> list[Any]:
        return list(self.options)

    def form(self) -> Any:
        more = self._more()
        if more or (len(self.options) == 1 and isinstance(self.options[0], list)):
            return {"choice": list(self.options), **more}
        return self.options[0] if len(self.options) == 1 else list(self.options)


KINDS: dict[str, type[Param]] = {"float": Float, "int": Int, "choice": Choice}
_FORMS = frozenset({"log", "step", "grid", "when", "each"})  # the keys that stand beside a kind


def param(form: Any) -> Param:
    """The parameter that a study file's `form` writes: a value, a list of options, or `{kind: ...}`.

    Raises StudyError with everything that is wrong with it.
    """
    if isinstance(form, Param):
        return form
    if isinstance(form, list | tuple):
        return Choice(form)
    if not isinstance(form, Mapping):
        return Choice([form])
    kinds = [k for k in form if k in KINDS]
    if len(kinds) != 1:
        raise StudyError([Problem("", _wrong_kind(form, kinds))])
    kind = kinds[0]
    known = {f.name for f in fields(KINDS[kind])} & _FORMS
    problems = [
        Problem("", f"unknown key '{k}'.{did_you_mean(str(k), known | {kind})}")
        for k in form
        if k != kind and k not in known
    ]
    bounds = form[kind]
    if kind != "choice" and not (isinstance(bounds, list | tuple) and len(bounds) == 2):
        problems.append(Problem(kind, f"must be [low, high], got {show(bounds)}"))
    arguments = [bounds] if kind == "choice" else bounds
    if not problems:
        return KINDS[kind](*arguments, **{k: form[k] for k in known if k in form})
    raise StudyError(problems)


def _wrong_kind(form: Mapping[Any, Any], kinds: list[str]) -> str:
    if kinds:
        return f"is both {' and '.join(kinds)}. Keep one"
    odd = [str(k) for k in form if k not in _FORMS]
    if not odd:
        return "says no kind. One of: float, int, choice, as {float: [0.0, 1.0]}"
    return f"'{odd[0]}' is no kind of parameter.{did_you_mean(odd[0], KINDS)}"


class Space(Mapping[str, Param]):
    """An ordered mapping of names to parameters, and all that can be said of their points.

    Takes parameters, or what a study file writes for them: `Space({"lr": Float(1e-4, 1e-1, log=True),
    "optimizer": ["adam", "sgd"], "epochs": 5})`. Raises StudyError with everything that is wrong.
    """

    _params: dict[str, Param]

    def __init__(self, params: Mapping[str, Any]):
        space, problems = Space.read(params)
        if problems:
            raise StudyError(problems)
        self._params = space._params

    @classmethod
    def read(cls, params: Any) -> tuple[Space, list[Problem]]:
        """The space of those parameters that are right, and what is wrong with the others."""
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
        point: Point = {}
        for name, p in self.items():
            if self.active(name, point):
                n = self.length(name, point)
                point[name] = p.at(rng.random()) if n is None else [p.at(rng.random()) for _ in range(n)]
        return point

    def check(self, point: Mapping[str, Any]) -> list[Problem]:
        """What is wrong with `point`: values that are not legal, names too many, names that are missing."""
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
        """The same space, where an integer range counts all its values and not only those of its grid."""
        return Space({n: replace(p, grid=None) if isinstance(p, _Range) else p for n, p in self.items()})

    def size(self) -> int:
        """The exact number of different points of the grid, conditions counted once."""
        names = list(self)
        # Only what later conditions look at has to be told apart; the rest multiplies.
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

    def fixed(self, point: Point) -> Space:
        """The space that holds `point` and nothing else: what `best` prints, and any sampler can run."""
        return Space({name: Choice([value]) for name, value in point.items()})


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


def show(value: Any) -> str:
    """A value as a study file would write it, short enough for an error."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _exact(number: float) -> Decimal:
    return Decimal(str(number))


def _plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_plain(v) for v in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | int | str)


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same, types included: 1 is neither 1.0 nor true."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and bool(a == b)


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


def _flat_clashes(space: Space) -> Iterator[Problem]:
    for name in space:
        stem, _, digits = name.rpartition("_")
        if digits.isdigit() and stem in space and space[stem].each:
            yield Problem(name, f"is also how one of the values of '{stem}' is recorded. Choose another name")
