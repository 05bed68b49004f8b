"""When the search is over: the best points once more, folds, other splits, and the winner on all data."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import raysweep
from conftest import quick
from journals import Told, write
from raysweep import Study, StudyError
from raysweep.journal.journal import Journal
from raysweep.journal.records import read
from raysweep.report.page import facts_of, report
from raysweep.search.loop import Loop
from raysweep.trainables.data import View
from raysweep.trainables.ensemble import select
from raysweep.trial import Report, Trial, asked, best, ranking
from simulated import decisions, search
from test_memory import SCHEDULERS, study_of

FINAL = {"top": 3, "repeats": 4}


def finalists(journal: Journal) -> list[Trial]:
    return [t for t in journal.history.trials if t.of is not None]


@pytest.mark.parametrize("scheduler", sorted(set(SCHEDULERS) - {"pbt", "pb2"}))
@pytest.mark.parametrize("stop", [{}, {"no_improvement": 6}])
def test_the_best_points_are_trained_again_whatever_ends_the_search(
    scheduler: str, stop: dict[str, Any], tmp_path: Path
) -> None:
    study = study_of("qmc", scheduler, finalists=FINAL, stop=stop)
    journal = search(study, tmp_path / "s", workers=2)
    trials = journal.history.trials
    searched, final = [t for t in trials if t.of is None], finalists(journal)
    assert [t.of for t in final] == [t.number for t in ranking(searched, study.objective)[:3]]
    assert min(t.number for t in final) > max(t.number for t in searched)
    for trial in final:
        assert trial.status == "completed" and trial.last is not None, "no scheduler stops it"
        assert trial.last.epoch == trial.point["epochs"]
        assert trial.of is not None and trial.point == trials[trial.of].point
        assert len(set(trial.seeds)) == 4 and not set(trial.seeds) & set(trials[trial.of].seeds)
    assert asked(trials) == len(searched), "they count as no points of the search"
    winner = best(trials, study.objective)
    assert winner is not None and winner.of is not None


@pytest.mark.parametrize("workers", [1, 3])
def test_a_search_killed_among_its_finalists_goes_on_as_if_it_had_not_been(
    workers: int, tmp_path: Path
) -> None:
    study = study_of("hyperopt", "promotion", finalists=FINAL)
    whole = search(study, tmp_path / "whole", workers=1)
    records = read(whole.path)[0]
    first = next(i for i, r in enumerate(records) if "of" in r)
    for place in range(first - 3, len(records), 5):
        search(study, tmp_path / str(place), records=place, workers=1)
        again = search(study, tmp_path / str(place), workers=workers)
        assert [t for t in decisions(again) if t[4] is None] == decisions(whole)
        assert Counter(t.of for t in finalists(again)) == Counter(t.of for t in finalists(whole))


def test_the_mean_decides_and_not_the_luckiest(tmp_path: Path) -> None:
    """A point that was lucky once is not chosen."""
    study = quick(
        trials=4, finalists={"top": 2, "repeats": 5}, space={"x": {"float": [-1.0, 1.0]}, "epochs": 1}
    )
    journal = Journal(tmp_path / "s")
    from raysweep.search.sessions import open_session

    open_session(study, journal)
    loop = Loop(study, journal)
    told = {0: 0.5, 1: 0.1, 2: 0.2, 3: 0.9}  # trial 1 is the best, by luck
    while (trial := loop.next()) is not None:
        loop.started(trial.number, "w")
        value = told[trial.number] if trial.of is None else {1: 0.4, 2: 0.21}[trial.of]
        loop.reported(trial.number, 1, {"loss": value}, 0.0)
        loop.end(trial.number, "completed", "")
    assert loop.complete
    winner = best(journal.trials, study.objective)
    assert winner is not None and winner.of == 2
    journal.close()


def test_a_finished_search_gets_finalists_later_and_more_after_more_trials(tmp_path: Path) -> None:
    study = study_of("qmc", "none")
    search(study, tmp_path / "s")
    later = study.model_copy(
        update={"finalists": Study.recorded({**study.to_dict(), "finalists": FINAL}).finalists}
    )
    assert len(finalists(search(later, tmp_path / "s"))) == 3
    more = later.model_copy(update={"trials": (study.trials or 0) + 20})
    journal = search(more, tmp_path / "s")
    searched = [t for t in journal.history.trials if t.of is None]
    top = {t.number for t in ranking(searched, study.objective)[:3]}
    assert top <= {t.of for t in finalists(journal)}, "the best of all trials have been trained again"
    assert len(searched) == more.target


@pytest.mark.parametrize(
    "more, where",
    [
        ({"finalists": {"top": 0}}, "finalists.top"),
        ({"finalists": {"repeats": 1}}, "finalists.repeats"),
        ({"trainable": "trainables:moody", "space": {"x": {"int": [0, 3]}}, "finalists": FINAL}, "finalists"),
        ({"scheduler": {"name": "pbt"}, "finalists": FINAL}, "finalists"),
        ({"folds": 5}, "folds"),
        ({"resplit": True}, "resplit"),
        ({"refit": True}, "refit"),
        ({"ensemble": True}, "ensemble"),
    ],
)
def test_what_cannot_be_is_refused(more: dict[str, Any], where: str) -> None:
    with pytest.raises(StudyError) as refused:
        quick(**more)
    assert where in {p.where for p in refused.value.problems}


# --- the ensemble ------------------------------------------------------------------------------------------------


def test_an_ensemble_takes_what_complements_one_another() -> None:
    """Two models that are right where the other is not make a better one than the best; a bad one has no part in it."""
    y = np.array([0, 1] * 50)
    right = np.where(np.arange(2) == y[:, None], 0.9, 0.1)
    half, rest = np.arange(100) < 50, np.arange(100) >= 50
    one, other = (np.where(part[:, None], right, 0.5) for part in (half, rest))
    weights = select(np.array([one, 1 - right, other]), y, True)
    assert weights[1] == 0 and abs(weights[0] - weights[2]) < 0.1 and sum(weights) == pytest.approx(1.0)
    assert select(np.array([right, one]), y, True)[0] == 1.0
    numbers = np.array([[[1.0], [3.0]], [[3.0], [5.0]]])
    assert select(numbers, np.array([2.0, 4.0]), False) == pytest.approx([0.5, 0.5])


@pytest.mark.long
@pytest.mark.parametrize("task", ["classification", pytest.param("regression", marks=pytest.mark.slow)])
def test_the_ensemble_is_a_model_that_predicts_its_mean(
    task: str, ray: Any, here: Path, mlflow_store: None
) -> None:
    import mlflow

    space: dict[str, Any] = {
        "epochs": 4,
        "layers": 1,
        "units": {"int": [4, 32]},
        "lr": {"float": [1e-3, 1e-1], "log": True},
    }
    metric = {"maximize": "val_accuracy"} if task == "classification" else {"minimize": "val_rmse"}
    study = Study(
        name="together",
        trainable="mlp",
        trials=4,
        ensemble=True,
        scheduler="none",
        space={"task": task, **space},
        **metric,
    )
    result = raysweep.run(study, verbose=0)
    made = facts_of(here / "studies" / "together")[0].history.best["ensemble"]
    assert sum(made["weights"].values()) == pytest.approx(1.0)
    mlflow.set_tracking_uri(f"sqlite:///{here / 'studies' / 'mlflow.db'}")
    model, best_model = (
        mlflow.pyfunc.load_model(f"models:/together@{alias}") for alias in ("ensemble", "best")
    )
    from raysweep.trainables.data import load

    data = load("digits", task=task)
    pixels = data.x_test.astype(np.float64)
    said = model.predict(pixels)["prediction"].to_numpy()
    if task == "classification":
        right = np.mean([int(a) == b for a, b in zip(said, data.y_test, strict=True)])
        assert right == pytest.approx(made["metrics"]["test_accuracy"])
    else:
        rmse = math.sqrt(((said - data.y_test) ** 2).mean())
        assert rmse == pytest.approx(made["metrics"]["test_rmse"], rel=1e-4)
    assert len(best_model.predict(pixels)) == len(said) and result.test
    assert "@ensemble" in report(here / "studies" / "together")


# --- the report ----------------------------------------------------------------------------------------------------


def test_the_report_says_how_the_finalists_did(tmp_path: Path) -> None:
    study = quick(maximize="accuracy", minimize=None, trials=30, finalists={"top": 2, "repeats": 4})
    rng = random.Random(0)
    trials = [Told({"x": rng.uniform(-1, 1), "epochs": 3}, [{"accuracy": 0.5 + n / 100}]) for n in range(30)]
    for of, value, spread in ((29, 0.70, 0.04), (28, 0.74, 0.02)):
        again = Told(trials[of].point, [{"accuracy": value, "accuracy_std": spread}])
        trials.append(Told(again.point, again.curve, executions=4, of=of))
    place = write(tmp_path / "s", study, trials)
    facts = facts_of(place)[0]
    assert facts.winner is not None and facts.winner.number == 31
    assert [t.number for t in facts.ranked[:2]] == [29, 28], "the search's own trials"
    html = report(place)
    assert "Trial 31 is the best" in html and "trial 28" in html
    assert "0.7400" in html and "± 0.0100" in html, "the mean of four, and its standard error"


def test_a_finalist_s_epochs_that_run_do_not_count_yet() -> None:
    objective = quick().objective
    done = Trial(0, {"x": 0.0}, "completed", (Report(1, {"loss": 1.0}, 0.0),))
    running = Trial(1, {"x": 0.0}, "running", (Report(1, {"loss": 2.0}, 0.0),), of=0)
    assert [t.number for t in ranking([done, running], objective)] == [0, 1]

    assert [t.number for t in ranking([done, replace(running, status="completed")], objective)] == [1, 0]


# --- for real ------------------------------------------------------------------------------------------------------


def test_finalists_run_on_ray(ray: Any, here: Path) -> None:
    study = quick(trials=5, finalists={"top": 2, "repeats": 3})
    result = raysweep.run(study, verbose=0)
    assert not result.interrupted and len(result.trials) == 7
    assert result.best is not None and result.best.of is not None and len(result.best.seeds) == 3
    assert "loss_std" in result.best.reports[-1].metrics
    assert raysweep.run(study, verbose=0).trials == result.trials, "there is nothing left to do"


# --- folds, other splits, all data -----------------------------------------------------------------------------------


VIEWS = {
    "fold": [View("fold", i, 5) for i in range(5)],
    "resplit": [View("resplit", seed) for seed in range(3)],
    "whole": [View("whole")],
}


@pytest.mark.parametrize("kind", VIEWS)
def test_a_view_divides_what_is_not_test_data(kind: str, digits: Any) -> None:
    """Each example once, classes in the same shares; the test data are untouched."""
    all_x = np.concatenate([digits.x_train, digits.x_val])
    rows = {row.tobytes() for row in all_x}
    judged = []
    for view in VIEWS[kind]:
        seen = replace(digits, view=view).seen()
        assert seen.x_test is digits.x_test and seen.y_test is digits.y_test
        assert {r.tobytes() for r in np.concatenate([seen.x_train, seen.x_val])} == rows
        assert seen.fingerprint != digits.fingerprint and seen.view is None
        shares = np.bincount(seen.y_val, minlength=10) / len(seen.y_val)
        assert abs(shares - 0.1).max() < 0.03
        judged.append({r.tobytes() for r in seen.x_val})
        if kind == "whole":
            assert len(seen.y_train) == len(all_x)
        else:
            assert not {r.tobytes() for r in seen.x_train} & judged[-1]
    if kind == "fold":
        assert set().union(*judged) == rows and sum(map(len, judged)) == len(rows)
        assert max(map(len, judged)) - min(map(len, judged)) <= 1
    if kind == "resplit":
        assert judged[0] != judged[1] != judged[2]
        assert all(abs(len(j) - len(digits.y_val)) <= 10 for j in judged)


@pytest.mark.parametrize("kind", ["fold", "resplit"])
def test_a_training_on_a_view_is_that_on_the_data_so_divided(kind: str, digits: Any) -> None:
    from raysweep.trainables.mlp import mlp

    view = VIEWS[kind][1]
    seen = replace(digits, view=view).seen()
    one, other = (list(mlp(data, epochs=2, units=8)) for data in (replace(digits, view=view), seen))
    assert [m for m, _ in one] == [m for m, _ in other]
    assert [m for m, _ in one] != [m for m, _ in mlp(digits, epochs=2, units=8)]


def test_folds_and_the_model_of_all_data(ray: Any, here: Path) -> None:
    study = Study(
        name="folds", trainable="mlp", maximize="val_accuracy", trials=2, folds=3, refit=True,
        space={"epochs": 3, "units": 8, "lr": {"float": [1e-3, 1e-1], "log": True}},
    )  # fmt: skip
    result = raysweep.run(study, verbose=0)
    assert not result.interrupted and all(len(t.seeds) == 3 for t in result.trials)
    assert result.best is not None and result.best.reports[0].metrics["val_accuracy_std"] > 0
    facts = facts_of(here / "studies" / "folds")[0]
    assert facts.noise.examples == facts.validation == 1528, (
        "each example that is no test data is judged once"
    )
    assert facts.history.best["refit"] is True and result.test["test_accuracy"] > 0.5
    assert "trained again on all but the test data" in report(here / "studies" / "folds")

    from raysweep.trainables.data import load
    from raysweep.trainables.mlp import mlp

    data = replace(load("digits"), view=View("whole"))
    chosen = result.best.best(study.objective)
    assert chosen is not None
    steps = list(mlp(data, seed=_best_seed(here, result.best, chosen.epoch), **_arguments(result.best)))
    _, state = steps[chosen.epoch - 1]
    model = torch.load(here / "studies" / "folds" / "best" / "weights.pt", weights_only=True)
    assert all(torch.equal(model[k], v) for k, v in state["model"].items()), (
        "the same training, to the last bit"
    )


def _best_seed(here: Path, trial: Trial, epoch: int) -> int:
    from raysweep.storage.checkpoints import best_execution, trial_folder

    return trial.seeds[best_execution(trial_folder(here / "studies" / "folds", trial.number), epoch)]


def _arguments(trial: Trial) -> dict[str, Any]:
    return dict(trial.point)
