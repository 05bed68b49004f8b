"""The health of a search: each check speaks when it should, and only then, and its edit makes a file that loads."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import quick
from journals import Told, sampled, write
from raysweep import Study
from raysweep.report.health import Finding, health
from raysweep.report.next_study import next_study
from raysweep.report.page import facts_of
from raysweep.study.yaml import parse_yaml

Point = dict[str, Any]
Rng = random.Random
WIDE = {"x": {"float": [-1.0, 1.0]}, "epochs": 3}
LR = {"lr": {"float": [1e-3, 1e-1], "log": True}, "batch_size": [32, 64, 128, 256], "epochs": 8}


def study(**more: Any) -> Study:
    """A perceptron, whose loss falls."""
    given: dict[str, Any] = {
        "minimize": "val_loss",
        "trials": 60,
        "space": LR,
        "scheduler": "none",
        "name": "study",
    }
    return Study(trainable="mlp", **{**given, **more})


def falling(loss: float, epochs: int = 8) -> list[float]:
    """A curve that has come to its end: it halves its distance every epoch, and then fluctuates a little."""
    return [loss + 0.5**e * (e < 4) + 0.002 * (e % 2) for e in range(1, epochs + 1)]


def well(point: Point, rng: Rng) -> Told:
    """The best is in the middle of the range, and found late, as a search would."""
    return Told(point, falling(abs(math.log10(point["lr"]) + 2) + 0.3 * rng.random()))


def at_bound(point: Point, rng: Rng) -> Told:
    if rng.random() < 0.5:  # where a model-based search looks
        point["lr"] = 0.1 * rng.uniform(0.85, 1.0)
    return Told(point, falling(1 - math.log10(point["lr"]) + 0.05 * rng.random()))


def no_effect(point: Point, rng: Rng) -> Told:
    return Told(point, falling((math.log10(point["lr"]) + 2) ** 2 + 0.01 * rng.random()))


def out_of_memory(point: Point, rng: Rng) -> Told:
    if point["batch_size"] == 256:
        return Told(point, [], "out of memory", "CUDA out of memory")
    return well(point, rng)


def diverging(point: Point, rng: Rng) -> Told:
    if point["lr"] > 0.03:
        return Told(point, [1.0], "diverged", "val_loss = nan at epoch 2")
    return well(point, rng)


def failing(point: Point, rng: Rng) -> Told:
    return Told(point, [], "failed", "ValueError: no") if rng.random() < 0.3 else well(point, rng)


def unfinished(point: Point, rng: Rng) -> Told:
    return Told(point, [1 + abs(math.log10(point["lr"]) + 2) - e * 0.1 for e in range(8)])


def idle(point: Point, rng: Rng) -> Told:
    return Told(point, well(point, rng).curve, used={"cpu": 0.9, "memory": 100.0})


def crowded(point: Point, rng: Rng) -> Told:
    return Told(point, well(point, rng).curve, used={"cpu": 2.5, "memory": 100.0})


def late(point: Point, rng: Rng) -> Told:
    """Early epochs say nothing of the end."""
    end = well(point, rng).curve
    return Told(point, [2 + rng.random(), 2 + rng.random(), *end[2:]])


Case = tuple[str, Study, Callable[[Point, Rng], Told], Point]
"""The check that speaks, the study, its trials, and the edit."""
CASES: dict[str, Case] = {
    "bound": ("bound", study(), at_bound, {"space.lr": {"float": [1e-3, 0.5], "log": True}}),
    "no effect": ("no effect", study(trials=400), no_effect, {"space.batch_size": None}),
    "out of memory": ("no result", study(), out_of_memory, {"space.batch_size": [32, 64, 128]}),
    "diverged": ("no result", study(), diverging, {"space.lr": {"float": [1e-3, 0.042], "log": True}}),
    "failed": ("no result", study(), failing, {}),
    "unfinished": ("unfinished", study(), unfinished, {"space.epochs": 16}),
    "cpu idle": ("resources", study(per_trial={"cpu": 4}), idle, {"per_trial.cpu": 1}),
    "cpu crowded": ("resources", study(), crowded, {"per_trial.cpu": 3}),
    "rung": (
        "rung", study(scheduler={"name": "asha", "grace": 2, "reduction": 2}), late,
        {"scheduler": {"name": "asha", "reduction": 2, "grace": 4}},
    ),
}  # fmt: skip


def found(place: Path, given: Study, trials: list[Told], examples: int = 0) -> tuple[Any, list[Finding]]:
    facts, _ = facts_of(write(place, given, trials, examples))
    return facts, health(facts)


@pytest.mark.parametrize("name", CASES)
def test_each_check_speaks_and_its_edit_loads(tmp_path: Path, name: str) -> None:
    check, given, told, edit = CASES[name]
    facts, findings = found(tmp_path / "s", given, sampled(given, given.target, told))
    mine = [f for f in findings if f.check == check]
    assert len(mine) == 1, findings
    following = parse_yaml(next_study(facts, findings).to_yaml())
    again = Study(**{**following, "name": "again"})
    assert again.warm_start == ["study"] and again.target == given.target
    raw = again.to_dict()
    for where, value in edit.items():
        key, _, inner = where.partition(".")
        there = raw.get(key, {"cpu": 1})[inner] if inner else raw[key]
        assert there == value if value is not None else not isinstance(there, list), mine


def test_a_search_in_good_health_is_told_nothing(tmp_path: Path) -> None:
    """Random points: that the best was found early is no finding."""
    for seed in range(40):
        _, findings = found(tmp_path / str(seed), study(), sampled(study(), 60, well, seed))
        assert not [f for f in findings if f.check != "no effect"], (seed, findings)  # batch_size has none


def test_noise_that_is_larger_than_the_differences(tmp_path: Path) -> None:
    accuracy = study(maximize="val_accuracy", minimize=None)
    trials = [
        Told(t.point, [{"val_accuracy": 0.9 + n / 1e4}]) for n, t in enumerate(sampled(accuracy, 40, well))
    ]
    _, findings = found(tmp_path / "few", accuracy, trials, examples=100)
    assert {f.check for f in findings} >= {"noise", "no gain"} and "repeats: 3" in str(findings)
    _, findings = found(tmp_path / "many", accuracy, trials, examples=100_000_000)
    assert not {f.check for f in findings} & {"noise", "no gain"}


def test_a_plateau(tmp_path: Path) -> None:
    """Many tie with the best, and no more is found."""
    accuracy = study(maximize="val_accuracy", minimize=None)
    points = [t.point for t in sampled(accuracy, 60, well)]
    trials = [Told(p, [{"val_accuracy": 0.9 - 0.0001 * (n % 7)}]) for n, p in enumerate(points)]
    facts, findings = found(tmp_path / "s", accuracy, trials, examples=1000)
    (plateau,) = [f for f in findings if f.check == "plateau"]
    assert plateau.changes == {"stop.no_improvement": 20} and "60 trials tie" in plateau.verdict
    assert next_study(facts, findings).stop.no_improvement is None, "another search is to search"


def test_of_many_parameters_that_all_matter_none_is_said_to_have_no_effect(tmp_path: Path) -> None:
    many = quick(
        trials=400, trainable="trainables:anything", space={f"x{i}": {"float": [0.0, 1.0]} for i in range(20)}
    )
    trials = sampled(many, 400, lambda point, rng: Told(point, [sum(point.values())]))
    _, findings = found(tmp_path / "s", many, trials)
    assert len([f for f in findings if f.check == "no effect"]) <= 2


def test_a_bound_goes_no_further_than_the_trainable_takes(tmp_path: Path) -> None:
    space = {"dropout": {"float": [0.0, 0.5]}, "momentum": {"float": [0.0, 0.99]}, "epochs": 3}
    edges = study(space=space)

    def told(point: Point, rng: Rng) -> Told:
        if rng.random() < 0.5:
            point |= {"dropout": 0.01 * rng.random(), "momentum": 0.99 - 0.01 * rng.random()}
        return Told(point, [2 + point["dropout"] - point["momentum"]])

    _, findings = found(tmp_path / "s", edges, sampled(edges, 60, told))
    assert not [f for f in findings if f.check == "bound"], "no dropout below 0, no momentum of 1.32"


def test_an_own_trainable_has_its_findings_too(tmp_path: Path) -> None:
    own = quick(trials=30, space=WIDE)
    points = [{"x": 1 - (n / 30) ** 2 * 2, "epochs": 3} for n in range(30)]
    facts, findings = found(tmp_path / "s", own, [Told(point, [2 - point["x"]]) for point in points])
    assert next(f for f in findings if f.check == "bound").changes == {"space.x": {"float": [-1.0, 1.7]}}
    assert next_study(facts, findings).space["x"].high == 1.7  # type: ignore[attr-defined]
