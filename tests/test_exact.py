"""The linear head solved exactly: it is scikit-learn's, a search begins with it, and other heads can begin at it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch.nn import functional

from raysweep import Study, load, run
from raysweep.journal.journal import Journal
from raysweep.search.loop import Loop
from raysweep.search.sessions import open_session
from raysweep.study.shared import baselines
from raysweep.trainables import exact
from raysweep.trainables.exact import Split, solve
from raysweep.trial import best

RNG = np.random.default_rng(0)


def features(n: int, width: int, classes: int) -> Split:
    center = RNG.normal(size=(classes, width))
    y = RNG.integers(classes, size=n)
    x = 100 * (0.5 * center[y] + RNG.normal(size=(n, width)) + 3)  # far from 0, and large
    return Split(torch.tensor(x, dtype=torch.float32), torch.tensor(y))


@pytest.mark.parametrize(("n", "width"), [(300, 20), (60, 200)], ids=["more examples", "more features"])
@pytest.mark.parametrize("classes", [2, 4])
def test_a_classifier_is_scikit_learn_s(n: int, width: int, classes: int) -> None:
    train, val, decay = features(n, width, classes), features(50, width, classes), 0.01
    head = solve(train, val, classes, decay)
    x = train.x.double().numpy()
    scale = np.sqrt(((x - x.mean(0)) ** 2).mean())
    # For two classes, scikit-learn has one vector where we have two that are its opposite halves.
    strength = decay * n * (0.5 if classes == 2 else 1.0)
    model = LogisticRegression(C=1 / strength, tol=1e-8, max_iter=10_000).fit(
        (x - x.mean(0)) / scale, train.y
    )
    expected = model.predict_proba((val.x.double().numpy() - x.mean(0)) / scale)
    found = (val.x @ head.weight.T + head.bias).softmax(1).numpy()
    assert found == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(("n", "width"), [(300, 20), (60, 200)])
def test_a_regression_is_scikit_learn_s(n: int, width: int) -> None:
    x = RNG.normal(size=(n + 50, width)) * 10 + 4
    y = (x @ RNG.normal(size=width)) / 50
    train, val = (
        Split(torch.tensor(x[p]).float(), torch.tensor(y[p]).float()) for p in (slice(n), slice(n, None))
    )
    head = solve(train, val, 0, 0.1)
    mean, scale = x[:n].mean(0), np.sqrt(((x[:n] - x[:n].mean(0)) ** 2).mean())
    model = Ridge(alpha=n * 0.1 / 2).fit((x[:n] - mean) / scale, y[:n])
    found = (val.x @ head.weight.T + head.bias).numpy()[:, 0]
    assert found == pytest.approx(model.predict((x[n:] - mean) / scale), abs=1e-3)


def test_without_a_decay_the_one_that_generalises_best_is_chosen() -> None:
    train, val = features(60, 200, 3), features(200, 200, 3)

    def loss(head: exact.Head) -> float:
        return float(functional.cross_entropy(val.x @ head.weight.T + head.bias, val.y))

    chosen = solve(train, val, 3)
    assert chosen.decay in exact.DECAYS
    assert loss(chosen) == pytest.approx(min(loss(solve(train, val, 3, d)) for d in exact.DECAYS), rel=1e-3)


def test_of_too_many_numbers_a_part_is_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "MOST", 1000)
    train = features(300, 10, 2)
    part = train.part()
    assert len(part.x) == len(part.y) == 100 and torch.equal(part.x, train.part().x)
    assert solve(train, features(50, 10, 2), 2).weight.shape == (2, 10)


# --- in a search --------------------------------------------------------------------------------------------------

SPACE = {
    "data": "digits", "classes": "7, 8", "backbone": "cnn", "size": 16, "epochs": 2, "validation": 0.3, "test": 0.3,
    "lr": {"float": [1e-3, 1e-2]},
}  # fmt: skip


def study(**more: Any) -> Study:
    space = SPACE | {"weights": "w.pt"} | more.pop("space", {})
    return Study(
        **{
            "name": "s",
            "trainable": "transfer",
            "maximize": "val_accuracy",
            "trials": 3,
            "space": space,
            **more,
        }
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, [{}]),
        ({"views": ["plain", "flip"]}, [{"views": "plain"}, {"views": "flip"}]),
        ({"transfer": ["feature", "model"]}, [{"transfer": "feature"}]),
        ({"transfer": "model"}, []),
        ({"class_weight": "balanced"}, [{"class_weight": "balanced"}]),
        ({"validation": [0.2, 0.3]}, [{"validation": 0.2}, {"validation": 0.3}]),
        ({"pooling": ["average", "flatten"], "views": ["plain", "flip"], "size": list(range(8, 16))}, []),
    ],
)
def test_there_is_a_baseline_for_each_set_of_features(
    more: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    found = baselines(study(space=more))
    assert all(point["solver"] == "exact" and "lr" not in point and "epochs" not in point for point in found)
    assert [{k: v for k, v in point.items() if k in more} for point in found] == expected
    assert baselines(study(space=more, baseline=False)) == []


def test_a_perceptron_has_none() -> None:
    assert (
        baselines(Study(name="s", trainable="mlp", maximize="val_accuracy", space={"data": "digits"})) == []
    )


@pytest.mark.parametrize("algorithm", ["grid", "random", "auto", {"name": "optuna", "sampler": "qmc"}])
@pytest.mark.parametrize("killed", [False, True])
def test_a_search_is_what_it_is_without_its_baselines(algorithm: Any, killed: bool, tmp_path: Path) -> None:
    """They come first, count for no scheduler and no number of trials, and move no other point; also when the search
    is killed after any trial."""
    lr = {"float": [1e-3, 1e-2], "grid": 4}
    trials = {} if algorithm == "grid" else {"trials": 8}

    def points(name: str, baseline: bool) -> list[dict[str, Any]]:
        what = study(
            name=name,
            algorithm=algorithm,
            baseline=baseline,
            scheduler="asha",
            **{"trials": None, **trials},
            space={"lr": lr, "views": ["plain", "flip"], "epochs": 9},
        )
        numbers: list[int] = []
        journal = Journal(tmp_path / name)
        open_session(what, journal)
        loop = Loop(what, journal)
        while (trial := loop.next()) is not None:
            if killed:  # and nothing that was not written is known any more
                journal.close()
                journal = Journal(tmp_path / name)
                open_session(what, journal)
                loop = Loop(what, journal)
                assert (again := loop.next()) is not None and again.number == trial.number
            numbers.append(trial.number)
            loop.started(trial.number, "w")
            value = 1 / (1 + trial.number) if trial.baseline else trial.point["lr"]
            said = loop.reported(trial.number, 1, {"val_accuracy": value}, 0.1)
            assert said == "go on" or not trial.baseline
            loop.end(trial.number, "completed", "")
        assert loop.complete and numbers == list(range(len(numbers)))
        trials_ = journal.trials
        journal.close()
        assert [t.number for t in trials_ if t.baseline] == ([0, 1] if baseline else [])
        return [t.point for t in trials_ if not t.baseline]

    assert points("with", True) == points("without", False)


def test_finalists_are_of_the_search_and_the_baseline_stands_among_them(tmp_path: Path) -> None:
    for value, winner in ((0.99, 0), (0.1, 3)):
        what = study(finalists={"top": 1, "repeats": 2}, trials=2, scheduler="none", name=f"s{winner}")
        journal = Journal(tmp_path / what.name)
        open_session(what, journal)
        loop = Loop(what, journal)
        while (trial := loop.next()) is not None:
            loop.started(trial.number, "w")
            accuracy = value if trial.baseline else 0.5 + trial.number / 100
            loop.reported(trial.number, 1, {"val_accuracy": accuracy}, 0.1)
            loop.end(trial.number, "completed", "")
        assert [t.of for t in journal.trials] == [None, None, None, 2] and loop.complete
        assert best(journal.trials, what.objective) == journal.trials[winner]
        journal.close()


def test_a_later_study_does_not_take_a_baseline_for_a_point(tmp_path: Path) -> None:
    from raysweep.search.warm_start import _row
    from raysweep.trial import Report, Trial

    what = study(space={"lr": 1e-3, "views": ["plain", "flip"]})
    trial = Trial(0, baselines(what)[0], "completed", (Report(1, {"val_accuracy": 0.9}, 0.0),))
    assert _row(trial, what) is not None, "else this shows nothing"
    assert _row(dataclasses.replace(trial, baseline=True), what) is None


@pytest.mark.slow
def test_a_study_begins_with_it_and_it_can_win(ray: Any, here: Path, mlflow_store: None) -> None:
    shared: dict[str, Any] = {"trainable": "transfer", "maximize": "val_accuracy"}
    run(
        Study(
            name="source",
            **shared,
            space=SPACE | {"lr": 1e-2, "classes": "0, 1", "transfer": "scratch", "weights": "none"},
        )
    )
    space = SPACE | {"weights": "models:/source@best", "cache_dir": "cache", "lr": {"float": [1e-9, 2e-9]}}
    result = run(Study(name="target", **shared, trials=2, space=space))
    first, *others = result.trials
    assert first.baseline and first.status == "completed" and not any(t.baseline for t in others)
    assert result.best is not None and result.best.number == 0, "the others cannot learn anything"
    assert result.test["test_accuracy"] > 0.8
    assert load("target").trials[0].baseline
    report = (here / "studies" / "target" / "report.html").read_text()
    assert "the linear head, solved exactly on the features (trial 0)" in report
