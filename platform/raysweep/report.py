"""A study for a person to read: tables, and the live view of a search."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raysweep.background import Background
from raysweep.journal import Journal, Record
from raysweep.plans import duration
from raysweep.space import Space, flat
from raysweep.study import UNBOUNDED, Study
from raysweep.trial import NO_RESULT, Objective, Report, Trial, ranking

SHOWN = 10  # trials in the live table
STYLE = {
    "running": "cyan",
    "stopped": "yellow",
    "waiting": "dim",
    "paused": "blue",
    **dict.fromkeys((*NO_RESULT, "timeout", "failed"), "red"),
}


def number(value: float | None) -> str:
    """A metric in as few characters as tell it apart."""
    return (
        "" if value is None else f"{value:.4g}" if abs(value) < 1e-3 or abs(value) >= 1e4 else f"{value:.4f}"
    )


def value_text(value: Any) -> str:
    """A hyperparameter as a table shows it."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return " ".join(map(value_text, value))
    return str(value)


def rows(trials: Iterable[Trial], objective: Objective) -> list[dict[str, Any]]:
    """Trials as flat records: number, status, the metric at its best epoch, seconds, error, parameters.

    A parameter that is called as one of our own columns gets `point.` before its name.
    """
    found = []
    for trial in trials:
        report = trial.best(objective)
        own: dict[str, Any] = {
            "trial": trial.number,
            "status": trial.status,
            **{o.metric: report.metrics[o.metric] if report else None for o in objective.all},
            "best_epoch": report.epoch if report else None,
            "last_epoch": trial.last.epoch if trial.last else 0,
            "seconds": round(trial.seconds, 3),
            "error": trial.error or None,
        }
        found.append(own | {f"point.{k}" if k in own else k: v for k, v in flat(trial.point).items()})
    return found


def as_json(records: Sequence[dict[str, Any]]) -> str:
    """Records as a JSON list, one record a line."""
    return "[\n" + ",\n".join(f"  {json.dumps(r, ensure_ascii=False)}" for r in records) + "\n]"


def as_csv(records: Sequence[dict[str, Any]]) -> str:
    """Records as CSV with the union of their columns."""
    columns = list(dict.fromkeys(name for r in records for name in r))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().rstrip("\n")


def table(trials: Sequence[Trial], objective: Objective, space: Space) -> Table:
    """Trials as a table: what varies, how good it was, how it ended."""
    names = space.free
    shown = Table(box=None, pad_edge=False, header_style="bold")
    metrics = [o.metric for o in objective.all]
    for heading in ("trial", *metrics, "epoch", *(["seconds"] if "seconds" not in metrics else [])):
        shown.add_column(heading, justify="right", no_wrap=True)
    for heading in ("status", *names):
        shown.add_column(heading)
    for trial in trials:
        report = trial.best(objective)
        shown.add_row(
            str(trial.number),
            *(_with_spread(report, m) for m in metrics),
            str(report.epoch) if report else "",
            *([f"{trial.seconds:.1f}"] if "seconds" not in metrics else []),
            Text(trial.status, style=STYLE.get(trial.status, "")),
            *(value_text(trial.point[n]) if n in trial.point else "" for n in names),
        )
    return shown


def _with_spread(report: Report | None, metric: str) -> str:
    if report is None:
        return ""
    spread = report.metrics.get(f"{metric}_std")
    return number(report.metrics[metric]) + ("" if spread is None else f" ± {number(spread)}")


# --- while it runs ----------------------------------------------------------------------------------------


def of(count: int, target: int) -> str:
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
        """`trials` as they stand whenever they are asked for; `began` is when the search did, if not now; `now` stands
        still for one that is over."""
        self._study, self.trials, self._now = study, trials, now
        self._began = began or time.time()
        self._before = sum(t.ended and t.finished < self._began for t in trials())

    def line(self, trials: Sequence[Trial]) -> str:
        """Done, running, failed, throughput and the time left, on one line."""
        ended, target = sum(t.ended for t in trials), max(self._study.target, len(trials))
        running = sum(t.status == "running" for t in trials)
        broken = sum(t.status in {*NO_RESULT, "timeout", "failed"} for t in trials)
        parts = [f"{of(ended, target)} trials", f"{running} running"]
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
        """The live table: the best trials, then those that run; `how` it stands, for who did not start it."""
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
            done = of(len(told), max(study.target, len(trials)))
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


# --- afterwards, or from elsewhere --------------------------------------------------------------------------------


BRIEF = {"said", "lost", "ended", "best", "over"}


def story(records: Iterable[Record], of_trial: int | None = None, brief: bool = False) -> Iterator[str]:
    """What a journal's records tell, a line each; of one trial with its epochs, if `of_trial` says which; without
    trials' comings and goings, if `brief`."""
    for record in records:
        number = record.get("trial")
        if of_trial is not None and (number != of_trial or record["kind"] == "best"):
            continue
        if brief and record["kind"] not in BRIEF:
            continue
        told = _told(record, of_trial is not None)
        if told:
            yield f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(record['time']))} {told}"


def _told(record: Record, epochs: bool) -> str:
    kind, trial = record["kind"], f"trial {record.get('trial')}"
    if kind == "said":
        return str(record["text"])
    if kind == "session":
        return f"begun by process {record['pid']} on {record['host']}: {' '.join(record['argv'])}"
    if kind == "over":
        return "the session ended" + (f": {record['error']}" if record.get("error") else "")
    if kind == "started":
        after = f" after epoch {record['epoch']}" if record.get("epoch") else ""
        return f"{trial} started{after} on {record['worker']}"
    if kind == "report" and epochs:
        values = ", ".join(f"{name} {number(value)}" for name, value in record["metrics"].items())
        return f"{trial} epoch {record['epoch']}: {values}"
    if kind == "lost":
        return f"{trial} lost ({record['cause']}): {record['error']}"
    if kind == "paused":
        return f"{trial} paused"
    if kind == "ended":
        return f"{trial} {record['status']}" + (f": {record['error']}" if record["error"] else "")
    if kind == "best":
        tested = ", ".join(f"{name} {number(value)}" for name, value in record["metrics"].items())
        return f"{trial} is the best, at epoch {record['epoch']}: {tested}"
    return ""
