"""What a training reports: metrics are scikit-learn's, where a study names them; class weights; calibration."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as theirs
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional

from raysweep import Study
from raysweep.errors import Infeasible, StudyError
from raysweep.trainables import training
from raysweep.trainables.data import Data, load
from raysweep.trainables.metrics import scores
from raysweep.trainables.mlp import export, mlp, network

RNG = np.random.default_rng(0)
OUTPUT, PREDICTED = (
    {
        "two classes": (torch.randn(200, 2), 2),
        "five": (torch.randn(300, 5), 5),
        "ties": (torch.randn(120, 3).round(), 3),
    },
    torch.Generator().manual_seed(0),
)


@pytest.mark.parametrize("kind", OUTPUT)
def test_the_metrics_are_scikit_learn_s(kind: str) -> None:
    output, classes = OUTPUT[kind]
    y = torch.randint(classes, (len(output),), generator=PREDICTED)
    said, chances = output.argmax(1), output.double().softmax(1).round(decimals=12)  # so that ties are ties
    found = scores(output, y, ("balanced_accuracy", "f1", "auc"))
    assert found["balanced_accuracy"] == pytest.approx(theirs.balanced_accuracy_score(y, said))
    assert found["f1"] == pytest.approx(theirs.f1_score(y, said, average="macro"))
    auc = theirs.roc_auc_score(y, chances[:, 1] if classes == 2 else chances, multi_class="ovr")
    assert found["auc"] == pytest.approx(auc)
    numbers = torch.randn(len(y))
    assert scores(output[:, :1], numbers, ["mae"], 3.0)["mae"] == pytest.approx(
        3 * theirs.mean_absolute_error(numbers, output[:, 0])
    )


def test_a_metric_without_a_value_says_why_and_ends_no_export(tmp_path: Path) -> None:
    y = np.arange(80) % 2
    np.savez(
        tmp_path / "x.npz",
        x=RNG.normal(size=(80, 3)),
        y=y,
        x_test=RNG.normal(size=(9, 3)),
        y_test=np.ones(9, int),
    )
    data = load(str(tmp_path / "x.npz"))
    *_, (metrics, state) = mlp(data=data.scoring({"val_auc"}), epochs=1)
    assert 0 <= metrics["val_auc"] <= 1
    tested = export({"epochs": 1}, state, data, tmp_path / "model")
    assert "test_f1" in tested and "test_auc" not in tested
    alone = dataclasses.replace(data, y_val=np.ones_like(data.y_val)).scoring({"val_auc"})
    with pytest.raises(Infeasible, match="val_auc has no value: the examples are all of one class"):
        next(mlp(data=alone, epochs=1))


def test_scores_far_apart_have_an_order() -> None:
    output = torch.tensor([[0.0, v] for v in (50, 60, 70, 80)])
    assert scores(output, torch.tensor([0, 0, 1, 1]), ["auc"])["auc"] == 1.0
    assert math.isnan(scores(output * math.nan, torch.tensor([0, 0, 1, 1]), ["auc"])["auc"])


def test_what_a_study_names_is_reported_and_only_that(digits: Data) -> None:
    usual = {f"{part}_{name}" for part in ("train", "val") for name in ("loss", "accuracy")}
    (plain, _), *_ = mlp(data=digits, epochs=1)
    assert set(plain) == usual
    wanted = digits.scoring({"val_f1", "val_auc", "train_loss"})
    (scored, _), *_ = mlp(data=wanted, epochs=1)
    assert set(scored) == usual | {"val_f1", "val_auc"} and set(scored) <= set(digits.metrics)
    model = network(64, 10, [8], "relu", 0.0, False)
    found = training.evaluate(
        model,
        training.Tensors(digits.x_val, digits.y_val, digits, torch.device("cpu")),
        digits,
        "val",
        ["f1"],
    )
    assert set(found) == {"val_loss", "val_accuracy", "val_f1"}


def test_a_class_counts_by_its_weight(tmp_path: Path) -> None:
    """A step over all examples is the one that autograd makes with scikit-learn's weights."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "rare.npz", x=rng.normal(size=(200, 6)), y=(np.arange(200) % 10 == 0).astype(int))
    data = load(str(tmp_path / "rare.npz"))
    n = len(data.y_train)
    weights = training.class_weights("balanced", data, torch.device("cpu"))
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=data.y_train)
    assert weights is not None and weights.numpy() == pytest.approx(expected)
    options: dict[str, Any] = {
        "units": 5,
        "batch_size": n,
        "optimizer": "sgd",
        "lr": 0.5,
        "label_smoothing": 0.1,
    }
    states = [
        copy.deepcopy(s["model"]) for _, s in mlp(data=data, epochs=2, class_weight="balanced", **options)
    ]
    model = network(6, 2, [5], "relu", 0.0, False)
    model.load_state_dict(states[0])
    x, y = torch.tensor(data.x_train), torch.tensor(data.y_train)
    each = functional.cross_entropy(model(x), y, label_smoothing=0.1, reduction="none")
    (weights[y] * each).mean().backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(
            states[1][name], parameter.detach() - 0.5 * parameter.grad, atol=1e-6, rtol=1e-4
        )
    by_loop = training._loss(model(x), y, training.Training(label_smoothing=0.1), True, weights)
    assert by_loop.item() == pytest.approx((weights[y] * each).mean().item())


def test_there_are_no_classes_to_weigh_in_a_regression(tmp_path: Path) -> None:
    np.savez(tmp_path / "line.npz", x=np.random.default_rng(0).normal(size=(90, 3)), y=np.linspace(0, 1, 90))
    data = load(str(tmp_path / "line.npz"))
    with pytest.raises(Infeasible, match="the target is a number, so there are no classes"):
        next(mlp(data=data, class_weight="balanced"))
    *_, (metrics, state) = mlp(data=data.scoring({"val_mae"}), epochs=2)
    assert metrics["val_mae"] > 0
    tested = export({"epochs": 2, "calibrate": True}, state, data, tmp_path / "model")
    assert "test_mae" in tested and "temperature" not in tested


def test_a_calibrated_model_fits_the_validation_data_best(digits: Data, tmp_path: Path) -> None:
    from raysweep.trainables.predict import Predictor

    *_, (_, state) = mlp(data=digits, epochs=8, lr=0.01, units=256)
    device = torch.device("cpu")
    val = training.Tensors(digits.x_val, digits.y_val, digits, device)
    losses = {}
    for factor in (1.0, 0.9, 1.1):
        model = network(64, 10, [256], "relu", 0.0, False)
        model.load_state_dict(state["model"])
        last = model[-1]
        assert isinstance(last, nn.Linear)
        training.calibrate(model, [last], digits, device)
        with torch.no_grad():
            last.weight.mul_(factor)
            last.bias.mul_(factor)
        losses[factor] = training.evaluate(model, val, digits, "val")["val_loss"]
    assert min(losses, key=losses.__getitem__) == 1.0
    point = {"epochs": 8, "units": 256}
    plain = export(point, state, digits, tmp_path / "plain")
    tested = export(point | {"calibrate": True}, state, digits, tmp_path / "scaled")
    assert tested["test_accuracy"] == plain["test_accuracy"] and tested["test_loss"] != plain["test_loss"]
    chances = Predictor(tmp_path / "scaled").predict(digits.x_test).to_numpy()[:, 1:].astype(float)
    right = chances[np.arange(len(chances)), digits.y_test]
    assert -np.log(right).mean() == pytest.approx(tested["test_loss"], rel=1e-4), (
        "what is exported is calibrated"
    )


def test_of_what_is_all_right_no_probability_becomes_certain(tmp_path: Path) -> None:
    """Data that can be separated would have the outputs grow without end."""
    x = np.concatenate([RNG.normal(-3, 1, (200, 2)), RNG.normal(3, 1, (200, 2))])
    np.savez(tmp_path / "x.npz", x=x, y=np.repeat([0, 1], 200))
    data = load(str(tmp_path / "x.npz"))
    *_, (metrics, state) = mlp(data=data, epochs=5, lr=1e-2, units=8)
    assert metrics["val_accuracy"] == 1.0
    tested = export({"epochs": 5, "units": 8, "calibrate": True}, state, data, tmp_path / "model")
    plain = export({"epochs": 5, "units": 8}, state, data, tmp_path / "plain")
    assert tested["temperature"] == pytest.approx(1.0)
    assert tested["test_loss"] == pytest.approx(plain["test_loss"])


def test_a_study_may_name_any_of_them() -> None:
    """And a model that is trained on all data has none to be calibrated by."""
    Study(name="s", trainable="mlp", maximize="val_auc", trials=2, space={"lr": {"float": [0.1, 1.0]}})
    with pytest.raises(StudyError, match="leaves no validation data to calibrate by"):
        Study(name="s", trainable="mlp", maximize="val_auc", refit=True, space={"calibrate": True})
