"""Schedulers: what they decide follows from what the journal says."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import raysweep
from conftest import quick
from raysweep.journal.records import FILE, read
from raysweep.search.schedulers import Decision, Scheduler, scheduler_of
from raysweep.search.schedulers.asha import Hyperband, Promotion, Stopping
from raysweep.search.schedulers.median import Median
from raysweep.study.objective import Objective

LOSS, ACCURACY = Objective("loss", maximize=False), Objective("accuracy", maximize=True)
SPACE = {"x": {"float": [-1.0, 1.0]}, "epochs": 18}


def pause(scheduler: Scheduler, number: int, epoch: int, value: float | None) -> None:
    assert scheduler.report(number, epoch, value) == "pause"
    scheduler.paused(number)


def promoted(scheduler: Scheduler, last: bool = False) -> list[int]:
    """All that may go on now."""
    return list(iter(lambda: scheduler.promote(last), None))


# --- by hand, as the papers have them -----------------------------------------------------------------------------


def test_promotion_takes_the_best_third_of_the_highest_rung_first() -> None:
    asha = Promotion(LOSS, grace=2, reduction=3, epochs=18)
    assert asha.milestones == {2, 6}
    for number in range(9):
        assert asha.report(number, 1, 0.0) == "go on"
        pause(asha, number, 2, float(number))
    assert promoted(asha) == [0, 1, 2]
    for number in (2, 1, 0):
        pause(asha, number, 6, float(number))
    assert asha.promote() == 0, "one of three goes on from the higher rung"
    pause(asha, 9, 2, -1.0)
    assert promoted(asha) == [9], "a better latecomer goes before those that wait"


def test_when_no_other_will_come_one_goes_on_from_every_rung() -> None:
    asha = Promotion(LOSS, grace=2, reduction=3, epochs=18)
    for number in range(2):
        pause(asha, number, 2, float(number))
    assert asha.promote() is None
    assert promoted(asha, last=True) == [0], "one is enough"
    pause(asha, 0, 6, 0.0)
    assert promoted(asha, last=True) == [0]


def test_more_is_better_where_the_study_says_so() -> None:
    asha = Promotion(ACCURACY, grace=1, reduction=2, epochs=4)
    for number, value in enumerate([0.1, 0.9]):
        pause(asha, number, 1, value)
    assert asha.promote() == 1


def test_who_can_no_longer_be_promoted_is_beaten() -> None:
    asha = Promotion(LOSS, grace=1, reduction=3, epochs=9)
    for number in range(4):
        pause(asha, number, 1, float(number))
    assert asha.beaten(most=12) is None, "four of twelve go on"
    pause(asha, 4, 1, 2.5)
    assert asha.beaten(most=12) == 3, "and it is the fifth"
    asha.ended(3)
    assert asha.beaten(most=12) is None
    for number in range(5, 8):  # come to nothing before the first rung: of nine, three go on
        asha.ended(number)
    assert asha.beaten(most=12) == 4
    asha.retried(5)
    asha.retried(6)
    asha.retried(7)
    assert asha.beaten(most=12) is None
    assert asha.beaten(most=10**9) is None


@pytest.mark.parametrize("kind", [Promotion, Hyperband])
def test_nobody_that_is_beaten_would_have_been_promoted(kind: Any) -> None:
    """Two schedulers see the same; of one, beaten trials end. Their promotions are the same."""
    for seed in range(20):
        rng, values = random.Random(seed), random.Random(seed + 1)
        thrifty, plain = (kind(LOSS, grace=1, reduction=2, epochs=8) for _ in range(2))
        ended: set[int] = set()
        waiting: dict[int, int] = {}  # trials and the epochs they have
        for step in range(40):
            if step < 30:
                waiting[step] = 0
            for number in [n for n in waiting if n not in ended and rng.random() < 0.5]:
                epoch, value = waiting[number] + 1, values.random()
                waiting[number] = epoch
                said = [s.report(number, epoch, value) for s in (thrifty, plain)]
                assert said[0] == said[1]
                if said[0] == "pause" or epoch == 8:
                    del waiting[number]
                    for s in (thrifty, plain):
                        s.paused(number) if said[0] == "pause" else s.ended(number)
            while (beaten := thrifty.beaten(30)) is not None:
                thrifty.ended(beaten)
                ended.add(beaten)
            last = step > 35 and not waiting
            ours, theirs = promoted(thrifty, last), promoted(plain, last)
            assert ours == theirs and not ended & set(theirs)
            waiting |= {n: next(e for e in (1, 2, 4) if n in _rung(plain, n, e)) for n in ours}
        assert ended


def _rung(scheduler: Any, number: int, epoch: int) -> set[int]:
    """Those whose last promotion was from the rung at `epoch`."""
    own = scheduler._of(number) if isinstance(scheduler, Hyperband) else scheduler
    rungs = {e: r.promoted for e, r in own._rungs.items()}
    later = set().union(*(r for e, r in rungs.items() if e > epoch))
    return rungs.get(epoch, set()) - later


def test_stopping_ends_who_is_worse_than_the_best_third_of_those_before() -> None:
    asha = Stopping(LOSS, grace=2, reduction=3, epochs=18)
    said = [asha.report(n, 2, value) for n, value in enumerate([5.0, 6.0, 1.0, 3.0, 2.0])]
    # The best third of [5] is up to 5; of [5, 6] to 5.33; of [1, 5, 6] to 3.67; of [1, 3, 5, 6] to 3.
    assert said == ["go on", "stop", "go on", "go on", "go on"]
    assert asha.report(0, 3, 99.0) == "go on", "between rungs nobody ends"


def test_the_median_rule_compares_the_best_with_the_means_of_the_others() -> None:
    median = Median(LOSS, grace=2, samples=2)
    for number, curve in enumerate([[9.0, 4.0, 2.0], [9.0, 6.0, 4.0]]):
        assert [median.report(number, e, v) for e, v in enumerate(curve, 1)] == ["go on"] * 3
    # Means of epochs 2 to 3: 3 and 5, whose median is 4.
    assert [median.report(2, e, v) for e, v in enumerate([9.0, 4.5, 4.1], 1)] == ["go on", "go on", "stop"]
    assert [median.report(3, e, v) for e, v in enumerate([1.0, 9.0, 9.0], 1)] == ["go on"] * 3, "its best"


def test_an_epoch_that_does_not_count_is_worse_than_any_and_ends_nobody_while_few_others_count() -> None:
    asha, median = Stopping(LOSS, 1, 2, 9), Median(LOSS, 1, 2)
    for scheduler in (asha, median):
        assert [scheduler.report(n, 1, None) for n in range(4)] == ["go on"] * 4
        for number in range(4, 10):
            assert scheduler.report(number, 1, float(-number)) == "go on"
        assert scheduler.report(10, 1, None) == "stop"
    promotion = Promotion(LOSS, 1, 2, 9)
    for number, value in enumerate([None, None, 5.0, None]):
        pause(promotion, number, 1, value)
    assert promoted(promotion) == [2, 0]


# --- beside Ray Tune's ------------------------------------------------------------------------------------------------


def in_order_of_time(seed: int, trials: int = 40, epochs: int = 17) -> Iterator[tuple[int, int, float]]:
    """Reports of trials that are not equally fast."""
    rng = random.Random(seed)
    levels = [rng.uniform(0, 5) for _ in range(trials)]
    times = sorted(
        (n * 2 + e * rng.uniform(0.5, 2), n, e) for n in range(trials) for e in range(1, epochs + 1)
    )
    seen: dict[int, int] = dict.fromkeys(range(trials), 0)
    for _, number, _ in times:
        seen[number] += 1
        yield number, seen[number], levels[number] + rng.gauss(0, 1) / seen[number]


def rays(name: str, mode: str) -> Any:
    from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule

    common = {"time_attr": "epoch", "metric": "loss", "mode": mode}
    if name == "asha":
        return AsyncHyperBandScheduler(
            max_t=18, grace_period=2, reduction_factor=3, stop_last_trials=False, **common
        )
    return MedianStoppingRule(grace_period=2, min_samples_required=3, **common)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_stopping_rule_decides_as_ray_tune_s(name: str, mode: str) -> None:
    objective = Objective("loss", maximize=mode == "max")
    for seed in range(5):
        ours: Scheduler = Stopping(objective, 2, 3, 18) if name == "asha" else Median(objective, 2, 3)
        theirs = rays(name, mode)
        nobody = SimpleNamespace(get_live_trials=list)
        trials = [SimpleNamespace(trial_id=str(n), config={}) for n in range(40)]
        known = [_hashable(t) for t in trials]
        over: set[int] = set()
        for trial in known:
            theirs.on_trial_add(nobody, trial)
        for number, epoch, value in in_order_of_time(seed):
            if number in over:
                continue
            told = theirs.on_trial_result(nobody, known[number], {"loss": value, "epoch": epoch})
            said = ours.report(number, epoch, value)
            assert (said, str(told)) in {("go on", "CONTINUE"), ("stop", "STOP")}, (number, epoch)
            over |= {number} if said == "stop" else set()
        assert 5 < len(over) < 40


class _hashable:
    def __init__(self, trial: Any):
        self.trial_id, self.config = trial.trial_id, trial.config


# --- told again -------------------------------------------------------------------------------------------------------

PLANS: dict[str, Any] = {
    "asha": "asha",
    "promotion": {"name": "asha", "kind": "promotion"},
    "hyperband": "hyperband",
    "median": "median",
    "pbt": {"name": "pbt", "vary": ["x"]},
}


@pytest.mark.parametrize("name", PLANS)
def test_a_trial_that_reports_epochs_again_counts_once(name: str) -> None:
    """Its process was lost: what it says from its checkpoint on takes the place of what it said."""
    study = quick(trials=8, space=SPACE, scheduler=PLANS[name])
    once, twice = scheduler_of(study), scheduler_of(study)
    for number in range(8):
        curve = [(e, number * 7 % 5 + 1 / e) for e in range(1, 7)]
        tell(once, number, curve)
        tell(twice, number, [*curve[: number % 5], *curve])
    assert decides(once, 8) == decides(twice, 8)


def tell(scheduler: Scheduler, number: int, curve: list[tuple[int, float]]) -> None:
    for epoch, value in curve:
        if scheduler.report(number, epoch, value) == "pause":
            scheduler.paused(number)
            scheduler.resumed(number)


def decides(scheduler: Scheduler, number: int) -> list[Decision]:
    return [scheduler.report(number, epoch, 2.2) for epoch in range(1, 18)]


def test_losses_in_order_have_ranks_and_quantiles() -> None:
    from raysweep.search.schedulers.base import Ranked

    ranked = Ranked()
    for number, loss in enumerate([3.0, 1.0, 2.0, 1.0]):
        ranked.add(number, loss)
    assert [ranked.rank(n) for n in range(4)] == [3, 0, 2, 1], "of equals the earlier is first"
    assert (ranked.best(), ranked.worst(), len(ranked)) == (1, 0, 4)
    assert [ranked.quantile(q) for q in (0.0, 0.5, 0.9, 1.0)] == pytest.approx([1.0, 1.5, 2.7, 3.0])
    ranked.add(1, math.inf)
    assert (ranked.best(), ranked.worst()) == (3, 1) and ranked.quantile(1.0) == math.inf
    ranked.remove(1)
    assert 1 not in ranked and len(ranked) == 3


# --- on Ray -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stopping", "promotion"])
def test_asha_spends_its_epochs_on_the_good(kind: str, ray: Any, here: Path) -> None:
    plan = {"name": "asha", "kind": kind, "grace": 2, "reduction": 3}
    result = raysweep.run(quick(trials=9, space=SPACE, scheduler=plan, concurrency=1))
    assert not result.interrupted
    assert {t.status for t in result.trials} == {"completed", "stopped"}
    lasts = sorted(t.last.epoch for t in result.trials if t.last)
    assert set(lasts) <= {2, 6, 18}
    assert all([r.epoch for r in t.reports] == list(range(1, len(t.reports) + 1)) for t in result.trials)
    records, _ = read(here / "studies" / "quick" / FILE)
    assert sum(r["kind"] == "report" for r in records) == sum(lasts), "no epoch is computed twice"
    if kind == "promotion":
        assert lasts == [2] * 6 + [6] * 2 + [18]
        assert result.best is not None and result.best.status == "completed"
        assert abs(result.best.point["x"]) == min(abs(t.point["x"]) for t in result.trials)


@pytest.mark.parametrize("name", ["pbt", "pb2"])
def test_a_population_moves_to_better_points_from_checkpoints(name: str, ray: Any, here: Path) -> None:
    plan = {"name": name, "interval": 2, "vary": ["x"], "resample": 0.0}
    result = raysweep.run(quick(trials=4, space={**SPACE, "epochs": 8}, scheduler=plan))
    assert not result.interrupted
    members, children = result.trials[:4], result.trials[4:]
    assert children and all(t.parent is None for t in members)
    assert sum(t.status == "completed" for t in result.trials) == 4, "the population stays as large as it was"
    for child in children:
        parent, epoch = child.parent or pytest.fail()
        assert child.reports[0].epoch == epoch + 1, "it went on from its parent's checkpoint"
        assert child.point["x"] != result.trials[parent].point["x"]
        if name == "pbt":
            assert child.point["x"] / result.trials[parent].point["x"] == pytest.approx(1.0, abs=0.21)


def test_hyperband_has_trials_that_nobody_stops(ray: Any, here: Path) -> None:
    plan = {"name": "hyperband", "grace": 2, "reduction": 3}
    result = raysweep.run(quick(trials=9, space=SPACE, scheduler=plan))
    assert not result.interrupted
    brackets = scheduler_of(quick(trials=9, space=SPACE, scheduler=plan))
    assert isinstance(brackets, Hyperband)
    for trial in result.trials:
        rungs = {0: {2, 6, 18}, 1: {6, 18}, 2: {18}}[brackets.bracket(trial.number)]
        assert trial.last is not None and trial.last.epoch in rungs
