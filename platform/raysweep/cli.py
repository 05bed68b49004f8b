"""The command line. Each command is a few lines over the library; stdout is data, stderr is for the person."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raysweep import __version__
from raysweep.errors import JournalError, Problem, RaysweepError, StudyError, TrackingError, scrubbed

if TYPE_CHECKING:
    from raysweep.journal import History
    from raysweep.study import Study
    from raysweep.trial import Objective, Trial

STUDIES = "studies"


class Commands(click.Group):
    """A group whose commands answer a user's mistake with its sentence and its exit code, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RaysweepError as error:
            click.echo(str(error), err=True)
            ctx.exit(error.code)
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            ctx.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="raysweep")
def cli() -> None:
    """Search hyperparameters: one small file in, a searched study out, every trial in MLflow."""


def main() -> None:
    """The console command `raysweep`."""
    cli(prog_name="raysweep")


file_argument = click.argument("file", type=click.Path(path_type=Path))
study_argument = click.argument("study")
folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=STUDIES,
    show_default=True,
    help="Where studies are kept.",
)
tracking_option = click.option(
    "--tracking",
    metavar="URI",
    help="The MLflow store, or off. Default: MLFLOW_TRACKING_URI, or mlflow.db in the studies' folder.",
)


def _say(text: str) -> None:
    click.echo(text, err=True)


@cli.command()
@file_argument
def check(file: Path) -> None:
    """Check a study file, its code and its data, and say what would be run.

    \b
    raysweep check search_spaces/digits_mlp.yaml
    """
    from raysweep.plans import amounts
    from raysweep.study import UNBOUNDED, Study

    study = Study.load(file)
    objective: Objective = study.objective
    free = ", ".join(study.space.free) or "nothing"
    click.echo(f"{study.name}: {objective} of {study.found.name} by {study.algorithm.name} search")
    count = "as many as fit" if study.target >= UNBOUNDED else study.target
    click.echo(f"trials: {count} x {study.repeats}, each with {amounts(study.per_trial.request())}")
    click.echo(f"may vary: {free}")
    if not study.found.builtin:
        click.echo(f"code: {study.found.file} (sha256 {study.found.sha256[:12]})")
    if study.found.load is not None:
        from raysweep.preparation import batch_problems, data_arguments
        from raysweep.preparation import check as check_shared

        for arguments in data_arguments(study):
            data = study.found.load(**arguments)
            click.echo(f"data: {data}")
            problems = list(batch_problems(study, len(data.y_train)))
            if problems:
                raise StudyError(problems, source=file.name)
        check_shared(study)


@cli.command()
@file_argument
@click.option(
    "-n", "count", type=click.IntRange(min=1), default=5, show_default=True, help="How many points."
)
def sample(file: Path, count: int) -> None:
    """Print the first points that a study would try, one JSON object a line."""
    from raysweep.samplers import sampler_of
    from raysweep.space import encode
    from raysweep.study import Study
    from raysweep.trial import Trial

    study = Study.load(file)
    sampler = sampler_of(study)
    for number in range(min(count, study.target)):
        point = sampler.ask(number)
        if point is None:
            break
        sampler.tell(Trial(number, point))
        click.echo(encode(point))


address_option = click.option(
    "--address", metavar="HOST:PORT", help="A Ray cluster's. Default: Ray is started on this machine."
)
open_option = click.option(
    "--open-cluster", is_flag=True, help="Use a cluster that asks nobody for a token, all the same."
)
mirror_option = click.option(
    "--mirror",
    metavar="URI",
    envvar="RAYSWEEP_MIRROR",
    help="Where the study is copied to as it goes, as s3://bucket/folder, or off. Default: its last one.",
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress, only the result.")


def search_options(command: Callable[..., None]) -> Callable[..., None]:
    """What every command takes that searches: where studies, their copies, MLflow and Ray are."""
    for option in (quiet_option, mirror_option, open_option, address_option, tracking_option, folder_option):
        command = option(command)
    return command


@cli.command()
@file_argument
@search_options
def run(file: Path, **options: Any) -> None:
    """Search a study, or continue it where it was left.

    \b
    raysweep run search_spaces/digits_mlp.yaml
    """
    from raysweep.study import Study

    _search(Study.load(file), **options)


@cli.command()
@study_argument
@search_options
@click.option("--retry-failed", is_flag=True, help="Try again what failed or took too long.")
def resume(
    study: str, folder: Path, tracking: str | None, mirror: str | None, retry_failed: bool, **options: Any
) -> None:
    """Continue a study where it was left, whatever ended it. Needs its folder (or mirror) and its code, not its file.

    \b
    raysweep resume digits_mlp
    """
    from raysweep.mirror import fetch
    from raysweep.sessions import restored
    from raysweep.tracking import OFF

    if mirror and mirror != OFF:
        fetch(folder.resolve() / study, mirror)
    place, history, _ = _open(folder, study)
    what, store = restored(place, history), _store(place, history, tracking)
    _search(what, folder=place.parent, tracking=store, mirror=mirror, again=retry_failed, **options)


@cli.command()
@study_argument
@search_options
@click.option("--trials", metavar="N|+N", help="So many trials in all, or so many more.")
@click.option("--top", type=click.IntRange(min=1), help="Let so many of the best trials go on ...")
@click.option("--epochs", type=click.IntRange(min=1), help="... until they have this many epochs.")
@click.option(
    "--to", "file", type=click.Path(path_type=Path), help="Become what this file says: other bounds,"
)
@click.option("--algorithm", help="another algorithm,")
@click.option("--scheduler", help="or another scheduler, as a study file writes them.")
def extend(
    study: str,
    folder: Path,
    tracking: str | None,
    trials: str | None,
    top: int | None,
    epochs: int | None,
    file: Path | None,
    algorithm: str | None,
    scheduler: str | None,
    **options: Any,
) -> None:
    """Go on with a study beyond what it was: more trials, more epochs for the best, another algorithm or scheduler.

    \b
    raysweep extend digits_mlp --trials +12
    raysweep extend digits_mlp --top 3 --epochs 60
    """
    from raysweep.files import parse_yaml
    from raysweep.sessions import restored
    from raysweep.study import Study
    from raysweep.trial import asked

    if (top is None) != (epochs is None):
        raise StudyError([Problem("", "--top and --epochs go together")])
    place, history, _ = _open(folder, study)
    known = restored(place, history)
    raw = (Study.load(file) if file else known).to_dict() | {"name": known.name}
    for key, text in (("algorithm", algorithm), ("scheduler", scheduler)):
        if text is not None:
            raw |= parse_yaml(f"{key}: {text}")
    if trials is not None:
        raw["trials"] = _count(trials, asked(history.trials))
    what = Study(**raw, _beside=Path(history.study["code"]["file"]).parent)
    store = _store(place, history, tracking)
    more: dict[str, Any] = {"extend": True, "top": top or 0, "epochs": epochs or 0}
    _search(what, folder=place.parent, tracking=store, **more, **options)


def _count(text: str, known: int) -> int:
    """`80`, or `+50`: so many more than there are."""
    digits = text.removeprefix("+")
    if not digits.isdecimal() or not int(digits):
        raise StudyError([Problem("--trials", f"must be a number as 80 or +50, got {text}")])
    return int(digits) + (known if text.startswith("+") else 0)


def _search(
    study: Study,
    folder: Path,
    tracking: str | None,
    address: str | None,
    quiet: bool,
    open_cluster: bool,
    **more: Any,
) -> None:
    """Run a study and say what came of it."""
    from raysweep import driver, report
    from raysweep.trial import ranking

    watch = None if quiet else report.live if sys.stderr.isatty() else report.lines
    say: Callable[[str], None] = (lambda text: None) if quiet else _say
    result = driver.run(
        study,
        folder=folder,
        address=address,
        store=tracking,
        watch=watch,
        say=say,
        open_cluster=open_cluster,
        **more,
    )
    if result.failing:
        go_on = f"raysweep resume {study.name}{_again(folder, tracking)} --retry-failed"
        raise RaysweepError(f"Given up: {result.failing}. When it is mended, continue with: {go_on}")
    if result.interrupted:
        done = report.of(sum(t.ended for t in result.trials), study.target)
        more_options = _again(folder, tracking) + (f" --address {address}" if address else "")
        _say(f"Stopped after {done} trials. Continue with: raysweep resume {study.name}{more_options}")
        sys.exit(143 if result.terminated else 130)
    winner = result.best
    if winner is None:
        raise RaysweepError(_no_result(result.trials))
    _print_trials(ranking(result.trials, study.objective)[:5], study.objective, study)
    _print_best(winner, study.objective, result.test)
    if result.tracking.model:
        click.echo(f"model: {result.tracking.model}  (raysweep predict {study.name} INPUT{_again(folder)})")
    click.echo(f"compare in MLflow: raysweep ui {study.name}{_again(folder)}")


def _again(folder: Path, tracking: str | None = None) -> str:
    """The options that a later command needs to mean the same study."""
    return "".join(
        [
            "" if str(folder) == STUDIES else f" --folder {folder}",
            f" --tracking {scrubbed(tracking)}" if tracking else "",
        ]
    )


def _print_best(winner: Trial, objective: Objective, test: dict[str, float]) -> None:
    from raysweep.report import number

    tested = ", ".join(f"{k} {number(v)}" for k, v in test.items())
    values = zip(objective.all, winner.values(objective) or (), strict=True)
    value = ", ".join(f"{o.metric} {number(v)}" for o, v in values)
    click.echo(f"best: trial {winner.number}, {value}{f'; {tested}' if tested else ''}")


def _no_result(trials: tuple[Trial, ...]) -> str:
    first = next((t for t in trials if t.error), None)
    return "no trial gave a result" + (
        f"; trial {first.number} {first.status}: {first.error}" if first else ""
    )


def _print_trials(trials: list[Trial], objective: Objective, study: Study) -> None:
    from rich.console import Console

    from raysweep.report import table

    # Wide where nobody looks: whoever reads a pipe wants whole rows.
    Console(width=None if sys.stdout.isatty() else 200).print(table(trials, objective, study.space))


def _open(folder: Path, study: str) -> tuple[Path, History, Study]:
    """A study by its name, its file or its folder: where it lies, its history, and what it is."""
    from raysweep.journal import FILE, History, read
    from raysweep.study import Study

    name = Path(study).stem if study.endswith((".yaml", ".yml")) else study
    place = folder / name if (folder / name / FILE).exists() else Path(study)
    if not (place / FILE).exists():
        known = sorted(p.parent.name for p in folder.glob(f"*/{FILE}"))
        has = f"It has: {', '.join(known)}" if known else "It has none"
        raise JournalError(f"there is no study '{study}' in {folder}. {has}")
    history = History(read(place / FILE)[0])
    if not history.study:
        raise JournalError(f"study '{study}' was not begun: its journal holds nothing")
    return place, history, Study.recorded(history.study["study"])


def _store(place: Path, history: History, given: str | None) -> str:
    """The MLflow store that a command means: what it says, or what the study was run with."""
    from raysweep.tracking import store_of

    known = history.session.get("store", "")
    return store_of(place, given or (known if "***" not in known else None))


def _mlflow(place: Path, history: History, given: str | None) -> str:
    """The same, for a command that is about MLflow."""
    from raysweep.tracking import OFF

    uri = _store(place, history, given)
    if uri == OFF:
        raise TrackingError("tracking is off. Say where MLflow is with --tracking URI")
    return uri


@cli.command()
@study_argument
@folder_option
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV.")
def trials(study: str, folder: Path, as_json: bool, as_csv: bool) -> None:
    """List a study's trials, the best first."""
    from raysweep import report
    from raysweep.trial import ranking

    _, history, what = _open(folder, study)
    ranked = ranking(history.trials, what.objective)
    listed = ranked + [t for t in history.trials if t.number not in {r.number for r in ranked}]
    if as_json or as_csv:
        rows = report.rows(listed, what.objective)
        click.echo(report.as_json(rows) if as_json else report.as_csv(rows))
    else:
        _print_trials(listed, what.objective, what)


@cli.command()
@study_argument
@folder_option
def best(study: str, folder: Path) -> None:
    """Print the best point as a study file without freedom; of several objectives, the Pareto front as one.

    \b
    raysweep best digits_mlp > best.yaml && raysweep run best.yaml
    """
    from raysweep.report import number
    from raysweep.trial import best as best_of

    _, history, what = _open(folder, study)
    winner = best_of(history.trials, what.objective)
    if winner is None:
        raise RaysweepError(_no_result(tuple(history.trials)))
    if what.objective.more:
        _print_front(history.trials, what)
        return
    value = number(winner.value(what.objective))
    click.echo(f"# trial {winner.number} of {what.name}: {what.objective.metric} {value}")
    click.echo(what.fixed(winner.point).to_yaml(), nl=False)


def _print_front(trials: list[Trial], study: Study) -> None:
    """The points that no other beats in everything, as a study that tries just these."""
    from raysweep.report import number
    from raysweep.trial import front

    names = [o.metric for o in study.objective.all]
    found = front(trials, study.objective)
    click.echo(f"# the Pareto front of {study.name}: {study.objective}")
    for trial in found:
        values = trial.values(study.objective) or ()
        told = ", ".join(f"{n} {number(v)}" for n, v in zip(names, values, strict=True))
        click.echo(f"# trial {trial.number}: {told}")
    click.echo(study.only([t.point for t in found]).to_yaml(), nl=False)


@cli.command()
@study_argument
@click.argument("trial", type=int)
@folder_option
def show(study: str, trial: int, folder: Path) -> None:
    """Show one trial: its point, how it ended, its metrics by epoch."""
    from rich.console import Console
    from rich.table import Table

    from raysweep.files import write_yaml
    from raysweep.plans import duration
    from raysweep.report import number

    _, history, what = _open(folder, study)
    found = next((t for t in history.trials if t.number == trial), None)
    if found is None:
        raise RaysweepError(f"study '{study}' has no trial {trial}; it has {len(history.trials)}, from 0")
    click.echo(
        f"trial {found.number}: {found.status}, {duration(found.seconds)}, on {found.worker or 'no worker yet'}"
    )
    if found.error:
        click.echo(found.error)
    click.echo(write_yaml(found.point), nl=False)
    names = list(dict.fromkeys(n for r in found.reports for n in r.metrics))
    curve = Table(box=None, pad_edge=False)
    for name in ("epoch", *names):
        curve.add_column(name, justify="right")
    top = found.best(what.objective)
    for report in found.reports:
        mark = "*" if report is top else ""
        curve.add_row(f"{report.epoch}{mark}", *(number(report.metrics.get(n)) for n in names))
    Console(width=None if sys.stdout.isatty() else 200).print(curve)


@cli.command()
@study_argument
@click.argument("values", nargs=-1, required=True, metavar="NAME=VALUE...")
@folder_option
def enqueue(study: str, values: tuple[str, ...], folder: Path) -> None:
    """Hand a point to a study, running or not: it is tried before any other. Plain values may be left out.

    \b
    raysweep enqueue digits_mlp layers=2 units=[64,32] activation=relu dropout=0.1 optimizer=adam lr=1e-3 batch_size=64
    """
    from raysweep import queue
    from raysweep.files import parse_yaml
    from raysweep.trial import asked

    place, history, what = _open(folder, study)
    pairs = [v.partition("=") for v in values]
    if not all(equals for _, equals, _ in pairs):
        raise StudyError([Problem("", f"write NAME=VALUE, got {v}") for v in values if "=" not in v])
    point = what.whole(dict(parse_yaml("\n".join(f"{n}: {v}" for n, _, v in pairs))))
    problems = what.space.check(point)
    if problems:
        raise StudyError(problems, source=what.name)
    queue.put(place, point)
    if asked(history.trials) >= what.target:
        _say(f"{what.name} has its {what.target} trials. Raise trials in its file, and run it again")
    click.echo(f"queued for {what.name}: {point}")


@cli.command()
@study_argument
@click.argument("inputs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@folder_option
@tracking_option
def predict(study: str, inputs: tuple[Path, ...], folder: Path, tracking: str | None) -> None:
    """Predict with a study's best model: a .csv or .parquet table, or images and folders of images.

    \b
    raysweep predict digits_mlp new.csv > predictions.csv
    """
    from raysweep.models import predict as predict_with

    place, history, what = _open(folder, study)
    click.echo(
        predict_with(what.name, _mlflow(place, history, tracking), inputs).to_csv(index=False), nl=False
    )


@cli.command()
@study_argument
@folder_option
@tracking_option
def sync(study: str, folder: Path, tracking: str | None) -> None:
    """Publish to MLflow what it does not have yet."""
    from raysweep.tracking import check, drain, start

    place, history, _ = _open(folder, study)
    uri = _mlflow(place, history, tracking)
    check(uri)
    start(place, uri)
    if not drain(place, _say).over:
        sys.exit(1)
    click.echo(f"MLflow holds all of {place.name}")


@cli.command()
@study_argument
@folder_option
@tracking_option
@click.option("--mend", is_flag=True, help="Mend what needs no decision of yours.")
def doctor(study: str, folder: Path, tracking: str | None, mend: bool) -> None:
    """Look for what crashes have left: in a study's folder, and in MLflow.

    \b
    raysweep doctor digits_mlp --mend
    """
    from raysweep.doctor import examine

    place, history, _ = _open(folder, study)
    found = list(examine(place, _store(place, history, tracking), mend))
    for finding in found:
        click.echo(str(finding))
    if not all(f.mended for f in found):
        sys.exit(1)
    if not found:
        click.echo(f"nothing is wrong with {place.name}")


@cli.command()
@click.argument("study", required=False)
@folder_option
@tracking_option
@click.option("--port", default=5000, show_default=True)
def ui(study: str | None, folder: Path, tracking: str | None, port: int) -> None:
    """Open MLflow's UI on the studies of a folder; with STUDY, print the link to its sorted trials."""
    from raysweep import tracking as mlflow
    from raysweep import views

    uri = mlflow.store_of(folder / "any", tracking)
    if study is not None:
        place, history, what = _open(folder, study)
        uri = _mlflow(place, history, tracking)
    base = uri if uri.startswith("http") else f"http://127.0.0.1:{port}"
    if study is not None:
        experiment = mlflow.status(place).experiment
        if not experiment:
            raise RaysweepError(f"MLflow does not have '{study}' yet: raysweep sync {study}")
        click.echo(views.link(base, experiment, history.study["id"], what.name, what.objective))
    else:
        click.echo(base)
    if not uri.startswith("http"):
        _serve(uri, port)


def _serve(uri: str, port: int) -> None:
    """Become MLflow's server, on loopback only and without the job runner that costs a gigabyte."""
    from raysweep.tracking import QUIET

    os.environ |= {**QUIET, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    os.execv(sys.executable, [*command, "--port", str(port), "--workers", "1"])  # noqa: S606


@cli.command()
def schema() -> None:
    """Print the JSON Schema of study files, from which editors complete.

    \b
    raysweep schema > raysweep.schema.json
    """
    from raysweep.schema import schema as study_schema

    click.echo(json.dumps(study_schema(), indent=2))
