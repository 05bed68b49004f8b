"""What a study optimises: its metrics, and the requirements on other metrics."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Metrics = Mapping[str, float]

_SIGNS = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}


@dataclass(frozen=True)
class Requirement:
    """What a metric must be for a result to count: `params < 1e6`."""

    metric: str
    sign: str
    bound: float

    @classmethod
    def read(cls, metric: str, text: str) -> Requirement:
        """Parse a requirement such as `metric: "< 1e6"`. Raises ValueError when `text` is not one."""
        sign = next((s for s in _SIGNS if text.strip().startswith(s)), "")
        bound = float(text.strip().removeprefix(sign) if sign else "nan")
        if not math.isfinite(bound):
            raise ValueError(f"{text} is no requirement")
        return cls(metric, sign, bound)

    def met(self, metrics: Metrics) -> bool:
        """Whether the metric is present and meets the requirement."""
        return self.metric in metrics and bool(_SIGNS[self.sign](metrics[self.metric], self.bound))

    def excess(self, metrics: Metrics) -> float:
        """How far beyond the bound the metric is, from 0 (met) to 1."""
        if self.met(metrics):
            return 0.0
        if self.metric not in metrics:
            return 1.0
        distance = abs(metrics[self.metric] - self.bound)
        return max(distance / (distance + abs(self.bound) + 1e-12), 1e-6)


@dataclass(frozen=True)
class Objective:
    """What is optimised: the name of a metric, and whether higher values are better.

    `more` holds further objectives, which give a Pareto front. `metric` is the leading one: its best epoch
    represents the trial. Epochs that do not meet the requirements do not count.
    """

    metric: str
    maximize: bool
    more: tuple[Objective, ...] = ()
    require: tuple[Requirement, ...] = ()

    @classmethod
    def of(cls, study: Mapping[str, Any]) -> Objective:
        """The objective of a study, from a file or a journal. The first of several objectives leads; if some
        are maximised and some minimised, a maximised one leads."""

        def named(key: str) -> list[str]:
            given = study.get(key) or []
            return [given] if isinstance(given, str) else list(given)

        every = [cls(m, True) for m in named("maximize")] + [cls(m, False) for m in named("minimize")]
        first, *more = every or [cls("", False)]
        require = tuple(Requirement.read(m, text) for m, text in (study.get("require") or {}).items())
        return cls(first.metric, first.maximize, tuple(more), require)

    @property
    def names(self) -> frozenset[str]:
        """Every metric that the objectives or requirements use."""
        return frozenset({o.metric for o in self.all} | {r.metric for r in self.require})

    @property
    def all(self) -> tuple[Objective, ...]:
        """The leading objective and the others."""
        return (self, *self.more)

    def better(self, a: float, b: float) -> bool:
        """Whether `a` is strictly better than `b`, in the leading metric."""
        return a > b if self.maximize else a < b

    def loss(self, value: float) -> float:
        """The value with its sign set so that lower is better."""
        return -value if self.maximize else value

    def values(self, metrics: Metrics) -> tuple[float, ...] | None:
        """The value of every objective, or None when one is missing or a requirement is not met."""
        found = tuple(metrics.get(o.metric, math.nan) for o in self.all)
        counts = all(map(math.isfinite, found)) and all(r.met(metrics) for r in self.require)
        return found if counts else None

    def leading(self, metrics: Metrics) -> float | None:
        """The leading metric, or None when these metrics do not count."""
        values = self.values(metrics)
        return values[0] if values else None

    def excess(self, metrics: Metrics) -> float:
        """How far the metrics are from the requirements, from 0 (all met) to 1."""
        return max((r.excess(metrics) for r in self.require), default=0.0)

    def __str__(self) -> str:
        return ", ".join(f"{'maximize' if o.maximize else 'minimize'} {o.metric}" for o in self.all)
