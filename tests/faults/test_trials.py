"""What happens to a trial is that trial's, and no other's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import raysweep
from faults.conftest import assert_invariants
from raysweep import Study
from raysweep.trial import Trial


@pytest.fixture
def run(ray: Any, here: Path) -> Callable[..., tuple[Trial, ...]]:
    """Searches a study of a function in faulty.py that writes a checkpoint after each epoch; sees that what must
    hold does."""

    def search(function: str, **more: Any) -> tuple[Trial, ...]:
        (here / "marks").mkdir()
        space = {"x": {"float": [-1.0, 1.0]}, "epochs": 4, "marks": str(here / "marks")}
        study = Study(
            name="faulty", trainable=f"faulty:{function}", minimize="loss", space=space,
            **{"trials": 4, "checkpoint_every": 1e-6, **more},
        )  # fmt: skip
        result = raysweep.run(study)
        assert not result.interrupted
        assert_invariants(result.folder)
        return result.trials

    return search


def hit(trials: tuple[Trial, ...]) -> Trial:
    """The one trial that something happened to."""
    (one,) = [t for t in trials if t.losses or t.status != "completed"]
    return one


def test_a_killed_process_costs_its_trial_one_epoch(run: Callable[..., tuple[Trial, ...]]) -> None:
    trial = hit(run("killed"))
    assert (trial.status, trial.attempts, trial.losses[0].cause) == ("completed", 2, "worker")
    assert [r.epoch for r in trial.reports] == [1, 2, 3, 4]


def test_a_trial_that_kills_its_process_each_time_fails_alone(run: Callable[..., tuple[Trial, ...]]) -> None:
    points = [{"x": -0.5}, {"x": 0.5}]
    bad, good = run("always_killed", trials=2, points=points, retries=1)
    assert (bad.status, len(bad.losses), good.status) == ("failed", 1, "completed")
    assert bad.error.startswith("the worker was lost: ") and "worker process has died" in bad.error


def test_an_exception_that_does_not_come_again_costs_an_epoch(run: Callable[..., tuple[Trial, ...]]) -> None:
    # (Under a stopping rule of Ray Tune's, which must not take a trial for another when it comes again.)
    trial = hit(run("stumbles", scheduler={"name": "asha", "grace": 1, "reduction": 2}, trials=1))
    assert (trial.status, trial.attempts, trial.losses[0].cause) == ("completed", 2, "code")
    assert "ConnectionResetError: reset by peer" in trial.losses[0].error


def test_the_same_exception_at_the_same_epoch_is_not_tried_a_third_time(
    run: Callable[..., tuple[Trial, ...]],
) -> None:
    trials = run("wrong", trials=2, retries=5)
    assert [(t.status, len(t.losses)) for t in trials] == [("failed", 1)] * 2
    assert all(t.error.startswith("KeyError: 'colour'") for t in trials)


@pytest.mark.slow
def test_a_trial_that_hangs_is_killed_and_is_no_success(run: Callable[..., tuple[Trial, ...]]) -> None:
    trial = hit(
        run("hangs", no_progress_timeout="30 s")
    )  # enough for those that do not hang, on a busy machine
    assert (trial.status, trial.error) == ("timeout", "it reported nothing for 30 s")


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(
    run: Callable[..., tuple[Trial, ...]], here: Path
) -> None:
    trial = hit(run("damaged", concurrency=1))
    assert (trial.status, [r.epoch for r in trial.reports]) == ("completed", [1, 2, 3, 4])
    assert list((here / "studies/faulty/trials").glob("*/epoch-000002.pt.bad"))
