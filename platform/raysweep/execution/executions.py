"""What a process needs to run trials: the job that they share, and their executions, one generator per seed.

The driver imports this module too, in order to send it. It does not load torch (450 MB), and neither does a
trainable that does not need it.
"""

from __future__ import annotations

import importlib
import os
import platform
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray import cloudpickle

from raysweep.errors import Problem, StudyError
from raysweep.study.objective import Objective
from raysweep.study.space import SECRET, Point, encode
from raysweep.trainables.data import View
from raysweep.trainables.importing import install
from raysweep.trainables.trainable import Trainable, find, is_found

Execution = Iterator[Any]
"""What a trainable yields, epoch by epoch."""


@dataclass(frozen=True)
class Code:
    """A trainable as it is sent to other processes."""

    name: str
    pickled: bytes = b""
    """The function itself and its `export`, where the name does not lead to it: in a notebook or script, or
    made at run time."""
    root: str = ""
    """The folder that the user's modules are imported from."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Those modules, as they are now (see trainables/importing.py)."""

    @classmethod
    def of(cls, found: Trainable) -> Code:
        """The code of a trainable. Raises StudyError when it cannot be sent."""
        if found.builtin:
            return cls(found.name)
        pickled = b""
        if not is_found(found):
            try:
                pickled = cloudpickle.dumps((found.function, found.export))
            except Exception as error:  # pickling runs what it pickles, which may raise anything
                what = f"'{found.name}' refers to something that cannot be sent to workers: {error}"
                raise StudyError([Problem("trainable", what)]) from None
        return cls(found.name, pickled, found.root, found.code.files)

    def load(self) -> Trainable:
        """The trainable, in this process."""
        if self.root:
            install(self.root, self.files)
        if not self.pickled:
            return find(self.name)
        function, export = cloudpickle.loads(self.pickled)
        return replace(find(function), export=export)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the trials of a study share: sent to each worker once."""

    code: Code
    gpus: float
    objective: Objective
    folder: str
    threads: int
    """Of each process of a trial."""
    data: Mapping[str, Any]
    """Loaded data by `data_key`: references into Ray's object store, which a node's workers map, not copy."""
    checkpoint_every: float
    """Seconds between the checkpoints of a running trial. Its end always writes one."""
    milestones: frozenset[int] = frozenset()
    """Epochs at which a trial may pause and resume elsewhere: its checkpoint is written before it reports."""
    fetched: Mapping[str, str] = field(default_factory=dict)
    """The folder of each model in MLflow that a point may name, and each relative path as a whole one."""
    working_dir: str = ""
    """The folder that the search runs in; relative paths start there."""
    ranks: int = 1
    """Processes that train a trial together, each on a GPU of its own."""
    learns: bool = False
    """Whether later trials depend on what earlier ones have come to."""
    folds: int | None = None
    """Into how many parts training and validation data are divided; each execution is judged by one of them."""
    resplit: bool = False
    """Whether each execution draws its own validation split."""
    ensemble: bool = False
    """Whether the best trials also become one model."""
    refit: bool = False
    """Whether the model is the best point trained again, on training and validation data."""

    def view(self, execution: int, seed: int) -> View | None:
        """How an execution sees the data."""
        if self.folds:
            return View("fold", execution % self.folds, self.folds)
        return View("resplit", seed) if self.resplit else None


def data_key(trainable: Trainable, point: Point) -> str:
    """The key under which the data that a point names is shared."""
    names = trainable.data_arguments()
    return encode({k: v for k, v in point.items() if k in names})


def limit_process(gpus: float, threads: int) -> None:
    """Keep this process to what it was given."""
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves all GPUs visible if none was requested
    # In case torch is imported later.
    os.environ |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)


def seed_globals(seed: int) -> None:
    """Reseed this process's global random generators: a trial's draws must not depend on earlier trials."""
    import numpy
    import torch  # even if no trial has yet: checkpoints are written with it

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def with_secrets(point: Point) -> Point:
    """The point with secrets (`api_key: env:API_KEY`) taken from this process's environment."""
    found = dict(point)
    for name, value in point.items():
        if SECRET.search(name) and isinstance(value, str) and value.startswith("env:"):
            variable = value.removeprefix("env:")
            if variable not in os.environ:
                raise RuntimeError(f"the environment variable {variable} is not set on {platform.node()}")
            found[name] = os.environ[variable]
    return found


def located(trainable: Trainable, point: Point, fetched: Mapping[str, str]) -> Point:
    """The values of a point that name something stored elsewhere, replaced by where a trial finds it."""
    found: Point = {}
    for name in trainable.locations & point.keys():
        value = point[name]
        if isinstance(value, Mapping):
            found[name] = {key: fetched.get(one, one) for key, one in value.items()}
        elif value in fetched:
            found[name] = fetched[value]
    return found


class Executions:
    """Makes the executions of the job's trials in this process."""

    def __init__(self, job: Job, data: Mapping[str, Any] | None = None):
        """Prepare this process to run them. `data` by `data_key` is what is loaded already."""
        limit_process(job.gpus, job.threads)
        self.trainable = job.code.load()
        if not self.trainable.builtin:
            importlib.import_module("torch")  # which takes seconds: now, before a trial's time counts
        self._job = job
        self._loaded = dict(data or {})
        self._together: dict[str, Any] = {}
        if "packs" in self.trainable.takes:  # what runs in this process is computed together
            from raysweep.trainables.pack import Packs

            self._together["packs"] = Packs(job.learns)

    @property
    def slots(self) -> int:
        """How many trials this process should run at once."""
        packs = self._together.get("packs")
        return packs.slots if packs is not None else 1

    def create(self, point: Point, seeds: Sequence[int], states: Sequence[Any]) -> list[Execution]:
        """An execution of `point` for each seed; it resumes from its state, if there is one."""
        takes, arguments = self.trainable.takes, self.arguments(point) | self._together
        if not self.trainable.builtin:  # built-ins leave global state alone
            seed_globals(seeds[0])
        return [
            self.trainable.execution(
                arguments
                | self._viewed(arguments, self._job.view(i, seed))
                | ({"seed": seed} if "seed" in takes else {})
                | ({"state": state} if state is not None and "state" in takes else {})
            )
            for i, (seed, state) in enumerate(zip(seeds, states, strict=True))
        ]

    def _viewed(self, arguments: Mapping[str, Any], view: View | None) -> dict[str, Any]:
        """The data, divided in another way if need be, and with the metrics that the study names."""
        name = next(iter(self.trainable.data_arguments()), None)
        if name is None:
            return {}
        return {name: replace(arguments[name].scoring(self._job.objective.names), view=view)}

    def refitted(self, point: Point, seed: int, epochs: int) -> Any:
        """The state of a point after so many epochs on training and validation data."""
        arguments = self.arguments(point)
        unstopped = {"patience": None} if "patience" in point else {}  # nothing is left to judge it by
        more = self._viewed(arguments, View("whole")) | unstopped
        execution, state = self.trainable.execution(arguments | more | {"seed": seed}), None
        for _ in range(epochs):
            _, state = next(execution)
        return state

    def arguments(self, point: Point) -> dict[str, Any]:
        """The point as keyword arguments: shared data in place of its name, secrets from the environment."""
        shared = self.trainable.data_arguments()
        arguments = {k: v for k, v in with_secrets(point).items() if k not in shared}
        arguments |= located(self.trainable, arguments, self._job.fetched)
        if shared:
            key = data_key(self.trainable, point)
            if key not in self._loaded:
                self._loaded[key] = ray.get(self._job.data[key])
            arguments[shared[0]] = self._loaded[key]
        return arguments
