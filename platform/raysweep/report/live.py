"""A search while it runs: the live table, or a line for each trial that ends."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.text import Text

from raysweep.journal.history import History
from raysweep.journal.journal import Journal
from raysweep.report.facts import Facts
from raysweep.report.health import health
from raysweep.report.tables import number, table
from raysweep.storage.background import Background
from raysweep.study.options import PopulationScheduler, duration
from raysweep.study.study import UNBOUNDED, Study
from raysweep.trial import NO_RESULT, Trial, best, ranking

Watch = Callable[[Study, Journal, Path], Any]
"""Makes a context manager that shows the progress of a search."""
SHOWN = 10  # trials in the live table
LOOK = 5.0  # seconds between two looks at the study's health


def _expected(study: Study, trials: Sequence[Trial]) -> int:
    """How many trials there will be."""
    return max(study.target + sum(t.baseline for t in trials), len(trials))


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
        history: Callable[[], History] | None = None,
    ):
        """`trials` and `history` return what is so at the time of the call. `began` is when the search began,
        if not now. `now` is constant for a search that is over."""
        self._study, self.trials, self._now, self._history = study, trials, now, history
        self._health: tuple[int, float, list[str]] = (0, 0.0, [])  # ended trials, when, and what was found
        self._began = began or time.time()
        before = [t for t in trials() if (t.finished or (t.last.time if t.last else math.inf)) < self._began]
        self._ended, self._before = sum(t.ended for t in before), self._done(before)

    def line(self, trials: Sequence[Trial]) -> str:
        """Done, running, failed, throughput and the time left, on one line."""
        ended, target = sum(t.ended for t in trials), _expected(self._study, trials)
        running = sum(t.status == "running" for t in trials)
        broken = sum(t.status in {*NO_RESULT, "timeout", "failed"} for t in trials)
        parts = [f"{count_of(ended, target)} trials", f"{running} running"]
        if paused := sum(t.status == "paused" for t in trials):
            parts.append(f"{paused} paused")
        if broken:
            parts.append(f"{broken} without result")
        seconds = max(0.001, self._now() - self._began)
        if ended > self._ended:
            parts.append(f"{(ended - self._ended) / seconds * 60:.1f} trials/min")
        done = self._done(trials)
        if target < UNBOUNDED and running and done > self._before:
            parts.append(f"{duration((target - done) * seconds / (done - self._before))} left")
        parts.append(f"{duration(seconds)} so far")
        objective = self._study.objective
        winner = best(trials, objective)
        score = winner.score(objective) if winner else None
        if winner and score:
            parts.append(f"best {objective.metric} {number(score.value)} (trial {winner.number})")
        return " · ".join(parts)

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
            *self._bar(trials),
            Text(self.line(trials), style="dim"),
            table([*top, *running], objective, self._study.space),
            *(Text(f"health: {line}", style="yellow") for line in self._found(trials)),
        )

    def _bar(self, trials: Sequence[Trial]) -> list[Padding]:
        """How much of the study is done, where that is known."""
        target = _expected(self._study, trials)
        if target >= UNBOUNDED:
            return []
        return [Padding(ProgressBar(total=target, completed=self._done(trials), width=60), 0)]

    def _done(self, trials: Iterable[Trial]) -> float:
        """How many trials are done. One that runs counts by its epochs. One that waits to be promoted counts as done,
        since most never are, unless it belongs to a population."""
        last, forks = self._study.most_epochs, isinstance(self._study.scheduler, PopulationScheduler)
        done = 0.0
        for trial in trials:
            if trial.ended or (trial.status == "paused" and not forks):
                done += 1
            elif trial.last and last:
                done += min(0.99, trial.last.epoch / last)
        return done

    def _found(self, trials: Sequence[Trial]) -> list[str]:
        """What the health checks say, looked at again when more trials have ended, but not all the time."""
        ended, at, found = self._health
        now = sum(t.ended for t in trials)
        if self._history is not None and now != ended and time.monotonic() - at > LOOK:
            try:
                found = [str(one) for one in health(Facts(self._study, self._history(), trials), quick=True)]
            except Exception as error:  # whatever a study is like, its search goes on
                found = [f"not checked: {type(error).__name__}: {error}"]
            self._health = now, time.monotonic(), found
        return found


def watch_of(verbose: int) -> Watch | None:
    """How the progress of a search that Python code has started is shown: see `raysweep.run`."""
    if verbose > 1:
        return partial(lines, out=sys.stdout)
    shown = sys.stderr if sys.stderr.isatty() else sys.stdout if _in_notebook() else None
    return partial(one_line, out=shown) if verbose and shown else None


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def one_line(study: Study, journal: Journal, place: Path, out: TextIO) -> Iterator[None]:
    """One line that says how far the search is and how good its best trial, and is written over and over."""
    progress = Progress(study, lambda: journal.trials)
    width = 0

    def tell() -> None:
        nonlocal width
        trials = progress.trials()
        line = f"{study.name}: {progress.line(trials)}"
        print(f"\r{line:{width}}", end="", file=out, flush=True)
        width = len(line)

    with _repeated(tell):
        yield
    print(file=out)


@contextmanager
def _repeated(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` twice a second, and once at the end."""
    telling = Background("The progress is not shown", tell, 0.5, lambda text: print(text, file=sys.stderr))
    telling.start()
    try:
        yield
    finally:
        telling.close()
        telling.once()


@contextmanager
def live(study: Study, journal: Journal, place: Path) -> Iterator[None]:
    """The live table on a terminal."""
    progress = Progress(study, lambda: journal.trials, history=lambda: journal.history)
    console = Console(stderr=True)
    with Live(console=console, get_renderable=progress.view, refresh_per_second=2, transient=True):
        yield


@contextmanager
def lines(study: Study, journal: Journal, place: Path, out: TextIO | None = None) -> Iterator[None]:
    """A line for each trial that ends, where there is no terminal. `out` is standard error by default."""
    progress, objective = Progress(study, lambda: journal.trials), study.objective
    told = {t.number for t in progress.trials() if t.ended}

    def tell() -> None:
        trials = progress.trials()
        for trial in [t for t in trials if t.ended and t.number not in told]:
            told.add(trial.number)
            report = trial.best(objective)
            value = number(report.metrics[objective.metric] if report else None)
            how = trial.error or f"{objective.metric} {value}"
            done = count_of(len(told), _expected(study, trials))
            print(
                f"{done} trial {trial.number} {trial.status}: {how}, {duration(trial.seconds)}",
                file=out or sys.stderr,
            )

    with _repeated(tell):
        yield
