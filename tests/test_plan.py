"""What a study will take: the search in virtual time, and a few points tried for real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from conftest import quick
from raysweep import Study
from raysweep.cli import cli
from raysweep.execution.plan import RECORDS, Plan, Sample, of_sample

WIDE = {"x": {"float": [-1.0, 1.0]}, "epochs": 27}
TIMES = Sample(epochs=(2.0,), setup=0.5, state_bytes=1000, together=1, imports=1.0)
ENDS = 4.0  # imports, before and after the trials


def planned(workers: int = 4, sample: Sample = TIMES, **more: Any) -> Plan:
    given: dict[str, Any] = {"trials": 32, "space": WIDE, "concurrency": None, "scheduler": "none"}
    return of_sample(quick(**{**given, **more}), sample, workers)


def test_without_early_stopping_all_epochs_are_trained() -> None:
    plan = planned()
    assert plan.epochs == plan.whole == 32 * 27
    assert plan.computing == pytest.approx(32 * (27 * 2.0 + 0.5))
    assert plan.wall == pytest.approx(plan.computing / 4 + ENDS)
    assert plan.first == pytest.approx(27 * 2.0 + 0.5 + 3.0)
    assert plan.low < plan.wall < plan.high
    assert plan.twice == pytest.approx(plan.computing / 8 + ENDS)


@pytest.mark.parametrize("scheduler", ["asha", {"name": "asha", "kind": "promotion"}, "hyperband", "median"])
def test_early_stopping_leaves_fewer_epochs(scheduler: Any) -> None:
    plan = planned(scheduler=scheduler, trials=100)
    assert 200 <= plan.epochs < 0.7 * plan.whole
    assert plan.computing == pytest.approx(2.0 * plan.epochs, rel=0.15)
    assert plan.computing / 4 <= plan.wall < plan.computing / 4 * 1.5 + ENDS


def test_asha_s_epochs_are_what_its_rungs_say() -> None:
    """Of 270 trials all reach epoch 1, a third epoch 3, a ninth epoch 9, and so on, and some more by chance."""
    plan = planned(scheduler={"name": "asha", "kind": "promotion", "grace": 1}, trials=270, workers=1)
    rungs = 270 + 90 * 2 + 30 * 6 + 10 * 18
    assert rungs * 0.9 <= plan.epochs <= rungs * 1.4


def test_trials_that_are_trained_together_take_their_share() -> None:
    alone, pack = planned(), planned(sample=Sample((2.0,), 0.5, 1000, together=4, imports=1.0))
    assert pack.computing == pytest.approx(alone.computing)
    assert pack.wall == pytest.approx(alone.wall, rel=0.1), "an epoch's time is a trial's share of it"


def test_finalists_and_folds_are_counted() -> None:
    plan = planned(finalists={"top": 4, "repeats": 3})
    assert plan.epochs == 36 * 27
    assert plan.computing == pytest.approx(32 * (27 * 2.0 + 0.5) + 4 * (27 * 6.0 + 0.5))


def test_a_long_search_is_planned_by_a_part_of_it() -> None:
    plan = planned(trials=2000, workers=50)
    assert plan.whole > 2 * RECORDS and plan.epochs == pytest.approx(plan.whole, rel=0.01)
    assert plan.wall == pytest.approx(2000 * 54.5 / 50, rel=0.1)


def test_a_grid_and_rules_that_end_a_study_are_planned() -> None:
    grid = planned(algorithm="grid", trials=None, space={"x": {"float": [0.0, 1.0], "grid": 5}, "epochs": 3})
    assert (grid.trials, grid.epochs) == (5, 15)
    assert planned(stop={"no_improvement": 2}).epochs == 32 * 27, "a plan is for all of it"
    assert planned(per_trial={"gpu": 0.5}).gpu_hours == pytest.approx(planned().computing / 3600 / 2)


def test_the_command_tries_points_and_says_what_it_takes(here: Path) -> None:
    (here / "pause.yaml").write_text(
        "trainable: trainables:parabola\nminimize: loss\ntrials: 6\nscheduler: none\n"
        "space: {x: {float: [-1.0, 1.0]}, epochs: 4, pause: 0.1}\n"
    )
    told = CliRunner().invoke(cli, ("plan", "pause.yaml", "--workers", "2", "--price", "36"))
    assert told.exit_code == 0, told.output
    assert (
        "6 trials on 2 workers" in told.output
        and "24 of 24 epochs" in told.output
        and "cost: about" in told.output
    )
    found = json.loads(CliRunner().invoke(cli, ("plan", "pause.yaml", "--workers", "2", "--json")).output)
    assert 0.1 <= found["epoch"] < 0.3 and 2.4 <= found["computing"] < 8.0
    assert not list(here.glob("studies/*")), "nothing is left"


def test_what_cannot_be_tried_is_said(here: Path) -> None:
    study = Study(name="s", trainable="trainables:troubled", minimize="loss", trials=3,
                  space={"trouble": "impossible", "x": {"float": [0.0, 1.0]}})  # fmt: skip
    (here / "s.yaml").write_text(study.to_yaml())
    told = CliRunner().invoke(cli, ("plan", "s.yaml"))
    assert told.exit_code == 2 and "every point that was tried failed" in told.output
