"""Commands that show a study's results and use them: trials, best, show, report, compare, predict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raysweep.cli.base import (
    cli,
    console,
    from_here,
    mlflow_for,
    no_result,
    open_study,
    print_trials,
    trial_of,
)
from raysweep.cli.options import (
    again,
    complete_studies,
    folder_option,
    json_option,
    study_argument,
    tracking_option,
)
from raysweep.cli.remote import StudyCommand
from raysweep.errors import RaysweepError
from raysweep.storage import output

if TYPE_CHECKING:
    from raysweep.journal.history import History
    from raysweep.study.study import Study
    from raysweep.trial import Trial


SHOWN = 10  # lines of a trial's output


@cli.command(cls=StudyCommand)
@study_argument
@folder_option
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
def trials(study: str, folder: Path, as_json: bool, as_csv: bool) -> None:
    """List a study's trials, the best first."""
    from raysweep.report import tables
    from raysweep.trial import ranked_first

    _, history, what = open_study(folder, study)
    listed = ranked_first(history.trials, what.objective)
    if as_json or as_csv:
        rows = tables.rows(listed, what.objective)
        click.echo(tables.as_json(rows) if as_json else tables.as_csv(rows))
    else:
        print_trials(listed, what.objective, what)


@cli.command(cls=StudyCommand)
@study_argument
@folder_option
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the best trial's state there, for torch.load; of a Ray Tune function, its checkpoint's folder.",
)
@json_option
def best(study: str, folder: Path, state: Path | None, as_json: bool) -> None:
    """Print the best point as a study file, or save its weights.

    The file has fixed values; with several objectives, it is the Pareto front.

    \b
    raysweep best digits_mlp > best.yaml && raysweep run best.yaml
    raysweep best digits_mlp --state best.pt
    """
    from raysweep.report.result import load
    from raysweep.report.tables import as_record, number
    from raysweep.storage.checkpoints import Files, write_state
    from raysweep.trial import front

    result = load(study, folder)
    winner, what = result.best, result.study
    if winner is None:
        raise RaysweepError(no_result(result.trials))
    if state is not None:
        if state.exists():
            raise RaysweepError(f"{state} is there already. Name another file")
        found = result.best_state()
        write_state(found, state)
        where = f"the folder {state}" if isinstance(found, Files) else str(state)
        click.echo(f"the state of trial {winner.number} of {what.name} is in {where}")
        return
    if as_json:
        chosen = front(result.trials, what.objective) if what.objective.more else [winner]
        click.echo(json.dumps([as_record(t, what.objective) for t in chosen]))
        return
    if what.objective.more:
        _print_front(list(result.trials), what)
        return
    so_far = "" if winner.ended else f", so far ({winner.status})"
    click.echo(
        f"# trial {winner.number} of {what.name}: {what.objective.metric} {number(winner.value)}{so_far}"
    )
    click.echo(what.fixed(winner.point).to_yaml(), nl=False)


def _print_front(trials: list[Trial], study: Study) -> None:
    """Print the points that no other beats in every objective, as a study that tries only these."""
    from raysweep.report.tables import number
    from raysweep.trial import front

    names = [o.metric for o in study.objective.all]
    found = front(trials, study.objective)
    click.echo(f"# the Pareto front of {study.name}: {study.objective}")
    for trial in found:
        score = trial.score(study.objective)
        told = ", ".join(
            f"{n} {number(v)}" for n, v in zip(names, score.values if score else (), strict=True)
        )
        click.echo(f"# trial {trial.number}: {told}")
    click.echo(study.only([t.point for t in found]).to_yaml(), nl=False)


@cli.command(cls=StudyCommand)
@study_argument
@click.argument("trial", type=int)
@folder_option
@json_option
def show(study: str, trial: int, folder: Path, as_json: bool) -> None:
    """Show one trial: its point, how it ended, its metrics, its output.

    The metrics are shown epoch by epoch, the output to its last lines: see `logs`.
    """
    from rich.table import Table

    from raysweep.report.tables import as_record, number
    from raysweep.storage.checkpoints import trial_folder
    from raysweep.study.options import duration
    from raysweep.study.yaml import write_yaml

    place, history, what = open_study(folder, study)
    found = trial_of(history, study, trial)
    printed = output.read(trial_folder(place, trial))[0].splitlines()[-SHOWN:]
    if as_json:
        click.echo(json.dumps(as_record(found, what.objective) | {"output": printed}))
        return
    click.echo(
        f"trial {found.number}: {found.status}, {duration(found.seconds)}, on {found.worker or 'no worker yet'}"
    )
    if found.memory:
        gpu = f", {found.gpu_memory:,.0f} MB on the GPU" if found.gpu_memory else ""
        click.echo(f"used: {found.memory:,.0f} MB at most{gpu}, {duration(found.cpu_seconds)} of CPU time")
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
    console().print(curve)
    if printed:
        click.echo(f"its last output (all of it: raysweep logs {what.name} {trial}{again(folder)}):")
        click.echo("\n".join(f"  {line}" for line in printed))


@cli.command(cls=StudyCommand)
@click.argument("studies", nargs=-1, required=True, shell_complete=complete_studies, metavar="STUDY...")
@folder_option
@click.option(
    "-o",
    "--output",
    "file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Write it there; - is standard output. By default report.html in the study's folder, or of several here.",
)
@click.option(
    "--next",
    "next_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write a study file with what to try next, which starts from this study's trials.",
)
@json_option
def report(
    studies: tuple[str, ...], folder: Path, file: Path | None, next_file: Path | None, as_json: bool
) -> None:
    """Write a study's report, and print its answer.

    The report is one HTML file that needs no network. With several studies, it compares them.

    \b
    raysweep report digits_mlp
    raysweep report digits_mlp digits_wide -o both.html
    raysweep report digits_mlp --next next.yaml && raysweep run next.yaml
    """
    from raysweep.report import page
    from raysweep.report.answer import answer
    from raysweep.report.next_study import next_study
    from raysweep.storage import disk
    from raysweep.tracking.process import REPORT

    places = [open_study(folder, study)[0] for study in studies]
    seen = [page.Seen.of(place) for place in places]
    if next_file is not None:
        _write_next(next_file, next_study(seen[0].facts, seen[0].findings), len(seen))
    if as_json:
        click.echo(json.dumps(page.finite([page.as_data(one) for one in seen]), allow_nan=False))
        return
    html = page.page(seen)
    if str(file) == "-":
        click.echo(html, nl=False)
        return
    path = file or (places[0] / REPORT if len(places) == 1 else Path(REPORT))
    disk.write(path, html)
    for one in seen:
        click.echo(f"{one.facts.study.name}: {' '.join(answer(one.facts))}")
        for finding in one.findings:
            click.echo(f"health: {finding}")
    click.echo(f"report: {from_here(path)}")


def _write_next(file: Path, study: Study, studies: int) -> None:
    from raysweep.storage import disk

    if studies > 1:
        raise RaysweepError("--next is of one study: name one")
    if file.exists():
        raise RaysweepError(f"{file} is there already. Name another file")
    disk.write(file, study.to_yaml())


@cli.command(cls=StudyCommand)
@click.argument("studies", nargs=-1, required=True, shell_complete=complete_studies, metavar="STUDY STUDY...")
@folder_option
def compare(studies: tuple[str, ...], folder: Path) -> None:
    """Print studies side by side: results, cost, and where their files differ.

    \b
    raysweep compare digits_mlp digits_wide
    """
    from raysweep.report import compare
    from raysweep.report.page import facts_of

    many = [facts_of(open_study(folder, study)[0])[0] for study in studies]
    console().print(compare.table(many))


def _no_model(history: History, study: Study) -> str:
    """Why there is no model of a study, and how there will be one."""
    from raysweep.trainables.trainable import EXAMPLE

    if error := history.best.get("error"):
        return f"{study.name} has no model: it could not be exported: {error}"
    if not history.best:
        return f"{study.name} has no model yet: it has one when it is complete. raysweep resume {study.name}"
    return (
        f"{study.name} has no model: beside its trainable, {study.trainable}, there is no function export(point,"
        f" state, folder) that writes one with MLflow, such as {EXAMPLE}. Write it, and run the study again with"
        " --code-changed: its trials are not run again"
    )


@cli.command()
@study_argument
@click.argument("inputs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@folder_option
@tracking_option
def predict(study: str, inputs: tuple[Path, ...], folder: Path, tracking: str | None) -> None:
    """Predict with a study's best model.

    The inputs are .csv or .parquet tables, images, or folders of images.

    \b
    raysweep predict digits_mlp new.csv > predictions.csv
    """
    from raysweep.tracking.models import predict as predict_with

    place, history, what = open_study(folder, study)
    if not history.best.get("model", bool(history.best)):
        raise RaysweepError(_no_model(history, what))
    click.echo(
        predict_with(what.name, mlflow_for(place, history, tracking), inputs).to_csv(index=False), nl=False
    )
