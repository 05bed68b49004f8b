"""The Gaussian process: the cube that it sees points in, its model, and when it is asked."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep import Choice, Float, Int, Space
from raysweep.search.samplers.auto import Auto
from raysweep.search.samplers.basic import QuasiRandom
from raysweep.search.samplers.cube import Cube
from raysweep.search.samplers.gaussian import GaussianProcess, Model, expected_improvement, fit, quantiles
from raysweep.search.samplers.hyperopt import HyperOpt
from raysweep.study.objective import Objective
from raysweep.trial import Report, Trial

LOSS = Objective("loss", maximize=False)
SPACE = Space(
    {
        "layers": Int(1, 3),
        "units": Int(8, 512, log=True, each="layers"),
        "optimizer": ["adam", "sgd", "rmsprop"],
        "momentum": Float(0.0, 0.9, step=0.3, when={"optimizer": ["sgd", "rmsprop"]}),
        "nesterov": Choice([True, False], when={"optimizer": "sgd"}),
        "lr": Float(1e-4, 1e-1, log=True),
        "batch_size": 64,
    }
)
CUBE = Cube(SPACE)


@given(st.integers(0, 10**6))
def test_a_point_is_where_its_shares_are(seed: int) -> None:
    point = SPACE.sample(random.Random(seed))
    again = CUBE.point(CUBE.shares(point))
    assert again == {**point, "lr": pytest.approx(point["lr"], rel=1e-9)}


@given(st.integers(0, 10**6))
def test_features_are_those_of_the_point_whatever_the_shares_of_what_it_has_not(seed: int) -> None:
    shares = np.random.default_rng(seed).random((1, CUBE.size))
    point = CUBE.point(shares[0])
    exact = CUBE.features(CUBE.shares(point)[None])
    assert CUBE.features(shares) == pytest.approx(exact, abs=0.02), "of widths, a share is finer than a value"
    assert CUBE.features(shares).shape == (1, len(CUBE.groups))


def test_a_space_without_freedom_has_no_features() -> None:
    cube = Cube(Space({"x": 1}))
    assert cube.size == 0 and cube.features(np.zeros((3, 0))).shape == (3, 0)


def observations(n: int) -> tuple[Any, Any, Any]:
    """Outputs that depend on the first feature and, less, on how far the training was."""
    rng = np.random.default_rng(0)
    x, r = rng.random((n, 3)), rng.integers(1, 4, n) / 3
    return x, r, quantiles((x[:, 0] - 0.3) ** 2 + 0.05 * (1 - r))


def test_lengths_are_short_where_outputs_depend_on_a_coordinate() -> None:
    groups = np.arange(3)
    theta = fit(*observations(60), groups)
    assert theta[0] < min(theta[1], theta[2]) - 0.5
    assert np.exp(theta[-1]) < 0.1, "there is no noise"


def test_a_prediction_is_sure_where_it_has_observed_and_nowhere_else() -> None:
    x, r, z = observations(60)
    model = Model(np.arange(3), fit(x, r, z, np.arange(3)))
    model.tell(x, r, z)
    last = r == 1.0
    mean, deviation = model.predict(x[last], 1.0)
    assert np.corrcoef(mean, z[last])[0, 1] > 0.97
    assert deviation.mean() < 0.5 * model.predict(np.full((1, 3), 5.0), 1.0)[1][0]


def test_quantiles_rank_and_ties_are_alike() -> None:
    found = quantiles(np.array([3.0, 1e9, 3.0, -2.0]))
    assert found[0] == found[2] and found[3] < found[0] < found[1]
    assert quantiles(np.array([1.0, 1.0])).tolist() == [0.0, 0.0]


def test_the_improvement_expected_is_that_of_draws() -> None:
    draws = np.random.default_rng(0).normal(0.4, 0.5, 200_000)
    found = expected_improvement(np.array([0.4]), np.array([0.5]), 0.3)[0]
    assert found == pytest.approx(np.maximum(0.3 - draws, 0).mean(), rel=0.02)


def told(sampler: Any, seconds: float, pending: int = 0) -> Any:
    for number in range(12 + pending):
        point = QuasiRandom(SPACE, LOSS, 1).ask(number)
        trial = Trial(number, point)
        sampler.tell(trial)
        if number < 12:
            reports = (Report(1, {"loss": point["lr"]}, 0.0),)
            sampler.tell(Trial(number, point, "completed", reports, seconds=seconds))
    return sampler


@pytest.mark.parametrize(
    ("seconds", "pending", "process"),
    [(0.01, 0, False), (100.0, 0, True), (0.0, 0, True), (0.1, 0, True), (0.1, 8, False)],
)
def test_the_process_is_asked_where_trials_are_worth_its_time(
    seconds: float, pending: int, process: bool
) -> None:
    def made(kind: Any) -> Any:
        return told(kind(SPACE, LOSS, 1, startup=40 if kind is Auto else 0), seconds, pending)

    asked, turns = made(Auto), [HyperOpt, GaussianProcess if process else HyperOpt]
    for number in (40, 41):
        assert asked.ask(number) == made(turns[number % 2]).ask(number)


def test_while_more_is_pending_than_known_points_are_spread_evenly() -> None:
    sampler, sobol = told(Auto(SPACE, LOSS, 1, startup=5), 0.0, pending=13), QuasiRandom(SPACE, LOSS, 1)
    assert sampler.ask(25) == sobol.ask(25), "12 results, 13 pending"
    sampler.tell(Trial(12, sobol.ask(12), "failed"))
    assert sampler.ask(26) != sobol.ask(26)
