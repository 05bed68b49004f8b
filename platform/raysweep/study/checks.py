"""Checks of a study that go beyond the form of its parts. Each function yields problems in plain words."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pydantic
from pydantic import TypeAdapter, ValidationError

from raysweep.errors import Problem, did_you_mean
from raysweep.study.objective import Objective, Requirement
from raysweep.study.options import Algorithm, PopulationScheduler, Scheduler, Stop, sentence
from raysweep.study.params import Choice, Param, show
from raysweep.study.space import Point, Space
from raysweep.trainables.trainable import Trainable

GRID_LIMIT = 10_000
"""A larger grid is more often a mistake than intended."""


_OBJECTIVE = "The metric and its direction are one: maximize: NAME or minimize: NAME"
_TRIALS = "The number of points to try is called trials"
_ALGORITHM = "How points are chosen is called algorithm: auto, grid, random, hyperopt or optuna"
_SCHEDULER = "What stops trials early is called scheduler: asha, hyperband, median, pbt or pb2"
_SPACE = "What may vary is called space"
PEERS = {
    **dict.fromkeys(("metric", "direction", "directions", "mode", "objective", "goal"), _OBJECTIVE),
    **dict.fromkeys(
        ("num_samples", "max_trials", "n_trials", "max_evals", "num_trials", "maxTrialCount"), _TRIALS
    ),
    **dict.fromkeys(("search_alg", "sampler", "method", "search", "tuner", "oracle", "searcher"), _ALGORITHM),
    **dict.fromkeys(("pruner", "early_terminate", "early_stopping", "earlyStopping"), _SCHEDULER),
    **dict.fromkeys(
        ("parameters", "params", "param_space", "search_space", "config", "hyperparameters"), _SPACE
    ),
    **dict.fromkeys(
        ("program", "command", "train", "function", "model"), "What is trained is called trainable"
    ),
    **dict.fromkeys(
        ("max_concurrent", "max_concurrent_trials", "n_jobs", "parallelTrialCount"),
        "How many trials run at once is called concurrency",
    ),
    **dict.fromkeys(
        ("resources", "resources_per_trial", "gpus", "gpu", "cpu"), "Write per_trial: {cpu: 1, gpu: 1}"
    ),
    **dict.fromkeys(("timeout", "time_budget_s", "time_budget"), "Write stop: {time: 2 h}"),
    **dict.fromkeys(("epochs", "max_epochs"), "An argument of the trainable stands under space"),
}
"""What other tools call the keys of a study, and what to write instead."""


def budget(
    space: Space, algorithm: Algorithm, trials: int | None, stop: Stop, warm: bool
) -> Iterator[Problem]:
    """Check the number of trials, and that the algorithm can use them. `warm`: earlier studies are used."""
    if algorithm.name == "grid":
        yield from _grid(space, trials)
    elif trials is None and space.free and not stop.bounded:
        yield Problem("trials", "say how many points to try, or under stop a time")
    elif trials is not None and trials > 1 and not space.free:
        yield Problem(
            "trials", f"{trials} trials, but nothing in the space varies. Remove it, or use repeats"
        )
    startup = getattr(algorithm, "startup", None) or 0
    if getattr(algorithm, "sampler", "") == "qmc":
        return  # has no start-up
    if space.free and trials is not None and startup >= trials and not warm:
        what = f"startup {startup} of {trials} trials: the search would be purely random"
        yield Problem("algorithm", f"{what}. Lower startup, or use random")


def scheduler(plan: Scheduler, epochs: int | None, found: Trainable | None) -> Iterator[Problem]:
    """Check that the scheduler can work with this trainable and this number of epochs."""
    grace = getattr(plan, "grace", 1)
    if epochs is not None and grace >= epochs and grace > 1:
        yield Problem("scheduler", f"grace {grace} of {epochs} epochs: no trial would ever be stopped")
    if plan.name in {"hyperband", "pbt", "pb2"} and epochs is None:
        yield Problem(
            "scheduler", f"{plan.name} must know how many epochs there are. Put epochs in the space"
        )
    resumes = found is None or found.resumes
    if not resumes and (plan.name == "hyperband" or getattr(plan, "kind", "") == "promotion"):
        yield Problem("scheduler", f"{plan.name} pauses and resumes trials, so the trainable must take state")


def population(
    plan: Scheduler,
    space: Space,
    epochs: int | None,
    target: int,
    vary: list[str],
    found: Trainable | None,
) -> Iterator[Problem]:
    """Check that a population of `target` trials can change the hyperparameters `vary` during training."""
    if not isinstance(plan, PopulationScheduler):
        return
    where = "scheduler"
    if found is not None and not found.resumes:
        yield Problem(where, f"{plan.name} needs a trainable that takes state, and resumes from it")
    if epochs is not None and plan.interval >= epochs:
        yield Problem(where, f"interval {plan.interval} of {epochs} epochs: no trial would ever be replaced")
    if target < 4:
        yield Problem("trials", f"a population of {target} is too small. Use 4 or more")
    conditions = {a for p in space.values() for a in (*(p.when or {}), p.each) if a}
    for name in plan.vary or []:
        if name not in space:
            yield Problem(where, f"vary: '{name}' is not in the space.{did_you_mean(name, space.free)}")
        elif name not in space.free or space[name].each or name in conditions:
            yield Problem(where, f"vary: '{name}' must vary, be one value, and be no condition of others")
    if not vary and not plan.vary and found is not None:
        yield Problem(where, "vary: say which hyperparameters may change during training")


def notes(study: Any) -> Iterator[str]:
    """What is allowed in a study and may yet not be meant, a sentence each."""
    for name, p in study.space.items():
        if isinstance(p, Choice) and not p.each and _looks_like_a_range(p.options):
            low, high = p.options
            yield (
                f"{name} takes one of two values, {show(low)} or {show(high)}; for a range write"
                f" {{{'int' if isinstance(low, int) else 'float'}: [{show(low)}, {show(high)}]}}"
            )
    count = study.space.cardinality
    if count is not None and count < (study.trials or 1):
        yield f"the space has {count} points; each is tried once"
    if not study.found.builtin and study.found.export is None and (beside := study.found.other_export):
        yield f"export({', '.join(beside)}) is not used: only export(point, state, folder) makes a model"


def _looks_like_a_range(options: Sequence[Any]) -> bool:
    """Whether a choice is of two numbers, the lower first, with others between them."""
    if len(options) != 2 or any(type(o) not in {int, float} for o in options):
        return False
    low, high = options
    return low < high and not (type(low) is int and type(high) is int and high <= 2 * low + 1)


def points(given: list[Point], algorithm: Algorithm, trials: int | None, space: Space) -> Iterator[Problem]:
    """The points to try first."""
    if given and algorithm.name == "grid":
        yield Problem("points", "a grid tries every point anyway. Remove points")
    if trials is not None and len(given) > trials:
        yield Problem("points", f"{len(given)} points but only {trials} trials")
    for i, point in enumerate(given):
        yield from (p.under(f"points[{i}]") for p in space.check(point))


def _grid(space: Space, trials: int | None) -> Iterator[Problem]:
    for name in (n for n, p in space.items() if p.prior is not None):
        yield Problem(f"space.{name}", "a grid tries every point anyway. Remove prior")
    continuous = space.continuous()
    for name in continuous:
        yield Problem(
            f"space.{name}",
            "a grid cannot count a continuous range. Give step, or grid: the number of points",
        )
    if continuous:
        return
    size = space.size()
    if size > GRID_LIMIT:
        factors = " x ".join(f"{n} {space[n].size():,}" for n in space.free)
        yield Problem(
            "algorithm",
            f"the grid has {size:,} combinations ({factors}); the limit is {GRID_LIMIT:,}. Use random",
        )
    elif trials is not None and trials != size:
        yield Problem("trials", f"the grid has {size} combinations but trials is {trials}. Remove trials")


def objective(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Check the objectives and requirements of a study as written."""
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


def several(raw: Mapping[str, Any], algorithm: str, scheduler: Scheduler, stop: Stop) -> Iterator[Problem]:
    """Check for settings that do not work with several objectives."""
    if algorithm == "hyperopt":
        yield Problem("algorithm", "hyperopt has one objective only. Use optuna for several")
    if scheduler.name not in {"none", "hyperband"} and getattr(scheduler, "kind", "") != "promotion":
        able = "{name: asha, kind: promotion}, hyperband or none"
        yield Problem("scheduler", f"{scheduler.name} ranks by one objective. With several, use {able}")
    for rule in ("value", "no_improvement", "terminator"):
        if getattr(stop, rule):
            yield Problem(f"stop.{rule}", "is a rule for one objective")


def trainable(found: Trainable, space: Space, repeats: Any, wrong: Collection[str] = ()) -> Iterator[Problem]:
    """Check a study against its trainable, whose signature is the schema of the search space. The names that are
    already known to be `wrong` are not in `space`."""
    if isinstance(repeats, int) and repeats > 1 and "seed" not in found.takes:
        yield Problem("repeats", f"'{found.name}' takes no seed, so its executions would all be the same")
    arguments = found.arguments
    # train(config) takes whatever is in config
    if found.of_ray_tune or any(a.kind is a.VAR_KEYWORD for a in arguments.values()):
        return
    for name, p in space.items():
        where = f"space.{name}"
        if name not in arguments:
            yield Problem(where, f"'{found.name}' has no such argument.{did_you_mean(name, arguments)}")
        elif arguments[name].annotation is not inspect.Parameter.empty:
            yield from values(where, p, arguments[name].annotation)
        if name in found.data_arguments() and (not isinstance(p, Choice) or p.when or p.each):
            yield Problem(where, "says which data is used. Give a plain value or a list, without conditions")
    for name, a in arguments.items():
        given = name in space or name in wrong
        variadic = a.kind in {a.VAR_POSITIONAL, a.VAR_KEYWORD}
        if not given and a.default is a.empty and not variadic:
            yield Problem(f"space.{name}", f"'{found.name}' needs it. Give a value or a range")


def executions(found: Trainable, space: Space, raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Check what a study says of how each point, and the best one, is trained."""
    for key in ("folds", "resplit", "refit", "ensemble"):
        if raw.get(key) and found.load is None:
            yield Problem(key, f"is for mlp and transfer; '{found.name}' splits its data itself")
    if raw.get("folds") and raw.get("resplit"):
        yield Problem("folds", "a fold is a split. Remove resplit")
    if raw.get("ensemble") and (raw.get("folds") or raw.get("resplit")):
        yield Problem("ensemble", "its members must be judged by examples that none of them was trained on")
    if raw.get("folds") and (raw.get("repeats") or 1) != 1:
        yield Problem("folds", "each execution is a fold. Remove repeats")
    if raw.get("finalists") and "seed" not in found.takes:
        yield Problem("finalists", f"'{found.name}' takes no seed, so its executions would all be the same")
    calibrated = space.get("calibrate")
    if raw.get("refit") and found.builtin and isinstance(calibrated, Choice) and True in calibrated.options:
        yield Problem("refit", "leaves no validation data to calibrate by. Remove refit, or calibrate")
    plan = raw.get("scheduler")
    if raw.get("finalists") and (plan.get("name") if isinstance(plan, Mapping) else plan) in {"pbt", "pb2"}:
        yield Problem(
            "finalists", "a population changes values as it trains, so its best cannot be trained again"
        )


def race(study: Any) -> Iterator[Problem]:
    """Check that there are backbones to race, and one data set to race them on."""
    many = study.candidates
    if not study.race and not many:
        return
    if len(many) < 3:
        yield Problem("race", "is for three backbones or more, as a list: the best two are kept. Remove race")
    for name in study.space.free:
        if name in study.found.data_arguments():
            yield Problem("race", f"needs one data set, and {name} varies")
    if study.points:
        yield Problem("race", "points name backbones that may not be kept. Remove points, or race")


def values(where: str, p: Param, annotation: Any) -> Iterator[Problem]:
    try:
        schema: TypeAdapter[Any] = TypeAdapter(annotation)
    except (pydantic.PydanticSchemaGenerationError, pydantic.PydanticUserError):
        return  # a user-defined type: we cannot tell which values it accepts
    values = p.options if isinstance(p, Choice) else [p.low, p.high]  # type: ignore[attr-defined]
    for value in values:
        try:
            schema.validate_python([value] if p.each else value, strict=True)
        except ValidationError as error:
            # A union reports each of its members; the first one says what is wanted.
            e = error.errors()[0]
            yield Problem(where, f"{sentence(e)}, got {show(value)}")
