"""A search while it runs: the live table, or a line for each trial that ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from raysweep.journal.journal import Journal
from raysweep.report.tables import number, table
from raysweep.storage.background import Background
from raysweep.study.options import duration
from raysweep.study.study import UNBOUNDED, Study
from raysweep.trial import NO_RESULT, Trial, ranking

SHOWN = 10  # trials in the live table


def count_of(count: int, target: int) -> str:
    """How many of how many, where that is known."""
    return str(count) if target >= UNBOUNDED else f"{count}/{target}"


class Progress:
    """How far a search is, from its journal."""

    def __init__(
        self,
        study: Study,
        trials: Callable[[], list[Trial]],
        began: float | None = None,
        now: Callable[[], float] = time.time,
    ):
        """`trials` returns the trials as they are at the time of the call. `began` is when the search began,
        if not now. `now` is constant for a search that is over."""
        self._study, self.trials, self._now = study, trials, now
        self._began = began or time.time()
        self._before = sum(t.ended and t.finished < self._began for t in trials())

    def line(self, trials: Sequence[Trial]) -> str:
        """Done, running, failed, throughput and the time left, on one line."""
        ended, target = sum(t.ended for t in trials), max(self._study.target, len(trials))
        running = sum(t.status == "running" for t in trials)
        broken = sum(t.status in {*NO_RESULT, "timeout", "failed"} for t in trials)
        parts = [f"{count_of(ended, target)} trials", f"{running} running"]
        if paused := sum(t.status == "paused" for t in trials):
            parts.append(f"{paused} paused")
        if broken:
            parts.append(f"{broken} without result")
        seconds = max(0.001, self._now() - self._began)
        done = ended - self._before
        if done:
            parts.append(f"{done / seconds * 60:.1f} trials/min")
            if target < UNBOUNDED and running:
                parts.append(f"{duration((target - ended) * seconds / done)} left")
        return " · ".join([*parts, f"{duration(seconds)} so far"])

    def view(self, how: str = "") -> Group:
        """The live table: the best trials, then the running ones. `how` is the state of the search, for
        viewers that did not start it."""
        objective = self._study.objective
        trials = self.trials()
        running = [t for t in trials if t.status == "running"][:SHOWN]
        ranked = [t for t in ranking(trials, objective) if t.status != "running"]
        top = ranked[: max(3, SHOWN - len(running))]
        return Group(
            Text(f"{self._study.name}: {objective}{f' ({how})' if how else ''}", style="bold"),
            Text(self.line(trials), style="dim"),
            table([*top, *running], objective, self._study.space),
        )


@contextmanager
def live(study: Study, journal: Journal, place: Path) -> Iterator[None]:
    """The live table on a terminal."""
    progress = Progress(study, lambda: journal.trials)
    console = Console(stderr=True)
    with Live(console=console, get_renderable=progress.view, refresh_per_second=2, transient=True):
        yield


@contextmanager
def lines(study: Study, journal: Journal, place: Path) -> Iterator[None]:
    """A line for each trial that ends, where there is no terminal."""
    progress, objective = Progress(study, lambda: journal.trials), study.objective
    told = {t.number for t in progress.trials() if t.ended}

    def tell() -> None:
        trials = progress.trials()
        for trial in [t for t in trials if t.ended and t.number not in told]:
            told.add(trial.number)
            report = trial.best(objective)
            value = number(report.metrics[objective.metric] if report else None)
            how = trial.error or f"{objective.metric} {value}"
            done = count_of(len(told), max(study.target, len(trials)))
            print(
                f"{done} trial {trial.number} {trial.status}: {how}, {duration(trial.seconds)}",
                file=sys.stderr,
            )

    telling = Background("The progress is not shown", tell, 0.5, lambda text: print(text, file=sys.stderr))
    telling.start()
    try:
        yield
    finally:
        telling.close()
        telling.once()
