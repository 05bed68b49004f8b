"""Commands that inspect a study file, and commands that search: check, sample, run, resume, extend."""

from __future__ import annotations

import dataclasses
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raysweep.cli.base import cli, open_study, print_result, store_for
from raysweep.cli.options import (
    again,
    changes_options,
    file_argument,
    folder_option,
    json_option,
    say,
    study_argument,
    tracking_option,
)
from raysweep.cli.remote import ARGUMENTS, StudyCommand
from raysweep.errors import Problem, RaysweepError, StudyError, did_you_mean

if TYPE_CHECKING:
    from raysweep.study.study import Study


@cli.command()
@file_argument
@changes_options
@click.option("--try", "try_it", is_flag=True, help="Also run one epoch of one point, here and without Ray.")
@json_option
def check(file: Path, changes: dict[str, Any], try_it: bool, as_json: bool) -> None:
    """Check a study file, its code and its data; print what would run.

    \b
    raysweep check search_spaces/digits_mlp.yaml --try
    """
    from raysweep.study.study import Study

    study = Study.load(file, changes)
    about, tell = _about(study), (lambda text: None) if as_json else click.echo
    for line in _lines(about):
        tell(line)
    data = load_data(study, file, tell)
    about["data"] = [str(d) for d in data.values()]
    if try_it:
        about["tried"] = _tried(study, data)
        tell(_tried_line(about["tried"]))
    if as_json:
        click.echo(json.dumps(about))


def load_data(study: Study, file: Path, tell: Callable[[str], Any]) -> dict[str, Any]:
    """The study's data sets, by `data_key`, checked. Raises StudyError."""
    from raysweep.execution.executions import data_key
    from raysweep.study.shared import check_features, data_problems, data_sets

    if study.found.load is None:
        return {}
    loaded = {}
    for arguments in data_sets(study):
        data = loaded[data_key(study.found, arguments)] = study.found.load(**arguments)
        tell(f"data: {data}")
        problems = list(data_problems(study, len(data.y_train), data.metrics))
        if problems:
            raise StudyError(problems, source=file.name)
    check_features(study)
    return loaded


def _about(study: Study) -> dict[str, Any]:
    """What would be run."""
    from raysweep.study.checks import notes
    from raysweep.study.study import UNBOUNDED

    own = not study.found.builtin
    code = {"file": study.found.place, "sha256": study.found.code.digest} if own else None
    return {
        "study": study.name,
        "objective": str(study.objective),
        "trainable": study.found.name,
        "algorithm": study.algorithm.name,
        "scheduler": study.scheduler.name,
        "search": study.method,
        "trials": None if study.target >= UNBOUNDED else study.target,
        "repeats": study.repeats,
        "per_trial": study.per_trial.request(),
        "free": study.space.free,
        "code": code,
        "resumes": study.found.resumes or study.found.of_ray_tune,
        "exports": study.found.export is not None,
        "notes": list(notes(study)),
    }


def _lines(about: dict[str, Any]) -> Iterator[str]:
    """The same for a person."""
    from raysweep.study.options import amounts

    yield f"{about['study']}: {about['objective']} of {about['trainable']} by {about['search']}"
    count = about["trials"] or "as many as fit"
    yield f"trials: {count} x {about['repeats']}, each with {amounts(about['per_trial'])}"
    yield f"may vary: {', '.join(about['free']) or 'nothing'}"
    if code := about["code"]:
        yield f"code: {code['file']} (sha256 {code['sha256'][:12]})"
    if not about["resumes"]:
        yield "resuming: the trainable takes no state, so its trials start over when they are lost, and cannot pause"
    if not about["exports"]:
        yield "model: none; there is no function export(point, state, folder) beside the trainable"
    yield from (f"note: {note}" for note in about["notes"])


def _tried_line(tried: dict[str, Any]) -> str:
    from raysweep.report.tables import number
    from raysweep.study.options import duration
    from raysweep.study.space import encode

    if tried["ended"]:
        return f"tried: {encode(tried['point'])}: {tried['ended']}"
    metrics = ", ".join(f"{name} {number(value)}" for name, value in tried["metrics"].items())
    state = f"{tried['state_bytes'] / 1e6:,.3g} MB of state" if tried["state_bytes"] else "no state"
    return f"tried: {encode(tried['point'])}: {metrics}, {duration(tried['seconds'])}, {state}"


def _tried(study: Study, data: dict[str, Any]) -> dict[str, Any]:
    from raysweep.execution.trying import try_one

    try:
        with redirect_stdout(sys.stderr):  # where the user's code may print: our own output may be JSON
            return dataclasses.asdict(try_one(study, data))
    except RaysweepError:
        raise
    except (Exception, SystemExit) as error:  # of the user's code
        traceback.print_exc()
        raise RaysweepError(f"{study.found.name} raised {type(error).__name__}: {error}") from None


@cli.command()
@file_argument
@click.option(
    "-n", "count", type=click.IntRange(min=1), default=5, show_default=True, help="How many points."
)
@changes_options
def sample(file: Path, count: int, changes: dict[str, Any]) -> None:
    """Print the first points that a study would try, as JSON."""
    from raysweep.search.samplers import sampler_of
    from raysweep.study.space import encode
    from raysweep.study.study import Study
    from raysweep.trial import Trial

    study = Study.load(file, changes)
    sampler = sampler_of(study)
    for number in range(min(count, study.target)):
        point = sampler.ask(number)
        if point is None:
            break
        sampler.tell(Trial(number, point))
        click.echo(encode(point))


address_option = click.option(
    "--address",
    metavar="HOST:PORT",
    help="The address of a Ray cluster. By default Ray is started on this machine.",
)
open_option = click.option("--open-cluster", is_flag=True, help="Use a cluster even if it requires no token.")
mirror_option = click.option(
    "--mirror",
    metavar="URI",
    envvar="RAYSWEEP_MIRROR",
    help="Where to copy the study while it runs, such as s3://bucket/folder, or off. Default: as last time.",
)
detach_option = click.option(
    "--detach",
    is_flag=True,
    help="Run the study as a job of the Ray cluster (this machine's, or --address), and return.",
)
code_option = click.option(
    "--code-changed", is_flag=True, help="Continue although the trainable's code has changed."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print the result only, no progress.")


def search_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that searches: where studies, their mirrors, MLflow and Ray are."""
    for option in (
        quiet_option,
        detach_option,
        code_option,
        mirror_option,
        open_option,
        address_option,
        tracking_option,
        folder_option,
    ):
        command = option(command)
    return command


@cli.command(cls=StudyCommand)
@file_argument
@changes_options
@search_options
def run(
    file: Path, changes: dict[str, Any], folder: Path, detach: bool, address: str | None, **options: Any
) -> None:
    """Run a study, or continue it where it stopped.

    \b
    raysweep run search_spaces/digits_mlp.yaml
    raysweep run search_spaces/digits_mlp.yaml --trials 8 --set space.epochs=10 --set name=quick
    """
    from raysweep.study.study import Study

    study = Study.load(file, changes)
    if detach:
        _detach(study.name, folder, address)
    else:
        _search(study, folder, address=address, **options)


@cli.command(cls=StudyCommand)
@study_argument
@search_options
@click.option("--retry-failed", is_flag=True, help="Retry the trials that failed or timed out.")
def resume(
    study: str,
    folder: Path,
    tracking: str | None,
    mirror: str | None,
    retry_failed: bool,
    detach: bool,
    address: str | None,
    **options: Any,
) -> None:
    """Continue a study where it stopped, by its name.

    This needs its folder (or its mirror) and its code, not its file.

    \b
    raysweep resume digits_mlp
    """
    from raysweep.journal.mirror import fetch
    from raysweep.search.sessions import restored
    from raysweep.tracking.store import OFF

    mirrored = bool(mirror and mirror != OFF)
    if mirror and mirrored:
        fetch(folder.resolve() / study, mirror)
    place, history, _ = open_study(folder, study)
    what = restored(place, history, mirrored and not options["code_changed"])
    store = store_for(place, history, tracking)
    if detach:
        _detach(what.name, place.parent, address)
    else:
        more: dict[str, Any] = {"mirror": mirror, "again": retry_failed, **options}
        _search(what, folder=place.parent, address=address, tracking=store, **more)


@cli.command(cls=StudyCommand)
@study_argument
@search_options
@click.option("--trials", metavar="N|+N", help="The number of trials: a total, or how many more.")
@click.option(
    "--top", type=click.IntRange(min=1), help="Train this many of the best trials longer, up to --epochs."
)
@click.option("--epochs", type=click.IntRange(min=1), help="How many epochs the --top trials should reach.")
@click.option("--to", "file", type=click.Path(path_type=Path), help="A study file with other bounds.")
@click.option(
    "--space",
    "respaced",
    multiple=True,
    metavar="NAME[.PART]=VALUE",
    help="Another bound (lr.high=1.0, optimizer.options=[...]), a value that is fixed from now on (layers=2), or"
    " another parameter (dropout={float: [0, 0.5]}). May be repeated.",
)
@click.option("--algorithm", help="Another algorithm, as a study file writes it.")
@click.option("--scheduler", help="Another scheduler, as a study file writes it.")
def extend(
    study: str,
    folder: Path,
    tracking: str | None,
    trials: str | None,
    top: int | None,
    epochs: int | None,
    file: Path | None,
    respaced: tuple[str, ...],
    algorithm: str | None,
    scheduler: str | None,
    detach: bool,
    address: str | None,
    **options: Any,
) -> None:
    """Extend a study: more trials, more epochs, another algorithm.

    Also another scheduler, or other bounds.

    \b
    raysweep extend digits_mlp --trials +12
    raysweep extend digits_mlp --top 3 --epochs 60
    raysweep extend digits_mlp --space lr.high=1.0 --trials +12
    """
    from raysweep.search.sessions import restored, root_of
    from raysweep.study.study import Study
    from raysweep.study.yaml import parse_yaml
    from raysweep.trial import asked

    if (top is None) != (epochs is None):
        raise StudyError([Problem("", "--top and --epochs go together")])
    place, history, _ = open_study(folder, study)
    known = restored(place, history)
    raw = (Study.load(file) if file else known).to_dict() | {"name": known.name}
    for key, text in (("algorithm", algorithm), ("scheduler", scheduler)):
        if text is not None:
            raw |= parse_yaml(f"{key}: {text}")
    _respaced(raw["space"], respaced)
    if trials is not None:
        raw["trials"] = _count(trials, asked(history.trials))
    what = Study(**raw, _beside=root_of(history))
    store = store_for(place, history, tracking)
    if detach:
        _detach(what.name, place.parent, address)
        return
    more: dict[str, Any] = {"extend": True, "top": top or 0, "epochs": epochs or 0}
    _search(what, folder=place.parent, address=address, tracking=store, **more, **options)


def _respaced(space: dict[str, Any], texts: Sequence[str]) -> None:
    """Change a space as `lr.high=1.0`, `dropout={float: [0, 0.5]}` or `layers=2` say. Raises StudyError when it has
    no such bound."""
    from raysweep.study.params import Choice, param, show
    from raysweep.study.yaml import parse_yaml

    bounds: dict[str, dict[str, Any]] = {}
    for text in texts:
        where, equals, value = text.partition("=")
        name, dot, part = where.strip().partition(".")
        if not equals or not name or (dot and part not in {"low", "high", "options"}):
            what = f"write NAME=FORM, or NAME.low, .high or .options = VALUE, got {text}"
            raise StudyError([Problem("--space", what)])
        given = parse_yaml(f"value: {value}")["value"]
        if not dot:
            space[name] = given
            continue
        if name not in space:
            raise StudyError(
                [Problem("--space", f"'{name}' is not in the space.{did_you_mean(name, space)}")]
            )
        if isinstance(param(space[name]), Choice) is not (part == "options"):
            raise StudyError([Problem(f"--space {name}", f"it is {show(space[name])}, which has no {part}")])
        bounds.setdefault(name, {})[part] = given
    for name, parts in bounds.items():
        space[name] = dataclasses.replace(param(space[name]), **parts).form()


def _count(text: str, known: int) -> int:
    """The number of trials: `80` is a total, `+50` means 50 more than there are."""
    digits = text.removeprefix("+")
    if not digits.isdecimal() or not int(digits):
        raise StudyError([Problem("--trials", f"must be a number such as 80 or +50, got {text}")])
    return int(digits) + (known if text.startswith("+") else 0)


def _detach(name: str, folder: Path, address: str | None) -> None:
    """Have the cluster run this same command."""
    from raysweep.cluster import jobs

    arguments = [a for a in click.get_current_context().meta[ARGUMENTS] if a != "--detach"]
    more = [] if address else ["--address", "auto"]
    job = jobs.submit(folder.resolve() / name, [*arguments, *more], address or "auto")
    click.echo(f"{name} runs as the job {job}: raysweep status {name} --watch{again(folder)}")


def _search(
    study: Study,
    folder: Path,
    tracking: str | None,
    address: str | None,
    quiet: bool,
    open_cluster: bool,
    **more: Any,
) -> None:
    """Run a study and print its outcome."""
    from raysweep.execution import run
    from raysweep.report import live

    watch = None if quiet else live.live if sys.stderr.isatty() else live.lines
    tell: Callable[[str], None] = (lambda text: None) if quiet else say
    try:
        result = run.run(
            study,
            folder=folder,
            address=address,
            store=tracking,
            verbose=0,
            watch=watch,
            say=tell,
            open_cluster=open_cluster,
            **more,
        )
    except run.Interrupted as stop:
        result = stop.result
    if result.failing:
        go_on = f"raysweep resume {study.name}{again(folder, tracking)} --retry-failed"
        raise RaysweepError(
            f"Given up: {result.failing}. Once that is mended, run the file again, or: {go_on}"
        )
    if result.interrupted:
        done = live.count_of(sum(t.ended for t in result.trials), study.target)
        more_options = again(folder, tracking) + (f" --address {address}" if address else "")
        say(f"Stopped after {done} trials. Continue with: raysweep resume {study.name}{more_options}")
        sys.exit(143 if result.terminated else 130)
    print_result(study, result.trials, result.test, result.tracking.model, result.folder, result.not_exported)
