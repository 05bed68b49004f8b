"""What is wrong with a search, or could be better: a number, a verdict, and an edit of the study file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from raysweep.report.facts import Facts, values_of
from raysweep.report.region import region_of, with_bounds
from raysweep.report.tables import number, value_text
from raysweep.study import checks
from raysweep.study.params import Choice, Float, Int, Range
from raysweep.trainables.trainable import find
from raysweep.trial import Trial

ENOUGH = 20  # trials with a result, before a finding rests on the best of them
BEST = 0.1  # the share of the trials that are looked at as the best, and at least SEVERAL
SEVERAL = 6
EDGE = 0.05  # of a range: how near to its end counts as at its bound
FULL = 60  # trials, before a parameter is said to do nothing
NOTHING = 0.05  # importance: the highest that the interval of a parameter without effect reaches
QUARTER = 0.25  # of what each would have if all mattered equally, if that is less
BROKEN = 0.1  # the share of trials without a result that is worth a word
WELL, BADLY = 0.9, 0.3  # rank correlations
PAIRS = 10  # trials that a verdict on a rank correlation needs
PATIENCE = 12  # trials without an improvement, at least, until a search is on a plateau
IDLE, BUSY = 0.5, 1.5  # CPU seconds for each second of a core that a trial holds
RATED = 60.0  # seconds of training, before the use of a CPU says anything


@dataclass(frozen=True)
class Finding:
    """One finding. `str()` is its line."""

    check: str
    verdict: str
    edit: str = ""
    """What to write in the file, or to do."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """The same as values by their keys in the file, such as `{"space.lr": {...}}`."""

    def __str__(self) -> str:
        return f"{self.verdict}{f' -> {self.edit}' if self.edit else ''}"


def health(facts: Facts, quick: bool = False) -> list[Finding]:
    """All findings. `quick`: only those that take no time, for a table that is shown again and again."""
    chosen = [c for c in CHECKS if not quick or c is not _without_effect]
    return [finding for check in chosen for finding in check(facts)]


# --- the space ------------------------------------------------------------------------------------------------


def _at_bounds(facts: Facts) -> Iterator[Finding]:
    """The best trials lie at an end of a range."""
    best = _best(facts)
    for name in facts.study.space.free if best else []:
        p = facts.study.space[name]
        if not isinstance(p, Range):
            continue
        shares = [_share(p, v) for t in best for v in values_of(t, name)]
        if len(shares) < SEVERAL:
            continue
        edge = EDGE if isinstance(p, Float) else max(EDGE, 0.5 / (p.high - p.low))
        # What uniform draws would do, for an integer of few values the more.
        chance = EDGE if isinstance(p, Float) else max(EDGE, 1 / (p.high - p.low + 1))
        for end, at in (("low", [s <= edge for s in shares]), ("high", [s >= 1 - edge for s in shares])):
            if sum(at) / len(at) > max(0.5, 2 * chance):
                who = f"{sum(at)} of the {len(at)} {'best' if p.each is None else 'values of the best'}"
                yield from _wider(facts, name, p, end, who)


def _share(p: Range, value: float) -> float:
    """Where a value lies in a range; 0 to 1, on its scale."""
    if not p.log:
        return float((value - p.low) / (p.high - p.low))
    return (math.log(value) - math.log(p.low)) / (math.log(p.high) - math.log(p.low))


def _wider(facts: Facts, name: str, p: Range, end: str, who: str) -> Iterator[Finding]:
    """A range that goes on where its best values are, if it can."""
    further = _further(p, end)
    changed = with_bounds(p, **{end: further}) if further is not None else None
    if changed is None or not _allowed(facts, name, further):
        return
    verdict = f"{name}: {who} are at its {end} of {value_text(getattr(p, end))}, or nearly"
    edit = f"{name}: {value_text(changed.low)} to {value_text(changed.high)}"
    yield Finding("bound", verdict, edit, {f"space.{name}": changed.form()})


def _further(p: Range, end: str) -> Any:
    """Another bound, a third of the range further out (on its scale); None where there is nothing beyond it."""
    sign = 1 if end == "high" else -1
    bound = getattr(p, end)
    if p.log:
        wanted = _brief(bound * (p.high / p.low) ** (sign / 3), bound, 1)
    elif p.step is not None:
        steps = max(1, round((p.high - p.low) / p.step / 3))
        wanted = p.at_step(round((bound - p.low) / p.step) + sign * steps)
    else:
        wanted = bound + sign * (p.high - p.low) / 3
    if not p.log and p.low >= 0 and wanted < 0:
        wanted = 0  # nothing that is never negative becomes so
    wanted = _brief(wanted, bound, 2) if isinstance(p, Float) and p.step is None else wanted
    wanted = round(wanted) if isinstance(p, Int) else wanted
    if isinstance(p, Int) and p.low >= 0:
        wanted = max(wanted, min(p.low, 1))
    return None if (wanted - bound) * sign <= 0 else type(bound)(wanted)


def _brief(value: float, bound: float, digits: int) -> float:
    """A number in few digits, but in enough to differ from the bound."""
    rounded = float(f"{value:.{digits}g}")
    return rounded if rounded != bound or digits > 6 else _brief(value, bound, digits + 1)


def _allowed(facts: Facts, name: str, value: Any) -> bool:
    """Whether a trainable takes a value. Built-ins say what they take; the code of others is not loaded here."""
    called = str(facts.study.trainable)
    argument = None if ":" in called else find(called).arguments.get(name)
    return argument is None or not list(checks.values("", Choice([value]), argument.annotation))


def _without_effect(facts: Facts) -> Iterator[Finding]:
    """A parameter that does nothing."""
    winner = facts.winner
    # All importances together have 1, so that of many which matter each has little.
    limit = min(NOTHING, QUARTER / max(1, len(facts.importances)))
    for one in facts.importances if len(facts.ranked) >= FULL else []:
        name = one.name
        if winner is None or one.high > limit or name not in facts.study.space or name not in winner.point:
            continue
        if any(name == p.each or name in (p.when or {}) for p in facts.study.space.values()):
            continue  # others depend on it
        value = winner.point[name]
        yield Finding(
            "no effect",
            f"{name}: no effect to be seen (importance {one.value:.2f}, at most {one.high:.2f})",
            f"{name}: {value_text(value)}",
            {f"space.{name}": _fixed(facts, name, value)},
        )


def _fixed(facts: Facts, name: str, value: Any) -> Any:
    p = facts.study.space[name]
    return Choice([value], when=p.when, each=p.each).form()


# --- trials without a result ----------------------------------------------------------------------------------


def _broken(facts: Facts) -> Iterator[Finding]:
    """Many trials end without a result, and where they lie."""
    ended = [t for t in facts.trials if t.ended]
    for status in ("out of memory", "diverged", "infeasible", "timeout", "failed"):
        bad = [t for t in ended if t.status == status]
        if len(bad) < 3 or len(bad) < BROKEN * len(ended):
            continue
        verdict = f"{len(bad) / len(ended):.0%} of the trials {_ended_so(status)}"
        good, best = [t for t in ended if t.status != status], {t.number for t in _best(facts)}
        region = None if status == "failed" else region_of(facts.study.space, bad, good, best)
        if region is None:
            yield Finding("no result", verdict, _remedy(status))
            continue
        where, edit, changes = region
        yield Finding("no result", f"{verdict}, {where}", edit, changes)


def _ended_so(status: str) -> str:
    words = {
        "out of memory": "ran out of memory",
        "infeasible": "were infeasible",
        "timeout": "took too long",
    }
    return words.get(status, status)


def _remedy(status: str) -> str:
    remedies = {
        "failed": "see `raysweep logs`",
        "timeout": "a longer trial_timeout",
        "diverged": "a lower bound of lr",
    }
    return remedies.get(status, "")


# --- how sure -------------------------------------------------------------------------------------------------


def _noisy(facts: Facts) -> Iterator[Finding]:
    """The best trials differ by less than chance."""
    top, error = [facts.value(t) for t in facts.ranked[:10]], facts.noise.error
    if len(facts.ranked) < ENOUGH or facts.objective.more or not error or facts.noise.epochs is not None:
        return
    spread = max(top) - min(top)
    if error > spread:
        more = max(3, 2 * facts.study.repeats)
        yield Finding(
            "noise",
            f"the best {len(top)} differ by {number(spread)}, less than one standard error, {number(error)}",
            f"repeats: {more}, or more validation data",
            {"repeats": more},
        )


def _no_gain(facts: Facts) -> Iterator[Finding]:
    """The search has not beaten its baseline."""
    baseline, winner = facts.baseline, facts.winner
    if baseline is None or winner is None or facts.objective.more or len(facts.ranked) < ENOUGH:
        return
    gain = facts.gain(facts.value(winner), baseline.value)
    if gain <= max(facts.error(winner), facts.luck):
        better = f"{number(gain)} better than" if gain > 0 else "no better than"
        yield Finding(
            "no gain",
            f"the best is {better} {baseline.what}{', which may be chance' if gain > 0 else ''}",
            "keep the baseline"
            if baseline.trial is not None
            else "repeats: 3, other parameters, or more data",
        )


def _plateau(facts: Facts) -> Iterator[Finding]:
    """Many trials tie with the best, and the last ones have brought nothing: what can be found has been found."""
    scored = sorted((t for t in facts.ranked if t.ended), key=lambda t: t.finished)
    if (
        len(scored) < ENOUGH
        or len(facts.ties) < PATIENCE
        or facts.study.searched_by == "grid"
        or facts.finalists
    ):
        return
    best, at = facts.value(scored[0]), 0
    for i, trial in enumerate(scored):
        value = facts.value(trial)
        if facts.gain(value, best) > facts.noise.error / 2:
            best, at = value, i
    since, patience = len(scored) - 1 - at, max(PATIENCE, len(scored) // 3)
    if since >= patience and facts.study.stop.no_improvement is None:
        yield Finding(
            "plateau",
            f"{len(facts.ties)} trials tie with the best, and the last {since} brought nothing beyond noise",
            f"stop: {{no_improvement: {patience}}}",
            {"stop.no_improvement": patience},
        )


# --- epochs ---------------------------------------------------------------------------------------------------


def _unfinished(facts: Facts) -> Iterator[Finding]:
    """The best trials still improve at their end."""
    p, top = facts.study.space.get("epochs"), facts.ranked[:5]
    fixed = isinstance(p, Choice) and len(p.options) == 1
    if len(top) < 5 or not fixed or facts.study.most_epochs is None:
        return
    rising = 0
    for trial in top:
        curve = [v for _, v in facts.curve(trial)]
        if len(curve) < facts.study.most_epochs or len(curve) < 4:
            return
        half = len(curve) // 2
        loss = [facts.objective.loss(v) for v in curve]
        early, late = min(loss[:half]), min(loss[half:])
        # In its second half it has made a tenth of its way, or more, and its best epoch is among the last.
        rising += late <= early - 0.1 * (max(loss) - late) and loss.index(late) >= len(loss) * 0.9 - 1
    if rising >= 4:
        more = 2 * facts.study.most_epochs
        yield Finding(
            "unfinished",
            f"{rising} of the 5 best still improve at their end",
            f"epochs: {more}",
            {"space.epochs": more},
        )


def _ranks_badly(facts: Facts) -> Iterator[Finding]:
    """The first decision of the scheduler is too early, or later than it has to be."""
    scheduler, rungs = facts.study.scheduler, [r for r in facts.rungs if r.trials >= PAIRS]
    if not hasattr(scheduler, "grace") or not rungs or rungs[0].epoch != scheduler.grace:
        return
    first = rungs[0]
    count = f"Spearman, {first.trials} trials"
    said = f"the ranks at epoch {first.epoch} agree with the end by {first.agreement:.2f} ({count})"
    plan = {"name": scheduler.name, **scheduler.model_dump(exclude_defaults=True)}
    if first.agreement < BADLY:
        later = next((r.epoch for r in rungs[1:] if r.agreement >= BADLY), first.epoch * 2)
        yield Finding("rung", said, f"grace: {later}", {"scheduler": {**plan, "grace": later}})
    elif first.agreement >= WELL and scheduler.grace > 1:
        sooner = max(1, scheduler.grace // 2)
        yield Finding("rung", said, f"grace: {sooner}", {"scheduler": {**plan, "grace": sooner}})


# --- resources ------------------------------------------------------------------------------------------------


def _resources(facts: Facts) -> Iterator[Finding]:
    """A trial holds more CPUs than it uses, or uses more than it holds."""
    used = [t for t in facts.trials if t.cpu_seconds and t.seconds]
    seconds, held = sum(t.seconds for t in used), facts.study.per_trial.cpu
    if seconds < RATED:
        return
    cores = sum(t.cpu_seconds for t in used) / seconds
    own = ":" in str(facts.study.trainable)  # whose processes are not seen until they end
    if held > 1 and cores < IDLE * held and not own:
        fits = max(1, math.ceil(cores))
        said = f"a trial holds {held:g} CPUs and keeps {cores:.1f} busy"
    elif cores > BUSY * held:
        fits = math.ceil(cores)
        said = f"a trial holds {held:g} CPUs and uses {cores:.1f}: others have to wait for it"
    else:
        return
    yield Finding("resources", said, f"per_trial: {{cpu: {fits}}}", {"per_trial.cpu": fits})


def _best(facts: Facts) -> list[Trial]:
    """The best trials, if there are enough to tell."""
    ranked = facts.ranked
    return ranked[: max(SEVERAL, round(BEST * len(ranked)))] if len(ranked) >= ENOUGH else []


CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    _at_bounds,
    _without_effect,
    _broken,
    _noisy,
    _no_gain,
    _unfinished,
    _ranks_badly,
    _plateau,
    _resources,
)
