"""The answer of a study in sentences, written from its facts: what is best, how good, against what, at what cost, and
whether it can be told apart from the others."""

from __future__ import annotations

from raysweep.report.facts import Facts
from raysweep.report.tables import number, value_text
from raysweep.study.options import duration
from raysweep.trial import Trial


def answer(facts: Facts) -> list[str]:
    """The sentences. One, if no trial has a result."""
    winner = facts.winner
    if winner is None:
        return [
            f"No trial has a result, of {len(facts.trials):,}.",
            *([_cost(facts)] if facts.trials else []),
        ]
    if facts.objective.more:
        return [*_several(facts), _cost(facts)]
    found = [_point(facts, winner), _values(facts, winner)]
    if facts.baseline and facts.baseline.trial != winner.number:
        found.append(_against_baseline(facts, winner))
    if facts.history.raced:
        found.append(_race(facts))
    found.append(_cost(facts))
    if told := _apart(facts, winner):
        found.append(told)
    return found


def counted(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def point_text(facts: Facts, trial: Trial) -> str:
    """A trial's values of what may vary."""
    free = facts.study.space.free
    row = {name: value for name, value in trial.point.items() if name in free}
    return ", ".join(f"{name} {value_text(value)}" for name, value in row.items())


def _point(facts: Facts, winner: Trial) -> str:
    if winner.of is not None:
        count, again = counted(len(facts.finalists), "finalist"), counted(len(winner.seeds), "time")
        what = f"trial {winner.of}'s point, trained again {again}"
        return f"Trial {winner.number} is the best of {count}: {what}: {point_text(facts, winner)}."
    so_far = "" if winner.ended else f" so far (it is {winner.status})"
    varied = point_text(facts, winner)
    return f"Trial {winner.number} is the best of {len(facts.trials):,}{so_far}{f': {varied}' if varied else ''}."


def _values(facts: Facts, winner: Trial) -> str:
    score, objective = facts.score(winner), facts.objective
    last = facts.epochs_of(winner)
    of = f" of {last}" if last else ""
    known = facts.error(winner)
    error = f" ± {number(known)} (one standard error)" if known else ""
    text = f"Its {objective.metric} is {number(score.value)}{error}, at epoch {score.report.epoch}{of}"
    if winner.of is not None and winner.of in facts.values:
        text += f" (the search had {number(facts.values[winner.of])})"
    tested = ", ".join(f"{name} {number(value)}" for name, value in facts.test.items())
    again = "trained again on all but the test data, it has " if facts.history.best.get("refit") else ""
    return f"{text}; {again}on the test split: {tested}." if tested else f"{text}."


def _several(facts: Facts) -> list[str]:
    objectives = facts.objective.all
    names = ", ".join(o.metric for o in objectives)
    be = "is" if len(facts.front) == 1 else "are"
    told = [
        f"{len(facts.front):,} of {counted(len(facts.trials), 'trial')} {be} on the Pareto front of {names}."
    ]
    for i, one in enumerate(objectives):
        losses = {t.number: one.loss(facts.score(t).values[i]) for t in facts.front}
        best = min(losses, key=losses.__getitem__)
        told.append(f"The best {one.metric} is {number(one.loss(losses[best]))}, of trial {best}.")
    return told


def _against_baseline(facts: Facts, winner: Trial) -> str:
    baseline = facts.baseline
    assert baseline is not None  # noqa: S101 - the caller has seen it
    gain = facts.gain(facts.value(winner), baseline.value)
    better = f"{number(abs(gain))} {'better' if gain > 0 else 'worse'}" if gain else "as good"
    text = f"That is {better} {'than' if gain else 'as'} {baseline.what}, {number(baseline.value)}"
    if lucky(facts):
        return f"{text}: no more than luck, it may look about {number(facts.luck)} better than it is."
    return f"{text}."


def lucky(facts: Facts) -> bool:
    """Whether the best one's gain over the baseline may be luck alone."""
    if facts.baseline is None or facts.winner is None or not facts.luck:
        return False
    return facts.gain(facts.value(facts.winner), facts.baseline.value) <= facts.luck


def _race(facts: Facts) -> str:
    """Which backbones the search did not see, and why."""
    raced = facts.history.raced
    gone = [
        f"{name} ({number(one['mean'])} on {one['images']:,} images)"
        for name, one in raced["each"].items()
        if name not in raced["kept"]
    ]
    kept = " and ".join(f"{n} ({number(raced['each'][n]['mean'])})" for n in raced["kept"])
    return f"Of {len(raced['each'])} backbones raced on samples, it saw {kept}; not {', '.join(gone) or 'any other'}."


def _cost(facts: Facts) -> str:
    ends = ", ".join(f"{count:,} {status}" for status, count in facts.counts.items())
    gpu = f", {facts.gpu_hours:.2f} GPU hours" if facts.gpu_hours else ""
    return (
        f"It took {duration(facts.wall)}, and {duration(facts.computed)} of computing in all trials together{gpu};"
        f" trials: {ends}."
    )


def _apart(facts: Facts, winner: Trial) -> str:
    """Whether the best can be told apart from the others."""
    others = [t for t in facts.ties if t.number != winner.number]
    if facts.lead is None:
        return ""
    second = (facts.finalists if len(facts.finalists) > 1 else facts.ranked)[1].number
    if not facts.noise.error:
        return f"It leads trial {second} by {number(facts.lead)}; how much of that is chance is not known."
    if not others:
        return f"It leads trial {second} by {number(facts.lead)}, more than one standard error."
    cheapest = facts.ties[0]
    cheaper = (
        f"; the cheapest of them, trial {cheapest.number}, took {duration(cheapest.seconds)} and not"
        f" {duration(winner.seconds)}"
        if cheapest.number != winner.number and cheapest.seconds < 0.8 * winner.seconds
        else ""
    )
    what = f"{counted(len(others), 'other trial')} cannot be told apart from it"
    return f"{what}, being within one standard error{cheaper}."
