"""Charts as inline SVG: scales, axes, and marks. Colours are classes of page.css; every mark that has one also has a
shape or a dash of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from raysweep.report.tables import value_text

LEFT, RIGHT, TOP, BOTTOM = 52, 12, 20, 34  # pixels around the plotting area
LARGEST = 1e300  # so that the length of an axis is a number
TICKS = 5  # about so many on an axis

Points = Iterable[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """From values to shares of an axis, 0 to 1. Values beyond its ends are drawn at its ends."""

    low: float
    high: float
    log: bool = False
    options: tuple[Any, ...] = ()
    """The values of an axis without numbers; `low` and `high` are then -0.5 and their number - 0.5."""
    whole: bool = False
    """Whether only whole numbers are worth a tick."""

    @classmethod
    def over(cls, values: Iterable[float], log: bool = False) -> Scale:
        """A scale that holds all values, with a little room."""
        known = [min(max(v, -LARGEST), LARGEST) for v in values] or [0.0, 1.0]
        low, high = min(known), max(known)
        if log and low > 0 and high > low:
            return cls(low, high, True)
        room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
        return cls(low - room, high + room)

    @classmethod
    def among(cls, options: Sequence[Any]) -> Scale:
        """A scale of categories, each of which has a band."""
        return cls(-0.5, len(options) - 0.5, options=tuple(options))

    def share(self, value: float) -> float:
        """Where a value lies, 0 to 1."""
        if self.log:
            found = (math.log(max(value, self.low)) - math.log(self.low)) / (
                math.log(self.high) - math.log(self.low)
            )
        else:
            found = (value - self.low) / (self.high - self.low)
        return min(max(found, 0.0), 1.0)

    def ticks(self) -> list[tuple[float, str]]:
        """Values to write at the axis, with their text."""
        if self.options:
            return [(i, _short(value_text(o))) for i, o in enumerate(self.options)]
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            powers = [10.0**e for e in range(first, last + 1, max(1, math.ceil((last - first) / TICKS)))]
            ends = [float(f"{v:.2g}") for v in (self.low, self.high)]
            return [(v, _tick(v)) for v in (powers if len(powers) > 1 else ends)]
        span = self.high - self.low
        unit = 10.0 ** math.floor(math.log10(span / TICKS))
        step = next(unit * f for f in (1, 2, 5, 10) if span / (unit * f) <= TICKS)
        step = max(step, 1.0) if self.whole else step
        most = range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)
        return [(i * step, _tick(i * step)) for i in most]


def _tick(value: float) -> str:
    return f"{value:.6g}" if 1e-3 <= abs(value) < 1e6 or value == 0 else f"{value:.0e}".replace("e-0", "e-")


def _short(text: str) -> str:
    return text if len(text) <= 10 else f"{text[:9]}…"


def px(value: float) -> str:
    """A length, to a tenth of a pixel."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


@dataclass(frozen=True)
class Plot:
    """A plotting area with two scales. Its methods return marks, which `draw` puts together with the axes."""

    x: Scale
    y: Scale
    width: int = 460
    height: int = 230

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The pixel of a point."""
        across, up = self.width - LEFT - RIGHT, self.height - TOP - BOTTOM
        return LEFT + self.x.share(x) * across, TOP + (1 - self.y.share(y)) * up

    def _path(self, points: Points) -> str:
        return "L".join(f"{px(a)} {px(b)}" for a, b in (self.at(x, y) for x, y in points))

    def line(self, points: Points, kind: str) -> str:
        """A line through points."""
        path = self._path(points)
        return f'<path class="{kind}" d="M{path}"/>' if path else ""

    def lines(self, many: Iterable[Points], kind: str) -> str:
        """Many lines of one kind, as one path."""
        path = "".join(f"M{found}" for points in many if (found := self._path(points)))
        return f'<path class="{kind}" d="{path}"/>' if path else ""

    def steps(self, points: Sequence[tuple[float, float]], end: float, kind: str) -> str:
        """A line that keeps its height until the next point, and is drawn on to `end`."""
        if not points:
            return ""
        (x, y), *others = [self.at(*p) for p in points]
        path = f"M{px(x)} {px(y)}" + "".join(f"H{px(a)}V{px(b)}" for a, b in others)
        return f'<path class="{kind}" d="{path}H{px(self.at(end, points[-1][1])[0])}"/>'

    def dots(self, points: Points, kind: str, trials: Iterable[int] = ()) -> str:
        """A dot at each point, as one path; `trials` are their numbers, for the script that shows what they are."""
        path = "".join(f"M{px(a)} {px(b)}h0" for a, b in (self.at(x, y) for x, y in points))
        named = f' data-trials="{which}"' if (which := " ".join(map(str, trials))) else ""
        return f'<path class="dots {kind}"{named} d="{path}"/>'

    def rule(self, value: float, kind: str, vertical: bool = False) -> str:
        """A straight line across the whole plot, at a height or, `vertical`, at an x."""
        x, y = self.at(value, value)
        end = (
            f"M{px(x)} {TOP}V{self.height - BOTTOM}" if vertical else f"M{LEFT} {px(y)}H{self.width - RIGHT}"
        )
        return f'<path class="{kind}" d="{end}"/>'

    def band(self, low: float, high: float, kind: str, vertical: bool = False) -> str:
        """A band across the whole plot, between two heights or, `vertical`, between two x."""
        (x0, y0), (x1, y1) = self.at(low, low), self.at(high, high)
        box: tuple[float, float, float, float] = (LEFT, y1, self.width - LEFT - RIGHT, max(1.0, y0 - y1))
        if vertical:
            box = x0, TOP, max(1.0, x1 - x0), self.height - TOP - BOTTOM
        x, y, width, height = map(px, box)
        return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}"/>'

    def draw(self, marks: Iterable[str], title: str, across: str, up: str, more: str = "") -> str:
        """The chart: axes with names and ticks, then the marks. `title` is what it shows, for those who cannot see it;
        `more` are attributes of its element."""
        bottom, parts = self.height - BOTTOM, []
        for value, text in self.x.ticks():
            x = px(self.at(value, 0)[0])
            parts.append(f'<text x="{x}" y="{bottom + 14}" text-anchor="middle">{escape(text)}</text>')
        for value, text in self.y.ticks():
            y = self.at(0, value)[1]
            parts.append(f'<path class="grid" d="M{LEFT} {px(y)}H{self.width - RIGHT}"/>')
            parts.append(f'<text x="{LEFT - 5}" y="{px(y + 4)}" text-anchor="end">{escape(text)}</text>')
        parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{self.width - RIGHT}"/>')
        parts.append(f'<text x="{LEFT}" y="12" class="name">{escape(up)}</text>')
        middle = (LEFT + self.width - RIGHT) // 2
        parts.append(
            f'<text x="{middle}" y="{self.height - 4}" text-anchor="middle" class="name">{escape(across)}</text>'
        )
        drawn = "".join([*parts, *marks])
        return framed(drawn, self.width, self.height, f"{title}: {up} against {across}", more)


def framed(content: str, width: int, height: int, title: str, more: str = "") -> str:
    """An SVG element with a name for those who cannot see it."""
    return (
        f'<svg role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}"{more}>'
        f"<title>{escape(title)}</title>{content}</svg>"
    )
