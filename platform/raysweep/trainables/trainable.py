"""What can be trained. A trainable is a generator function: its keyword arguments are its hyperparameters,
and it yields `(metrics, state)` once per epoch. `state` (tensors and plain types) is all it needs to resume:
called again with `state=`, it continues from there. If it takes `seed`, each execution gets its own seed.

Nothing in this package knows of Ray or MLflow, so every trainable runs under `list()`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from raysweep.errors import Problem, StudyError, did_you_mean
from raysweep.trainables.code import digest

# Each built-in trainable is a module that holds a generator of the same name, and may hold
#   load(...)                                    the data, which the trials of a node then share
#   export(point, state, data, folder) -> dict   writes the trained model into folder, returns its test metrics
#   ADJUSTABLE                                   the arguments that may change during training
#   LOCATIONS                                    the arguments that may name a model in MLflow, or a relative path:
#                                                they get its folder, or the absolute path
#   FEATURE_ARGUMENTS                            the arguments that determine features that trials share
#   feature_sets(points) -> [arguments]          the feature sets that trials with these points will need
#   check(arguments)                             raises DataError when a set cannot be computed,
#   pending(arguments, data) -> dict             what of a set is missing: `key`, `folder`, `rows`, `bytes`, `shards`,
#   extract(arguments, data) -> int              computes it, alongside other processes; returns how many rows
BUILTIN = {"mlp": "raysweep.trainables.mlp", "transfer": "raysweep.trainables.transfer"}

SHARD = 64
"""Rows of shared features that are computed together. A killed process loses no more than these."""

GIVEN = frozenset({"seed", "state"})
"""Arguments that raysweep fills in itself; no study names them."""


@dataclass(frozen=True)
class Trainable:
    """A trainable: the function, and what else its module provides."""

    name: str
    function: Callable[..., Any]
    load: Callable[..., Any] | None = None
    export: Callable[..., dict[str, float]] | None = None
    adjustable: frozenset[str] = frozenset()
    """Hyperparameters that may change in the middle of a training."""
    locations: frozenset[str] = frozenset()
    """Hyperparameters that may name a model in MLflow, or a relative path."""
    feature_arguments: tuple[str, ...] = ()
    """Hyperparameters that determine the features that many trials share."""
    feature_sets: Callable[[Iterable[dict[str, Any]]], list[dict[str, Any]]] | None = None
    """The feature sets that points need, given these parts of them."""
    file: str = ""
    sha256: str = ""
    """Of the file that holds the function; part of what makes a study reproducible."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all the user's code that it uses; empty for a built-in, which its version identifies."""
        return "" if self.builtin else digest(self.function)

    @property
    def builtin(self) -> bool:
        return self.name in BUILTIN

    @property
    def yields(self) -> bool:
        """Whether it is a generator. Otherwise it is an ordinary Ray Tune function `train(config)`."""
        return inspect.isgeneratorfunction(self.function)

    @property
    def arguments(self) -> dict[str, inspect.Parameter]:
        """The arguments that a study may give it, by name, with their types if available."""
        arguments = _parameters(self.function)
        if self.load is not None:  # a study says which data; the function is then given the data itself
            arguments |= _parameters(self.load)
        return {name: a for name, a in arguments.items() if name not in GIVEN}

    @property
    def takes(self) -> frozenset[str]:
        """The names of the arguments it takes."""
        return frozenset(inspect.signature(self.function).parameters)

    def data_arguments(self) -> list[str]:
        """The hyperparameters that only say which data to load."""
        return list(inspect.signature(self.load).parameters) if self.load else []


def find(trainable: str | Callable[..., Any], beside: Path | None = None) -> Trainable:
    """The trainable called `trainable`: a built-in's name, `package.module:function`, or the function itself.

    A module is looked for on the Python path, and last in the folder `beside` (the study file's own).
    Raises StudyError when there is no such function or it is no trainable.
    """
    if callable(trainable):
        name = getattr(trainable, "__qualname__", type(trainable).__qualname__)
        return _checked(trainable, f"{trainable.__module__}:{name}")
    if trainable in BUILTIN:
        module = importlib.import_module(BUILTIN[trainable])
        file = str(module.__file__)  # not that of `keywords`, which wraps the function
        return Trainable(
            trainable,
            getattr(module, trainable),
            load=getattr(module, "load", None),
            export=getattr(module, "export", None),
            adjustable=getattr(module, "ADJUSTABLE", frozenset()),
            locations=getattr(module, "LOCATIONS", frozenset()),
            feature_arguments=getattr(module, "FEATURE_ARGUMENTS", ()),
            feature_sets=getattr(module, "feature_sets", None),
            file=file,
            sha256=_sha256(file),
        )
    place, colon, name = trainable.partition(":")
    if not colon or not name:
        known = did_you_mean(trainable, BUILTIN)
        raise _no(f"'{trainable}' is not built in.{known} Write your own as package.module:function")
    module = _module(place, beside)
    function = getattr(module, name, None)
    if not callable(function):
        raise _no(f"{place} has no function '{name}'.{did_you_mean(name, vars(module))}")
    return _checked(function, trainable)


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function, eval_str=True).parameters)
    except NameError:  # a type that is only there for a type checker
        return dict(inspect.signature(function).parameters)


def _no(what: str) -> StudyError:
    return StudyError([Problem("trainable", what)])


def _module(place: str, beside: Path | None) -> ModuleType:
    if beside is not None and str(beside) not in sys.path:
        sys.path.append(str(beside))  # at the end, so that a file there shadows nothing
    try:
        return importlib.import_module(place)
    except ImportError as error:
        raise _no(f"cannot import '{place}': {error}") from error
    except Exception as error:  # a module may raise anything while it is imported
        raise _no(f"importing '{place}' raised {type(error).__name__}: {error}") from error


def _checked(function: Callable[..., Any], name: str) -> Trainable:
    arguments = inspect.signature(function).parameters
    if not inspect.isgeneratorfunction(function) and list(arguments) != ["config"]:
        raise _no(
            f"'{name}' must yield (metrics, state) once an epoch, or be a Ray Tune function of one argument, config"
        )
    file = inspect.getsourcefile(function) or ""
    return Trainable(name, function, file=file, sha256=_sha256(file))


def _sha256(file: str) -> str:
    """Of a file's content; of nothing where there is no file, as in a notebook."""
    return hashlib.sha256(Path(file).read_bytes() if file and Path(file).is_file() else b"").hexdigest()
