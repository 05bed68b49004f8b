"""What earlier studies found counts by its ranks, and only while those say something of this study's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from raysweep import Float, Int, Space
from raysweep.search.samplers import SAMPLERS
from raysweep.search.samplers.basic import QuasiRandom
from raysweep.search.samplers.earlier import Earlier
from raysweep.study.objective import Objective
from raysweep.study.space import Point
from raysweep.trial import Report, Trial

LOSS = Objective("loss", maximize=False)
SPACE = Space({"lr": Float(1e-4, 1e-1, log=True), "layers": Int(1, 4), "epochs": 3})
Loss = Callable[[Point], float]
LEARNING = pytest.mark.parametrize("name", ["hyperopt", "optuna", "auto"])


def bowl(point: Point) -> float:
    return float((math.log10(point["lr"]) + 2) ** 2 + abs(point["layers"] - 3))


def ended(number: int, point: Point, loss: float) -> Trial:
    return Trial(number, point, "completed", (Report(3, {"loss": loss}, 0.0),))


def source(loss: Loss, trials: int = 30) -> list[Trial]:
    points = [QuasiRandom(SPACE, LOSS, 9).ask(n) for n in range(trials)]
    return [ended(-n, p, loss(p)) for n, p in enumerate(points, 1)]


def sampler(name: str, *sources: list[Trial]) -> Earlier:
    return Earlier(lambda known: SAMPLERS[name](SPACE, LOSS, 0, startup=0), sources, SPACE, LOSS, 3)


def search(one: Earlier, trials: int, loss: Loss = bowl) -> list[Point]:
    points = []
    for number in range(trials):
        point = one.ask(number)
        assert point is not None and not SPACE.check(point)
        points.append(point)
        one.tell(Trial(number, point))
        one.tell(ended(number, point, loss(point)))
    return points


@LEARNING
def test_only_the_ranks_of_an_earlier_study_count(name: str) -> None:
    plain = search(sampler(name, source(bowl)), 12)
    for scaled in (lambda p: 1000 * bowl(p) - 7, lambda p: math.exp(bowl(p))):
        assert search(sampler(name, source(scaled)), 12) == plain


@LEARNING
def test_a_study_begins_where_an_earlier_one_was_good(name: str) -> None:
    first = search(sampler(name, source(lambda p: 0.01 * bowl(p))), 6)
    assert sum(bowl(p) < 1.2 for p in first) >= 3, "of what is drawn at random, it is one in six"


@LEARNING
def test_an_earlier_study_that_misleads_is_left_out_and_one_that_helps_is_not(name: str) -> None:
    own = [ended(n, p, bowl(p)) for n in range(16) for p in [QuasiRandom(SPACE, LOSS, 1).ask(n)]]

    def told(*sources: list[Trial]) -> Earlier:
        one = sampler(name, *sources)
        for trial in own:
            one.tell(Trial(trial.number, trial.point))
            one.tell(trial)
        return one

    unknown = [told().ask(n) for n in range(16, 22)]
    wrong, right = source(lambda p: -bowl(p)), source(bowl)
    assert [told(wrong).ask(n) for n in range(16, 22)] == unknown
    assert [told(right).ask(n) for n in range(16, 22)] != unknown
    both = [told(wrong, right).ask(n) for n in range(16, 22)]
    assert both == [told(right).ask(n) for n in range(16, 22)]


@LEARNING
def test_where_an_earlier_study_failed_this_one_does_not_look(name: str) -> None:
    failed = [replace(t, status="diverged", reports=()) if t.point["lr"] > 1e-2 else t for t in source(bowl)]
    assert sum(p["lr"] > 1e-2 for p in search(sampler(name, failed), 10)) <= 4


def test_a_study_without_results_is_no_ground_to_judge_by() -> None:
    empty = [Trial(-1, {"lr": 1e-2, "layers": 1, "epochs": 3}, "diverged")]
    assert len(search(sampler("hyperopt", empty), 20)) == 20
    constant = search(sampler("hyperopt", source(lambda p: 1.0)), 20, lambda p: 2.0)
    assert len(constant) == 20
