"""What the trials of a study share, by its search space: data sets and features of frozen backbones."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from raysweep.errors import Problem
from raysweep.study.params import Choice, Int
from raysweep.study.space import Point
from raysweep.study.study import AUTO, Study
from raysweep.trainables.readers import check_path

REMOTE = ("models:/", "runs:/")
"""Prefixes of the names of models in MLflow."""
MANY = 16
"""Sets of features that are computed before the search; with more, each is computed when a trial needs it."""
PARTS = 10_000  # at most so many combinations of the feature arguments are looked at


def data_sets(study: Study) -> list[Point]:
    """The arguments of every data set that a point of the search space may use."""
    names = [n for n in study.space if n in study.found.data_arguments()]
    options = [study.space[n].values() for n in names]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*options)]


def check_data_is_there(study: Study) -> None:
    """Look for the files of all data sets, without reading them. Raises DataError when one is missing."""
    for arguments in data_sets(study) if study.found.load is not None else ():
        if isinstance(data := arguments.get("data"), str):
            check_path(data)


def data_problems(study: Study, train: int, metrics: Collection[str]) -> Iterator[Problem]:
    """Check a study against its data: batches larger than the training set of `train` samples, and objectives
    that are not among the `metrics` of a training on it."""
    for name in sorted(study.objective.names - {"seconds", *metrics}):
        what = f"'{name}' is not reported for this data. One of: {', '.join(metrics)}, seconds"
        yield Problem("maximize" if study.objective.maximize else "minimize", what)
    p = study.space.get("batch_size")
    largest = max(p.options) if isinstance(p, Choice) else p.high if isinstance(p, Int) else 0
    if largest > train:
        yield Problem("space.batch_size", f"{largest:,} is larger than the training set ({train:,})")


def feature_sets(study: Study, fetched: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The arguments of every feature set that trials of this search space will need, as the trainable reports
    them. Whatever was `fetched` from elsewhere is named by its folder."""
    if study.found.feature_sets is None or study.candidates:  # a race comes first
        return
    parts = itertools.islice(study.space.part(study.found.feature_arguments), PARTS)
    for arguments in study.found.feature_sets(parts):
        yield _located(arguments, fetched)


def _located(arguments: Mapping[str, Any], fetched: Mapping[str, str]) -> dict[str, Any]:
    """Arguments with whatever was fetched named by its folder."""
    return {k: fetched.get(v, v) if isinstance(v, str) else v for k, v in arguments.items()}


def baselines(study: Study) -> list[Point]:
    """The points that a search of this study is to be compared with, such as the linear head on each set of features;
    none if there are too many sets to compute them all."""
    found = study.found
    if (
        found.baselines is None
        or not study.baseline
        or study.candidates
        or len(list(feature_sets(study, {}))) > MANY
    ):
        return []
    fixed = [n for n in found.kept if isinstance(p := study.space.get(n), Choice) and len(p.options) == 1]
    wanted = {*found.data_arguments(), *found.feature_arguments, *fixed}
    names = [n for n in study.space if n in wanted]  # in the order of every other point
    return found.baselines(itertools.islice(study.space.part(names), PARTS))


def race_arguments(study: Study, fetched: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """For each candidate of a race, the arguments of its features: of the first point that the space has with it."""
    found = study.found
    assert found.feature_sets is not None  # noqa: S101 - a trainable with candidates has it
    parts = list(itertools.islice(study.space.part(found.feature_arguments), PARTS))
    chosen: dict[str, dict[str, Any]] = {}
    for name in study.candidates:
        own = [part for wanted in (name, AUTO) for part in parts if part.get("backbone") == wanted]
        sets = found.feature_sets({**part, "backbone": name, "transfer": "feature"} for part in own)
        if sets:
            chosen[name] = _located(sets[0], fetched)
    return chosen


def check_features(study: Study) -> None:
    """Check that the features can be computed, except those with weights in MLflow. Raises DataError."""
    named = study.race and not study.proposes
    for arguments in race_arguments(study, {}).values() if named else feature_sets(study, {}):
        if not any(isinstance(v, str) and v.startswith(REMOTE) for v in arguments.values()):
            importlib.import_module(study.found.function.__module__).check(arguments)
