"""What can be trained. A trainable is a generator function: its keyword arguments are its hyperparameters,
and it yields `(metrics, state)`, or metrics alone, once per epoch. `state` (tensors and plain types) is all it
needs to resume: called again with `state=`, it continues from there. If it takes `seed`, each execution gets
its own seed. A function that returns its metrics is a trainable of one epoch.

A function `export(point, state, folder)` beside it writes the best model as an MLflow model into `folder`, and
may return its metrics on test data.

Nothing in this package knows of Ray or MLflow, so every trainable runs under `list()`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from raysweep.errors import Problem, StudyError, did_you_mean
from raysweep.trainables.code import Snapshot, core, file_of, file_of_module, root_of, snapshot

# Each built-in trainable is a module that holds a generator of the same name, and may hold
#   load(...)                                    the data, which the trials of a node then share
#   export(point, state, data, folder) -> dict   writes the trained model into folder, returns its test metrics
#   ADJUSTABLE                                   the arguments that may change during training
#   LOCATIONS                                    the arguments that may name a model in MLflow, or a relative path:
#                                                they get its folder, or the absolute path
#   signature(point) -> Hashable                 what points have in common that can be trained as one computation
#   FEATURE_ARGUMENTS                            the arguments that determine features that trials share
#   feature_sets(points) -> [arguments]          the feature sets that trials with these points will need
#   baselines(points) -> [point]                 what a search is to be compared with, given the parts of points that
#                                                name data and features, and those of the arguments KEPT that are fixed
#   POOL                                         the backbones that a study may leave to a race (execution/race.py)
#   sampled(arguments, data, rows) -> dict       how good the features of a few training examples are
#   check(arguments)                             raises DataError when a set cannot be computed,
#   pending(arguments, data) -> dict             what of a set is missing: `key`, `folder`, `rows`, `bytes`, `shards`,
#   extract(arguments, data) -> int              computes it, alongside other processes; returns how many rows
BUILTIN = {"mlp": "raysweep.trainables.mlp", "transfer": "raysweep.trainables.transfer"}

SHARD = 64
"""Rows of shared features that are computed together. A killed process loses no more than these."""

WANTED = (
    "a trainable yields metrics such as {'loss': 0.5}, or (metrics, state), once an epoch, or returns metrics"
)

EXAMPLE = 'mlflow.pytorch.save_model(model, folder, serialization_format="pickle")'
"""What a function `export` may do."""

GIVEN = frozenset({"seed", "state", "packs"})
"""Arguments that raysweep fills in itself; no study names them."""


@dataclass(frozen=True)
class Trainable:
    """A trainable: the function, and what else its module provides."""

    name: str
    function: Callable[..., Any]
    load: Callable[..., Any] | None = None
    export: Callable[..., Any] | None = None
    """A built-in's `export(point, state, data, folder)`, or a user's own `export(point, state, folder)`."""
    adjustable: frozenset[str] = frozenset()
    """Hyperparameters that may change in the middle of a training."""
    locations: frozenset[str] = frozenset()
    """Hyperparameters that may name a model in MLflow, or a relative path."""
    signature: Callable[[dict[str, Any]], Hashable] | None = None
    """What points have in common that can be trained as one computation; None if none can."""
    feature_arguments: tuple[str, ...] = ()
    """Hyperparameters that determine the features that many trials share."""
    feature_sets: Callable[[Iterable[dict[str, Any]]], list[dict[str, Any]]] | None = None
    """The feature sets that points need, given these parts of them."""
    baselines: Callable[[Iterable[dict[str, Any]]], list[dict[str, Any]]] | None = None
    """The points that a search is to be compared with, given the parts of points that name data and features."""
    kept: tuple[str, ...] = ()
    """Other hyperparameters that such a point has, where a study fixes them."""
    pool: tuple[str, ...] = ()
    """The backbones that are raced unless a study names some; none if nothing can be raced."""
    file: str = ""
    sha256: str = ""
    """Of the file that holds the function; part of what makes a study reproducible."""

    @property
    def module(self) -> str:
        """The module that it is found in."""
        return self.name.partition(":")[0]

    @cached_property
    def code(self) -> Snapshot:
        """The user's code as it is when this is first asked for; nothing for a built-in, which its version
        identifies."""
        return Snapshot({}, "") if self.builtin else snapshot(self.function, self.module)

    @cached_property
    def root(self) -> str:
        """The folder that the user's code is imported from; empty for a built-in."""
        return "" if self.builtin else str(root_of(self.module))

    @property
    def place(self) -> str:
        """Where a user's code is, for a person to read: the file that the study names."""
        return str(file_of_module(self.module) or self.file or self.name)

    @property
    def builtin(self) -> bool:
        return self.name in BUILTIN

    @property
    def of_ray_tune(self) -> bool:
        """Whether it is an ordinary Ray Tune function `train(config)`, which calls `tune.report`."""
        return not inspect.isgeneratorfunction(core(self.function)) and list(self.takes) == ["config"]

    @property
    def returns(self) -> bool:
        """Whether it seems to be a function that returns its metrics: a trial of one epoch."""
        return not (self.builtin or self.of_ray_tune or inspect.isgeneratorfunction(core(self.function)))

    @property
    def resumes(self) -> bool:
        """Whether its trials can resume, and therefore pause."""
        return "state" in self.takes

    @property
    def epochs(self) -> int | None:
        """How many epochs it trains for unless told otherwise, if its argument `epochs` says so."""
        default = self.arguments["epochs"].default if "epochs" in self.arguments else None
        return default if type(default) is int else None

    @property
    def other_export(self) -> list[str]:
        """The arguments of a function `export` beside a user's trainable that is not one of ours."""
        return [] if self.export is not None else _export(self.module)[1]

    def execution(self, arguments: Mapping[str, Any]) -> Iterator[Any]:
        """Run it with these arguments: what it yields, or else what it returns."""
        made = self.function(**arguments)
        return made if isinstance(made, Iterator) else iter([made])

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
        return _own(trainable, _name_of(trainable))
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
            signature=getattr(module, "signature", None),
            feature_arguments=getattr(module, "FEATURE_ARGUMENTS", ()),
            feature_sets=getattr(module, "feature_sets", None),
            baselines=getattr(module, "baselines", None),
            kept=getattr(module, "KEPT", ()),
            pool=getattr(module, "POOL", ()),
            file=file,
            sha256=_sha256(file),
        )
    place, colon, name = trainable.partition(":")
    if not colon or not name:
        known = did_you_mean(trainable, BUILTIN)
        raise _no(f"'{trainable}' is not built in.{known} Write your own as package.module:function")
    if place.endswith(".py"):
        written = place.removesuffix(".py").replace("/", ".").lstrip(".")
        raise _no(f"name the module, not its file: write {written}:{name}")
    return _own(_attribute(_module(place, beside), name), trainable)


def is_found(trainable: Trainable) -> bool:
    """Whether its name alone leads to the very same function, in every process that can import its module."""
    found: Any = sys.modules.get(trainable.module)
    for part in trainable.name.partition(":")[2].split("."):
        found = getattr(found, part, None)
    return trainable.module != "__main__" and found is trainable.function


def described(value: Any) -> str:
    """What a value is, for a sentence: `None`, `a str`, `a tuple of 3`."""
    if value is None:
        return "None"
    kind = type(value).__name__
    many = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}{many}"


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
        module = importlib.import_module(place)
        _see_that_it_is_the_one(module, beside)
        return module
    except StudyError:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):  # something that it imports
            raise _no(f"cannot import '{place}': {error}") from error
        where = f"in {beside}, or " if beside is not None else ""
        raise _no(f"there is no module '{error.name}' {where}on the Python path") from None
    except ImportError as error:
        raise _no(f"cannot import '{place}': {error}") from error
    except Exception as error:  # a module may raise anything while it is imported
        raise _no(f"importing '{place}' raised {type(error).__name__}: {error}") from error


def _see_that_it_is_the_one(module: ModuleType, beside: Path | None) -> None:
    """Raise StudyError if the study's folder has another module of the same name, which may be meant."""
    file, own = getattr(module, "__file__", None), None
    if beside is not None:
        own = beside.joinpath(*module.__name__.split(".")).with_suffix(".py")
    if not file or own is None or not own.is_file() or Path(file).resolve() == own.resolve():
        return
    if not Path(file).is_file() or Path(file).read_bytes() != own.read_bytes():
        raise _no(f"there are two modules '{module.__name__}', {file} and {own}. Rename one of them")


def _attribute(module: ModuleType, name: str) -> Callable[..., Any]:
    """The function called `name` in a module, or `Class.name`."""
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            functions = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            raise _no(f"{module.__name__} has no function '{name}'.{did_you_mean(name, functions)}")
        found = getattr(found, part)
    if not callable(found):
        raise _no(f"'{module.__name__}:{name}' is {described(found)}, not a function")
    function: Callable[..., Any] = found
    return function


def _name_of(function: Callable[..., Any]) -> str:
    """`module:function`, by which a resumed study finds it again where that is possible."""
    written = core(function)
    return f"{written.__module__}:{getattr(written, '__qualname__', type(written).__qualname__)}"


def _own(function: Callable[..., Any], name: str) -> Trainable:
    """A user's trainable. Raises StudyError when it cannot be one."""
    if inspect.isclass(function):
        raise _no(f"'{name}' is a class. Give a function: {WANTED}")
    written = core(function)
    if inspect.iscoroutinefunction(written) or inspect.isasyncgenfunction(written):
        raise _no(f"'{name}' is asynchronous. Give an ordinary function: {WANTED}")
    try:
        inspect.signature(function)
    except (TypeError, ValueError):
        raise _no(f"the arguments of '{name}' cannot be told. Wrap it in a function of your own") from None
    file = file_of(function)
    return Trainable(
        name, function, export=_export(name.partition(":")[0])[0], file=file, sha256=_sha256(file)
    )


def _export(module: str) -> tuple[Callable[..., Any] | None, list[str]]:
    """The function `export(point, state, folder)` in the trainable's module, if there is one, and the arguments
    of whatever function is called so there."""
    beside = getattr(sys.modules.get(module), "export", None)
    takes = list(inspect.signature(beside).parameters) if inspect.isfunction(beside) else []
    return beside if takes == ["point", "state", "folder"] else None, takes


def _sha256(file: str) -> str:
    """Of a file's content; of nothing where there is no file, as in a notebook."""
    return hashlib.sha256(Path(file).read_bytes() if file and Path(file).is_file() else b"").hexdigest()
