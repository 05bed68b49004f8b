"""From a study to its trials: check, connect to Ray, search, export the best. `raysweep.run` is here."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep import preparation, queue, tracking
from raysweep.errors import (
    ClusterError,
    Problem,
    RaysweepError,
    StudyError,
    scrubbed,
)
from raysweep.journal import FILE, History, Journal, read
from raysweep.mirror import Mirror, fetch
from raysweep.nodes import capacity
from raysweep.sessions import EXTENDABLE, MAY_CHANGE, admit, code_changed
from raysweep.stopping import Rules
from raysweep.study import Study
from raysweep.tracking import OFF
from raysweep.trainables import Trainable
from raysweep.trial import Trial, asked, best, ranking
from raysweep.warm_start import take_over

STUDIES = Path("studies")
RAY = (2, 60)


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
) -> Result:
    """Search `study`, or continue it: its journal in `folder`/NAME says what is done already.

    With `extend` it may have another algorithm, another scheduler and other bounds than its journal; the `top`
    trials go on until they have `epochs`; with `again` those that failed or took too long are tried again.
    `address` is a Ray cluster's (a local Ray is started when not given), `store` MLflow's (see
    `tracking.store_of`). `watch` is a context manager factory that shows progress, `say` takes single
    lines for a person. A cluster that takes anybody's commands is refused unless `open_cluster`. The study is
    copied to `mirror` (s3://BUCKET/FOLDER, say) as it goes, and fetched from there if that knows more; its last
    one when not given, none if "off". Raises a RaysweepError before anything is started when something is wrong.
    """
    place = Path(folder).resolve() / study.name
    uri = tracking.store_of(place, store)
    tracking.check(uri)
    mirror = mirror or _mirrored(place)
    if mirror != OFF and fetch(place, mirror):
        say(f"Fetched {study.name} as it was at {scrubbed(mirror)}.")
    journal, copy, end, admitted = Journal(place), None, _End(), False
    speak, say = say, _journalled(say, journal)
    try:
        copy = Mirror(place, mirror, speak) if mirror != OFF else None
        admit(study, journal, uri, EXTENDABLE if extend else MAY_CHANGE, mirror)
        admitted = True
        queue.go_on(place)  # what was wanted of an earlier session
        if copy is not None:
            copy.start()
        if not study.found.builtin:
            changed = ", changed since this study began" * code_changed(study, journal.history)
            say(f"Code: {study.found.file} (sha256 {study.found.sha256[:12]}{changed}).")
        if again:
            _try_again(journal)
        if top:
            _give_more(study, journal, top, epochs)
        for line in take_over(study, journal, uri):
            say(line)
        if _complete(study, journal) and not _to_export(study, journal):
            say(f"{study.name} is complete: {_why(study, journal)}.")
            tracking.start(place, uri)
            journal.append("over", complete=True)
        else:
            end = _search(study, journal, place, address, uri, watch, say, open_cluster)
    except KeyboardInterrupt:
        say("Stopped.")
        journal.append("over")
    except RaysweepError as error:
        if admitted:
            journal.append("over", error=str(error))  # for who looks from elsewhere
        raise
    finally:
        queue.go_on(place)
        journal.close()
        if copy is not None:
            copy.close()
    trials = journal.trials
    return Result(
        study,
        place,
        tuple(trials),
        interrupted=not _complete(study, journal) or _to_export(study, journal) is not None,
        test=_tested(study, journal),
        tracking=tracking.drain(place, speak),
        terminated=end.terminated,
        failing=end.failing,
    )


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
    failing: str = ""


def _mirrored(place: Path) -> str:
    """The mirror of the last session, or that there is none."""
    path = place / FILE
    known: str = History(read(path)[0]).session.get("mirror", "") if path.exists() else ""
    return known if known and "***" not in known else OFF


def _complete(study: Study, journal: Journal) -> bool:
    trials = journal.trials
    if not all(t.ended for t in trials):
        return False
    return bool(Rules(study, journal).why) or (asked(trials) >= study.target and not journal.history.owed)


def _try_again(journal: Journal) -> None:
    """Let every trial that failed or took too long wait for another attempt."""
    for trial in journal.trials:
        if trial.status in {"failed", "timeout"}:
            journal.append("again", trial=trial.number)


def _give_more(study: Study, journal: Journal, top: int, epochs: int) -> None:
    """Journal that the best `top` trials are to have `epochs`. Raises StudyError when they cannot."""
    if "state" not in study.found.takes or "epochs" not in study.found.takes:
        raise StudyError([Problem("trainable", "takes no state and epochs, so its trials cannot go on")])
    why = Rules(study, journal).why
    if why:
        raise StudyError(
            [Problem("stop", f"{why}, so no trial would go on. Change stop in the file, and use --to")]
        )
    chosen = ranking(journal.trials, study.objective)[:top]
    done = max((t.last.epoch for t in chosen if t.last), default=0)
    if epochs <= done:
        raise StudyError([Problem("epochs", f"the best trials have {done} already; give more")])
    journal.append("continue", trials=[t.number for t in chosen], epochs=epochs)


def _why(study: Study, journal: Journal) -> str:
    """What made a study complete."""
    return Rules(study, journal).why or f"{asked(journal.trials)} of {study.target} trials"


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
    study: Study,
    journal: Journal,
    place: Path,
    address: str | None,
    uri: str,
    watch: Callable[[Study, Journal, Path], Any] | None,
    say: Callable[[str], None],
    open_cluster: bool,
) -> _End:
    """Everything that needs Ray."""
    end = _End()
    say(f"Starting Ray{f' at {address}' if address else ''} ...")
    tracking.start(place, uri, watch=True)  # MLflow takes seconds to import: it does so while Ray starts
    with connected(address, place / "ray.log", open_cluster) as ray:
        # For what comes before the search, which itself follows the cluster as it grows and shrinks.
        slots = _slots(ray, study, address is not None, say)
        data = preparation.load_data(ray, study, journal, say)
        fetched = preparation.fetch(ray, study, journal, place, uri, say)
        if study.cardinality is not None and study.cardinality < (study.trials or 1):
            say(f"The space has {study.cardinality} points; each is tried once.")
        if not _complete(study, journal):
            preparation.extract(ray, study, journal, data, fetched, slots, say)
            with watch(study, journal, place) if watch else nullcontext():
                end = _tune(study, journal, place, data, fetched, address is not None, say)
        why = Rules(study, journal).why
        if why:
            say(f"Enough: {why}.")
        chosen = _to_export(study, journal)
        if _complete(study, journal) and chosen:
            _export(ray, study, journal, place, data, fetched, say, *chosen)
        journal.append("over", complete=_complete(study, journal), error=end.failing)
    return end


@contextmanager
def connected(address: str | None, log: Path, open_cluster: bool = True) -> Iterator[Any]:
    """Ray, connected, its own chatter in `log`. What we started is ended again."""
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the journal has it all; halves the time of a report
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # the end of a trial is a result without metrics
        # Else Ray Tune takes up trials of a node that was taken away itself: as they were first asked for.
        "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",
        "TUNE_MAX_PENDING_TRIALS_PG": "100000",  # else one at a time; how many there are is for search.Room to say
        "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # snapshots, of which we use none
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    if address is None:
        token()
    import ray

    if tuple(map(int, ray.__version__.split(".")[:2])) < RAY:
        raise ClusterError(f"ray {ray.__version__} found, {'.'.join(map(str, RAY))} or newer needed")
    handler = logging.FileHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger("ray"), logging.getLogger("ray.tune")]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    started = not ray.is_initialized()
    if started:
        try:
            context = ray.init(
                address=address or "local",
                log_to_driver=False,
                configure_logging=False,
                **({} if address else {"include_dashboard": False}),
            )
        except ConnectionError as error:
            raise ClusterError(f"no Ray cluster answers at {address}: {error}") from error
    try:
        if started and address and not open_cluster:
            _refuse_open(address, context.address_info["webui_url"])
        yield ray
    finally:
        if started:
            ray.shutdown()
        for logger in loggers:
            logger.handlers = []
        handler.close()


def _refuse_open(address: str, dashboard: str) -> None:
    """Raise ClusterError if whoever reaches the cluster may run code on it."""
    try:
        with urllib.request.urlopen(f"http://{dashboard}/api/version", timeout=3):
            pass
    except OSError:
        return  # it wants a token, or has no dashboard that could be reached
    raise ClusterError(
        f"the cluster at {address} asks nobody for a token: http://{dashboard} runs what anyone sends it. Start it"
        " with RAY_AUTH_MODE=token, or use it all the same with --open-cluster"
    )


def token() -> None:
    """The key to the local Ray, readable by its owner alone. (Ray would write one that others can read.)"""
    path = Path.home() / ".ray" / "auth_token"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    path.chmod(0o600)
    # It would tell, each time, that it is on.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)


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
    study: Study,
    journal: Journal,
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
    from raysweep.loop import Loop
    from raysweep.schedulers import scheduler_of
    from raysweep.search import Notice, Recorder, Room, Searcher, Timeout, contain_out_of_memory

    found, loop = study.found, Loop(study, journal)
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
        loop.legs.milestones if loop.legs else frozenset(),
        fetched,
        os.getcwd(),
        ranks,
    )
    holds: Any = study.per_trial.request()
    if ranks > 1:
        holds = tune.PlacementGroupFactory(study.per_trial.bundles(), strategy="STRICT_PACK")  # on one node
    runs: Any = tune.with_parameters(worker.Worker, job=job) if found.yields else worker.tune_function(job)
    room = Room(loop, say, grows)
    callbacks: list[Any] = [Recorder(loop), room, *([Notice(say)] if found.yields else [])]
    if study.trial_timeout or study.no_progress_timeout:
        callbacks.append(Timeout(loop, study.trial_timeout, study.no_progress_timeout))
    contain_out_of_memory()
    # Paths in a study mean in its trials what they mean here; Ray Tune's own functions may count on its way.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0" if found.yields else "1"
    scratch = tempfile.mkdtemp(prefix="raysweep-")  # Tune wants a place for files that we make no use of
    main = threading.current_thread() is threading.main_thread()  # only there may signals be handled
    terminated = threading.Event()

    def terminate(*_: Any) -> None:
        terminated.set()
        os.kill(os.getpid(), signal.SIGINT)

    previous = signal.signal(signal.SIGTERM, terminate) if main else None
    try:
        tune.Tuner(
            tune.with_resources(runs, holds),
            tune_config=tune.TuneConfig(
                metric=study.objective.metric,
                mode="max" if study.objective.maximize else "min",
                search_alg=Searcher(loop, room),
                scheduler=scheduler_of(loop),
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
        ).fit()
    finally:
        loop.kept.sweep()  # a worker may have written once more after its trial was beaten
        if main:
            signal.signal(signal.SIGTERM, previous)
        shutil.rmtree(scratch, ignore_errors=True)
    return _End(terminated.is_set(), loop.failing)


def _pickled(found: Trainable) -> bytes:
    """The user's function with its module, which the workers need not have."""
    from ray import cloudpickle

    module = sys.modules[found.function.__module__]
    if module.__name__ != "__main__":
        cloudpickle.register_pickle_by_value(module)
    try:
        data: bytes = cloudpickle.dumps(found.function)
    except Exception as error:  # pickling runs what it pickles, which may raise anything
        what = f"'{found.name}' refers to something that cannot be sent to workers: {error}"
        raise StudyError([Problem("trainable", what)]) from None
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
