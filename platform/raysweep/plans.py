"""How a study is run: what a trial holds, how points are chosen, when a trial is stopped. Values, no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from raysweep.errors import did_you_mean
from raysweep.params import show


class Resources(BaseModel):
    """What one trial holds while it runs. Fractions of a GPU share it; other keys go under `custom`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    cpu: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1
    gpu: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    custom: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}

    @pydantic.field_validator("gpu")
    @classmethod
    def _whole(cls, gpu: float) -> float:
        if gpu > 1 and gpu != int(gpu):
            raise ValueError(f"{gpu} is not possible. Use 1 or less, or a whole number")
        return gpu

    def request(self) -> dict[str, float]:
        """What is asked for, by the names Ray Tune gives it."""
        return {k: v for k, v in {"cpu": self.cpu, "gpu": self.gpu, **self.custom}.items() if v}


def amounts(resources: Mapping[str, float]) -> str:
    """Resources as a person says them: `1 cpu, 0.25 gpu`."""
    return ", ".join(f"{v:g} {k}" for k, v in resources.items())


class _Algorithm(BaseModel):
    """How points are chosen. Options of an algorithm stand beside its name."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str


class Plain(_Algorithm):
    """random: independent draws. grid: every point once."""

    name: Literal["grid", "random"] = "random"


class HyperOptAlgorithm(_Algorithm):
    """HyperOpt's TPE (tree-structured Parzen estimators, Bergstra et al. 2011), annealing or random draws."""

    name: Literal["hyperopt"] = "hyperopt"
    kind: Literal["tpe", "anneal", "random"] = "tpe"
    startup: Annotated[int, Field(ge=0, description="random points before the model is asked")] = 20
    candidates: Annotated[int, Field(ge=1, description="draws among which tpe picks the most promising")] = 24
    gamma: Annotated[float, Field(gt=0, lt=1, description="the share of trials that tpe counts as good")] = (
        0.25
    )


class OptunaAlgorithm(_Algorithm):
    """Optuna's multivariate TPE, or a Gaussian process."""

    name: Literal["optuna"] = "optuna"
    sampler: Literal["tpe", "gp"] = "tpe"
    startup: Annotated[int, Field(ge=0, description="random points before the model is asked")] = 10


ALGORITHMS: dict[str, type[_Algorithm]] = {
    "grid": Plain,
    "random": Plain,
    "hyperopt": HyperOptAlgorithm,
    "optuna": OptunaAlgorithm,
}


class _Scheduler(BaseModel):
    """When a trial is stopped before its last epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str


class NoScheduler(_Scheduler):
    """Every trial runs all its epochs."""

    name: Literal["none"] = "none"


class AshaScheduler(_Scheduler):
    """Asynchronous successive halving: at epoch grace, grace x reduction ... only the best 1/reduction go on.

    stopping is Ray Tune's rule: the others end. promotion is the paper's: they wait, and may be promoted when
    others turn out worse.
    """

    name: Literal["asha"] = "asha"
    kind: Literal["stopping", "promotion"] = "stopping"
    grace: Annotated[
        int, Field(ge=1, description="epochs before the first decision; the first epoch ranks badly")
    ] = 2
    reduction: Annotated[int, Field(ge=2, description="of so many trials one goes on")] = 3


class MedianScheduler(_Scheduler):
    """A trial ends when its best is worse than the median of the others' running means (Golovin et al. 2017)."""

    name: Literal["median"] = "median"
    grace: Annotated[int, Field(ge=1, description="epochs before the first decision")] = 2
    samples: Annotated[int, Field(ge=1, description="trials that a median is taken of at least")] = 3


SCHEDULERS: dict[str, type[_Scheduler]] = {
    "none": NoScheduler,
    "asha": AshaScheduler,
    "median": MedianScheduler,
}


def _named(table: Mapping[str, type[BaseModel]]) -> BeforeValidator:
    """`random` is short for `{name: random}`; the name says which options there are."""

    def read(value: Any) -> Any:
        raw = {"name": value} if isinstance(value, str) else value
        if not isinstance(raw, Mapping) or not isinstance(raw.get("name"), str):
            return raw
        name = raw["name"]
        if name not in table:
            raise PydanticCustomError("unknown", f"'{name}' is unknown.{did_you_mean(name, table)}")
        try:
            return table[name](**raw)
        except ValidationError as error:
            what = "; ".join(_option_problem(table[name], e) for e in error.errors())
            raise PydanticCustomError("unknown", what) from None

    return BeforeValidator(read)


def _option_problem(model: type[BaseModel], error: Any) -> str:
    option = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"unknown key '{option}'.{did_you_mean(option, model.model_fields)}"
    return f"{option} {sentence(error)}, got {show(error['input'])}"


Scheduler = Annotated[NoScheduler | AshaScheduler | MedianScheduler, _named(SCHEDULERS)]
Algorithm = Annotated[Plain | HyperOptAlgorithm | OptunaAlgorithm, _named(ALGORITHMS)]


def sentence(error: Any) -> str:
    """What a pydantic error says, in our words."""
    return str(error["msg"]).replace("Input should be", "must be")
