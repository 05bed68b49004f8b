"""The recipes in search_spaces/own: each is short, keeps to the contract, resumes exactly, and is searched."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import raysweep
from conftest import ROOT, saved
from raysweep import Study
from raysweep.trainables.trainable import find

OWN = ROOT / "search_spaces" / "own"
RECIPES = sorted(p.stem for p in OWN.glob("*.yaml"))
FEW = {"epochs": 3}
SLOW = {"ddp", "hugging_face", "keras_model", "lightning_module"}
"""They need other packages (the extra `recipes`), or start processes of their own."""
EXPORTS = {"scikit_learn", "torch_loop"}
pytestmark = [pytest.mark.xdist_group("recipes"), pytest.mark.long]  # they share imports of seconds


@pytest.fixture(autouse=True)
def _path_as_it_was() -> Iterator[None]:
    before = list(sys.path)
    yield
    sys.path[:] = before


def marked(names: Iterable[str]) -> list[Any]:
    return [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in names]


def recipe(name: str, **changes: Any) -> Study:
    study = Study.load(OWN / f"{name}.yaml", changes)
    if "epochs" in study.space or "epochs" in study.found.arguments:
        study = Study.load(OWN / f"{name}.yaml", {**changes, "space.epochs": FEW["epochs"]})
    return study


def test_each_is_a_file_of_under_sixty_lines_and_its_study() -> None:
    lines = {p.stem: len(p.read_text().splitlines()) for p in OWN.glob("*.py")}
    assert sorted(lines) == RECIPES and max(lines.values()) < 60


@pytest.mark.parametrize("name", marked(n for n in RECIPES if n not in {"scikit_learn", "tune_function"}))
def test_a_recipe_that_is_resumed_goes_on_exactly(name: str) -> None:
    study = recipe(name)
    assert study.found.resumes
    point = next(iter(study.first()), None) or study.space.sample(random.Random(0))
    whole = [(numbers(m), saved(s)) for m, s in study.found.execution(point)]
    assert [s["epoch"] for _, s in whole] == [1, 2, 3]
    resumed = study.found.execution({**point, "state": whole[0][1]})
    assert [numbers(m) for m, _ in resumed] == [m for m, _ in whole[1:]]
    assert any(a != b for (a, _), (b, _) in pairwise(whole)), "it learns"


def numbers(metrics: Any) -> dict[str, float]:
    return {k: float(v) for k, v in metrics.items()}


@pytest.mark.slow  # what they rely on is in test_own.py
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_searched(name: str, ray: Any, here: Path) -> None:
    study = recipe(name, trials=1)
    result = raysweep.run(study)
    (trial,) = result.trials
    assert trial.status == "completed" and trial.value is not None, trial.error
    assert len(trial.reports) == (1 if name == "scikit_learn" else FEW["epochs"])
    assert (find(study.trainable, OWN).export is not None) == (name in EXPORTS)
    assert (result.folder / "best" / "model" / "MLmodel").exists() == (name in EXPORTS)
    if name != "scikit_learn":
        assert result.best_state()
