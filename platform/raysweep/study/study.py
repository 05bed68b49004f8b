"""Study: one file as one checked value. Output is valid input: `best` prints a study that loads."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)

from raysweep.errors import Problem, StudyError, did_you_mean
from raysweep.study import checks
from raysweep.study.objective import Objective
from raysweep.study.options import (
    MOST_STARTUP,
    Algorithm,
    AshaScheduler,
    Finalists,
    NoScheduler,
    Plain,
    PopulationScheduler,
    Resources,
    Scheduler,
    Seconds,
    Stop,
    sentence,
)
from raysweep.study.params import Choice, show
from raysweep.study.space import Point, Space
from raysweep.study.yaml import on_one_line, read_yaml, write_yaml
from raysweep.trainables.trainable import Trainable, find

Metric = Annotated[str, Field(min_length=1)]
AUTO = "auto"
"""As a backbone: those that the trainable proposes, raced."""
UNBOUNDED = 10**9
"""The limit on trials of a study that only its stop rules end."""
DEFAULTED = ("algorithm", "scheduler")
"""The keys whose default depends on the study."""
SEARCH = frozenset(
    {"algorithm", "scheduler", "trials", "points", "warm_start", "stop", "finalists", "race", "baseline"}
)
"""The keys that say how to search. They mean nothing for a single point."""

_STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Study(BaseModel):
    """What to train, what may vary, what is best, and how to look for it.

    `Study.load(path)` reads a file; `Study(trainable="mlp", maximize="val_accuracy", trials=20,
    space={"lr": Float(1e-4, 1e-1, log=True)})` says the same in Python. Either raises StudyError with
    every problem found, before anything is started.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)

    name: str = Field(
        "study", description="the name of the study's folder and model; by default the file's name"
    )
    trainable: Annotated[str | Callable[..., Any], WithJsonSchema({"type": "string"})] = Field(
        description="`mlp`, `transfer`, or your own as `package.module:function`"
    )
    maximize: Metric | list[Metric] | None = Field(
        None, description="the metric to maximize; a list of metrics makes a Pareto front"
    )
    minimize: Metric | list[Metric] | None = Field(
        None, description="the metric to minimize; a list of metrics makes a Pareto front"
    )
    require: dict[str, str] = Field(
        {}, description="conditions on other metrics for an epoch to count, such as `params: '< 1e6'`"
    )
    algorithm: Algorithm = Field(
        Plain(),
        description="how points are chosen; by default `auto`",
    )
    scheduler: Scheduler = Field(
        NoScheduler(),
        description="which trials are stopped early; by default `asha` if trials have at least 6 epochs, with"
        " promotion if they can pause",
    )
    trials: Annotated[int, Field(ge=1)] | None = Field(None, description="how many points to try")
    stop: Stop = Field(Stop(), description="rules that end the study early")
    trial_timeout: Seconds | None = Field(
        None, description="how long a trial may compute before it is ended, such as `30 min`"
    )
    points: list[dict[str, Any]] = Field(
        [], description="points to try first, in order; fixed values may be left out"
    )
    no_progress_timeout: Seconds | None = Field(
        None, description="how long a trial may go without a report before it is ended"
    )
    checkpoint_every: Seconds = Field(
        10.0, description="the time between two checkpoints of a running trial, such as `1 min`"
    )
    retries: Annotated[int, Field(ge=0)] = Field(
        2, description="how often a trial is retried after an error or the loss of its process"
    )
    warm_start: list[Annotated[str, Field(min_length=1)]] = Field(
        [], description="earlier studies to learn from: names, folders of studies, or `mlflow:NAME`"
    )
    keep: Annotated[int, Field(ge=1)] = Field(
        5, description="how many of the best trials keep their checkpoints when the study is over"
    )
    repeats: Annotated[int, Field(ge=1)] = Field(
        1, description="how often each point is trained, with different seeds; points are ranked by the mean"
    )
    folds: Annotated[int, Field(ge=2)] | None = Field(
        None, description="train each point once for each of so many folds; points are ranked by the mean"
    )
    resplit: bool = Field(
        False, description="whether each execution draws its own validation split from what is not test data"
    )
    baseline: bool = Field(
        True,
        description="whether to begin with the linear head solved exactly on each set of frozen features",
    )
    race: bool = Field(
        False,
        description="whether to choose the two best backbones on samples of the data, before the search",
    )
    finalists: Finalists | None = Field(
        None, description="train the best points again when the search is over: `{top: 5, repeats: 5}`"
    )
    refit: bool = Field(
        False,
        description="whether the best point is trained again for the model, on training and validation data",
    )
    ensemble: bool = Field(
        False, description="whether the `keep` best trials also become one model, `@ensemble`"
    )
    per_trial: Resources = Field(Resources(), description="the resources that a trial holds")
    concurrency: Annotated[int, Field(ge=1)] | None = Field(
        None, description="how many trials run at once; by default as many as fit"
    )
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = Field(
        0, description="the seed of the search and of its trials"
    )
    experiment: str | None = Field(
        None,
        min_length=1,
        description="the MLflow experiment; by default it is named after the trainable and the data",
    )
    space: Annotated[Space, WithJsonSchema({"type": "object", "minProperties": 1})] = Field(
        description="the trainable's arguments: fixed values, and what varies"
    )

    @pydantic.field_validator("maximize", "minimize", mode="before")
    @classmethod
    def _metrics(cls, given: Any) -> Any:
        names = [given] if isinstance(given, str) else given
        if given is None or (
            isinstance(names, list) and names and all(isinstance(n, str) and n for n in names)
        ):
            return given
        raise ValueError(f"must be the name of a metric, or a list of names, got {show(given)}")

    @pydantic.field_validator("name")
    @classmethod
    def _folder_name(cls, name: str) -> str:
        if not _STUDY_NAME.fullmatch(name) or name.endswith("."):
            raise ValueError(f"{show(name)} is not allowed. Use letters, digits, _ . and -, at most 64")
        return name

    _found: Trainable | None = pydantic.PrivateAttr(None)
    _implicit: frozenset[str] = pydantic.PrivateAttr(frozenset())

    def __init__(self, *, _beside: Path | None = None, _recorded: bool = False, **raw: Any):
        space, problems = Space.read(raw.get("space"))
        whole = not problems
        problems = [p.under("space") for p in problems]
        found = None if _recorded else self._find(raw.get("trainable"), _beside, problems)
        implicit = {} if _recorded else _defaults(raw, space, found)
        try:
            super().__init__(**{**implicit, **raw, "space": space})
        except ValidationError as error:
            problems += [_problem(e) for e in error.errors()]
            whole = False
        problems += (unclear := list(checks.objective(raw)))
        if found is not None:
            wrong = {re.split(r"[.\[]", p.where.removeprefix("space."))[0] for p in problems}
            problems += checks.trainable(found, space, raw.get("repeats", 1), wrong)
            problems += checks.executions(found, space, raw)
        if whole and not unclear:
            self._found, self._implicit = found, frozenset(k for k in DEFAULTED if k not in raw)
            warm = bool(self.warm_start)
            problems += checks.budget(space, self.algorithm, self.trials, self.stop, warm)
            problems += checks.scheduler(self.scheduler, self.most_epochs, found)
            problems += checks.population(
                self.scheduler, space, self.most_epochs, self.target, self.vary, found
            )
            if self.objective.more:
                problems += checks.several(raw, self.algorithm.name, self.scheduler, self.stop)
            problems += checks.points(self.first(), self.algorithm, self.trials, space)
            problems += checks.race(self)
        if problems:
            raise StudyError(problems)

    @staticmethod
    def _find(trainable: Any, beside: Path | None, problems: list[Problem]) -> Trainable | None:
        if not isinstance(trainable, str) and not callable(trainable):
            return None  # pydantic has said so
        try:
            return find(trainable, beside)
        except StudyError as error:
            problems += error.problems
            return None

    @classmethod
    def load(cls, path: str | Path, changes: Mapping[str, Any] | None = None) -> Study:
        """Load a study from a YAML file. It is named after the file unless it gives a name. `changes` are values
        that replace the file's, such as `{"trials": 20, "space.epochs": 10}`."""
        path = Path(path)
        try:
            raw = {"name": path.stem, **read_yaml(path)}
            for where, value in (changes or {}).items():
                _put(raw, where, value)
            hidden = [k for k in raw if k.startswith("_")]
            if hidden:
                raise StudyError([Problem("", f"unknown key '{k}'") for k in hidden])
            return cls(**raw, _beside=path.resolve().parent)
        except StudyError as error:
            raise StudyError(error.problems, source=path.name or str(path)) from None

    @classmethod
    def recorded(cls, raw: Mapping[str, Any]) -> Study:
        """A study from a journal, for reading only: its code, which may have changed or moved, is not
        loaded."""
        return cls(**raw, _recorded=True)

    @property
    def found(self) -> Trainable:
        """The trainable itself. A study that was only read from a journal has none."""
        if self._found is None:
            raise RuntimeError("this study was read from a journal, without its code")
        return self._found

    @cached_property
    def objective(self) -> Objective:
        return Objective.of(self.model_dump(include={"maximize", "minimize", "require"}))

    @cached_property
    def target(self) -> int:
        """The number of trials that completes the study; UNBOUNDED if only its stop rules do. Each trial of a
        population counts once, however often it continues from another."""
        if self.algorithm.name == "grid":
            return self.space.size()
        most = self.trials or (UNBOUNDED if self.space.free else 1)
        return min(most, self.space.cardinality or most)

    def without_scheduler(self) -> Study:
        """This study for callers that stop trials themselves. Raises StudyError if it names a scheduler."""
        if self.scheduler.name != "none" and "scheduler" not in self._implicit:
            what = "a loop of your own decides itself when a trial stops. Remove scheduler"
            raise StudyError([Problem("scheduler", what)])
        return self.model_copy(update={"scheduler": NoScheduler()})

    def continuing(self, recorded: Mapping[str, Any]) -> Study:
        """This study with the recorded algorithm and scheduler where it names none itself: what is chosen by
        default may have changed since."""
        known = Study.recorded(recorded)
        update = {key: getattr(known, key) for key in self._implicit if key in recorded}
        copy = self.model_copy(update=update)
        copy.__dict__.pop("target", None)  # it depends on the algorithm
        return copy

    @property
    def candidates(self) -> list[str]:
        """The backbones that are to be raced; none if there is to be no race."""
        p, pool = self.space.get("backbone"), self._found.pool if self._found is not None else ()
        options = p.options if isinstance(p, Choice) and pool else []
        if AUTO in options:
            return list(dict.fromkeys([*(o for o in options if o != AUTO), *pool]))
        return list(options) if self.race else []

    @property
    def proposes(self) -> bool:
        """Whether the backbones that the trainable proposes are among the candidates."""
        p = self.space.get("backbone")
        return isinstance(p, Choice) and AUTO in p.options

    def narrowed(self, kept: Sequence[str]) -> Study:
        """The study as it is after its race: with the backbones that were kept, where they are among its candidates.
        What is only for others goes."""
        if not kept or not set(kept) <= set(self.candidates):
            return self
        forms: dict[str, Any] = {}
        for name, p in self.space.items():
            when = dict(p.when or {})
            if "backbone" in when:
                wanted = when["backbone"]
                left = [one for one in (wanted if isinstance(wanted, list) else [wanted]) if one in kept]
                when["backbone"] = left[0] if len(left) == 1 else left
            there = all(above in forms and wanted != [] for above, wanted in when.items())
            if name == "backbone" and isinstance(p, Choice):
                prior = p.prior if p.prior in kept else None
                forms[name] = replace(p, options=list(kept), when=when or None, prior=prior).form()
            elif there and (p.each is None or p.each in forms):
                forms[name] = replace(p, when=when or None).form()
        copy = self.model_copy(update={"space": Space(forms), "race": False})
        for name in [n for n, v in vars(type(self)).items() if isinstance(v, cached_property)]:
            copy.__dict__.pop(name, None)
        return copy

    @property
    def searched_by(self) -> str:
        """The algorithm: for several objectives, `auto` is Optuna's TPE."""
        several = self.algorithm.name == "auto" and self.objective.more
        return "optuna" if several else self.algorithm.name

    @property
    def learns(self) -> bool:
        """Whether later trials depend on what earlier ones have come to."""
        return self.algorithm.name not in {"grid", "random"} or self.scheduler.name != "none"

    @property
    def executions(self) -> int:
        """How often each point is trained, with different seeds or on different folds."""
        return self.folds or self.repeats

    @property
    def startup(self) -> int:
        """How many points are drawn without a model: all of them where there is none."""
        given = getattr(self.algorithm, "startup", self.target)
        if given is None:
            return min(MOST_STARTUP[self.searched_by], max(1, self.target // 3))
        return int(given)

    @property
    def method(self) -> str:
        """How it searches, for a person to read, and why no trial is stopped early if none is."""
        by = f"{self.searched_by} search"
        if self.scheduler.name != "none":
            return f"{by} under {self.scheduler}"
        if not self.space.free or "scheduler" not in self._implicit:
            return f"{by}, no scheduler"
        if self.objective.more:
            why = "there are several objectives"
        elif self.most_epochs is None:
            why = "how many epochs there are is not known, as no `epochs` is in the space"
            if self._found is not None and self._found.returns:
                why = "a function that returns its metrics has one epoch"
        else:
            why = f"{self.most_epochs} epochs are few"
        return f"{by}; no trial is stopped early: {why}"

    @property
    def most_epochs(self) -> int | None:
        """The largest number of epochs that a trial may have, as the space or the trainable's default says."""
        return self.space.most_epochs or (self._found.epochs if self._found is not None else None)

    @property
    def task(self) -> str:
        """The MLflow experiment: the one the study names, or else the built-in and its data, or the study."""
        if self.experiment:
            return self.experiment
        if ":" in self._called:
            return self.name
        data = self.space.get("data")
        on = [str(o) for o in data.options] if isinstance(data, Choice) else []
        return "-".join([self._called.rpartition(":")[2], *(Path(o).stem for o in on[:1] if len(on) == 1)])

    @property
    def _called(self) -> str:
        return self.trainable if isinstance(self.trainable, str) else self.found.name

    def to_dict(self) -> dict[str, Any]:
        """The study in file form: how it searches, and otherwise only what differs from the defaults."""
        raw = self.model_dump(exclude_defaults=True, exclude={"space", "algorithm", "scheduler"})
        raw["name"] = self.name
        raw["trainable"] = self._called
        for key in ("algorithm", "scheduler") if self.space.free else ():
            plan = getattr(self, key)
            more = {"name": plan.name, **plan.model_dump(exclude_defaults=True)}
            raw[key] = more if len(more) > 1 else plan.name
        return {**{k: raw[k] for k in type(self).model_fields if k in raw}, "space": self.space.forms()}

    def fixed(self, point: Point) -> Study:
        """This study with one point only: nothing varies, one trial."""
        raw = {k: v for k, v in self.to_dict().items() if k not in SEARCH}
        raw |= {"name": f"{self.name[:59]}_best", "space": self.space.fixed(point).forms()}
        return Study.recorded(raw)

    def only(self, points: list[Point]) -> Study:
        """This study with only these points."""
        raw = {k: v for k, v in self.to_dict().items() if k not in SEARCH}
        raw |= {"name": f"{self.name[:58]}_front", "trials": len(points), "points": points}
        return Study.recorded(raw)

    def to_yaml(self) -> str:
        """The study as the text of a file that loads."""
        return write_yaml(
            {**self.to_dict(), "space": {k: on_one_line(v) for k, v in self.space.forms().items()}}
        )

    @property
    def vary(self) -> list[str]:
        """The hyperparameters that a population may change during training."""
        plan = self.scheduler
        if not isinstance(plan, PopulationScheduler):
            return []
        if plan.vary is not None or self._found is None:
            return plan.vary or []
        return [n for n in self.space.free if n in self._found.adjustable and not self.space[n].each]

    def first(self) -> list[Point]:
        """The points to try first, completed."""
        return [self.space.completed(given) for given in self.points]


def _put(raw: dict[str, Any], where: str, value: Any) -> None:
    """Replace the value at `where`, such as `space.epochs`. Raises StudyError when that is inside a value."""
    *above, last = where.split(".")
    for key in above:
        inner = raw.setdefault(key, {})
        if not isinstance(inner, dict):
            raise StudyError([Problem(where, f"{key} is {show(inner)}, which has no parts to set")])
        raw[key] = dict(inner)
        raw = raw[key]
    raw[last] = value


def _defaults(raw: Mapping[str, Any], space: Space, found: Trainable | None) -> dict[str, Any]:
    """The default algorithm and scheduler: those that ranked first when tuning tables were replayed
    (tests/benchmarks/quality.py). Trials that cannot pause are stopped, instead of waiting for a promotion.
    """
    if not space.free:
        return {}
    given = [raw.get(key) for key in ("maximize", "minimize") if raw.get(key)]
    several = len(given) > 1 or any(isinstance(g, list) and len(g) > 1 for g in given)
    chosen: dict[str, Any] = {"algorithm": "auto"}
    plan = AshaScheduler(kind="promotion")
    if found is not None and not several:
        epochs = space.most_epochs or found.epochs
        if found.of_ray_tune if epochs is None else epochs >= plan.grace * plan.reduction:
            chosen["scheduler"] = plan if found.resumes else AshaScheduler()
    return {key: value for key, value in chosen.items() if key not in raw}


def _problem(error: Any) -> Problem:
    """A pydantic error in our words."""
    *above, last = [str(part) for part in error["loc"]] or [""]
    where = ".".join([*above, last])
    if error["type"] == "extra_forbidden":
        model: Any = {"per_trial": Resources, "stop": Stop}.get(above[0] if above else "", Study)
        custom = " Other resources go under custom." if model is Resources else ""
        hint = checks.PEERS.get(last) if model is Study else None
        hint = f" {hint}" if hint else did_you_mean(last, model.model_fields)
        return Problem(".".join(above), f"unknown key '{last}'.{hint}{custom}")
    if error["type"] == "unknown":
        return Problem(where, str(error["msg"]))
    if error["type"] == "missing":
        return Problem(where, "is missing")
    if error["type"] == "value_error":
        return Problem(where, str(error["ctx"]["error"]))
    return Problem(where, f"{sentence(error)}, got {show(error['input'])}")
