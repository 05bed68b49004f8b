"""How a study is run: what a trial holds, how points are chosen, when to stop. Values, no more."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from raysweep.errors import did_you_mean
from raysweep.study.params import show

KIND = 0.001  # amount of Ray's marker resource for a kind of GPU, which counts nothing


class Resources(BaseModel):
    """What one trial holds while it runs. Fractions of a GPU share it; other keys go under `custom`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    cpu: float = Field(1, gt=0, allow_inf_nan=False, description="CPU cores")
    gpu: float = Field(
        0,
        ge=0,
        allow_inf_nan=False,
        description="GPUs: a fraction shares one GPU with other trials; 2 or more train one network together",
    )
    accelerator: str | None = Field(
        None, min_length=1, description="the kind of GPU, by Ray's name, such as `H100`"
    )
    custom: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        {}, description="other resources of Ray, by name"
    )

    @pydantic.field_validator("gpu")
    @classmethod
    def _whole(cls, gpu: float) -> float:
        if gpu > 1 and gpu != int(gpu):
            raise ValueError(f"{gpu} is not possible. Use 1 or less, or a whole number")
        return gpu

    @pydantic.model_validator(mode="after")
    def _of_a_kind(self) -> Resources:
        if self.accelerator and not self.gpu:
            raise ValueError(f"accelerator: {self.accelerator} is a kind of GPU, and gpu is 0. Say how many")
        return self

    @property
    def threads(self) -> int:
        """The number of threads that a trial may use."""
        return max(1, int(self.cpu))

    @property
    def _kind(self) -> dict[str, float]:
        return {f"accelerator_type:{self.accelerator}": KIND} if self.accelerator else {}

    @property
    def ranks(self) -> int:
        """Processes of a trial that trains on several GPUs, one each."""
        return int(self.gpu) if self.gpu >= 2 else 1

    def bundles(self) -> list[dict[str, float]]:
        """Each rank's resources: a GPU and a share of the CPUs. The first also gets what cannot be
        divided."""
        share = self.cpu // self.ranks
        first = {"CPU": self.cpu - share * (self.ranks - 1), "GPU": 1.0, **self._kind, **self.custom}
        return [first] + [{k: v for k, v in {"CPU": share, "GPU": 1.0, **self._kind}.items() if v}] * (
            self.ranks - 1
        )

    def request(self) -> dict[str, float]:
        """The resources to request, under Ray Tune's names."""
        return {k: v for k, v in {"cpu": self.cpu, "gpu": self.gpu, **self._kind, **self.custom}.items() if v}


def amounts(resources: Mapping[str, float]) -> str:
    """Resources as readable text: `1 cpu, 0.25 gpu, H100`."""
    told = {k.removeprefix("accelerator_type:"): v for k, v in resources.items()}
    return ", ".join(k if v == KIND else f"{v:g} {k}" for k, v in told.items())


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(value: Any) -> Any:
    """`90 s`, `30 min`, `1.5 h` or `2 d` as seconds; a number is seconds."""
    found = re.fullmatch(r"([0-9.]+)\s*(s|min|h|d)", value.strip()) if isinstance(value, str) else None
    if found is None or found[1].count(".") > 1:
        return value
    return float(found[1]) * _UNITS[found[2]]


Seconds = Annotated[
    float,
    BeforeValidator(_seconds, json_schema_input_type=float | str),
    Field(gt=0, allow_inf_nan=False),
]


class Stop(BaseModel):
    """When the whole study stops. Running trials are stopped at the end of their epoch, and count."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    time: Seconds | None = Field(None, description="wall-clock time of all sessions together, such as `2 h`")
    gpu_hours: Annotated[float, Field(gt=0)] | None = Field(
        None, description="GPU hours that all trials may take: their hours, multiplied by `per_trial.gpu`"
    )
    value: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None, description="a value of the metric that is good enough"
    )
    no_improvement: Annotated[int, Field(ge=1)] | None = Field(
        None, description="trials in a row without a new best one"
    )
    terminator: bool = Field(
        False,
        description="stop when Optuna's terminator finds that more trials would gain no more than noise",
    )

    @property
    def bounded(self) -> bool:
        """Whether the rules end every study, whatever its trials' results."""
        return self.time is not None or self.gpu_hours is not None


class Finalists(BaseModel):
    """The best points are trained again when the search is over, and the best mean decides."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    top: Annotated[int, Field(ge=1, description="how many of the best points")] = 5
    repeats: Annotated[int, Field(ge=2, description="how often each is trained, with seeds of its own")] = 5


class _Algorithm(BaseModel):
    """How points are chosen. Options of an algorithm stand beside its name."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str

    @property
    def remembers(self) -> bool:
        """Whether its proposals depend on its earlier proposals and not only on results."""
        return False


class Plain(_Algorithm):
    """random: independent draws. grid: every point once."""

    name: Literal["grid", "random"] = "random"


Startup = Annotated[int, Field(ge=0)]
MOST_STARTUP = {"hyperopt": 20, "optuna": 10, "auto": 20}
"""The most points before a model is asked, where a study does not say how many."""
STARTUP = "how many points of a Sobol sequence come first; by default a third of the trials, at most {}"


class AutoAlgorithm(_Algorithm):
    """HyperOpt's TPE and a Gaussian process in turn, once more results are known than are pending. TPE alone where the
    process would take more than a twentieth of the time between two asks; Optuna's TPE for several objectives."""

    name: Literal["auto"] = "auto"
    startup: Startup | None = Field(None, description=STARTUP.format(20))


class HyperOptAlgorithm(_Algorithm):
    """HyperOpt's TPE (tree-structured Parzen estimators, Bergstra et al. 2011), annealing or random draws."""

    name: Literal["hyperopt"] = "hyperopt"
    kind: Literal["tpe", "anneal", "random"] = Field("tpe", description="the algorithm of HyperOpt")
    startup: Startup | None = Field(None, description=STARTUP.format(20))
    candidates: Annotated[int, Field(ge=1, description="draws from which TPE picks the most promising")] = 24
    gamma: Annotated[float, Field(gt=0, lt=1, description="the share of trials that TPE counts as good")] = (
        0.25
    )


class OptunaAlgorithm(_Algorithm):
    """Optuna's samplers: multivariate TPE, a Gaussian process, CMA-ES, NSGA-II; or a Sobol sequence (qmc)."""

    name: Literal["optuna"] = "optuna"
    sampler: Literal["tpe", "gp", "cmaes", "nsga2", "qmc"] = Field(
        "tpe", description="the sampler of Optuna; `qmc` is a Sobol sequence"
    )
    startup: Startup | None = Field(None, description=STARTUP.format(10))

    @property
    def remembers(self) -> bool:
        """Whether its proposals depend on its earlier proposals and not only on results."""
        return self.sampler in {"cmaes", "nsga2"}


ALGORITHMS: dict[str, type[_Algorithm]] = {
    "grid": Plain,
    "random": Plain,
    "auto": AutoAlgorithm,
    "hyperopt": HyperOptAlgorithm,
    "optuna": OptunaAlgorithm,
}


class _Scheduler(BaseModel):
    """When a trial is stopped before its last epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str

    def __str__(self) -> str:
        options = {k: v for k, v in self.model_dump(exclude={"name"}).items() if v is not None}
        kind = f" by {options.pop('kind')}" if "kind" in options else ""
        return f"{self.name}{kind} ({', '.join(f'{k} {v}' for k, v in options.items())})"


class NoScheduler(_Scheduler):
    """Every trial runs all its epochs."""

    name: Literal["none"] = "none"


class AshaScheduler(_Scheduler):
    """Asynchronous successive halving: at epoch grace, grace x reduction ... only the best 1/reduction go on.

    stopping is Ray Tune's rule: the others end. promotion is the paper's: they wait, and may be promoted when
    others turn out worse.
    """

    name: Literal["asha"] = "asha"
    kind: Literal["stopping", "promotion"] = Field(
        "stopping", description="whether the other trials end, or pause until they are promoted"
    )
    grace: Annotated[int, Field(ge=1, description="epochs before the first decision")] = 2
    reduction: Annotated[
        int, Field(ge=2, description="one in this many trials continues at each decision")
    ] = 3


class HyperbandScheduler(_Scheduler):
    """Hyperband, asynchronous: brackets of successive halving by promotion, each with a later first decision."""

    name: Literal["hyperband"] = "hyperband"
    grace: Annotated[
        int, Field(ge=1, description="epochs before the first decision of the first bracket")
    ] = 2
    reduction: Annotated[
        int, Field(ge=2, description="one in this many trials continues at each decision")
    ] = 3
    brackets: Annotated[int, Field(ge=1)] | None = Field(None, description="how many brackets, at most")


class MedianScheduler(_Scheduler):
    """A trial ends when its best is worse than the median of the others' running means (Golovin et al. 2017)."""

    name: Literal["median"] = "median"
    grace: Annotated[int, Field(ge=1, description="epochs before the first decision")] = 2
    samples: Annotated[
        int, Field(ge=1, description="how many trials must have reached an epoch before its median is used")
    ] = 3


class PopulationScheduler(_Scheduler):
    """pbt: every `interval` epochs, the worst members of a population of `trials` continue from the
    checkpoint of one of the best, with other hyperparameters (Jaderberg et al. 2017). pb2 chooses these with
    a bandit (Parker-Holder et al. 2020).
    """

    name: Literal["pbt", "pb2"] = "pbt"
    interval: Annotated[int, Field(ge=1, description="epochs between two decisions")] = 2
    quantile: Annotated[
        float,
        Field(gt=0, le=0.5, description="the share of the population that is replaced at each decision"),
    ] = 0.25
    resample: Annotated[
        float,
        Field(ge=0, le=1, description="the probability that a value is drawn anew instead of perturbed"),
    ] = 0.25
    vary: list[str] | None = Field(
        None,
        description="the hyperparameters that may change during training; by default those that the trainable lists",
    )


SCHEDULERS: dict[str, type[_Scheduler]] = {
    "none": NoScheduler,
    "asha": AshaScheduler,
    "hyperband": HyperbandScheduler,
    "median": MedianScheduler,
    "pbt": PopulationScheduler,
    "pb2": PopulationScheduler,
}


PEERS = {
    "tpe": "hyperopt, or {name: optuna, sampler: tpe}",
    **dict.fromkeys(("bayesian", "bayes", "bayesopt"), "auto, hyperopt or optuna"),
    **dict.fromkeys(("gp", "gaussian_process"), "auto, or {name: optuna, sampler: gp}"),
    **dict.fromkeys(
        ("cmaes", "cma-es", "nsga2", "qmc", "sobol"), "{name: optuna, sampler: ...}: cmaes, nsga2, qmc"
    ),
    **dict.fromkeys(
        ("bohb", "successive_halving", "sha"), "asha or hyperband as the scheduler, and an algorithm"
    ),
    **dict.fromkeys(("fifo", "FIFO"), "none"),
}
"""What other tools call algorithms and schedulers, and what to write instead."""


def _named(table: Mapping[str, type[BaseModel]]) -> BeforeValidator:
    """`random` is short for `{name: random}`; the name says which options there are."""

    def read(value: Any) -> Any:
        raw = {"name": value} if isinstance(value, str) else value
        if not isinstance(raw, Mapping) or not isinstance(raw.get("name"), str):
            return raw
        name = raw["name"]
        if name not in table:
            hint = f" Write {PEERS[name]}" if name in PEERS else did_you_mean(name, table)
            raise PydanticCustomError("unknown", f"'{name}' is unknown.{hint}")
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


Scheduler = Annotated[
    NoScheduler | AshaScheduler | HyperbandScheduler | MedianScheduler | PopulationScheduler,
    _named(SCHEDULERS),
]
Algorithm = Annotated[Plain | AutoAlgorithm | HyperOptAlgorithm | OptunaAlgorithm, _named(ALGORITHMS)]


def sentence(error: Any) -> str:
    """What a pydantic error says, in our words."""
    return str(error["msg"]).replace("Input should be", "must be")
