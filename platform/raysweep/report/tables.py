"""Trials as tables: for a terminal, as JSON, as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from raysweep.study.objective import Objective
from raysweep.study.space import Space, flat
from raysweep.trial import NO_RESULT, STATUSES, Report, Trial

STYLE = {
    "running": "cyan",
    "stopped": "yellow",
    "waiting": "dim",
    "paused": "blue",
    **dict.fromkeys((*NO_RESULT, "timeout", "failed"), "red"),
}


def number(value: float | None) -> str:
    """A metric in just enough characters to tell it apart."""
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

    A parameter that has the name of one of our own columns gets the prefix `point.`.
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


def as_record(trial: Trial, objective: Objective) -> dict[str, Any]:
    """All of a trial, for a program to read."""
    report = trial.best(objective)
    return {
        "trial": trial.number,
        "status": trial.status,
        "metrics": dict(report.metrics) if report else {},
        "best_epoch": report.epoch if report else None,
        "params": dict(trial.point),
        "seeds": list(trial.seeds),
        "attempts": trial.attempts,
        "worker": trial.worker,
        "seconds": trial.seconds,
        "cpu_seconds": trial.cpu_seconds,
        "memory_mb": trial.memory,
        "gpu_memory_mb": trial.gpu_memory,
        "error": trial.error,
        "losses": [asdict(loss) for loss in trial.losses],
        "parent": trial.parent,
        "of": trial.of,
        "baseline": trial.baseline,
        "epochs": [{"epoch": r.epoch, **r.metrics} for r in trial.reports],
    }


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


def ends(trials: Iterable[Trial]) -> str:
    """How many trials ended how: `24 trials: 20 completed, 2 stopped, 2 failed`."""
    counts = Counter(t.status for t in trials)
    told = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    return f"{counts.total()} trial{'s' * (counts.total() != 1)}" + (f": {told}" if told else "")


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
