"""Commands that show a study's results and use them: trials, best, show, predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from raysweep.cli.base import cli, console, mlflow_for, no_result, open_study, print_trials, trial_of
from raysweep.cli.options import folder_option, study_argument, tracking_option
from raysweep.cli.remote import StudyCommand
from raysweep.errors import RaysweepError

if TYPE_CHECKING:
    from raysweep.study.study import Study
    from raysweep.trial import Trial


@cli.command(cls=StudyCommand)
@study_argument
@folder_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
def trials(study: str, folder: Path, as_json: bool, as_csv: bool) -> None:
    """List a study's trials, the best first."""
    from raysweep.report import tables
    from raysweep.trial import ranking

    _, history, what = open_study(folder, study)
    ranked = ranking(history.trials, what.objective)
    listed = ranked + [t for t in history.trials if t.number not in {r.number for r in ranked}]
    if as_json or as_csv:
        rows = tables.rows(listed, what.objective)
        click.echo(tables.as_json(rows) if as_json else tables.as_csv(rows))
    else:
        print_trials(listed, what.objective, what)


@cli.command(cls=StudyCommand)
@study_argument
@folder_option
def best(study: str, folder: Path) -> None:
    """Print the best point as a study file with fixed values; with several objectives, the Pareto front.

    \b
    raysweep best digits_mlp > best.yaml && raysweep run best.yaml
    """
    from raysweep.report.tables import number
    from raysweep.trial import best as best_of

    _, history, what = open_study(folder, study)
    winner = best_of(history.trials, what.objective)
    if winner is None:
        raise RaysweepError(no_result(tuple(history.trials)))
    if what.objective.more:
        _print_front(history.trials, what)
        return
    score = winner.score(what.objective)
    value = number(score.value if score else None)
    so_far = "" if winner.ended else f", so far ({winner.status})"
    click.echo(f"# trial {winner.number} of {what.name}: {what.objective.metric} {value}{so_far}")
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
def show(study: str, trial: int, folder: Path) -> None:
    """Show one trial: its point, how it ended, its metrics epoch by epoch."""
    from rich.table import Table

    from raysweep.report.tables import number
    from raysweep.study.options import duration
    from raysweep.study.yaml import write_yaml

    _, history, what = open_study(folder, study)
    found = trial_of(history, study, trial)
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
    console().print(curve)


@cli.command()
@study_argument
@click.argument("inputs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@folder_option
@tracking_option
def predict(study: str, inputs: tuple[Path, ...], folder: Path, tracking: str | None) -> None:
    """Predict with a study's best model, from a .csv or .parquet table, images, or folders of images.

    \b
    raysweep predict digits_mlp new.csv > predictions.csv
    """
    from raysweep.tracking.models import predict as predict_with

    place, history, what = open_study(folder, study)
    click.echo(
        predict_with(what.name, mlflow_for(place, history, tracking), inputs).to_csv(index=False), nl=False
    )
