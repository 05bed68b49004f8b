"""Study: one file as one value, checked. Output is input: what `best` prints is a study that loads."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)

from raysweep.errors import Problem, StudyError, did_you_mean
from raysweep.files import on_one_line, read_yaml, write_yaml
from raysweep.params import Choice, Int, Param, show
from raysweep.plans import (
    Algorithm,
    AshaScheduler,
    NoScheduler,
    Plain,
    PopulationScheduler,
    Resources,
    Scheduler,
    Seconds,
    Stop,
    sentence,
)
from raysweep.space import Space
from raysweep.trainables import Trainable, find
from raysweep.trial import Objective, Point, Requirement

Metric = Annotated[str, Field(min_length=1)]
UNBOUNDED = 10**9
"""How many trials a study may have whose end is a matter of time."""
GRID_LIMIT = 10_000
"""More points than this are a mistake more often than a wish."""

SEARCH = frozenset({"algorithm", "scheduler", "trials", "points", "warm_start", "stop"})
"""What of a study says how to search, and means nothing for one point."""

_STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Study(BaseModel):
    """What to train, what may vary, what is best, and how to look for it.

    `Study.load(path)` reads a file; `Study(trainable="mlp", maximize="val_accuracy", trials=20,
    space={"lr": Float(1e-4, 1e-1, log=True)})` says the same in Python. Either raises StudyError with
    every problem found, before anything is started.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)

    name: str = Field(
        "study", description="its folder's name, its model's name; the file's own when not given"
    )
    trainable: Annotated[str | Callable[..., Any], WithJsonSchema({"type": "string"})] = Field(
        description="mlp, or your own as package.module:function"
    )
    maximize: Metric | list[Metric] | None = Field(None, description="the metric of which more is better")
    minimize: Metric | list[Metric] | None = Field(
        None, description="the metric of which less is better; several metrics make a Pareto front"
    )
    require: dict[str, str] = Field(
        {}, description="what other metrics must be for an epoch to count, as params: '< 1e6'"
    )
    algorithm: Algorithm = Field(
        Plain(), description="hyperopt when not given; optuna for several objectives"
    )
    scheduler: Scheduler = Field(
        NoScheduler(),
        description="asha by promotion when not given, where trials can wait and there are 6 epochs",
    )
    trials: Annotated[int, Field(ge=1)] | None = Field(None, description="how many points to try")
    stop: Stop = Stop()
    trial_timeout: Seconds | None = Field(
        None, description="what one trial may compute, as 30 min; then it is ended, killed if need be"
    )
    points: list[dict[str, Any]] = Field(
        [], description="points to try first, in order, whatever the algorithm; plain values may be left out"
    )
    no_progress_timeout: Seconds | None = Field(None, description="how long a trial may be without a report")
    checkpoint_every: Seconds = Field(
        10.0, description="between two checkpoints of a running trial: what the loss of its process may cost"
    )
    retries: Annotated[int, Field(ge=0)] = Field(
        2, description="how often a trial is taken up again that raised an error or lost its process"
    )
    warm_start: list[Annotated[str, Field(min_length=1)]] = Field(
        [], description="earlier studies to learn from: a name, a study's folder, or mlflow:NAME"
    )
    repeats: Annotated[int, Field(ge=1)] = Field(
        1, description="executions of each point with different seeds; their mean ranks it"
    )
    per_trial: Resources = Resources()
    concurrency: Annotated[int, Field(ge=1)] | None = Field(
        None, description="trials at once; as many as fit when not given"
    )
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    experiment: str | None = Field(
        None, min_length=1, description="the MLflow experiment; one for each task when not given"
    )
    space: Annotated[Space, WithJsonSchema({"type": "object", "minProperties": 1})] = Field(
        description="the trainable's arguments: plain values, and what may vary"
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
        problems += (unclear := list(_objective_problems(raw)))
        if found is not None:
            problems += _trainable_problems(found, space, raw.get("repeats", 1))
        if whole and not unclear:
            self._found, self._implicit = found, frozenset(implicit)
            problems += self._budget_problems()
            problems += self._scheduler_problems()
            if self.objective.more:
                problems += _several_problems(raw, self.algorithm.name, self.scheduler.name, self.stop)
            problems += self._point_problems()
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
    def load(cls, path: str | Path) -> Study:
        """The study in a YAML file; its name is the file's unless it says another."""
        path = Path(path)
        try:
            raw = {"name": path.stem, **read_yaml(path)}
            hidden = [k for k in raw if k.startswith("_")]
            if hidden:
                raise StudyError([Problem("", f"unknown key '{k}'") for k in hidden])
            return cls(**raw, _beside=path.resolve().parent)
        except StudyError as error:
            raise StudyError(error.problems, source=path.name) from None

    @classmethod
    def recorded(cls, raw: Mapping[str, Any]) -> Study:
        """A study as a journal holds it: to read, without its code, which may have changed or be elsewhere."""
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
        """How many trials make the study complete; UNBOUNDED where only its rules do. A population's trials
        count once, however often they go on from one another."""
        if self.algorithm.name == "grid":
            return self.space.size()
        most = self.trials or (UNBOUNDED if self.space.free else 1)
        return min(most, self.cardinality or most)

    @property
    def epochs(self) -> int | None:
        """The most epochs that a trial may have, where the space says so."""
        return _most_epochs(self.space)

    def without_scheduler(self) -> Study:
        """This study for who stops trials by other means. Raises StudyError if it names a scheduler."""
        if self.scheduler.name != "none" and "scheduler" not in self._implicit:
            what = "a loop of your own decides itself when a trial stops. Remove scheduler"
            raise StudyError([Problem("scheduler", what)])
        return self.model_copy(update={"scheduler": NoScheduler()})

    @cached_property
    def cardinality(self) -> int | None:
        """How many different points there are, or None when they cannot be counted."""
        space = self.space.without_grids()
        return None if space.continuous() else space.size()

    @property
    def task(self) -> str:
        """The MLflow experiment: what is trained on what, unless the study names one."""
        if self.experiment:
            return self.experiment
        data = self.space.get("data")
        on = [str(o) for o in data.options] if isinstance(data, Choice) else []
        return "-".join([self._called.rpartition(":")[2], *(Path(o).stem for o in on[:1] if len(on) == 1)])

    @property
    def _called(self) -> str:
        return self.trainable if isinstance(self.trainable, str) else self.found.name

    def to_dict(self) -> dict[str, Any]:
        """The study as a file writes it: how it searches, and else only what differs from the defaults."""
        raw = self.model_dump(exclude_defaults=True, exclude={"space", "algorithm", "scheduler"})
        raw["name"] = self.name
        raw["trainable"] = self._called
        for key in ("algorithm", "scheduler") if self.space.free else ():
            plan = getattr(self, key)
            more = {"name": plan.name, **plan.model_dump(exclude_defaults=True)}
            raw[key] = more if len(more) > 1 else plan.name
        return {**{k: raw[k] for k in type(self).model_fields if k in raw}, "space": self.space.forms()}

    def fixed(self, point: Point) -> Study:
        """This study of one point only: no freedom, one trial."""
        raw = {k: v for k, v in self.to_dict().items() if k not in SEARCH}
        raw |= {"name": f"{self.name[:59]}_best", "space": self.space.fixed(point).forms()}
        return Study.recorded(raw)

    def only(self, points: list[Point]) -> Study:
        """This study of these points and no others."""
        raw = {k: v for k, v in self.to_dict().items() if k not in SEARCH}
        raw |= {"name": f"{self.name[:58]}_front", "trials": len(points), "points": points}
        return Study.recorded(raw)

    def to_yaml(self) -> str:
        """The study as the text of a file that loads."""
        return write_yaml(
            {**self.to_dict(), "space": {k: on_one_line(v) for k, v in self.space.forms().items()}}
        )

    def _budget_problems(self) -> Iterator[Problem]:
        free = self.space.free
        if self.algorithm.name == "grid":
            yield from self._grid_problems()
        elif self.trials is None and free and not self.stop.bounded:
            yield Problem("trials", "say how many points to try, or under stop a time")
        elif self.trials is not None and self.trials > 1 and not free:
            yield Problem(
                "trials", f"{self.trials} trials of a space without freedom. Remove it, or use repeats"
            )
        startup = getattr(self.algorithm, "startup", None) or 0
        if getattr(self.algorithm, "sampler", "") == "qmc":
            return  # has no start-up
        if free and self.trials is not None and startup >= self.trials and not self.warm_start:
            what = f"startup {startup} of {self.trials} trials: the search would be purely random"
            yield Problem("algorithm", f"{what}. Lower startup, or use random")

    def _scheduler_problems(self) -> Iterator[Problem]:
        plan = self.scheduler
        grace = getattr(plan, "grace", 1)
        if self.epochs is not None and grace >= self.epochs and grace > 1:
            yield Problem(
                "scheduler", f"grace {grace} of {self.epochs} epochs: no trial would ever be stopped"
            )
        if plan.name in {"hyperband", "pbt", "pb2"} and self.epochs is None:
            yield Problem(
                "scheduler", f"{plan.name} must know how many epochs there are. Put epochs in the space"
            )
        takes = self._found.takes if self._found is not None else frozenset({"state"})
        if "state" not in takes and (plan.name == "hyperband" or getattr(plan, "kind", "") == "promotion"):
            yield Problem(
                "scheduler", f"{plan.name} lets trials wait and go on, for which a trainable must take state"
            )
        if isinstance(plan, PopulationScheduler):
            yield from self._population_problems(plan)

    def _population_problems(self, plan: PopulationScheduler) -> Iterator[Problem]:
        where, space = "scheduler", self.space
        if self._found is not None and "state" not in self._found.takes:
            yield Problem(where, f"{plan.name} needs a trainable that takes state, and goes on from it")
        if self.epochs is not None and plan.interval >= self.epochs:
            yield Problem(
                where, f"interval {plan.interval} of {self.epochs} epochs: nobody would ever give up"
            )
        if self.target < 4:
            yield Problem("trials", f"a population of {self.target} is too small. Use 4 or more")
        conditions = {a for p in space.values() for a in (*(p.when or {}), p.each) if a}
        for name in plan.vary or []:
            if name not in space:
                yield Problem(where, f"vary: '{name}' is not in the space.{did_you_mean(name, space.free)}")
            elif name not in space.free or space[name].each or name in conditions:
                yield Problem(where, f"vary: '{name}' must be free, one value, and no condition of others")
        if not self.vary and not plan.vary and self._found is not None:
            yield Problem(where, "vary: say which hyperparameters may change in the middle of a training")

    @property
    def vary(self) -> list[str]:
        """What a population's trials may change in the middle of a training."""
        plan = self.scheduler
        if not isinstance(plan, PopulationScheduler):
            return []
        if plan.vary is not None or self._found is None:
            return plan.vary or []
        return [n for n in self.space.free if n in self._found.adjustable and not self.space[n].each]

    def whole(self, given: Point) -> Point:
        """`given` with the space's plain values, which may be left out, in its order."""
        fixed = {
            n: p.options[0] for n, p in self.space.items() if isinstance(p, Choice) and len(p.options) == 1
        }
        return {n: given[n] if n in given else fixed[n] for n in self.space if n in given or n in fixed} | {
            n: v for n, v in given.items() if n not in self.space
        }

    def first(self) -> list[Point]:
        """The points to try first, whole."""
        return [self.whole(given) for given in self.points]

    def _point_problems(self) -> Iterator[Problem]:
        if self.points and self.algorithm.name == "grid":
            yield Problem("points", "a grid tries every point anyway. Remove points")
        if self.trials is not None and len(self.points) > self.trials:
            yield Problem("points", f"{len(self.points)} points but only {self.trials} trials")
        for i, point in enumerate(self.first()):
            yield from (p.under(f"points[{i}]") for p in self.space.check(point))

    def _grid_problems(self) -> Iterator[Problem]:
        continuous = self.space.continuous()
        for name in continuous:
            yield Problem(
                f"space.{name}",
                "a grid cannot count a continuous range. Give step, or grid: the number of points",
            )
        if continuous:
            return
        size = self.space.size()
        if size > GRID_LIMIT:
            factors = " x ".join(f"{n} {self.space[n].size():,}" for n in self.space.free)
            yield Problem(
                "algorithm",
                f"the grid has {size:,} combinations ({factors}); the limit is {GRID_LIMIT:,}. Use random",
            )
        elif self.trials is not None and self.trials != size:
            yield Problem(
                "trials", f"the grid has {size} combinations but trials is {self.trials}. Remove trials"
            )


def _defaults(raw: Mapping[str, Any], space: Space, found: Trainable | None) -> dict[str, Any]:
    """How a study searches that does not say so: what came first where tuning tables were replayed
    (tests/benchmarks/quality.py). Where a trial cannot wait and go on, it is not stopped either.
    """
    if not space.free:
        return {}
    given = [raw.get(key) for key in ("maximize", "minimize") if raw.get(key)]
    several = len(given) > 1 or any(isinstance(g, list) and len(g) > 1 for g in given)
    chosen: dict[str, Any] = {"algorithm": "optuna" if several else "hyperopt"}
    plan = AshaScheduler(kind="promotion")
    waits = found is not None and "state" in found.takes and not several
    if waits and (_most_epochs(space) or 0) >= plan.grace * plan.reduction:
        chosen["scheduler"] = plan
    return {key: value for key, value in chosen.items() if key not in raw}


def _most_epochs(space: Space) -> int | None:
    p = space.get("epochs")
    if isinstance(p, Choice):
        numbers = [o for o in p.options if type(o) is int]
        return max(numbers) if numbers else None
    return p.high if isinstance(p, Int) else None


def _objective_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    try:
        objective = Objective.of({**raw, "require": {}})
    except TypeError:
        return  # neither text nor a list: pydantic has said so
    names = [o.metric for o in objective.all]
    if names == [""]:
        yield Problem("maximize", "say what is best: maximize or minimize, with the metric's name")
    for name in {n for n in names if names.count(n) > 1}:
        yield Problem("maximize", f"'{name}' is named twice")
    require = raw.get("require", {})
    for metric, text in require.items() if isinstance(require, Mapping) else ():
        try:
            Requirement.read(str(metric), str(text))
        except ValueError:
            rule = "must be <, <=, > or >= and a number, as '< 1e6'"
            yield Problem(f"require.{metric}", f"{rule}, got {show(text)}")


def _several_problems(
    raw: Mapping[str, Any], algorithm: str, scheduler: str, stop: Stop
) -> Iterator[Problem]:
    """What does not go with several objectives."""
    if algorithm == "hyperopt":
        yield Problem("algorithm", "hyperopt has one objective only. Use optuna for several")
    if scheduler != "none":
        yield Problem("scheduler", f"{scheduler} ranks by one objective. With several, use none")
    for rule in ("value", "no_improvement", "terminator"):
        if getattr(stop, rule):
            yield Problem(f"stop.{rule}", "is a rule for one objective")


def _trainable_problems(found: Trainable, space: Space, repeats: Any) -> Iterator[Problem]:
    """What the trainable, whose signature is the schema of its space, says against a study."""
    if isinstance(repeats, int) and repeats > 1 and "seed" not in found.takes:
        yield Problem("repeats", f"'{found.name}' takes no seed, so its executions would all be the same")
    arguments = found.arguments
    # train(config) takes whatever is in config
    if not found.yields or any(a.kind is a.VAR_KEYWORD for a in arguments.values()):
        return
    for name, p in space.items():
        where = f"space.{name}"
        if name not in arguments:
            yield Problem(where, f"'{found.name}' has no such argument.{did_you_mean(name, arguments)}")
        elif arguments[name].annotation is not inspect.Parameter.empty:
            yield from _value_problems(where, p, arguments[name].annotation)
        if name in found.shared() and (not isinstance(p, Choice) or p.when or p.each):
            yield Problem(where, "says which data is used. Give a plain value or a list, without conditions")
    for name, a in arguments.items():
        if name not in space and a.default is a.empty:
            yield Problem(f"space.{name}", f"'{found.name}' needs it. Give a value or a range")


def _value_problems(where: str, p: Param, annotation: Any) -> Iterator[Problem]:
    try:
        schema: TypeAdapter[Any] = TypeAdapter(annotation)
    except (pydantic.PydanticSchemaGenerationError, pydantic.PydanticUserError):
        return  # a type of the user's own; what it takes is not for us to say
    values = p.options if isinstance(p, Choice) else [p.low, p.high]  # type: ignore[attr-defined]
    for value in values:
        try:
            schema.validate_python([value] if p.each else value, strict=True)
        except ValidationError as error:
            # A union reports each of its members; the first one says what is wanted.
            e = error.errors()[0]
            yield Problem(where, f"{sentence(e)}, got {show(value)}")


def _problem(error: Any) -> Problem:
    """A pydantic error in our words."""
    *above, last = [str(part) for part in error["loc"]] or [""]
    where = ".".join([*above, last])
    if error["type"] == "extra_forbidden":
        model: Any = {"per_trial": Resources, "stop": Stop}.get(above[0] if above else "", Study)
        custom = " Other resources go under custom." if model is Resources else ""
        return Problem(
            ".".join(above), f"unknown key '{last}'.{did_you_mean(last, model.model_fields)}{custom}"
        )
    if error["type"] == "unknown":
        return Problem(where, str(error["msg"]))
    if error["type"] == "missing":
        return Problem(where, "is missing")
    if error["type"] == "value_error":
        return Problem(where, str(error["ctx"]["error"]))
    return Problem(where, f"{sentence(error)}, got {show(error['input'])}")
