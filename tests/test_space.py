"""The space has one meaning: laws over the kinds of parameter."""

from __future__ import annotations

import math
import random
import re
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep import Choice, Float, Int, Space, StudyError
from raysweep.study.params import Param, param
from raysweep.study.space import decode, encode, flat

PARAMS = {
    "float": Float(-1.0, 2.0),
    "float log": Float(1e-4, 1e-1, log=True, grid=4),
    "float step": Float(0.0, 0.9, step=0.1),
    "int": Int(-2, 5),
    "int log": Int(1, 100, log=True),
    "int step": Int(32, 512, step=32),
    "int grid": Int(1, 1000, log=True, grid=4),
    "choice": Choice(["adam", "sgd", None, True, 1.5, [64, 32]]),
    "one": Choice([7]),
    "prior": Float(1e-4, 1e-1, log=True, prior=1e-3),
    "prior at an end": Int(8, 512, log=True, prior=512),
    "prior on steps": Float(0.0, 0.9, step=0.1, prior=0.3),
    "prior choice": Choice(["adam", "sgd", True], prior=True),
}
EVERY = pytest.mark.parametrize("p", PARAMS.values(), ids=PARAMS)

SPACE = Space(
    {
        "layers": Int(0, 3),
        "units": Int(32, 96, step=32, each="layers"),
        "optimizer": ["adam", "sgd", "rmsprop"],
        "momentum": Float(0.0, 0.9, step=0.3, when={"optimizer": ["sgd", "rmsprop"]}),
        "nesterov": Choice([True, False], when={"optimizer": "sgd"}),
        "lr": Float(1e-4, 1e-2, log=True, grid=3),
        "epochs": 5,
    }
)


@EVERY
def test_every_quantile_is_a_legal_value(p: Param) -> None:
    assert all(p.legal(p.at(i / 1000)) for i in range(1000))
    assert p.legal(p.at(math.nextafter(1.0, 0.0)))


@EVERY
def test_half_of_what_is_believed_is_near_the_prior_and_nothing_is_ruled_out(p: Param) -> None:
    drawn = [p.believed((i + 0.5) / 1000) for i in range(1000)]
    assert all(p.legal(v) for v in drawn) and p.legal(p.believed(math.nextafter(1.0, 0.0)))
    if p.prior is None:
        assert drawn == [p.at((i + 0.5) / 1000) for i in range(1000)]
    elif isinstance(p, Choice):
        assert set(map(repr, drawn)) == set(map(repr, p.options)) and drawn.count(p.prior) >= 500
    elif isinstance(p, Float | Int):
        near = [abs(p.share(v) - p.share(p.prior)) for v in drawn]
        assert statistics.median(near) < 0.12 and max(near) > 0.3


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"float": [0.0, 1.0], "prior": 2.0}, "prior: must be one of its values, got 2.0"),
        ({"int": [1, 4], "prior": 1.5}, "prior: must be one of its values, got 1.5"),
        ({"choice": ["a", "b"], "prior": "c"}, 'prior: must be one of its values, got "c"'),
    ],
)
def test_a_prior_is_one_of_the_values(form: dict[str, Any], told: str) -> None:
    with pytest.raises(StudyError, match=re.escape(told)):
        param(form)


@EVERY
def test_the_grid_is_made_of_legal_values_each_once(p: Param) -> None:
    if p.size() is None:
        return
    values = p.values()
    assert len(values) == p.size()
    assert all(p.legal(v) for v in values)
    assert len({repr(v) for v in values}) == len(values)


@EVERY
def test_a_parameter_is_read_back_from_what_it_writes(p: Param) -> None:
    assert param(p.form()) == p


@pytest.mark.parametrize("p", [p for p in PARAMS.values() if not isinstance(p, Choice)])
def test_both_ends_of_a_range_are_reached_exactly(p: Any) -> None:
    assert p.at(0.0) == p.low
    assert p.at(1.0) == pytest.approx(p.high, rel=1e-15)
    if p.size() is not None:
        assert (p.values()[0], p.values()[-1]) == (p.low, p.high)


def test_integers_on_a_log_scale_give_their_ends_a_full_share() -> None:
    p = Int(1, 4, log=True)
    drawn = [p.at((i + 0.5) / 100_000) for i in range(100_000)]
    for value in range(1, 5):
        share = math.log((value + 0.5) / (value - 0.5)) / math.log(4.5 / 0.5)
        assert drawn.count(value) / len(drawn) == pytest.approx(share, abs=1e-4)


def test_a_value_of_another_type_is_not_legal() -> None:
    assert not Int(0, 3).legal(True)
    assert not Int(0, 3).legal(1.0)
    assert not Float(0.0, 3.0).legal(1)
    assert not Choice([1, 2]).legal(True)
    assert not Choice([[1, 2]]).legal([1, 2.0])


@given(st.integers())
def test_every_sample_is_a_legal_point_and_survives_as_text(seed: int) -> None:
    point = SPACE.sample(random.Random(seed))
    assert SPACE.check(point) == []
    assert decode(encode(point)) == point


@given(st.dictionaries(st.text(min_size=1), st.floats(allow_nan=False, allow_infinity=False) | st.integers()))
def test_a_point_survives_as_text_bit_for_bit(point: dict[str, Any]) -> None:
    again = decode(encode(point))
    assert again == point
    assert [type(v) for v in again.values()] == [type(v) for v in point.values()]


def test_the_grid_has_every_point_once_and_its_size_is_exact() -> None:
    points = list(SPACE.grid())
    assert len({encode(p) for p in points}) == len(points) == SPACE.size()
    assert all(SPACE.check(p) == [] for p in points)
    # 1 + 3 + 9 + 27 stacks of widths; adam 1, sgd 4 x 2, rmsprop 4; three learning rates
    assert len(points) == 40 * 13 * 3


def test_the_size_of_a_space_too_large_to_walk_is_exact() -> None:
    many = Space(
        {f"p{i}": Int(1, 100) for i in range(9)} | {"on": [True, False], "q": Int(1, 9, when={"on": True})}
    )
    assert many.size() == 100**9 * 10


def test_conditions_hold_through_inactive_parents() -> None:
    space = Space(
        {"a": ["x", "y"], "b": Choice([1, 2], when={"a": "x"}), "c": Choice([3, 4], when={"b": 1}), "d": [5]}
    )
    assert [p for p in space.grid() if p["a"] == "y"] == [{"a": "y", "d": 5}]
    assert [p.where for p in space.check({"a": "y", "c": 3, "d": 5})] == ["c"]


def test_the_best_point_is_a_space_without_freedom() -> None:
    point = SPACE.sample(random.Random(1))
    fixed = SPACE.fixed(point)
    assert fixed.free == []
    assert list(fixed.grid()) == [point]
    assert Space(fixed.forms()) == fixed


def test_lists_are_recorded_flat() -> None:
    assert flat({"units": [64, 32], "lr": 0.1}) == {"units_0": 64, "units_1": 32, "lr": 0.1}


@pytest.mark.parametrize(
    ("point", "problem"),
    [
        ({"lr": 1e-3}, "layers: is missing"),
        ({"layers": 9}, 'layers: 9 is outside {"int": [0, 3]}'),
        ({"layers": 2, "units": [32]}, "units: must be a list of 2 (layers), got [32]"),
        ({"layers": 1, "units": [33]}, "units[0]: 33 is outside"),
        ({"optimizer": "adam", "momentum": 0.3}, "momentum: has no value here"),
        ({"lrr": 1e-3}, "lrr: is not in the space. Did you mean 'lr'?"),
    ],
)
def test_a_point_outside_the_space_is_told_so(point: dict[str, Any], problem: str) -> None:
    assert any(str(p).startswith(problem) for p in SPACE.check(point))


def test_a_parameter_made_in_python_tells_all_that_is_wrong() -> None:
    with pytest.raises(StudyError) as error:
        Float("a", math.inf, log=1)  # type: ignore[arg-type]
    assert [p.where for p in error.value.problems] == ["low", "high", "log"]
