"""From a study to its trials: check, connect to Ray, search, export the best. `raysweep.run` is here."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep import preparation, queue, tracking
from raysweep.errors import HIDDEN, Problem, RaysweepError, StorageError, StudyError, scrubbed
from raysweep.journal import FILE, History, Journal, read
from raysweep.loop import Loop
from raysweep.memory import Memory
from raysweep.mirror import Mirror, fetch
from raysweep.nodes import capacity
from raysweep.ray_session import connected, environment
from raysweep.sessions import EXTENDABLE, MAY_CHANGE, admit
from raysweep.study import Study
from raysweep.tracking import OFF
from raysweep.trainables import Trainable
from raysweep.trial import Trial, asked, best, ranking
from raysweep.warm_start import take_over

STUDIES = Path("studies")


@dataclass(frozen=True)
class Result:
    """What a search came to."""

    study: Study
    folder: Path
    trials: tuple[Trial, ...]
    interrupted: bool
    test: dict[str, float]
    """The metrics of the best trial on the test split, which nothing else has seen."""
    tracking: tracking.Status
    terminated: bool = False
    """Whether it was SIGTERM that interrupted it."""
    failing: str = ""
    """Why it was given up: its first trials all failed."""

    @property
    def best(self) -> Trial | None:
        return best(self.trials, self.study.objective)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM has ended a search, in order: the study can be continued. It is raised again since it is
    meant for the whole program."""

    def __init__(self, result: Result):
        super().__init__(f"the search of {result.study.name} was interrupted")
        self.result = result


def run(
    study: Study,
    *,
    folder: str | Path = STUDIES,
    address: str | None = None,
    store: str | None = None,
    watch: Callable[[Study, Journal, Path], Any] | None = None,
    say: Callable[[str], None] = lambda text: None,
    extend: bool = False,
    top: int = 0,
    epochs: int = 0,
    again: bool = False,
    open_cluster: bool = False,
    mirror: str | None = None,
    code_changed: bool = False,
) -> Result:
    """Search `study`, or continue it: its journal in `folder`/NAME says what is done already.

    With `extend` it may have another algorithm, another scheduler and other bounds than its journal; the `top`
    trials go on until they have `epochs`; with `again` those that failed or took too long are tried again.
    `address` is a Ray cluster's (a local Ray is started when not given), `store` MLflow's (see
    `tracking.store_of`). `watch` is a context manager factory that shows progress, `say` takes single
    lines for a person. A cluster that takes anybody's commands is refused unless `open_cluster`, and code that has
    changed since a study's trials were run unless `code_changed`. The study is copied to `mirror` (s3://BUCKET/FOLDER,
    say) as it goes, and fetched from there if that knows more; its last one when not given, none if "off".

    Raises a RaysweepError before anything is started when something is wrong, and Interrupted, a KeyboardInterrupt with
    the result so far, when the search was ended by Ctrl-C or SIGTERM.
    """
    place = Path(folder).resolve() / study.name
    uri = tracking.store_of(place, store)
    tracking.check(uri)
    mirror = mirror or _mirrored(place)
    if mirror != OFF and fetch(place, mirror):
        say(f"Fetched {study.name} as it was at {scrubbed(mirror)}.")
    journal, copy, end, admitted, complete = Journal(place), None, _End(), False, False
    speak, say = say, _journalled(say, journal)
    try:
        copy = Mirror(place, mirror, speak) if mirror != OFF else None
        admit(study, journal, uri, EXTENDABLE if extend else MAY_CHANGE, mirror, code_changed)
        admitted = True
        queue.go_on(place)  # what was wanted of an earlier session
        if copy is not None:
            copy.start()
        if not study.found.builtin:
            say(f"Code: {study.found.file or study.found.name} (sha256 {study.found.digest[:12]}).")
        if again:
            _try_again(journal)
        if top:
            _give_more(study, journal, top, epochs)
        for line in take_over(study, journal, uri):
            say(line)
        loop = Loop(study, journal)
        if loop.complete and not _to_export(study, journal):
            say(f"{study.name} is complete: {_why(loop)}.")
            tracking.start(place, uri)
            journal.append("over", complete=True)
        else:
            end = _search(loop, place, address, uri, watch, say, open_cluster)
        complete = loop.complete
    except KeyboardInterrupt:
        say("Stopped.")
        journal.append("over")
        end = _End(signalled=True)
    except RaysweepError as error:
        if admitted:
            journal.append("over", error=str(error))  # for who looks from elsewhere
        raise
    finally:
        journal.close()
        if copy is not None:
            copy.close()
        queue.go_on(place)
    trials = journal.trials
    result = Result(
        study,
        place,
        tuple(trials),
        interrupted=not complete or _to_export(study, journal) is not None,
        test=_tested(study, journal),
        tracking=tracking.drain(place, speak),
        terminated=end.terminated,
        failing=end.failing,
    )
    if end.signalled:
        raise Interrupted(result)
    return result


def _journalled(say: Callable[[str], None], journal: Journal) -> Callable[[str], None]:
    """What is told is journalled as well, for who looks later, or from elsewhere."""

    def tell(text: str) -> None:
        say(text)
        journal.append("said", text=text)

    return tell


@dataclass(frozen=True)
class _End:
    """What ended a search before it was complete."""

    terminated: bool = False
    """By SIGTERM, or by `raysweep cancel`."""
    signalled: bool = False
    """By Ctrl-C or SIGTERM, which are meant for the whole program."""
    failing: str = ""


def _mirrored(place: Path) -> str:
    """The mirror of the last session, or that there is none. Raises StorageError when its password was not kept."""
    path = place / FILE
    known: str = History(read(path)[0]).session.get("mirror", "") if path.exists() else ""
    if HIDDEN in known:
        raise StorageError(
            f"{place.name} was mirrored to {known}, whose password is not kept. Say --mirror URI, or --mirror off"
        )
    return known or OFF


def _try_again(journal: Journal) -> None:
    """Let every trial that failed or took too long wait for another attempt."""
    for trial in journal.trials:
        if trial.status in {"failed", "timeout"}:
            journal.append("again", trial=trial.number)


def _give_more(study: Study, journal: Journal, top: int, epochs: int) -> None:
    """Journal that the best `top` trials are to have `epochs`. Raises StudyError when they cannot."""
    if "state" not in study.found.takes or "epochs" not in study.found.takes:
        raise StudyError([Problem("trainable", "takes no state and epochs, so its trials cannot go on")])
    why = Memory(study, journal).rules.why
    if why:
        raise StudyError(
            [Problem("stop", f"{why}, so no trial would go on. Change stop in the file, and use --to")]
        )
    chosen = ranking([t for t in journal.trials if t.ended], study.objective)[:top]
    done = max((t.last.epoch for t in chosen if t.last), default=0)
    if epochs <= done:
        raise StudyError([Problem("epochs", f"the best trials have {done} already; give more")])
    journal.append("continue", trials=[t.number for t in chosen], epochs=epochs)


def _why(loop: Loop) -> str:
    """What made a study complete."""
    return loop.rules.why or f"{asked(loop.journal.trials)} of {loop.study.target} trials"


def _to_export(study: Study, journal: Journal) -> tuple[Trial, int] | None:
    """The best trial and its best epoch, when that model is not tested and exported yet."""
    winner = best(journal.trials, study.objective)
    report = winner.best(study.objective) if winner else None
    if winner is None or report is None or study.found.export is None:
        return None
    known = journal.history.best
    done = (known.get("trial"), known.get("epoch")) == (winner.number, report.epoch)
    return None if done else (winner, report.epoch)


def _tested(study: Study, journal: Journal) -> dict[str, float]:
    metrics: dict[str, float] = journal.history.best.get("metrics", {})
    return {} if _to_export(study, journal) else metrics


# --- Ray --------------------------------------------------------------------------------------------------


def _search(
    loop: Loop,
    place: Path,
    address: str | None,
    uri: str,
    watch: Callable[[Study, Journal, Path], Any] | None,
    say: Callable[[str], None],
    open_cluster: bool,
) -> _End:
    """Everything that needs Ray."""
    end, study, journal = _End(), loop.study, loop.journal
    say(f"Starting Ray{f' at {address}' if address else ''} ...")
    tracking.start(place, uri, watch=True)  # MLflow takes seconds to import: it does so while Ray starts
    with connected(address, place / "ray.log", open_cluster) as ray:
        # For what comes before the search, which itself follows the cluster as it grows and shrinks.
        slots = _slots(ray, study, address is not None, say)
        data = preparation.load_data(ray, study, journal, say)
        fetched = preparation.fetch(ray, study, journal, place, uri, say)
        if study.cardinality is not None and study.cardinality < (study.trials or 1):
            say(f"The space has {study.cardinality} points; each is tried once.")
        if not loop.complete:
            preparation.extract(ray, study, journal, data, fetched, slots, say)
            with watch(study, journal, place) if watch else nullcontext():
                end = _tune(loop, place, data, fetched, address is not None, say)
        if loop.rules.why:
            say(f"Enough: {loop.rules.why}.")
        chosen = _to_export(study, journal)
        if loop.complete and chosen:
            _export(ray, study, journal, place, data, fetched, say, *chosen)
        journal.append("over", complete=loop.complete, error=end.failing)
    return end


def _slots(ray: Any, study: Study, grows: bool, say: Callable[[str], None]) -> int:
    """How many trials run at once to begin with. Raises ClusterError when no node can ever hold one."""
    fits = capacity(ray, study.per_trial.request(), grows)
    if not fits.now:
        say("No node that is there holds a trial: waiting for the autoscaler to add one that does.")
    if study.concurrency is not None and study.concurrency > fits.most:
        say(f"concurrency is {study.concurrency} but only {fits.most} trials fit at once.")
    if not study.per_trial.gpu and ray.cluster_resources().get("GPU"):
        say("This cluster has GPUs and the study asks for none: per_trial: {gpu: 1} would use them.")
    return min(fits.wanted, study.concurrency or fits.wanted, max(study.target, 1))


def _tune(
    loop: Loop,
    place: Path,
    data: dict[str, Any],
    fetched: dict[str, str],
    grows: bool,
    say: Callable[[str], None],
) -> _End:
    """One Tuner, and we are its only caller. Ctrl-C and SIGTERM end it in order."""
    from ray import tune

    from raysweep import worker
    from raysweep.executions import Job
    from raysweep.search import Notice, Recorder, Room, Searcher, Timeout
    from raysweep.tune_scheduler import LoopScheduler

    study = loop.study
    found = study.found
    # A trainable of one's own sees all the GPUs of its trial, and shares them out itself.
    ranks = study.per_trial.ranks if found.builtin else 1
    job = Job(
        found.name if found.builtin else _pickled(found),
        str(Path(found.file).parent),
        study.per_trial.gpu,
        study.objective,
        str(place),
        max(1, study.per_trial.threads // ranks),
        data,
        study.checkpoint_every,
        loop.scheduler.milestones,
        fetched,
        os.getcwd(),
        ranks,
    )
    holds: Any = study.per_trial.request()
    if ranks > 1:
        holds = tune.PlacementGroupFactory(study.per_trial.bundles(), strategy="STRICT_PACK")  # on one node
    runs: Any = tune.with_parameters(worker.Worker, job=job) if found.yields else worker.tune_function(job)
    main = threading.current_thread() is threading.main_thread()  # only there may signals be handled
    terminated, cancelled = threading.Event(), threading.Event()

    def terminate(*_: Any) -> None:
        terminated.set()
        os.kill(os.getpid(), signal.SIGINT)

    def cancel() -> bool:
        """End the search; in a thread of somebody's program there is nobody to signal."""
        if main:
            cancelled.set()
            os.kill(os.getpid(), signal.SIGINT)
        return main

    room, recorder = Room(loop, say, grows, cancel), Recorder(loop)
    searcher = Searcher(loop, room)
    callbacks: list[Any] = [recorder, room, *([Notice(say)] if found.yields else [])]
    if study.trial_timeout or study.no_progress_timeout:
        callbacks.append(Timeout(loop, study.trial_timeout, study.no_progress_timeout))
    scratch = tempfile.mkdtemp(prefix="raysweep-")  # Tune wants a place for files that we make no use of
    previous = signal.signal(signal.SIGTERM, terminate) if main else None
    # Paths in a study mean in its trials what they mean here; Ray Tune's own functions may count on its way.
    where = environment({"RAY_CHDIR_TO_TRIAL_DIR": "0" if found.yields else "1"})
    tuner = tune.Tuner(
        tune.with_resources(runs, holds),
        tune_config=tune.TuneConfig(
            metric=study.objective.metric,
            mode="max" if study.objective.maximize else "min",
            search_alg=searcher,
            scheduler=LoopScheduler(loop, recorder),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=scratch,
            verbose=0,
            callbacks=callbacks,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False) if found.yields else None,
        ),
    )
    try:
        with where:
            tuner.fit()
    finally:
        loop.kept.sweep()  # a worker may have written once more after its trial was beaten
        if main:
            signal.signal(signal.SIGTERM, previous)
        shutil.rmtree(scratch, ignore_errors=True)
    wanted = cancelled.is_set() or loop.ending or loop.failing
    # Ctrl-C goes to Ray Tune, which ends in order and says nothing.
    signalled = terminated.is_set() or not (searcher.finished or loop.complete or wanted)
    return _End(terminated.is_set() or cancelled.is_set(), signalled, loop.failing)


def _pickled(found: Trainable) -> bytes:
    """The user's function with its module, which the workers need not have."""
    from ray import cloudpickle

    module = sys.modules[found.function.__module__]
    by_value = module.__name__ != "__main__"
    if by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        data: bytes = cloudpickle.dumps(found.function)
    except Exception as error:  # pickling runs what it pickles, which may raise anything
        what = f"'{found.name}' refers to something that cannot be sent to workers: {error}"
        raise StudyError([Problem("trainable", what)]) from None
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(module)
    return data


def _trial_name(trial: Any) -> str:
    return f"{trial.config['number']:06d}"


def _export(
    ray: Any,
    study: Study,
    journal: Journal,
    place: Path,
    data: dict[str, Any],
    fetched: dict[str, str],
    say: Callable[[str], None],
    winner: Trial,
    epoch: int,
) -> None:
    """The best trial's model as files, and its metrics on the test split, which is touched here and only here."""
    from raysweep.executions import data_key
    from raysweep.worker import export

    say(f"Testing the best trial, {winner.number} ...")
    shared = data[data_key({k: v for k, v in winner.point.items() if k in study.found.shared()})]
    limits = study.per_trial.gpu, study.per_trial.threads  # as a trial's, so that it computes alike
    task = ray.remote(**preparation.as_options(study))(export)
    try:
        metrics = ray.get(
            task.remote(
                study.found.name, winner.point, epoch, str(place), winner.number, shared, fetched, *limits
            )
        )
    except ray.exceptions.RayTaskError as error:
        raise RaysweepError(
            f"the best trial, {winner.number}, could not be exported: {error.cause}"
        ) from error
    journal.append("best", trial=winner.number, epoch=epoch, metrics=metrics)
