"""Commands for a study as it runs, here or elsewhere: status, logs, stop, promote, fork, cancel."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raysweep.cli.base import cli, console, health_lines, open_study, print_result, trial_of
from raysweep.cli.options import again, folder_option, json_option, point_of, say, study_argument
from raysweep.cli.remote import StudyCommand
from raysweep.errors import ClusterError, RaysweepError
from raysweep.storage import checkpoints, output

if TYPE_CHECKING:
    from raysweep.journal.history import Reader
    from raysweep.journal.records import Record
    from raysweep.report.live import Progress
    from raysweep.study.study import Study
    from raysweep.trial import Trial

LOOK = 0.5  # seconds between reads of a journal
PATIENCE = 60.0  # seconds that a study gets to end cleanly
address_option = click.option(
    "--address", metavar="HOST:PORT", default="auto", help="The Ray cluster that runs it as a job."
)


@cli.command(cls=StudyCommand)
@study_argument
@folder_option
@click.option("-w", "--watch", is_flag=True, help="Follow the study to its end, then print its result.")
@json_option
def status(study: str, folder: Path, watch: bool, as_json: bool) -> None:
    """Show the progress of a study, wherever it is running.

    It shows the best trials and those that are running.

    \b
    raysweep status digits_mlp --watch
    """
    place, _, what = open_study(folder, study)
    reader, progress = _opened(place, what)
    if watch:
        try:
            _watch(reader, progress, place)
        except KeyboardInterrupt:
            say(f"{what.name} keeps running.")
            sys.exit(130)
    if as_json:
        click.echo(json.dumps(_state(reader, what, place)))
    elif watch:
        _conclude(reader, what, place, folder)
    else:
        console().print(progress.view(_how(reader, place)))


def _opened(place: Path, what: Study) -> tuple[Reader, Progress]:
    """The study's journal, and its progress, which is read again each time that it is shown."""
    from raysweep.journal.history import Reader
    from raysweep.journal.journal import running
    from raysweep.report.live import Progress

    reader = Reader(place)
    reader.update()

    def trials() -> list[Trial]:
        reader.update()
        return reader.history.trials

    def now() -> float:
        return time.time() if running(place) else reader.history.latest

    began = reader.history.session.get("time")
    return reader, Progress(what, trials, began, now, lambda: reader.history)


def _how(reader: Reader, place: Path) -> str:
    """A study's state: running (and what runs it), complete or stopped."""
    from raysweep.journal.journal import running

    who = running(place)
    return f"runs: {who}" if who else "complete" if reader.history.complete else "stopped"


def _state(reader: Reader, what: Study, place: Path) -> dict[str, Any]:
    from raysweep.trial import best

    trials = reader.history.trials
    winner = best(trials, what.objective)
    score = winner.score(what.objective) if winner else None
    return {
        "study": what.name,
        "state": _how(reader, place).partition(":")[0],
        "trials": len(trials),
        "ended": sum(t.ended for t in trials),
        "running": sum(t.status == "running" for t in trials),
        "paused": sum(t.status == "paused" for t in trials),
        "best": winner.number if winner else None,
        what.objective.metric: score.value if score else None,
        "test": reader.history.best.get("metrics", {}),
        "health": [line.removeprefix("health: ") for line in health_lines(place)],
    }


def _watch(reader: Reader, progress: Progress, place: Path) -> None:
    """Show the study's progress until it is no longer running."""
    from rich.console import Console
    from rich.live import Live

    from raysweep.report.events import events

    if sys.stderr.isatty():
        view = Live(
            console=Console(stderr=True),
            get_renderable=lambda: progress.view(_how(reader, place)),
            refresh_per_second=2,
            transient=True,
        )
        with view:
            while _how(reader, place).startswith("runs"):
                time.sleep(LOOK)
        return
    last = True
    while last:
        last = _how(reader, place).startswith("runs")
        for line in events(reader.update(), brief=True):
            say(line)
        time.sleep(LOOK if last else 0)


def _conclude(reader: Reader, what: Study, place: Path, folder: Path) -> None:
    """Print the outcome of the study, as `run` does."""
    from raysweep.tracking.process import wait_for_publisher

    reader.update()
    trials = tuple(reader.history.trials)
    if reader.history.error:
        raise RaysweepError(reader.history.error)
    if not reader.history.complete:
        done = sum(t.ended for t in trials)
        say(f"Stopped after {done} trials. Continue with: raysweep resume {what.name}{again(folder)}")
        sys.exit(130)
    test = reader.history.best.get("metrics", {})
    model, error = wait_for_publisher(place, say).model, reader.history.best.get("error", "")
    print_result(what, trials, test, model, place, error)


@cli.command(cls=StudyCommand)
@study_argument
@click.argument("trial", type=int, required=False)
@folder_option
@address_option
@click.option("-f", "--follow", is_flag=True, help="Keep printing while the study is running.")
@click.option(
    "--job", is_flag=True, help="Print the output of the study's job, for a study that does not even start."
)
@json_option
def logs(
    study: str, trial: int | None, folder: Path, address: str, follow: bool, job: bool, as_json: bool
) -> None:
    """Print the events of a study, or a trial's epochs and output.

    The output is what the trial printed, with warnings and tracebacks.

    \b
    raysweep logs digits_mlp -f
    raysweep logs digits_mlp 3
    """
    from raysweep.report.events import events

    if job:
        from raysweep.cluster import jobs

        click.echo(jobs.output(folder.resolve() / study, address), nl=False)
        return
    from raysweep.journal.history import Reader
    from raysweep.storage.checkpoints import trial_folder

    place, history, _ = open_study(folder, study)
    if trial is not None:
        trial_of(history, study, trial)
    reader, last, end = Reader(place), True, 0
    while last:
        last = follow and _how(reader, place).startswith("runs")
        records = reader.update()
        for line in _as_json(records, trial) if as_json else events(records, trial):
            click.echo(line)
        if trial is not None:
            printed, end = output.read(trial_folder(place, trial), end)
            if printed:
                click.echo(
                    json.dumps({"kind": "output", "text": printed}) if as_json else printed, nl=as_json
                )
        time.sleep(LOOK if last else 0)


def _as_json(records: list[Record], trial: int | None) -> Iterator[str]:
    """The journal's records, a line each."""
    return (json.dumps(r) for r in records if trial is None or r.get("trial") == trial)


@cli.command(cls=StudyCommand)
@study_argument
@click.argument("trial", type=int, required=False)
@folder_option
def stop(study: str, trial: int | None, folder: Path) -> None:
    """Stop a study once its running trials have finished, or one trial after its epoch.

    No more trials start. `resume` continues the study. A trial that is stopped keeps its epochs, and counts.

    \b
    raysweep stop digits_mlp
    raysweep stop digits_mlp 7
    """
    from raysweep.journal import queue

    if trial is not None:
        place, _ = _open_trial(folder, study, trial)
        queue.request(place, "stop", trial)
        click.echo(f"trial {trial} of {place.name} stops after its epoch")
        return
    place = _running(folder, study)
    queue.request_end(place, "stop")
    click.echo(
        f"{place.name} ends after its running trials: raysweep status {place.name} --watch{again(folder)}"
    )


@cli.command(cls=StudyCommand)
@study_argument
@click.argument("trial", type=int)
@folder_option
def promote(study: str, trial: int, folder: Path) -> None:
    """Let a trial that has paused go on, though others are better."""
    from raysweep.journal import queue

    place, found = _open_trial(folder, study, trial)
    if found.status != "paused":
        raise RaysweepError(f"trial {trial} of {place.name} has not paused: it is {found.status}")
    queue.request(place, "promote", trial)
    click.echo(f"trial {trial} of {place.name} goes on as soon as a worker is free{_later(place, folder)}")


@cli.command(cls=StudyCommand)
@study_argument
@click.argument("trial", type=int)
@click.argument("values", nargs=-1, required=True, metavar="NAME=VALUE...")
@folder_option
def fork(study: str, trial: int, values: tuple[str, ...], folder: Path) -> None:
    """Begin another trial from the newest checkpoint of this one, with other values.

    \b
    raysweep fork digits_mlp 7 lr=1e-4 epochs=30
    """
    from raysweep.journal import queue

    place, history, what = open_study(folder, study)
    parent = trial_of(history, study, trial)
    changed = point_of(values, what, parent.point)
    if not checkpoints.epochs(checkpoints.trial_folder(place, trial)):
        raise RaysweepError(
            f"trial {trial} of {place.name} has no checkpoint: only the best `keep` trials and those that have not"
            " ended have one"
        )
    queue.request(place, "fork", trial, {n: v for n, v in changed.items() if parent.point.get(n) != v})
    click.echo(f"queued for {place.name}: {changed}, from trial {trial}{_later(place, folder)}")


def _open_trial(folder: Path, study: str, trial: int) -> tuple[Path, Trial]:
    """A study's folder, and a trial of it that has not ended. Raises RaysweepError when it has."""
    place, history, _ = open_study(folder, study)
    found = trial_of(history, study, trial)
    if found.ended:
        raise RaysweepError(f"trial {trial} of {place.name} has ended: it is {found.status}")
    return place.resolve(), found


def _later(place: Path, folder: Path) -> str:
    """How to run a study that is not running."""
    from raysweep.journal.journal import running

    return "" if running(place) else f". Run it: raysweep resume {place.name}{again(folder)}"


@cli.command(cls=StudyCommand)
@study_argument
@folder_option
@address_option
def cancel(study: str, folder: Path, address: str) -> None:
    """Stop a study at once, with a checkpoint of what is running. `resume` continues it."""
    from raysweep.cluster import jobs
    from raysweep.journal import queue
    from raysweep.journal.journal import running

    place = _running(folder, study)
    queue.request_end(place, "cancel")
    deadline = time.monotonic() + PATIENCE
    while (who := running(place)) and time.monotonic() < deadline:
        time.sleep(LOOK)
    if who:
        say(f"The study does not answer: {who}. Killing its job ...")
        if not jobs.kill(place, address):
            raise ClusterError(f"no job of the cluster runs {place.name}. It is run by {who}: kill it there")
        queue.clear_end(place)
    click.echo(f"{place.name} is cancelled. Continue with: raysweep resume {place.name}{again(folder)}")


def _running(folder: Path, study: str) -> Path:
    """The folder of a running study. Raises RaysweepError when it is not running."""
    from raysweep.journal.journal import running

    place = open_study(folder, study)[0].resolve()
    if not running(place):
        raise RaysweepError(f"{place.name} is not running")
    return place
