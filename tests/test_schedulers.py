"""Schedulers: what they decide follows from what the journal says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import raysweep
from conftest import quick
from raysweep import Study
from raysweep.journal import FILE, Journal, read
from raysweep.loop import Loop, legs_of
from raysweep.rungs import Brackets, Rungs, replay
from raysweep.schedulers import scheduler_of
from raysweep.trial import Objective, Report, Trial

LOSS = Objective("loss", maximize=False)
SPACE = {"x": {"float": [-1.0, 1.0]}, "epochs": 18}


def test_rungs_promote_the_best_third_highest_rung_first() -> None:
    rungs = Rungs(LOSS, first=2, reduction=3, epochs=18)
    assert rungs.milestones == {2, 6}
    for number in range(9):
        rungs.report(number, 2, float(number))
        assert rungs.waits(number, 2)
    waiting = set(range(9))
    assert [rungs.call(waiting) for _ in range(4)] == [0, 1, 2, None]
    for number in (2, 1, 0):
        rungs.report(number, 6, float(number))
    assert rungs.call({0, 1, 2, *range(3, 9)}) == 0, "one of three goes on from the higher rung"
    rungs.report(9, 2, -1.0)
    assert rungs.call({9, 3}) == 9, "a better latecomer goes before those that waited"


def test_when_no_other_will_come_one_goes_on_from_every_rung() -> None:
    rungs = Rungs(LOSS, first=2, reduction=3, epochs=18)
    for number in range(2):
        rungs.report(number, 2, float(number))
    assert rungs.call({0, 1}) is None
    assert rungs.call({0, 1}, last=True) == 0
    assert rungs.call({1}, last=True) is None, "one is enough"
    rungs.report(0, 6, 0.0)
    assert rungs.call({0, 1}, last=True) == 0


def test_more_is_better_where_the_study_says_so() -> None:
    rungs = Rungs(Objective("accuracy", maximize=True), first=1, reduction=2, epochs=4)
    for number, value in enumerate([0.1, 0.9]):
        rungs.report(number, 1, value)
    assert rungs.call({0, 1}) == 1


def trial(number: int, values: list[float], status: Any = "waiting") -> Trial:
    return Trial(number, {}, status, tuple(Report(i, {"loss": v}, 0.0) for i, v in enumerate(values, 1)))


def test_rungs_replayed_from_a_journal_are_as_they_were() -> None:
    live = Rungs(LOSS, first=1, reduction=2, epochs=8)
    curves = [[0.5, 0.4, 0.3, 0.2], [0.6, 0.5], [0.7], [0.4, 0.3], [0.9]]
    for epoch in range(4):
        for number, curve in enumerate(curves):
            if epoch < len(curve):
                live.report(number, epoch + 1, curve[epoch])
    again = Rungs(LOSS, first=1, reduction=2, epochs=8)
    replay(again, (trial(n, c) for n, c in enumerate(curves)), LOSS)
    assert vars(again) == vars(live)


@pytest.mark.parametrize(
    "plan", [{"name": "asha", "grace": 1, "reduction": 2}, {"name": "median", "grace": 1, "samples": 2}]
)
def test_a_stopping_rule_told_the_journal_decides_as_the_one_that_was_killed(
    plan: dict[str, Any], tmp_path: Path
) -> None:
    study = quick(space=SPACE, scheduler=plan)
    curves = {n: [(n * 7 % 5) + 1 / e for e in range(1, 9)] for n in range(8)}

    def decisions(scheduler: Any, begin: int, numbers: range) -> list[str]:
        told = []
        for number in numbers:
            tune_trial = SimpleNamespace(config={"number": number})
            scheduler.on_trial_add(None, tune_trial)
            for epoch, value in enumerate(curves[number][begin:], begin + 1):
                told.append(scheduler.on_trial_result(None, tune_trial, {"loss": value, "epoch": epoch}))
                if told[-1] == "STOP":
                    break
            scheduler.on_trial_complete(None, tune_trial, {"done": True})
        return told

    live = scheduler_of(loop_of(study, tmp_path / "live", []))
    before = decisions(live, 0, range(5))
    assert "STOP" in before and "CONTINUE" in before
    known, at = [], 0
    for number in range(5):
        end = next((i for i, d in enumerate(before[at : at + 8], 1) if d == "STOP"), 8)
        known.append(trial(number, curves[number][:end], "stopped" if end < 8 else "completed"))
        at += end
    again = scheduler_of(loop_of(study, tmp_path / "again", known))
    assert decisions(again, 0, range(5, 8)) == decisions(live, 0, range(5, 8))


def loop_of(study: Study, folder: Path, trials: list[Trial]) -> Loop:
    """A loop whose journal holds `trials`, and those that the tests make up as they go."""
    journal = Journal(folder)
    for one in [*trials, *(trial(n, []) for n in range(len(trials), 8))]:
        journal.append("asked", trial=one.number, point={"x": 0.0, "epochs": 18}, seeds=[0])
        for report in one.reports:
            journal.append(
                "report", trial=one.number, epoch=report.epoch, metrics=report.metrics, seconds=0.0
            )
        if one.ended:
            journal.append("ended", trial=one.number, status=one.status, seconds=0.0, error="")
    return Loop(study, journal)


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
    brackets = legs_of(quick(trials=9, space=SPACE, scheduler=plan))
    assert isinstance(brackets, Brackets)
    for trial in result.trials:
        rungs = {0: {2, 6, 18}, 1: {6, 18}, 2: {18}}[brackets.bracket(trial.number)]
        assert trial.last is not None and trial.last.epoch in rungs


def test_only_some_schedulers_make_trials_wait() -> None:
    assert legs_of(quick(space=SPACE, scheduler="none")) is None
    assert legs_of(quick(space=SPACE, scheduler="asha")) is None
    assert legs_of(quick(space=SPACE, scheduler={"name": "asha", "kind": "promotion"})) is not None
