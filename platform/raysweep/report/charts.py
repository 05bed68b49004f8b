"""The charts of the report, each from a study's facts."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from html import escape
from typing import Any

from raysweep.report.facts import Facts
from raysweep.report.svg import BOTTOM, LEFT, RIGHT, TOP, Plot, Scale, framed, px
from raysweep.report.tables import value_text
from raysweep.report.timeline import Timeline
from raysweep.study.coordinates import Categories, Coordinate, all_coordinates
from raysweep.study.params import Choice, Int, Range
from raysweep.trial import Trial

COLOURED = 5  # trials, the best ones, with a colour and a dash of their own in the curves
CURVES = 150  # other curves that are drawn, spread over the ranks
DOTS = (
    1000  # dots in a chart: the best, and of the others as many as there is room for, spread over the ranks
)
SLICES = 12  # parameters with a chart
LINES = 250  # lines of parallel coordinates
FEW = 10  # whole numbers that have a band each
AXES = 9  # of parallel coordinates, without that of the metric


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the items, evenly spread, the first one included."""
    step = max(1.0, len(items) / most)
    return [items[int(i * step)] for i in range(min(len(items), most))]


def chosen(facts: Facts) -> list[Trial]:
    """The ranked trials that have a dot: all, or the best and a spread of the others."""
    best = facts.ranked[: DOTS // 4]
    return [*best, *spread(facts.ranked[len(best) :], DOTS - len(best))]


def values_scale(many: Sequence[Facts]) -> Scale:
    """The axis of the metric: from the best value to a bad one, but not to the worst, which would hide all others."""
    values = [v for facts in many for v in facts.values.values()]
    values += [facts.baseline.value for facts in many if facts.baseline]
    if len(values) < 8:
        return Scale.over(values)
    best = many[0].objective.loss
    ordered = sorted(values, key=best)
    return Scale.over([ordered[0], ordered[len(ordered) * 2 // 3]])


def beyond(facts: Facts) -> int:
    """How many trials have a value beyond the axis of the metric."""
    scale = values_scale([facts])
    return sum(not scale.low <= facts.values[t.number] <= scale.high for t in facts.ranked)


# --- progress -------------------------------------------------------------------------------------------------------


def progress(many: Sequence[Facts], lines: Sequence[Timeline], computed: bool) -> str:
    """The best value so far against time, or against the computing time of all trials: a line for each study."""
    ends = [t.computed if computed else t.elapsed for t in lines]
    times = [[i.computed if computed else i.elapsed for i in t.improvements] for t in lines]
    unit, name = _unit(max([*ends, 0.001]))
    first = min((found[0] for found in times if found), default=0.0)
    log = computed and first > 0 and max(ends) / first > 30
    plot = Plot(Scale.over([first / unit if log else 0.0, max(ends) / unit], log), values_scale(many))
    marks = []
    for i, (facts, timeline, at, end) in enumerate(zip(many, lines, times, ends, strict=True)):
        points = [(x / unit, one.value) for x, one in zip(at, timeline.improvements, strict=True)]
        if computed and facts.random:
            each = statistics.fmean(t.seconds for t in facts.start) / unit
            marks.append(plot.line([(each * (k + 1), v) for k, v in enumerate(facts.random)], "random"))
        marks.append(plot.steps(points, end / unit, f"best s{i}"))
        marks.append(plot.dots(points, f"s{i}", [one.trial for one in timeline.improvements]))
        if not computed and len(many) == 1:
            marks += [plot.line([(x / unit, plot.y.low)] * 2, "failed") for x in timeline.failures]
    across = f"computing time of all trials, {name}{' (log)' if log else ''}" if computed else f"time, {name}"
    return plot.draw(marks, "The best value so far", across, many[0].objective.metric)


def _unit(seconds: float) -> tuple[float, str]:
    """The unit for a length of time, in seconds and in words."""
    return (1.0, "seconds") if seconds < 180 else (60.0, "minutes") if seconds < 10_800 else (3600.0, "hours")


# --- curves ---------------------------------------------------------------------------------------------------------


def drawn_curves(facts: Facts) -> tuple[list[Trial], list[Trial]]:
    """The trials whose curves have a colour, and those that are grey."""
    with_curves = [t for t in facts.ranked if len(t.reports) > 1]
    return with_curves[:COLOURED], spread(with_curves[COLOURED:], CURVES)


def curves(facts: Facts) -> str:
    """The metric by epoch: all grey, the best coloured; those that were stopped end in a dot."""
    best, others = drawn_curves(facts)
    last = max((t.last.epoch for t in [*best, *others] if t.last), default=1)
    plot = Plot(Scale(1, max(last, 2), whole=True), values_scale([facts]))
    stopped = [facts.curve(t)[-1] for t in others if t.status == "stopped" and facts.curve(t)]
    marks = [plot.lines((facts.curve(t) for t in others), "other"), plot.dots(stopped, "stopped")]
    marks += [plot.line(facts.curve(t), f"best s{i}") for i, t in enumerate(best)]
    return plot.draw(marks, "All curves", "epoch", facts.objective.metric)


def train_and_validation(facts: Facts, trial: Trial, train: str) -> str:
    """A trial's metric on the training and on the validation data, by epoch."""
    ours, theirs = facts.curve(trial), facts.curve(trial, train)
    plot = Plot(
        Scale(1, max(2, *(e for e, _ in ours)), whole=True), Scale.over(v for _, v in [*ours, *theirs])
    )
    report = trial.best(facts.objective)
    marks = [plot.line(theirs, "best s1"), plot.line(ours, "best s0")]
    if report:
        marks.append(plot.rule(report.epoch, "mark", vertical=True))
    return plot.draw(
        marks, f"Trial {trial.number}, training beside validation", "epoch", facts.objective.metric
    )


# --- what matters ---------------------------------------------------------------------------------------------------


def importance(facts: Facts) -> str:
    """A bar for each parameter, with its interval."""
    shown, row, width = facts.importances[:SLICES], 24, 560
    high, room = max(one.high for one in shown), width - 190
    parts = []
    for i, one in enumerate(shown):
        y = TOP + i * row
        low, value, top = (150 + room * v / high for v in (one.low, one.value, one.high))
        parts.append(f'<text x="142" y="{y + 13}" text-anchor="end">{escape(one.name)}</text>')
        parts.append(
            f'<rect class="bar" x="150" y="{y + 2}" width="{px(max(1.0, value - 150))}" height="14"/>'
        )
        parts.append(
            f'<path class="whisker" d="M{px(low)} {y + 9}H{px(top)}M{px(low)} {y + 5}v8M{px(top)} {y + 5}v8"/>'
        )
    return framed("".join(parts), width, TOP + row * len(shown) + 6, "How much each parameter matters")


def slices(many: Sequence[Facts]) -> list[str]:
    """A chart for each parameter: the metric against its value, the range of the best tenth as a band. With several
    studies, those that all have."""
    space = many[0].study.space
    found = all_coordinates(space)
    names = [one.name for one in many[0].importances]
    found.sort(key=lambda c: names.index(c.label) if c.label in names else len(names))
    if len(many) > 1:
        found = [c for c in found if all(_same_kind(c, facts) for facts in many)]
    return [chart for c in found[:SLICES] if (chart := _slice(many, c))]


def _same_kind(coordinate: Coordinate, facts: Facts) -> bool:
    there = {c.label: c.param for c in all_coordinates(facts.study.space)}
    p = there.get(coordinate.label)
    if isinstance(p, Choice) and isinstance(coordinate.param, Choice):
        return p.options == coordinate.param.options
    return isinstance(p, Range) and type(p) is type(coordinate.param)


def _slice(many: Sequence[Facts], coordinate: Coordinate) -> str:
    scale = _scale(many, coordinate)
    every = [_column(facts, coordinate, scale) for facts in many]
    if not any(every):
        return ""
    plot = Plot(scale, values_scale(many), 300, 190)
    marks = []
    if len(many) == 1 and not scale.options:
        best = {t.number for t in many[0].tenth}
        inside = [x for number, x, _ in every[0] if number in best]
        if inside:
            marks.append(plot.band(min(inside), max(inside), "tenth", vertical=True))
        marks += [plot.rule(bound, "bound", vertical=True) for bound in _bounds(coordinate.param)]
    for i, (facts, column) in enumerate(zip(many, every, strict=True)):
        tied = {t.number for t in facts.ties}
        for kind in ("", " tied"):
            mine = [one for one in column if (one[0] in tied) == bool(kind)]
            points = [(x + (_jitter(n) if scale.options else 0.0), y) for n, x, y in mine]
            if points:
                marks.append(plot.dots(points, f"s{i}{kind}", [n for n, _, _ in mine]))
    across = f"{coordinate.label}{' (log)' if scale.log else ''}"
    return plot.draw(
        marks, "Slice", across, many[0].objective.metric, f' data-param="{escape(coordinate.label)}"'
    )


def _bounds(p: Any) -> tuple[float, float]:
    return p.low, p.high


def _scale(many: Sequence[Facts], coordinate: Coordinate) -> Scale:
    """The axis of a parameter: a band for each option, or for each of a few whole numbers; else its range."""
    p = coordinate.param
    if isinstance(p, Choice):
        return Scale.among(p.options)
    ranges = [
        _bounds(c.param) for f in many for c in all_coordinates(f.study.space) if c.label == coordinate.label
    ]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    log = bool(p.log)  # type: ignore[attr-defined]
    if isinstance(p, Int) and p.step is None and not log and high - low < FEW:
        return Scale.among(range(int(low), int(high) + 1))
    return Scale(low, high, True) if log else Scale.over([low, high])


Column = list[tuple[int, float, float]]
"""Of each trial that has a parameter: its number, where it lies on the axis, the metric."""


def _column(facts: Facts, coordinate: Coordinate, scale: Scale) -> Column:
    found: Column = []
    for trial in chosen(facts):
        raw = facts.raw(trial)
        if coordinate.label in raw:
            one, number = raw[coordinate.label]
            x = number if isinstance(one.domain, Categories) else float(one.value(number))
            if scale.options and not isinstance(one.domain, Categories):
                x -= scale.options[0]
            found.append((trial.number, float(x), facts.values[trial.number]))
    return found


def _jitter(number: int) -> float:
    """A shift within the band of a category, so that dots do not hide one another: always the same for a trial."""
    return (number * 0.618034 % 1 - 0.5) * 0.6


def parallel(facts: Facts) -> str:
    """Parallel coordinates: a line for each trial through its values, the metric last. The script lets a range of each
    axis be chosen."""
    names = [one.name for one in facts.importances] or [c.label for c in all_coordinates(facts.study.space)]
    axes = {c.label: c for c in all_coordinates(facts.study.space) if c.label in names[:AXES]}
    trials = [t for t in spread(facts.ranked, LINES) if facts.raw(t)]
    if len(axes) < 2 or len(trials) < 2:
        return ""
    width, height = max(560, 96 * (len(axes) + 1)), 300
    top, bottom = 34, height - 16
    step = (width - 100) / len(axes)
    metric = values_scale([facts])
    parts = []
    for trial in reversed(trials):  # the best on top
        raw = facts.raw(trial)
        shares = [_share(*raw[label], trial.number) if label in raw else None for label in axes]
        shares.append(metric.share(facts.values[trial.number]))
        points = [
            f"{px(50 + i * step)} {px(bottom - s * (bottom - top))}"
            for i, s in enumerate(shares)
            if s is not None
        ]
        shade = min(3, trials.index(trial) * 4 // len(trials))
        parts.append(f'<path class="line q{shade}" data-trial="{trial.number}" d="M{"L".join(points)}"/>')
    for i, (label, coordinate) in enumerate([*axes.items(), (facts.objective.metric, None)]):
        parts.append(_axis(label, coordinate, metric, 50 + i * step, top, bottom))
    return framed(
        "".join(parts), width, height, "Parallel coordinates: a line for each trial", ' class="parallel"'
    )


def _axis(label: str, coordinate: Coordinate | None, metric: Scale, x: float, top: int, bottom: int) -> str:
    """One axis of the parallel coordinates, with what its ends stand for; without a coordinate, that of the metric."""
    low, high = _ends(coordinate) if coordinate else (f"{metric.low:.3g}", f"{metric.high:.3g}")
    about: dict[str, Any] = {"low": metric.low, "high": metric.high}
    if coordinate is not None:
        p: Any = coordinate.param
        about = (
            {"options": p.options} if isinstance(p, Choice) else {"low": p.low, "high": p.high, "log": p.log}
        )
    middle, end = f'<text x="{px(x)}" text-anchor="middle"', "</text>"
    return (
        f'<g class="brush" data-axis="{escape(label)}" data-scale="{escape(json.dumps(about))}">'
        f'<rect x="{px(x - 14)}" y="{top}" width="28" height="{bottom - top}"/>'
        f'<path class="axis" d="M{px(x)} {top}V{bottom}"/>'
        f'{middle} y="12" class="name">{escape(label[:14])}{end}'
        f'{middle} y="{top - 6}">{escape(high)}{end}{middle} y="{bottom + 13}">{escape(low)}{end}</g>'
    )


def _share(coordinate: Coordinate, raw: Any, number: int) -> float:
    domain = coordinate.domain
    if isinstance(domain, Categories):
        return float((raw + 0.5 + _jitter(number) * 0.6) / domain.count)
    return float(coordinate.place(raw))


def _ends(coordinate: Coordinate) -> tuple[str, str]:
    p = coordinate.param
    if isinstance(p, Choice):
        return value_text(p.options[0])[:12], value_text(p.options[-1])[:12]
    return value_text(p.low), value_text(p.high)  # type: ignore[attr-defined]


# --- cost -----------------------------------------------------------------------------------------------------------


def workers(timeline: Timeline) -> str:
    """A row for each worker, with a bar where it had a trial: gaps are idle time."""
    busy, row = timeline.busy(), 18
    shown = sorted(busy, key=lambda w: busy[w][0])[:40]
    unit, name = _unit(timeline.elapsed)
    plot = Plot(Scale(0, timeline.elapsed / unit or 1.0), Scale(0, 1), 560, TOP + BOTTOM + row * len(shown))
    parts = []
    for i, worker in enumerate(shown):
        y = TOP + i * row + 3
        spans = "".join(
            f"M{px(plot.at(a / unit, 0)[0])} {y + 6}H{px(plot.at(b / unit, 0)[0] + 0.5)}"
            for a, b in busy[worker]
        )
        parts.append(
            f'<path class="busy" d="{spans}"/><text x="{LEFT - 6}" y="{y + 10}" text-anchor="end">{i + 1}</text>'
        )
    bottom = plot.height - BOTTOM
    for value, text in plot.x.ticks():
        parts.append(
            f'<text x="{px(plot.at(value, 0)[0])}" y="{bottom + 14}" text-anchor="middle">{text}</text>'
        )
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{plot.width - RIGHT}"/>')
    middle = (LEFT + plot.width - RIGHT) // 2
    parts.append(
        f'<text x="{middle}" y="{plot.height - 4}" text-anchor="middle" class="name">time, {name}</text>'
    )
    return framed("".join(parts), plot.width, plot.height, "When each worker had a trial")


def pareto(facts: Facts) -> str:
    """Two objectives against one another, the front as a line."""
    first, second = facts.objective.all[:2]
    pairs = {t.number: _pair(facts, t) for t in chosen(facts)}
    best = sorted((_pair(facts, t), t.number) for t in facts.front)
    plot = Plot(Scale.over(v for v, _ in pairs.values()), Scale.over(v for _, v in pairs.values()), 560, 300)
    marks = [
        plot.dots(pairs.values(), "s0", pairs),
        plot.line([pair for pair, _ in best], "best s1"),
        plot.dots([pair for pair, _ in best], "s1 tied", [number for _, number in best]),
    ]
    return plot.draw(marks, "The Pareto front", first.metric, second.metric)


def _pair(facts: Facts, trial: Trial) -> tuple[float, float]:
    first, second, *_ = facts.score(trial).values
    return first, second
