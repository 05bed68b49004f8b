"""The report: one HTML file that needs nothing else, neither a network nor other files. It works in MLflow's frame for
artifacts, which is sandboxed, in print and in the dark."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from raysweep import __version__
from raysweep.journal.history import History
from raysweep.journal.records import FILE, Record, read
from raysweep.report import charts, sections
from raysweep.report.answer import answer
from raysweep.report.facts import Facts
from raysweep.report.health import Finding, health
from raysweep.report.timeline import Timeline
from raysweep.storage import disk
from raysweep.study.study import Study
from raysweep.tracking.process import REPORT

RULES = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class Seen:
    """All that a report shows of one study."""

    facts: Facts
    timeline: Timeline
    findings: list[Finding]

    @classmethod
    def of(cls, place: Path) -> Seen:
        """What there is to see of the study in a folder."""
        facts, records = facts_of(place)
        return cls(facts, Timeline(records, facts.objective, facts.ranked, facts.finalists), health(facts))


def facts_of(place: Path) -> tuple[Facts, list[Record]]:
    """The facts of the study in a folder, and the records of its journal."""
    records, _ = read(place / FILE)
    history = History(records)
    return Facts(Study.recorded(history.study["study"]), history), records


def write_report(place: Path) -> None:
    """Write the report of the study in a folder beside its journal."""
    disk.write(place / REPORT, report(place))


def report(place: Path) -> str:
    """The report of the study in a folder, as HTML."""
    return page([Seen.of(place)])


def page(many: Sequence[Seen]) -> str:
    """The page: one study, or several, compared and then one after the other."""
    title = " and ".join(one.facts.study.name for one in many)
    body = sections.comparison([s.facts for s in many], [s.timeline for s in many]) if len(many) > 1 else ""
    for i, one in enumerate(many):
        name, objective = one.facts.study.name, str(one.facts.objective)
        heading = f"<h2>{escape(f'{name}: {objective}' if len(many) > 1 else objective)}</h2>"
        inside = sections.of_study(one.facts, one.timeline, one.findings)
        body += f'<article data-study="{i}">{heading}{inside}</article>'
    data = {"raysweep": __version__, "studies": [as_data(one) for one in many]}
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{RULES}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<style>{_file('page.css')}</style></head><body><main><h1>{escape(title)}</h1>{body}</main>"
        '<div id="tip" role="status" hidden></div>'
        f'<script type="application/json" id="facts">{_as_json(data)}</script>'
        f"<script>{_file('page.js')}</script></body></html>\n"
    )


def framed(html: str, height: int = 700) -> str:
    """A page inside another one, such as a notebook, without touching that one."""
    return (
        f'<iframe srcdoc="{escape(html)}" sandbox="allow-scripts" title="The report of a study"'
        f' style="width: 100%; height: {height}px; border: 1px solid #999"></iframe>'
    )


def as_data(seen: Seen) -> dict[str, Any]:
    """The facts of a report, for a program to read: what stands in the page as JSON, and what `--json` prints."""
    facts, timeline, findings = seen.facts, seen.timeline, seen.findings
    best, others = charts.drawn_curves(facts)
    winner = facts.winner
    return {
        "study": facts.study.name,
        "objective": str(facts.objective),
        "metric": facts.objective.metric,
        "maximize": facts.objective.maximize,
        "answer": answer(facts),
        "best": winner.number if winner else None,
        "value": facts.value(winner) if winner else None,
        "test": facts.test,
        "front": [t.number for t in facts.front],
        "baseline": {"value": facts.baseline.value, "what": facts.baseline.what} if facts.baseline else None,
        "standard_error": facts.noise.error or None,
        "optimism": facts.optimism,
        "finalists": [t.number for t in facts.finalists],
        "ties": [t.number for t in facts.ties],
        "counts": facts.counts,
        "seconds": facts.wall,
        "computed_seconds": facts.computed,
        "gpu_hours": facts.gpu_hours,
        "saved_seconds": facts.saved,
        "random": facts.random,
        "rungs": [{"epoch": r.epoch, "agreement": r.agreement, "trials": r.trials} for r in facts.rungs],
        "importances": [
            {"name": i.name, "value": i.value, "low": i.low, "high": i.high, "trials": i.trials}
            for i in facts.importances
        ],
        "improvements": [
            {
                "seconds": i.elapsed,
                "computed_seconds": i.computed,
                "trial": i.trial,
                "epoch": i.epoch,
                "value": i.value,
            }
            for i in timeline.improvements
        ],
        "health": [{"check": f.check, "verdict": f.verdict, "edit": f.edit} for f in findings],
        "trials": _columns(facts),
        "curves": {t.number: [[e, v] for e, v in facts.curve(t)] for t in [*best, *others]},
    }


def _columns(facts: Facts) -> dict[str, Any]:
    """All trials, a list for each column: the best first, as in the table."""
    listed = facts.listed
    scores = [t.score(facts.objective) for t in listed]
    more = {o.metric: [s.values[i] if s else None for s in scores] for i, o in enumerate(facts.objective.all)}
    used = {
        "cpu_seconds": [round(t.cpu_seconds, 3) for t in listed],
        "memory_mb": [t.memory for t in listed],
        "gpu_memory_mb": [t.gpu_memory for t in listed],
    }
    return {
        "number": [t.number for t in listed],
        "status": [t.status for t in listed],
        "metrics": more,
        "epoch": [s.report.epoch if s else None for s in scores],
        "seconds": [round(t.seconds, 3) for t in listed],
        **{name: column for name, column in used.items() if any(column)},
        "point": {n: [t.point.get(n) for t in listed] for n in facts.study.space},
        "inactive": {
            n: missing
            for n in facts.study.space
            if (missing := [i for i, t in enumerate(listed) if n not in t.point])
        },
    }


def _as_json(data: Any) -> str:
    """JSON that stays inside a script element, whatever text it holds."""
    text = json.dumps(finite(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def finite(data: Any) -> Any:
    """The same, with null for numbers that JSON does not have."""
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _file(name: str) -> str:
    return (resources.files("raysweep.report") / name).read_text()
