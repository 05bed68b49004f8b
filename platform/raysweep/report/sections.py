"""The sections of the report, each a piece of HTML from a study's facts. Whatever comes from a user is escaped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from typing import Any

from raysweep.report import charts, compare
from raysweep.report.answer import answer, counted, lucky, point_text
from raysweep.report.facts import Facts, values_of
from raysweep.report.health import Finding
from raysweep.report.html import folded, keys, paragraph, section, table
from raysweep.report.importance import ENOUGH
from raysweep.report.next_study import next_study
from raysweep.report.tables import number, value_text
from raysweep.report.timeline import Timeline
from raysweep.study.options import amounts, duration
from raysweep.study.params import Choice, Range
from raysweep.study.space import flat
from raysweep.trial import Trial

ROWS = 500  # trials in the table; the script finds the others
LARGE = 0.7  # a rank correlation that allows for decisions at that epoch


def the_answer(facts: Facts) -> str:
    first, *others = answer(facts)
    warned = "warn" if lucky(facts) else ""
    return f'<p class="first">{escape(first)}</p>{paragraph(" ".join(others), warned)}{_ensemble(facts)}'


def how_sure(facts: Facts) -> str:
    """The noise, the trials that tie, the luck in the best one's value."""
    noise, metric = facts.noise, facts.objective.metric
    if facts.objective.more or facts.winner is None:
        return ""
    if not noise.error:
        text = "How much of the differences is chance is not known. repeats: 3 in the file would tell."
        return paragraph(text)
    parts = [paragraph(f"The standard error of a trial's {metric} is {number(noise.error)}, from {noise}.")]
    if facts.finalists:
        parts.append(_finalists(facts))
    elif facts.optimism:
        text = (
            f"As the best of {len(facts.ranked):,}, trial {facts.winner.number} looks about {number(facts.optimism)}"
            " better than it is (a parametric bootstrap that takes the errors of trials as independent; those on the"
            " same examples are less so, and the luck is smaller then)."
        )
        parts.append(paragraph(text, "warn" if lucky(facts) else ""))
    rows = [
        (t.number, facts.values[t.number], t.seconds, t.memory or None, point_text(facts, t))
        for t in facts.ties[:20]
    ]
    many = f"{counted(len(facts.ties), 'trial')} within one standard error of the best, the cheapest first"
    headings = ("trial", metric, "seconds", "memory (MB)", "point")
    return "".join(parts) + table(headings, rows, many + (" (20 of them)" if len(facts.ties) > 20 else ""))


def _ensemble(facts: Facts) -> str:
    """What the kept trials' networks come to together."""
    made = facts.history.best.get("ensemble")
    if not made:
        return ""
    metrics = made["metrics"]
    said = {
        p: ", ".join(f"{k} {number(v)}" for k, v in metrics.items() if k.startswith(p))
        for p in ("val", "test")
    }
    weights = ", ".join(f"trial {n} ({weight:.0%})" for n, weight in made["weights"].items())
    return paragraph(
        f"The ensemble of {weights} has {said['test']}. ({said['val']} is what it was selected by, so that is too"
        f" good.) It is models:/{facts.study.name}@ensemble."
    )


def _finalists(facts: Facts) -> str:
    """What became of the best points when they were trained again."""
    metric = facts.objective.metric
    rows = []
    for trial in facts.finalists:
        mean, before = facts.values[trial.number], facts.values.get(trial.of or 0)
        rows.append((trial.number, trial.of, mean, facts.error(trial), before, point_text(facts, trial)))
    headings = ("trial", "again", metric, "± (standard error)", "in the search", "point")
    lost = [facts.gain(before, mean) for _, _, mean, _, before, _ in rows if before is not None]
    text = f"The best {len(rows)} points were trained again when the search was over, and their means decide."
    if lost:
        change = sum(lost) / len(lost)
        text += f" On average they are {number(abs(change))} {'worse' if change > 0 else 'better'} than in the search."
    return paragraph(text) + table(headings, rows, "The finalists")


def progress(facts: Facts, timeline: Timeline) -> str:
    if not timeline.improvements:
        return ""
    metric = facts.objective.metric
    text = "The best value so far. Short ticks at the bottom are trials that ended without a result."
    if facts.random:
        text += (
            f" The dotted line is what random search would be expected to have, by the {len(facts.start)} points that"
            " were drawn without a model (under the same scheduler)."
        )
    rows = [
        (round(i.elapsed, 1), round(i.computed, 1), i.trial, i.epoch, i.value) for i in timeline.improvements
    ]
    both = charts.progress([facts], [timeline], False) + charts.progress([facts], [timeline], True)
    return (
        paragraph(text)
        + f'<div class="charts">{both}</div>'
        + folded(
            "As a table",
            table(("time (s)", "computing time (s)", "trial", "epoch", metric), rows, "Improvements"),
        )
    )


def curves(facts: Facts) -> str:
    """All curves, the winner's training beside its validation, the agreement of ranks."""
    best, others = charts.drawn_curves(facts)
    if not best:
        return ""
    drawn = charts.curves(facts)
    text = f"The best {len(best)} have a colour, all others are grey; those that were stopped end in a dot."
    if len(best) + len(others) < len(facts.ranked):
        text += f" {len(best) + len(others)} of {len(facts.ranked):,} curves are drawn."
    winner, train = facts.winner, facts.counterpart
    parts = [paragraph(text), keys(f"trial {t.number}" for t in best)]
    if winner and train and len(winner.reports) > 1:
        drawn += charts.train_and_validation(facts, winner, train)
        parts.append(paragraph(_fit(facts, winner, train)))
    parts.append(f'<div class="charts">{drawn}</div>')
    if facts.rungs:
        rows = [(r.epoch, r.agreement, r.trials, _verdict(r.agreement)) for r in facts.rungs]
        headings = ("epoch", "Spearman's rank correlation with the end", "trials", "verdict")
        parts.append(table(headings, rows, "How well the ranks at an epoch agree with those at the end"))
        if facts.study.scheduler.name != "none":
            note = "Only trials that reached the end count. The scheduler chose them, so ranks agree more than that."
            parts.append(paragraph(note))
    epochs = sorted({e for t in best for e, _ in facts.curve(t)})
    by_trial = [dict(facts.curve(t)) for t in best]
    named = ["epoch", *(f"trial {t.number}" for t in best)]
    rows_ = [(e, *(curve.get(e) for curve in by_trial)) for e in epochs]
    parts.append(folded("As a table", table(named, rows_, f"{facts.objective.metric} by epoch")))
    return "".join(parts)


def _verdict(agreement: float) -> str:
    return "agrees" if agreement >= LARGE else "in part" if agreement >= 0.3 else "hardly"


def _fit(facts: Facts, winner: Trial, train: str) -> str:
    """Whether the winner overfits, in words."""
    report = winner.best(facts.objective)
    last = winner.last
    if report is None or last is None or train not in report.metrics:
        return ""
    gap = facts.gain(report.metrics[train], report.metrics[facts.objective.metric])
    text = f"At its best epoch, {report.epoch}, trial {winner.number} has {train} {number(report.metrics[train])}"
    text += f" and {facts.objective.metric} {number(report.metrics[facts.objective.metric])}"
    lost = facts.gain(report.metrics[facts.objective.metric], facts.curve(winner)[-1][1])
    lines = f"(On the right the broken line is {train}; the upright one marks the best epoch.)"
    if gap <= facts.noise.error:
        return f"{text}: no sign of overfitting. {lines}"
    after = (
        f", and by epoch {last.epoch} the latter is {number(lost)} worse" if lost > facts.noise.error else ""
    )
    return f"{text}: {number(gap)} better on the data that it was trained on{after}. {lines}"


def what_matters(facts: Facts) -> str:
    found = facts.importances
    if not found and len(facts.ranked) >= ENOUGH:
        return paragraph("Nothing to say: all trials have the same value, or the space has changed.")
    if not found:
        return paragraph(
            f"Too few to say: it takes {ENOUGH} trials with a result, and there are {len(facts.ranked)}."
        )
    conditions = {
        n: ", ".join(f"{a} = {value_text(v)}" for a, v in (p.when or {}).items())
        for n, p in facts.study.space.items()
    }
    rows = [(i.name, i.value, i.low, i.high, i.trials, conditions.get(i.name, "")) for i in found]
    text = (
        "PED-ANOVA: how much the values of the best tenth differ from those of all trials, as this search has drawn"
        " them. All together have 1; the whiskers are 80 % intervals, from halves of the trials. A parameter with a"
        " condition, or of a list, is compared where it has a value."
    )
    if facts.objective.more:
        text += f" It is about {facts.objective.metric} alone."
    headings = ("parameter", "importance", "low", "high", "trials", "only if")
    return (
        paragraph(text)
        + f'<div class="charts">{charts.importance(facts)}</div>'
        + folded("As a table", table(headings, rows, "Importance"))
    )


def slices(facts: Facts) -> str:
    drawn = charts.slices([facts])
    if not drawn:
        return ""
    beyond = charts.beyond(facts)
    text = (
        "Each dot is a trial; large ones tie with the best. The band is the range of the best tenth,"
        " broken lines are the bounds."
    )
    if len(facts.ranked) > charts.DOTS:
        text += f" {charts.DOTS:,} of {len(facts.ranked):,} trials are drawn, all of the best among them."
    if beyond:
        text += f" {counted(beyond, 'value')} beyond the axis lie at its edge (in all charts)."
    best = facts.tenth
    rows = [row for name in facts.study.space.free if (row := _best_range(facts, name, best))]
    lines = charts.parallel(facts)
    more = ""
    if lines:
        note = (
            "Drag along an axis to choose a range, and click it to let go of it; the table below follows. (There, a"
            " filter such as lr<0.01 does the same.)"
        )
        more = f'<h4>Parallel coordinates</h4>{paragraph(note, "script")}<div class="charts">{lines}</div>'
    caption = f"Where the best {len(best)} trials lie"
    return (
        paragraph(text)
        + f'<div class="charts small">{"".join(drawn)}</div>'
        + folded("As a table", table(("parameter", "from", "to", "the file says"), rows, caption))
        + more
    )


def _best_range(facts: Facts, name: str, best: Sequence[Trial]) -> tuple[Any, ...]:
    values = [v for t in best for v in values_of(t, name)]
    p = facts.study.space[name]
    if not values:
        return ()
    if isinstance(p, Choice):
        return name, ", ".join(value_text(o) for o in p.options if o in values), "", value_text(p.options)
    bounds = f"{value_text(p.low)} to {value_text(p.high)}" if isinstance(p, Range) else ""
    return name, value_text(min(values)), value_text(max(values)), bounds


def cost(facts: Facts, timeline: Timeline) -> str:
    busy = timeline.busy()
    if not busy:
        return ""
    full = sum(b - a for spans in busy.values() for a, b in spans)
    there = sum(spans[-1][1] - spans[0][0] for spans in busy.values())
    share = full / there if there else 1.0
    parts = [
        f"{duration(facts.wall)} on {counted(len(busy), 'worker')}; {duration(facts.computed)} of computing. From its"
        f" first trial to its last, a worker had one for {share:.0%} of the time."
    ]
    if facts.saved:
        parts.append(f"Stopping trials early has saved about {duration(facts.saved)} of computing.")
    if most := max((t.memory for t in facts.trials), default=0.0):
        parts.append(f"The most memory of a trial's process was {most:,.0f} MB.")
    if most := max((t.gpu_memory for t in facts.trials), default=0.0):
        parts.append(f"The most memory on a GPU was {most:,.0f} MB.")
    if cpu := sum(t.cpu_seconds for t in facts.trials):
        parts.append(f"Epochs took {duration(cpu)} of CPU time.")
    trials: dict[str, set[int]] = {}
    for leg in timeline.legs:
        trials.setdefault(leg.worker, set()).add(leg.trial)
    rows = [
        (i + 1, worker, len(trials[worker]), round(sum(b - a for a, b in spans), 1))
        for i, (worker, spans) in enumerate(sorted(busy.items(), key=lambda item: item[1][0])[:40])
    ]
    return (
        paragraph(" ".join(parts))
        + f'<div class="charts">{charts.workers(timeline)}</div>'
        + folded("As a table", table(("row", "worker", "trials", "seconds with a trial"), rows, "Workers"))
    )


def health(findings: Sequence[Finding]) -> str:
    if not findings:
        return paragraph("Nothing to say: no check has found anything.")
    items = "".join(
        f"<li>{escape(f.verdict)}{f' <strong>→ <code>{escape(f.edit)}</code></strong>' if f.edit else ''}</li>"
        for f in findings
    )
    return f"<ul>{items}</ul>"


def what_next(facts: Facts, findings: Sequence[Finding]) -> str:
    text = next_study(facts, findings).to_yaml()
    name = f"{facts.study.name}_next.yaml"
    what = (
        "The edits above as a study" if any(f.changes for f in findings) else "The same study once more, one"
    )
    note = f"{what} that starts from these trials: raysweep report {facts.study.name} --next {name}"
    return (
        paragraph(note) + f'<pre tabindex="0" role="group" aria-label="The next study">{escape(text)}</pre>'
    )


def all_trials(facts: Facts) -> str:
    """The table of all trials, the best first; failures with their reasons."""
    listed = facts.listed
    names = list(dict.fromkeys(n for t in facts.trials for n in free(facts, t)))
    metrics = [o.metric for o in facts.objective.all]
    rows = []
    for trial in listed[:ROWS]:
        score, values = trial.score(facts.objective), free(facts, trial)
        shown = score.values if score else (None,) * len(metrics)
        epoch = score.report.epoch if score else None
        rows.append(
            (
                trial.number,
                trial.status,
                *shown,
                epoch,
                round(trial.seconds, 2),
                *(values.get(n) for n in names),
            )
        )
    caption = f"{counted(len(listed), 'trial')}, the best first"
    caption += f" ({ROWS} of them are shown)" if len(listed) > ROWS else ""
    headings = ("trial", "status", *metrics, "epoch", "seconds", *names)
    broken = [(t.number, t.status, t.error[:300]) for t in facts.trials if t.error][:50]
    tools = (
        '<p class="script"><label>Filter: <input type="search" class="filter" placeholder="stopped, adam, lr&lt;0.01">'
        '</label> <button type="button" class="copy" disabled>Copy the chosen trial as YAML</button>'
        ' <span class="count" role="status"></span></p>'
    )
    text = tools + table(headings, rows, caption, ' class="trials"')
    if broken:
        text += table(("trial", "status", "why"), broken, "Trials without a result, and why (at most 50)")
    return text


def free(facts: Facts, trial: Trial) -> dict[str, Any]:
    """A trial's values of what may vary, lists spread out."""
    return flat({n: v for n, v in trial.point.items() if n in facts.study.space.free})


def provenance(facts: Facts) -> str:
    record, study = facts.history.study, facts.study
    git = record.get("git") or {}
    rows = [
        ("study", f"{study.name} ({record['id']})"),
        ("begun", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["time"]))),
        ("search", study.method),
        ("each trial holds", amounts(study.per_trial.request())),
        ("seed", str(study.seed)),
        ("command", " ".join(facts.history.session.get("argv", []))),
        ("host", facts.history.session.get("host", "")),
        (
            "code",
            f"{record['code'].get('file') or study.trainable} (sha256 {record['code'].get('sha256', '')[:12]})",
        ),
        (
            "git",
            f"{git['commit']}{' with changes' if git.get('dirty') else ''}" if git else "not in a repository",
        ),
        ("data", ", ".join(f"{v[:12]}" for v in facts.history.data.values())),
        ("versions", ", ".join(f"{k} {v}" for k, v in record.get("versions", {}).items())),
    ]
    shown = [row for row in rows if row[1]]
    file = f'<pre tabindex="0" role="group" aria-label="The study file">{escape(study.to_yaml())}</pre>'
    return table(("what", "value"), shown, "Where this is from") + folded("The study file", file)


def front(facts: Facts) -> str:
    """Of several objectives, the front."""
    if not facts.objective.more:
        return ""
    names = [o.metric for o in facts.objective.all]
    rows = [(t.number, *facts.score(t).values, point_text(facts, t)) for t in facts.front]
    chart = f'<div class="charts">{charts.pareto(facts)}</div>' if facts.front else ""
    if len(names) > 2:
        chart = paragraph(f"Drawn are the first two of {len(names)} objectives.") + chart
    return chart + table(
        ("trial", *names, "point"), rows, "The Pareto front: no trial is better in all of these"
    )


def of_study(facts: Facts, timeline: Timeline, findings: Sequence[Finding]) -> str:
    """All sections of one study."""
    return "".join(
        [
            section("answer", "The answer", the_answer(facts)),
            section("front", "The Pareto front", front(facts)),
            section("sure", "How sure", how_sure(facts)),
            section("progress", "Progress", progress(facts, timeline)),
            section("curves", "Curves", curves(facts)),
            section("matters", "What matters", what_matters(facts)),
            section("slices", "Slices", slices(facts)),
            section("cost", "Cost", cost(facts, timeline)),
            section("health", "Health", health(findings)),
            section("next", "What to try next", what_next(facts, findings)),
            section("trials", "All trials", all_trials(facts)),
            section("provenance", "Provenance", provenance(facts)),
        ]
    )


def comparison(many: Sequence[Facts], lines: Sequence[Timeline]) -> str:
    """Several studies beside one another."""
    names = [f.study.name for f in many]
    text = table(["what", *names], compare.rows(many), "The studies, and where their files differ")
    same = {f.objective.metric for f in many} == {many[0].objective.metric}
    if not same:
        return text + paragraph("They have different metrics, so nothing is drawn in one chart.")
    both = charts.progress(many, lines, False) + charts.progress(many, lines, True)
    drawn = charts.slices(many)
    return (
        text
        + keys(names)
        + f'<div class="charts">{both}</div>'
        + (f'<div class="charts small">{"".join(drawn)}</div>' if drawn else "")
    )
