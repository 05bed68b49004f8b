"""What a search knows is what its journal says: killed anywhere, it goes on as if it had not been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import quick
from raysweep import Study
from raysweep.journal import read
from simulated import decisions, search

SAMPLERS: dict[str, Any] = {
    "hyperopt": {"name": "hyperopt", "startup": 8},
    "tpe": {"name": "optuna", "startup": 8},
    "gp": {"name": "optuna", "sampler": "gp", "startup": 25},
    "cmaes": {"name": "optuna", "sampler": "cmaes", "startup": 4},
    "nsga2": {"name": "optuna", "sampler": "nsga2", "startup": 4},
    "qmc": {"name": "optuna", "sampler": "qmc"},
}
SCHEDULERS: dict[str, Any] = {
    "none": "none",
    "asha": {"name": "asha", "grace": 1, "reduction": 2},
    "promotion": {"name": "asha", "kind": "promotion", "grace": 1, "reduction": 2},
    "hyperband": {"name": "hyperband", "grace": 1, "reduction": 2},
    "median": {"name": "median", "grace": 1, "samples": 3},
    "pbt": {"name": "pbt", "interval": 2, "vary": ["x"]},
    "pb2": {"name": "pb2", "interval": 2, "vary": ["x"]},
}
TRIALS, EPOCHS = 30, 6


def study_of(sampler: str, scheduler: str, **more: Any) -> Study:
    space = {"x": {"float": [-1.0, 1.0]}, "y": {"float": [-1.0, 1.0]}, "epochs": EPOCHS}
    return quick(
        trainable="trainables:bowl",
        trials=TRIALS,
        algorithm=SAMPLERS[sampler],
        scheduler=SCHEDULERS[scheduler],
        space=space,
        **more,
    )


GP = pytest.param("gp", marks=pytest.mark.slow)  # half a second an ask


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("sampler", [GP if s == "gp" else s for s in SAMPLERS])
def test_a_search_killed_anywhere_goes_on_as_if_it_had_not_been(
    sampler: str, scheduler: str, tmp_path: Path
) -> None:
    study = study_of(sampler, scheduler)
    whole = search(study, tmp_path / "whole")
    records = len(read(whole.path)[0])
    assert len(whole.history.trials) >= TRIALS
    for place in {*range(3, records, max(1, records // 7)), records - 2, records - 1}:
        killed = search(study, tmp_path / str(place), records=place)
        last = read(killed.path)[0][-1]
        assert decisions(search(study, tmp_path / str(place))) == decisions(whole), f"killed after {last}"
