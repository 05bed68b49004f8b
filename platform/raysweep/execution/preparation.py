"""Get what trials share, before the first trial: data, weights from MLflow, features of a frozen backbone."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import os
import time
from collections.abc import Callable, Mapping
from contextlib import chdir, nullcontext
from pathlib import Path
from typing import Any

import ray

from raysweep.errors import DataError, JournalError, RaysweepError, StudyError
from raysweep.execution.executions import Code, Job, data_key, limit_process
from raysweep.journal.journal import Journal
from raysweep.search.loop import Loop
from raysweep.study.options import duration
from raysweep.study.params import Choice
from raysweep.study.shared import MANY, REMOTE, data_problems, data_sets, feature_sets
from raysweep.study.study import Study
from raysweep.tracking.store import OFF
from raysweep.trainables.readers import DEFAULT, is_light
from raysweep.trainables.trainable import SHARD

TELL = 10.0  # seconds between progress messages

Say = Callable[[str], None]
Loading = list[tuple[dict[str, Any], Any, Any]]
"""Data that is being loaded: the arguments, and references to the data and to what describes it."""


def start_loading(study: Study, ours: bool) -> Loading:
    """Begin to load each data set that the space names, once, in a process of its own. Of a Ray that is `ours`,
    started for this study, each process waits for a trial, and one that has run a task never gets any: so light
    data is read here."""
    if study.found.load is None:
        return []
    loads = ray.remote(num_cpus=0, num_returns=2)(_load_and_describe)
    module, begun = study.found.function.__module__, []
    for arguments in data_sets(study):
        if ours and is_light(arguments.get("data", DEFAULT)):
            found = map(ray.put, _load_and_describe(module, arguments, os.getcwd()))
        else:
            found = loads.remote(module, arguments, os.getcwd())
        begun.append((arguments, *found))
    return begun


def prepare(loop: Loop, uri: str, say: Say, loading: Loading) -> Job:
    """Wait for the data, fetch what is stored elsewhere, and take the user's code as it is. Returns what processes
    have to know to run the trials. Raises a RaysweepError if that fails or something has changed."""
    study, journal = loop.study, loop.journal
    # A user's own trainable sees all GPUs of its trial, and divides them up itself.
    ranks = study.per_trial.ranks if study.found.builtin else 1
    return Job(
        code=Code.of(study.found),
        gpus=study.per_trial.gpu,
        objective=study.objective,
        folder=str(journal.path.parent),
        threads=max(1, study.per_trial.threads // ranks),
        data=load_data(study, journal, say, loading),
        checkpoint_every=study.checkpoint_every,
        milestones=loop.scheduler.milestones,
        fetched=fetch(study, journal, uri, say),
        working_dir=os.getcwd(),
        ranks=ranks,
        learns=study.learns,
        folds=study.folds,
        resplit=study.resplit,
        refit=study.refit,
        ensemble=study.ensemble,
    )


def load_data(study: Study, journal: Journal, say: Say, loading: Loading) -> dict[str, Any]:
    """Each data set, checked, as it is in Ray's store."""
    references = {}
    for arguments, reference, about in loading:
        described = got(about)
        key = data_key(study.found, arguments)
        say(f"Data: {described['text']}.")
        problems = list(data_problems(study, described["examples"]["train"], described["metrics"]))
        if problems:
            raise StudyError(problems)
        _remember(journal, key, described["fingerprint"], described["text"], examples=described["examples"])
        references[key] = reference
    return references


def _remember(journal: Journal, key: str, fingerprint: str, text: str, **more: Any) -> None:
    """Journal what a study began with. Raises JournalError if it has changed since."""
    known = journal.history.data
    if key in known and known[key] != fingerprint:
        raise JournalError(f"the data {text} is not what this study began with. Give it another name")
    if key not in known:
        journal.append("data", key=key, fingerprint=fingerprint, text=text, **more)


def got(reference: Any) -> Any:
    """What a task returned. If the task failed, raises an error that says why in one sentence."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:  # of the task, or of the process that ran it
        cause = getattr(error, "cause", error)
        raise (
            cause if isinstance(cause, RaysweepError) else DataError(f"data: {type(cause).__name__}: {cause}")
        ) from None


def _load_and_describe(module: str, arguments: dict[str, Any], where: str) -> tuple[Any, dict[str, Any]]:
    """Load the data and describe it. Relative paths start at `where`, the folder that the search runs in."""
    with chdir(where) if Path(where).is_dir() else nullcontext():
        data = importlib.import_module(module).load(**arguments)
    examples = {"train": len(data.y_train), "validation": len(data.y_val), "test": len(data.y_test)}
    about = {"text": str(data), "fingerprint": data.fingerprint}
    return data, {**about, "examples": examples, "metrics": data.metrics}


# --- what lies elsewhere ------------------------------------------------------------------------------------------


def fetch(study: Study, journal: Journal, uri: str, say: Say) -> dict[str, str]:
    """Where trials find what the space names: models in MLflow, as folders (fetched once per study, so that
    `@best` keeps its meaning), and paths relative to the current folder, as absolute paths."""
    folders = {}
    for name in study.found.locations:
        p = study.space.get(name)
        options = p.options if isinstance(p, Choice) else ()
        for model in itertools.chain(*(o.values() if isinstance(o, Mapping) else [o] for o in options)):
            if not isinstance(model, str):
                continue
            if not model.startswith(REMOTE):
                if name.endswith("_dir") or Path(model).exists():
                    folders[model] = str(Path(model).expanduser().resolve())
                continue
            folder = journal.path.parent / "weights" / hashlib.sha256(model.encode()).hexdigest()[:16]
            if not folder.exists():
                if uri == OFF:
                    raise DataError(f"space.{name}: {model} is in MLflow, and tracking is off")
                say(f"Fetching {model} ...")
                got(ray.remote(num_cpus=0)(_download).remote(model, uri, folder))
            digest = hashlib.sha256((folder / "weights.pt").read_bytes()).hexdigest()
            _remember(journal, model, digest, model)
            folders[model] = str(folder)
    return folders


def _download(model: str, uri: str, folder: Path) -> None:
    from raysweep.tracking.models import download

    download(model, uri, folder)


# --- features -----------------------------------------------------------------------------------------------------


def extract(study: Study, journal: Journal, job: Job, slots: int, say: Say) -> None:
    """Compute the features that trials will need, in as many processes as there will be trials at once."""
    sets = list(feature_sets(study, job.fetched))
    if len(sets) > MANY:
        say(f"The space may ask for {len(sets)} sets of features: each is computed when a trial needs it.")
        return
    module, limits = study.found.function.__module__, (study.per_trial.gpu, study.per_trial.threads)
    pending, work = (ray.remote(**as_options(study))(f) for f in (_pending, _work))
    for arguments in sets:
        for reference in job.data.values():
            about = got(pending.remote(module, arguments, reference, *limits))
            if not about:
                continue
            what, began = f"{about['rows']:,} images through {arguments['backbone']}", time.monotonic()
            if about["shards"]:
                say(f"Features: {what}, once for all trials ...")
                helpers = min(slots, about["shards"])
                tasks = [work.remote(module, arguments, reference, *limits) for _ in range(helpers)]
                images = _watched(tasks, Path(about["folder"]), about["shards"], say)
                seconds = time.monotonic() - began
                say(f"Features: {images:,} images in {duration(seconds)}, {images / seconds:,.1f} a second.")
            else:
                seconds = 0.0
                say(f"Features: {what}, there already ({about['bytes'] / 1e6:,.1f} MB).")
            told = {"key": about["key"], "images": about["rows"], "bytes": about["bytes"]}
            journal.append("features", **told, took=seconds, warm=not about["shards"])


def as_options(study: Study) -> dict[str, Any]:
    """A trial's resources, as the options of a Ray task."""
    request = study.per_trial.request()
    return {"num_cpus": request.pop("cpu", 0), "num_gpus": request.pop("gpu", 0), "resources": request}


def _watched(tasks: list[Any], folder: Path, shards: int, say: Say) -> int:
    """Wait for all tasks, and return how many images they computed. Now and then says how far they are, if
    the folder that they fill can be seen from here."""
    began, left, images = time.monotonic(), list(tasks), 0
    there = _marks(folder)
    while left:
        ready, left = ray.wait(left, timeout=TELL)
        images += sum(got(reference) for reference in ready)
        done = _marks(folder) - there
        if not ready and 0 < done < shards:
            spent = time.monotonic() - began
            left_over = duration(spent * (shards / done - 1))
            say(
                f"Features: {done / shards:.0%}, {done * SHARD / spent:,.1f} images a second, {left_over} left."
            )
    return images


def _marks(folder: Path) -> int:
    return sum(not p.suffix for p in (folder / "done").glob("*"))


def _pending(module: str, arguments: dict[str, Any], data: Any, gpus: float, threads: int) -> dict[str, Any]:
    limit_process(gpus, threads)
    about: dict[str, Any] = importlib.import_module(module).pending(arguments, data)
    return about


def _work(module: str, arguments: dict[str, Any], data: Any, gpus: float, threads: int) -> int:
    limit_process(gpus, threads)
    images: int = importlib.import_module(module).extract(arguments, data)
    return images
