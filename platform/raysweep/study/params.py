"""The three kinds of parameter, a closed set: a real number, an integer, a choice. Bounds are inclusive, always."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from decimal import Decimal
from statistics import NormalDist
from typing import Any, ClassVar

from raysweep.errors import Problem, StudyError, did_you_mean

BELIEF = 0.15  # of a range: the standard deviation around a prior
Bad = Iterator[tuple[str, str]]  # (the key it concerns, or "", and the rule that is broken)


@dataclass(frozen=True)
class Param:
    """What the three kinds share: when they exist, whether they are one value or a list of them, and where a person
    believes the best to be."""

    _: KW_ONLY
    when: Mapping[str, Any] | None = None
    each: str | None = None
    prior: Any = None

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

    def _belief(self) -> Bad:
        if self.prior is not None and not self.legal(self.prior):
            yield "prior", f"must be one of its values, got {show(self.prior)}"

    def _rules(self) -> Bad:
        raise NotImplementedError

    def at(self, u: float) -> Any:
        """The value at quantile `u` in [0, 1): uniform `u` gives the parameter's own distribution."""
        raise NotImplementedError

    def believed(self, u: float) -> Any:
        """The value at quantile `u` of what a person believes, if there is a prior: near it, or not far from it."""
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
class Range(Param):
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
        found = found or list(self._order())
        yield from found or self._belief()

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
        elif step is not None and _exact(step) > _exact(high) - _exact(low):
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

    def believed(self, u: float) -> Any:
        """From a normal distribution around the prior, on the parameter's scale, that is cut off at the ends."""
        if self.prior is None:
            return self.at(u)
        bell = NormalDist(self.share(self.prior), BELIEF)
        low, high = bell.cdf(0.0), bell.cdf(1.0)
        return self.at(min(max(bell.inv_cdf(low + u * (high - low)), 0.0), math.nextafter(1.0, 0.0)))

    def _spread(self, n: int) -> list[float]:
        """n numbers from low to high, evenly spaced on the parameter's scale, with both ends exact."""
        return [self.low, *(self._scaled(i / (n - 1)) for i in range(1, n - 1)), self.high]

    def _scaled(self, u: float) -> float:
        """The number a fraction `u` of the way from low to high, on the parameter's scale."""
        if self.log:
            return float(self.low * math.exp(u * math.log(self.high / self.low)))
        return float(self.low + u * (self.high - self.low))

    def share(self, value: float) -> float:
        """Where `value` stands in the range, from 0 at low to 1 at high, on the parameter's scale."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return float((value - self.low) / (self.high - self.low))

    def nearest(self, wanted: float) -> Any:
        """The legal value nearest to `wanted`."""
        if self.step is None and isinstance(self.low, float):
            return min(max(wanted, self.low), self.high)
        step = self.step or 1
        last = round((self.high - self.low) / step)
        return type(self.low)(
            _exact(self.low) + min(max(round((wanted - self.low) / step), 0), last) * _exact(step)
        )

    def form(self) -> Any:
        return {self.kind: [self.low, self.high], **self._more()}


@dataclass(frozen=True)
class Float(Range):
    """A real number from low to high, both included: uniform, log-uniform with `log`, or on `step`s."""

    low: float
    high: float
    step: float | None = None

    kind: ClassVar[str] = "float"

    def __post_init__(self) -> None:
        for key in ("low", "high", "step", "prior"):
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
        return min(max(self._scaled(u), self.low), self.high)  # rounding must not leave the range

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
class Int(Range):
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
    """One of a list of options: numbers, text, true, false, null, lists of those, or mappings from names to text."""

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
            found = list(self._options())
            yield from found or self._belief()

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

    def believed(self, u: float) -> Any:
        """The prior half of the time, else any option."""
        return (
            self.prior
            if self.prior is not None and u < 0.5
            else self.at(u if self.prior is None else 2 * u - 1)
        )

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
_FORMS = frozenset({"log", "step", "grid", "when", "each", "prior"})  # the keys allowed beside a kind


def param(form: Any) -> Param:
    """Parse a parameter in its study-file form: a value, a list of options, or `{kind: ...}`.

    Raises StudyError with every problem found.
    """
    if isinstance(form, Param):
        return form
    if isinstance(form, list | tuple):
        return Choice(form)
    if not isinstance(form, Mapping):
        return Choice([form])
    if _is_mapping_of_text(form):
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


def _is_mapping_of_text(form: Any) -> bool:
    """Whether it is a value that maps names to text, and no parameter."""
    return (
        isinstance(form, Mapping)
        and bool(form)
        and all(isinstance(k, str) and isinstance(v, str) for k, v in form.items())
        and not {*KINDS, *_FORMS} & form.keys()
    )


def _wrong_kind(form: Mapping[Any, Any], kinds: list[str]) -> str:
    if kinds:
        return f"is both {' and '.join(kinds)}. Keep one"
    odd = [str(k) for k in form if k not in _FORMS]
    if not odd:
        return "says no kind. One of: float, int, choice, as {float: [0.0, 1.0]}"
    return f"'{odd[0]}' is no kind of parameter.{did_you_mean(odd[0], KINDS)}"


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
    if isinstance(value, Mapping):
        return _is_mapping_of_text(value)
    return value is None or isinstance(value, bool | int | str)


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same, types included: 1 is neither 1.0 nor true."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and bool(a == b)
