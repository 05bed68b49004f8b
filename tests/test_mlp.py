"""The mlp trains, resumes exactly, and predicts what it was trained to."""

from __future__ import annotations

import copy
import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from conftest import saved
from raysweep.errors import Infeasible
from raysweep.trainables import training
from raysweep.trainables.arguments import Activation, Optimizer, Schedule, Training
from raysweep.trainables.data import Data, load
from raysweep.trainables.mlp import export, mlp, network, widths
from raysweep.trainables.optimizers import FlatOptimizer
from raysweep.trainables.predict import Predictor


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """y = 3 x0 - 2 x1 + 100, with noise of 0.1."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3))
    path = tmp_path_factory.mktemp("line") / "line.npz"
    np.savez(path, x=x, y=3 * x[:, 0] - 2 * x[:, 1] + 100 + rng.normal(0, 0.1, 600))
    return load(str(path))


OPTIONS = {
    "plain": {},
    "everything": {
        "units": [32, 16],
        "dropout": 0.3,
        "batch_norm": True,
        "optimizer": "sgd",
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 1e-3,
        "l1": 1e-4,
        "schedule": "cosine",
        "warmup": 1,
        "label_smoothing": 0.1,
        "batch_size": 37,
    },
    "rmsprop": {"optimizer": "rmsprop", "momentum": 0.5, "dropout": 0.5},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "step"},
    "patience": {"patience": 1, "lr": 0.3},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_interrupted_at_any_epoch_it_goes_on_exactly(options: dict[str, Any], digits: Data) -> None:
    given: dict[str, Any] = {"data": digits, "epochs": 5, "seed": 3, **options}
    whole, states = [], []
    for metrics, state in mlp(**given):
        whole.append(metrics)
        states.append(saved(state))
    for epoch, state in enumerate(states, 1):
        rest = [metrics for metrics, _ in mlp(**given, state=state)]
        assert whole[:epoch] + rest == whole


def test_executions_that_take_turns_do_not_disturb_each_other(digits: Data) -> None:
    given: dict[str, Any] = {"data": digits, "epochs": 3, "dropout": 0.4}
    alone = [[m for m, _ in mlp(**given, seed=seed)] for seed in (1, 2)]
    turns = zip(mlp(**given, seed=1), mlp(**given, seed=2), strict=True)
    together = list(zip(*[(a[0], b[0]) for a, b in turns], strict=True))
    assert [list(t) for t in together] == alone
    assert alone[0] != alone[1]


EVERY = list(itertools.product(get_args(Optimizer), get_args(Activation)))


@pytest.mark.parametrize(
    ("optimizer", "activation"),
    [
        pair if "adam" in pair or "relu" in pair else pytest.param(*pair, marks=pytest.mark.slow)
        for pair in EVERY
    ],
)
def test_every_activation_and_optimizer_learns(activation: Any, optimizer: Any, digits: Data) -> None:
    lr = {"sgd": 0.3}.get(optimizer, 0.01)
    *_, (metrics, _) = mlp(
        data=digits, epochs=8, activation=activation, optimizer=optimizer, lr=lr, batch_size=32
    )
    assert metrics["val_accuracy"] > 0.85


def test_depth_and_width_are_what_was_asked_for() -> None:
    assert widths(None, 64) == [64]
    assert widths(0, 64) == []
    assert widths(3, 64) == [64, 64, 64]
    assert widths(2, [64, 32]) == widths(None, [64, 32]) == [64, 32]
    with pytest.raises(ValueError, match="layers is 3 but units has 2 widths"):
        widths(3, [64, 32])


def test_without_hidden_layers_it_is_logistic_regression(digits: Data) -> None:
    *_, (metrics, state) = mlp(data=digits, layers=0, epochs=20, lr=0.01)
    assert metrics["val_accuracy"] > 0.9
    assert [tuple(v.shape) for v in state["model"].values()] == [(10, 64), (10,)]


def test_a_number_is_predicted_in_its_own_units(line: Data, tmp_path: Path) -> None:
    point = {"layers": 0, "epochs": 60, "lr": 0.03}
    *_, (metrics, state) = mlp(data=line, **point)  # type: ignore[arg-type]
    assert set(metrics) == {f"{s}_{m}" for s in ("train", "val") for m in ("loss", "rmse", "r2")}
    assert metrics["val_rmse"] < 0.2
    assert metrics["val_r2"] > 0.99
    assert export(point, state, line, tmp_path)["test_rmse"] < 0.2
    predictor = Predictor(tmp_path)
    told = predictor.predict(np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))["prediction"]
    assert told.tolist() == pytest.approx([101, 100], abs=0.3)


def test_every_sample_is_seen_whatever_the_batch(digits: Data) -> None:
    few = replace(digits, x_train=digits.x_train[:33], y_train=digits.y_train[:33])
    model = network(64, 10, [8], "relu", 0.0, False)
    train = training.Tensors(few.x_train, few.y_train, few, torch.device("cpu"))
    for batch in (1, 8, 32, 64):
        _, seen = training._one_epoch(
            model, train, FlatOptimizer("sgd", model), Training(batch_size=batch), 0.1, True
        )
        assert seen == 33
    with pytest.raises(Infeasible, match="batch_norm needs a batch_size of 2 or more"):
        list(mlp(data=few, batch_size=1, batch_norm=True, epochs=1))


def test_patience_ends_training_early(digits: Data) -> None:
    assert len(list(mlp(data=digits, epochs=50, patience=2, lr=0.05))) < 50


def test_the_exported_network_is_the_trained_one(digits: Data, tmp_path: Path) -> None:
    point = {"units": [48], "batch_norm": True, "dropout": 0.2, "epochs": 15, "lr": 0.01}
    *_, (metrics, state) = mlp(data=digits, **point)  # type: ignore[arg-type]
    tested = export(point, state, digits, tmp_path)
    told = Predictor(tmp_path).predict(digits.x_test)
    right = np.mean(told["prediction"].astype(int).to_numpy() == digits.y_test)
    assert tested["test_accuracy"] == pytest.approx(right)
    assert told.filter(like="p_").sum(axis=1).to_numpy() == pytest.approx(np.ones(len(told)), abs=1e-5)
    assert metrics["val_accuracy"] > 0.9


def test_nothing_of_the_test_split_is_seen_in_training(digits: Data) -> None:
    blind = replace(digits, x_test=np.zeros_like(digits.x_test), y_test=np.zeros_like(digits.y_test))
    assert [m for m, _ in mlp(data=digits, epochs=2)] == [m for m, _ in mlp(data=blind, epochs=2)]


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_a_schedule_starts_at_the_full_rate_and_never_rises_after_the_warm_up(schedule: str) -> None:
    rates = [training.lr_factor(schedule, epoch, 10, 2) for epoch in range(1, 11)]
    assert rates[0] < rates[1] < rates[2] == 1.0
    assert all(a >= b > 0 for a, b in itertools.pairwise(rates[2:]))


def test_shared_memory_that_cannot_be_written_is_read_all_the_same(digits: Data) -> None:
    locked = digits.x_train.copy()
    locked.flags.writeable = False
    assert len(list(mlp(data=replace(digits, x_train=locked), epochs=1))) == 1


@pytest.mark.parametrize(
    ("name", "options", "peer"),
    [
        ("sgd", {}, lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.01)),
        ("sgd", {"momentum": 0.9}, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01)),
        (
            "sgd",
            {"momentum": 0.9, "nesterov": True},
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        ),
        ("adam", {}, lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.01)),
        ("adamw", {}, lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.01)),
        ("rmsprop", {}, lambda p: torch.optim.RMSprop(p, lr=0.1, weight_decay=0.01)),
        (
            "rmsprop",
            {"momentum": 0.9},
            lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9, weight_decay=0.01),
        ),
    ],
)
def test_an_optimizer_is_what_pytorch_s_own_would_be(name: str, options: dict[str, Any], peer: Any) -> None:
    torch.manual_seed(0)
    # In double precision: the gradient of a bias before batch norm is rounding alone, and adam enlarges it. So does
    # rmsprop, which makes whole steps of what the decay leaves of the bias, to either side of zero.
    ours = network(4, 3, [5, 6], "tanh", 0.0, name != "rmsprop").double()
    theirs = copy.deepcopy(ours)
    own, optimizer = FlatOptimizer(name, ours, weight_decay=0.01, **options), peer(theirs.parameters())
    for _ in range(20):
        x, y = torch.randn(8, 4, dtype=torch.float64), torch.randint(3, (8,))
        for model in (ours, theirs):
            loss = torch.nn.functional.cross_entropy(model(x), y)
            own.zero() if model is ours else optimizer.zero_grad()
            loss.backward()
            own.step(0.1) if model is ours else optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-8)


def test_training_does_not_import_the_compiler() -> None:
    code = "import sys; from raysweep.trainables.mlp import mlp; list(mlp(epochs=1)); print('torch._dynamo' in sys.modules)"
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_dropout_and_momentum_may_begin_in_the_middle_of_a_training(digits: Data) -> None:
    """As a population changes them: a state says nothing of what was not used so far."""
    given: dict[str, Any] = {"data": digits, "optimizer": "sgd", "units": [16, 16], "epochs": 2}
    state = saved(next(mlp(**given))[1])
    changed = [m for m, _ in mlp(**given, dropout=0.2, momentum=0.9, state=state)]
    assert len(changed) == 1
