"""When things happened in a study: how its best trial improved, and what each worker did. Time is that of its sessions:
the time between two of them does not count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from raysweep.journal.records import Record
from raysweep.study.objective import Objective
from raysweep.trial import Trial


@dataclass(frozen=True)
class Improvement:
    """A new best value: when, after how much computing time, and of which trial."""

    elapsed: float
    computed: float
    """The computing time of all trials until then, in seconds."""
    trial: int
    epoch: int
    value: float


@dataclass(frozen=True)
class Leg:
    """The time from the start of a trial on a worker until it ended, paused or was lost, in seconds."""

    trial: int
    worker: str
    began: float
    ended: float


class Timeline:
    """What the records of a journal say of when."""

    def __init__(
        self,
        records: Iterable[Record],
        objective: Objective,
        ranked: Iterable[Trial],
        finalists: Iterable[Trial] = (),
    ):
        """`ranked`: the search's trials that have a result; only their epochs count as improvements."""
        self.improvements: list[Improvement] = []
        self.legs: list[Leg] = []
        self.failures: list[float] = []
        """When trials ended without a result."""
        # An epoch that a later attempt has reported anew does not count.
        self._objective, self._counts = objective, {t.number: {r.time for r in t.reports} for t in ranked}
        self._with_result = self._counts.keys() | {t.number for t in finalists}
        self._running: dict[int, tuple[str, float]] = {}
        self.elapsed = self.computed = 0.0
        last: float | None = None  # the time of the last record, while a session lasts
        for record in records:
            if last is not None and record["kind"] != "session":
                self.elapsed += max(0.0, record["time"] - last)
            if last is not None or record["kind"] == "session":
                last = None if record["kind"] == "over" else record["time"]
            self.computed += record.get("seconds", 0.0)
            self._take(record)
        for number in list(self._running):
            self._leave(number)

    def _take(self, record: Record) -> None:
        kind, number = record["kind"], record.get("trial", -1)
        if kind == "started":
            self._leave(number)
            self._running[number] = record["worker"], self.elapsed
        elif kind in {"paused", "ended", "lost"}:
            self._leave(number)
            if kind == "ended" and number not in self._with_result:
                self.failures.append(self.elapsed)
        elif kind in {"session", "over"}:
            for one in list(self._running):
                self._leave(one)
        elif kind == "report" and record["time"] in self._counts.get(number, ()):
            self._improve(record)

    def _leave(self, number: int) -> None:
        if number in self._running:
            worker, began = self._running.pop(number)
            self.legs.append(Leg(number, worker, began, self.elapsed))

    def _improve(self, record: Record) -> None:
        value, objective = self._objective.leading(record["metrics"]), self._objective
        best = self.improvements[-1].value if self.improvements else None
        if value is not None and (best is None or objective.better(value, best)):
            self.improvements.append(
                Improvement(self.elapsed, self.computed, record["trial"], record["epoch"], value)
            )

    def busy(self) -> dict[str, list[tuple[float, float]]]:
        """When each worker had a trial: the union of its trials' times."""
        found: dict[str, list[tuple[float, float]]] = {}
        for leg in sorted(self.legs, key=lambda one: one.began):
            spans = found.setdefault(leg.worker, [])
            if spans and leg.began <= spans[-1][1]:
                spans[-1] = spans[-1][0], max(spans[-1][1], leg.ended)
            else:
                spans.append((leg.began, leg.ended))
        return found
