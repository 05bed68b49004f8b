"""Where trials without a result lie: at one end of a parameter's range, or at one of its options."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from raysweep.errors import StudyError
from raysweep.report.tables import value_text
from raysweep.study.params import Choice, Int, Range
from raysweep.study.space import Space
from raysweep.trial import Trial

THERE = 0.7  # the share of bad trials in a region, and of the region's in all
BOUNDS = 40  # values of a parameter that are tried as a region's end

Region = tuple[str, str, dict[str, Any]]
"""Where it is, the edit that leaves it out, and the edit as values."""


def region_of(
    space: Space, bad: Sequence[Trial], good: Sequence[Trial], best: Collection[int]
) -> Region | None:
    """The end of one parameter's range, or one option, where nearly only bad trials lie, and most of those. None if
    there is no such region, or the best trials lie in it, too."""
    found = []
    for name in space.free:
        p = space[name]
        if p.each is not None or any(name == q.each or name in (q.when or {}) for q in space.values()):
            continue
        inside = _cuts(p, [t.point[name] for t in bad if name in t.point], name)
        for where, edit, form, holds in inside:
            caught = sum(name in t.point and holds(t.point[name]) for t in bad)
            spared = [t for t in good if name in t.point and holds(t.point[name])]
            dense = caught / len(bad) >= THERE and caught / (caught + len(spared)) >= THERE
            if dense and not any(t.number in best for t in spared):
                found.append((caught - len(spared), caught, where, edit, form, name))
    if not found:
        return None
    _, caught, where, edit, form, name = max(found, key=lambda one: one[0])
    count = "all of them" if caught == len(bad) else f"{caught} of these {len(bad)}"
    return f"{count} with {where}", edit, {f"space.{name}": form}


Cut = tuple[str, str, Any, Callable[[Any], bool]]
"""A part of a parameter's values: in words, the edit that leaves it out, that as a form, whether a value is in it."""


def _cuts(p: Any, bad: list[Any], name: str) -> Iterator[Cut]:
    """The parts of a parameter's values that might be left out."""
    if isinstance(p, Choice):
        for option in p.options if len(p.options) > 1 else []:
            others = replace(p, options=[o for o in p.options if o != option], prior=None).form()
            yield f"{name} {value_text(option)}", f"{name}: without {value_text(option)}", others, _is(option)
        return
    values = sorted(set(bad))
    values = values[:: max(1, -(-len(values) // BOUNDS))]
    for bound in values[: len(values) // 2 + 1]:  # from here up
        if rest := with_bounds(p, high=_before(p, bound)):
            edit = f"{name}: {value_text(rest.low)} to {value_text(rest.high)}"
            yield f"{name} of {value_text(bound)} or more", edit, rest.form(), _at_least(bound)
    for bound in values[len(values) // 2 :]:  # from here down
        if rest := with_bounds(p, low=_after(p, bound)):
            edit = f"{name}: {value_text(rest.low)} to {value_text(rest.high)}"
            yield f"{name} of {value_text(bound)} or less", edit, rest.form(), _at_most(bound)


def with_bounds(p: Range, **bounds: Any) -> Range | None:
    """The range with another bound; None if that leaves none."""
    try:
        return replace(p, **bounds, grid=None, prior=None)
    except StudyError:
        return None


def _is(option: Any) -> Callable[[Any], bool]:
    return lambda value: bool(value == option)


def _at_least(bound: Any) -> Callable[[Any], bool]:
    return lambda value: bool(value >= bound)


def _at_most(bound: Any) -> Callable[[Any], bool]:
    return lambda value: bool(value <= bound)


def _before(p: Range, bound: Any) -> Any:
    """A bound below `bound`, which leaves it out."""
    if p.step:
        found = p.at_step(round((bound - p.low) / p.step) - 1)
    else:
        found = bound - 1 if isinstance(p, Int) else _rounded(bound, math.floor)
    return found


def _after(p: Range, bound: Any) -> Any:
    """A bound above `bound`, likewise."""
    if p.step:
        found = p.at_step(round((bound - p.low) / p.step) + 1)
    else:
        found = bound + 1 if isinstance(p, Int) else _rounded(bound, math.ceil)
    return found


def _rounded(value: float, to: Callable[[float], int]) -> float:
    """A number of two digits that is no longer `value`."""
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 1) if value else 1e-3
    steps = to(value / unit)
    beyond = -1 if to is math.floor else 1
    return float(f"{(steps if steps * unit != value else steps + beyond) * unit:.2g}")
