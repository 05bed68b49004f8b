"""Studies beside one another: results, cost, and where their files differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from raysweep.report.facts import Facts
from raysweep.report.tables import number
from raysweep.study.options import duration
from raysweep.study.params import show

NONE = "-"


def rows(many: Sequence[Facts]) -> list[tuple[str, ...]]:
    """A row for each thing: its name, and what it is in each study."""
    found = [
        ("best", *(_best(f) for f in many)),
        ("standard error", *(number(f.noise.error) if f.noise.error else NONE for f in many)),
        ("test", *(", ".join(f"{k} {number(v)}" for k, v in f.test.items()) or NONE for f in many)),
        ("trials", *(", ".join(f"{n} {s}" for s, n in f.counts.items()) for f in many)),
        ("time", *(duration(f.wall) for f in many)),
        ("computing time", *(duration(f.computed) for f in many)),
        ("what matters", *(_matters(f) for f in many)),
    ]
    files = [_flat(f.study.to_dict()) for f in many]
    for key in dict.fromkeys(k for file in files for k in file):
        values = [show(file[key]) if key in file else NONE for file in files]
        if key != "name" and len(set(values)) > 1:
            found.append((key, *values))
    return found


def _best(facts: Facts) -> str:
    winner = facts.winner
    return (
        f"{facts.objective.metric} {number(facts.value(winner))} (trial {winner.number})" if winner else NONE
    )


def _matters(facts: Facts) -> str:
    return ", ".join(f"{one.name} {one.value:.2f}" for one in facts.importances[:3]) or NONE


def _flat(raw: dict[str, Any]) -> dict[str, Any]:
    """A study file with its space spread out."""
    return {k: v for k, v in raw.items() if k != "space"} | {f"space.{k}": v for k, v in raw["space"].items()}


def table(many: Sequence[Facts]) -> Table:
    """The same for a terminal."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", *(f.study.name for f in many)):
        shown.add_column(heading)
    for row in rows(many):
        shown.add_row(*(Text(value) for value in row))
    return shown
