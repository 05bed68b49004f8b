"""`raysweep.run`: from a study to its result. Open its session, connect to Ray, search, export the best model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from raysweep.errors import HIDDEN, Problem, RaysweepError, StorageError, StudyError, scrubbed
from raysweep.execution.export import Export, choose_best, test_metrics, to_export
from raysweep.execution.ray_session import connected
from raysweep.execution.signals import End
from raysweep.journal import queue
from raysweep.journal.history import History
from raysweep.journal.journal import Journal
from raysweep.journal.mirror import Mirror, fetch
from raysweep.journal.records import FILE, read
from raysweep.report import live, page
from raysweep.report.result import STUDIES, Result
from raysweep.search.loop import Loop
from raysweep.search.sessions import EXTENDABLE, MAY_CHANGE, open_session
from raysweep.search.state import State
from raysweep.search.warm_start import import_trials
from raysweep.study.checks import notes
from raysweep.study.shared import check_data_is_there
from raysweep.study.study import Study
from raysweep.tracking.process import start_publisher, wait_for_publisher
from raysweep.tracking.store import OFF, check_store, store_of
from raysweep.trial import asked, ranking, valued

Say = Callable[[str], None]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM has ended a search cleanly: the study can be resumed. The interrupt is raised again
    because it is meant for the whole program."""

    def __init__(self, result: Result):
        super().__init__(f"the search of {result.study.name} was interrupted")
        self.result = result


def run(
    study: Study | str | Path,
    *,
    folder: str | Path = STUDIES,
    address: str | None = None,
    store: str | None = None,
    verbose: int = 1,
    watch: live.Watch | None = None,
    say: Say | None = None,
    extend: bool = False,
    top: int = 0,
    epochs: int = 0,
    again: bool = False,
    open_cluster: bool = False,
    mirror: str | None = None,
    code_changed: bool = False,
) -> Result:
    """Search `study`, or resume it: its journal in `folder`/NAME says what is already done. It may be a file.

    With `extend`, the study may differ from its journal in algorithm, scheduler and bounds. The best `top`
    trials are trained further, until they have `epochs`. With `again`, trials that failed or timed out are
    retried. `address` is that of a Ray cluster (if not given, a local Ray is started), `store` that of MLflow
    (see `tracking.store.store_of`). `verbose`: 0 prints nothing, 1 shows a line of progress in a notebook or
    terminal, 2 prints a line for each trial and for what else happens. (`watch`, a context manager factory
    that shows progress, and `say`, which takes single lines, replace both.) A cluster that accepts anybody's
    commands is refused unless `open_cluster`, and code that has changed since the study's trials ran is
    refused unless `code_changed`. The study is copied to `mirror` (such as s3://BUCKET/FOLDER) as it runs, and
    fetched from there if the mirror knows more. If `mirror` is not given, it is the last one; if "off", there
    is none.

    Raises a RaysweepError before anything is started when something is wrong, and Interrupted, a
    KeyboardInterrupt with the result so far, when Ctrl-C or SIGTERM ended the search.
    """
    if not isinstance(study, Study):
        study = Study.load(study)
    watch = watch or live.watch_of(verbose)
    say = say or (_printed if verbose > 1 else _silent)
    place = Path(folder).resolve() / study.name
    uri = store_of(place, store)
    check_store(uri)
    mirror = mirror or _last_mirror(place)
    if mirror != OFF and fetch(place, mirror):
        say(f"Fetched {study.name} as it was at {scrubbed(mirror)}.")
    journal, copy, end, opened, complete = Journal(place), None, End(), False, False
    told, say = say, _journalled(say, journal)
    try:
        copy = Mirror(place, mirror, told) if mirror != OFF else None
        if journal.history.study:
            study = study.continuing(journal.history.study["study"])
            study = study.narrowed(journal.history.raced.get("kept", []))
        may_change = EXTENDABLE if extend else MAY_CHANGE
        open_session(study, journal, uri, may_change, mirror, code_changed)
        opened = True
        queue.clear_end(place)  # requests to an earlier session
        if copy is not None:
            copy.start()
        if again:
            _retry_failed(journal)
        if top:
            _continue_best(study, journal, top, epochs)
        if not study.candidates:  # else after the race, which changes the space
            for line in import_trials(study, journal, uri):
                say(line)
        loop = Loop(study, journal)
        if loop.complete:
            choose_best(study, journal)
        if loop.complete and not to_export(study, journal):
            say(f"{study.name} is complete: {_why(loop)}.")
            start_publisher(place, uri)
            journal.append("over", complete=True)
        else:
            loop, end = _search(loop, Cluster(address, open_cluster), uri, watch, say)
        complete = loop.complete
    except KeyboardInterrupt:
        say("Stopped.")
        journal.append("over")
        end = End(signalled=True)
    except RaysweepError as error:
        if opened:
            journal.append("over", error=str(error))  # for anyone looking from elsewhere
        raise
    finally:
        try:
            if opened and journal.trials:
                _write_report(place, told)  # before the journal is released: then MLflow gets it, too
        finally:
            journal.close()
            if copy is not None:
                copy.close()
            queue.clear_end(place)
    study = study.narrowed(journal.history.raced.get("kept", []))
    not_exported = journal.history.best.get("error", "") if complete else ""
    result = Result(
        study,
        place,
        valued(journal.trials, study.objective),
        interrupted=not (complete and (not_exported or to_export(study, journal) is None)),
        test=test_metrics(study, journal),
        tracking=wait_for_publisher(place, told),
        terminated=end.terminated,
        failing=end.failing,
        not_exported=not_exported,
    )
    if end.signalled:
        raise Interrupted(result)
    return result


def _write_report(place: Path, say: Say) -> None:
    """Write the study's report. Whatever goes wrong with that, the study has its result all the same."""
    try:
        page.write_report(place)
    except Exception as error:
        say(f"The report was not written: {type(error).__name__}: {error}. Try: raysweep report {place.name}")


def _printed(text: str) -> None:
    """Print a line, all of it at once: Ray prints from threads of its own."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _silent(text: str) -> None:
    """Print nothing."""


def _opening(study: Study) -> Iterator[str]:
    """What is going to be run, and what may not be meant."""
    yield f"{study.name}: {study.objective} of {study.found.name} by {study.method}."
    if not study.found.builtin:
        yield f"Code: {study.found.place} (sha256 {study.found.code.digest[:12]})."
    for note in notes(study):
        yield f"Note: {note}."


def _journalled(say: Say, journal: Journal) -> Say:
    """A `say` that also journals each line, for anyone looking later or from elsewhere."""

    def tell(text: str) -> None:
        say(text)
        journal.append("said", text=text)

    return tell


def _last_mirror(place: Path) -> str:
    """The last session's mirror, or OFF. Raises StorageError when its password was not kept."""
    path = place / FILE
    known: str = History(read(path)[0]).session.get("mirror", "") if path.exists() else ""
    if HIDDEN in known:
        raise StorageError(
            f"{place.name} was mirrored to {known}, whose password is not kept. Pass --mirror URI or --mirror off"
        )
    return known or OFF


def _retry_failed(journal: Journal) -> None:
    """Journal that every trial that failed or timed out is to be retried."""
    for trial in journal.trials:
        if trial.status in {"failed", "timeout"}:
            journal.append("again", trial=trial.number)


def _continue_best(study: Study, journal: Journal, top: int, epochs: int) -> None:
    """Journal that the best `top` trials should reach `epochs`. Raises StudyError when they cannot."""
    if "state" not in study.found.takes or "epochs" not in study.found.takes:
        raise StudyError([Problem("trainable", "takes no state and epochs, so its trials cannot go on")])
    why = State(study, journal).rules.reason
    if why:
        raise StudyError(
            [Problem("stop", f"{why}, so no trial would go on. Change stop in the file, and use --to")]
        )
    # What is solved exactly has no more epochs to come.
    can = [t for t in journal.trials if t.ended and not t.baseline and t.point.get("solver") != "exact"]
    chosen = ranking(can, study.objective)[:top]
    done = max((t.last.epoch for t in chosen if t.last), default=0)
    if epochs <= done:
        raise StudyError([Problem("epochs", f"the best trials have {done} already; give more")])
    journal.append("continue", trials=[t.number for t in chosen], epochs=epochs)


def _why(loop: Loop) -> str:
    """Why a study is complete."""
    return loop.rules.reason or f"{asked(loop.journal.trials)} of {loop.study.target} trials"


# --- Ray --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cluster:
    """The Ray that a search runs on; without an address, one is started for it."""

    address: str | None
    open: bool
    """Whether a cluster that accepts anybody's commands may be used."""


def _search(loop: Loop, cluster: Cluster, uri: str, watch: live.Watch | None, say: Say) -> tuple[Loop, End]:
    """Everything that needs Ray: what trials share, the search, the best model. Returns the loop, a new one if a race
    has changed the study."""
    study, journal, address = loop.study, loop.journal, cluster.address
    place, end = journal.path.parent, End()
    for line in _opening(study):
        say(line)
    if address is None:  # a cluster may hold data that is not here
        check_data_is_there(study)
    say(f"Starting Ray{f' at {address}' if address else ''} ...")
    start_publisher(place, uri, watch=True)  # MLflow takes seconds to import: it does so while Ray starts
    with connected(address, place / "ray.log", cluster.open):
        from raysweep.execution import preparation
        from raysweep.execution.race import race

        # For the preparation only: the search itself follows the cluster as it grows and shrinks.
        slots = _slots(study, address is not None, say)
        loading = preparation.start_loading(study, address is None)
        from raysweep.execution.tuning import tune_study  # takes a second: meanwhile, others load and import

        job = preparation.prepare(loop, uri, say, loading)
        if study.candidates:
            study = race(study, journal, job, say)
            for line in import_trials(study, journal, uri):
                say(line)
            loop = Loop(study, journal)
        export = Export(study, journal, job, say)
        if not loop.complete:
            preparation.extract(study, journal, job, slots, say)
            with watch(study, journal, place) if watch else nullcontext():
                end = tune_study(loop, job, address is not None, say, export.begin)
        if loop.rules.reason:
            say(f"Enough: {loop.rules.reason}.")
        if loop.complete:
            choose_best(study, journal)
            export.finish()
        journal.append("over", complete=loop.complete, error=end.failing)
    return loop, end


def _slots(study: Study, grows: bool, say: Say) -> int:
    """How many trials run at once to begin with. Raises ClusterError when no node can ever hold one."""
    import ray

    from raysweep.execution.nodes import capacity

    fits = capacity(study.per_trial.request(), grows)
    if not fits.now:
        say("No node can hold a trial yet: waiting for the autoscaler to add one that can.")
    alone = "packs" not in study.found.takes  # else several may share a worker
    if alone and study.concurrency is not None and study.concurrency > fits.most:
        say(f"concurrency is {study.concurrency} but only {fits.most} trials fit at once.")
    if not study.per_trial.gpu and ray.cluster_resources().get("GPU"):
        say("This cluster has GPUs and the study asks for none: per_trial: {gpu: 1} would use them.")
    return min(fits.wanted, study.concurrency or fits.wanted, max(study.target, 1))
