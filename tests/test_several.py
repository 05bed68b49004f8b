"""Several objectives under promotion: trials are ranked by fronts. Without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import quick
from raysweep import Loop, Study
from raysweep.journal.journal import Journal
from raysweep.search.schedulers import scheduler_of
from raysweep.search.schedulers.base import Fronts
from raysweep.search.sessions import open_session
from raysweep.trial import front
from simulated import save

PLANS: dict[str, Any] = {
    "promotion": {"name": "asha", "kind": "promotion", "grace": 1, "reduction": 3},
    "hyperband": {"name": "hyperband", "grace": 1, "reduction": 3},
}


def dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_fronts_rank_nobody_behind_one_it_dominates(losses: list[tuple[int, int]]) -> None:
    fronts = Fronts()
    for number, (a, b) in enumerate(losses):
        fronts.add(number, (float(a), float(b)))
    ranks = [fronts.rank(n) for n in range(len(losses))]
    assert sorted(ranks) == list(range(len(losses)))
    for i, a in enumerate(losses):
        assert all(ranks[i] < ranks[j] for j, b in enumerate(losses) if dominates(a, b))
    best, worst = fronts.best(), fronts.worst()
    assert best is not None and worst is not None
    assert (ranks[best], ranks[worst]) == (0, len(losses) - 1)
    fronts.remove(best)
    assert len(fronts) == len(losses) - 1 and best not in fronts


def test_of_a_front_its_ends_come_first_and_then_who_has_room() -> None:
    fronts = Fronts()
    for number, losses in enumerate([(0.0, 9.0), (1.0, 8.0), (5.0, 4.0), (5.5, 3.9), (9.0, 0.0)]):
        fronts.add(number, losses)
    assert sorted(range(5), key=fronts.rank) == [0, 4, 1, 2, 3]


def study(plan: str, **more: Any) -> Study:
    space = {"x": {"float": [-1.0, 1.0]}, "epochs": 9}
    given = {"trials": 12, "minimize": ["loss", "size"], "scheduler": PLANS[plan], "space": space}
    return quick(**{**given, **more})


def search(one: Study, folder: Path, most: int = 10**6) -> Journal:
    """Run it, or go on; after so many records, the process is gone."""
    journal = Journal(folder)
    open_session(one, journal)
    loop = Loop(one, journal)
    while sum(1 for _ in journal.replay()) < most and (trial := loop.next()) is not None:
        epoch = trial.last.epoch if trial.last else 0
        loop.started(trial.number, "a worker", epoch)
        decision = "go on"
        while decision == "go on" and epoch < 9:
            epoch += 1
            save(loop, trial.number, epoch)
            x = trial.point["x"]
            decision = loop.reported(
                trial.number, epoch, {"loss": (x - 1) ** 2 + 1 / epoch, "size": abs(x)}, 0.0
            )
        if decision == "go on":
            loop.end(trial.number, "completed", "")
        else:
            loop.released(trial.number)
    journal.close()
    return journal


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("algorithm", ["random", "auto", "optuna"])
def test_the_undominated_are_promoted_and_a_killed_search_goes_on(
    plan: str, algorithm: str, tmp_path: Path
) -> None:
    whole = search(study(plan, algorithm=algorithm), tmp_path / "whole" / "quick")
    trials = whole.history.trials
    assert {t.status for t in trials} == {"completed", "stopped"}
    completed = [t for t in trials if t.status == "completed"]
    assert len(completed) < len(trials) and front(completed, study(plan).objective)
    for most in (5, 14, 30):
        place = tmp_path / str(most) / "quick"
        search(study(plan, algorithm=algorithm), place, most)
        again = search(study(plan, algorithm=algorithm), place).history.trials
        assert [(t.point, t.status, len(t.reports)) for t in again] == [
            (t.point, t.status, len(t.reports)) for t in trials
        ]


def test_what_does_not_meet_a_requirement_comes_last() -> None:
    scheduler = scheduler_of(study("promotion"))
    for number, value in enumerate([None, (5.0, 5.0), (9.0, 1.0)]):
        assert scheduler.report(number, 1, value) == "pause"
        scheduler.paused(number)
    assert scheduler.promote() == 1
    assert scheduler.promote() is None, "one in three"
    assert (scheduler.promote(last=True), scheduler.beaten(3)) == (None, None)
    for number in (3, 4, 5):
        scheduler.report(number, 1, None)
    assert scheduler.promote() == 2, "the first without a value is not among the best two of six"
