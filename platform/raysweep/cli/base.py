"""The group of all commands, how they find a study, and how they print trials."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raysweep import __version__
from raysweep.cli.options import again
from raysweep.errors import HIDDEN, RaysweepError, TrackingError

if TYPE_CHECKING:
    from rich.console import Console

    from raysweep.journal.history import History
    from raysweep.study.objective import Objective
    from raysweep.study.study import Study
    from raysweep.trial import Trial


class Commands(click.Group):
    """A group whose commands answer a user's mistake with one sentence and an exit code, not with a traceback."""

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
    """Tune hyperparameters: one small file in, the best point out, every trial in MLflow."""


def no_result(trials: tuple[Trial, ...]) -> str:
    first = next((t for t in trials if t.error), None)
    return "no trial gave a result" + (
        f"; trial {first.number} {first.status}: {first.error}" if first else ""
    )


def console() -> Console:
    """Standard output for tables. Wide when it is not a terminal: the reader of a pipe needs whole rows."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 200)


def print_trials(trials: list[Trial], objective: Objective, study: Study) -> None:
    from raysweep.report.tables import table

    console().print(table(trials, objective, study.space))


def trial_of(history: History, study: str, number: int) -> Trial:
    """A study's trial by its number. Raises RaysweepError when there is none."""
    found = next((t for t in history.trials if t.number == number), None)
    if found is None:
        raise RaysweepError(f"study '{study}' has no trial {number}; it has {len(history.trials)}, from 0")
    return found


def print_result(
    study: Study,
    trials: tuple[Trial, ...],
    test: dict[str, float],
    model: str,
    place: Path,
    not_exported: str = "",
) -> None:
    """Print the result of a complete study. Raises RaysweepError when no trial has one, and exits with 1 when a
    trial has failed, or its best model was `not_exported` for this reason."""
    from raysweep.report.tables import ends, number
    from raysweep.tracking.process import REPORT
    from raysweep.trial import best, ranking

    winner, objective = best(trials, study.objective), study.objective
    folder = Path(from_here(place.parent))
    if winner is None:
        raise RaysweepError(no_result(trials))
    print_trials(ranking(trials, objective)[:5], objective, study)
    failed = [t.number for t in trials if t.status == "failed"]
    retried = [t.number for t in trials if any(loss.cause != "node" for loss in t.losses)]
    why = f" (raysweep logs {study.name} {failed[0]}{again(folder)})" if failed else ""
    more = f"; {len(retried)} retried after an error: {', '.join(map(str, retried[:5]))}" if retried else ""
    click.echo(f"{ends(trials)}{why}{more}")
    tested = ", ".join(f"{k} {number(v)}" for k, v in test.items())
    score = winner.score(objective)
    values = zip(objective.all, score.values if score else (), strict=True)
    value = ", ".join(f"{o.metric} {number(v)}" for o, v in values)
    click.echo(f"best: trial {winner.number}, {value}{f'; {tested}' if tested else ''}")
    if model:
        click.echo(f"model: {model}  (raysweep predict {study.name} INPUT{again(folder)})")
    if not_exported:
        logs = f"raysweep logs {study.name} {winner.number}{again(folder)}"
        click.echo(
            f"model: not exported: {not_exported} ({logs}). Once that is mended, run it again with --code-changed"
        )
    for line in health_lines(place):
        click.echo(line)
    if (place / REPORT).exists():
        click.echo(f"report: {from_here(place / REPORT)}")
    click.echo(f"compare in MLflow: raysweep ui {study.name}{again(folder)}")
    if failed or not_exported:
        sys.exit(1)


def health_lines(place: Path) -> list[str]:
    """What the health checks say of the study in a folder, a line each. They hide no result if they fail."""
    from raysweep.report.health import health
    from raysweep.report.page import facts_of

    try:
        return [f"health: {finding}" for finding in health(facts_of(place)[0])]
    except Exception as error:
        return [f"health: not checked: {type(error).__name__}: {error}"]


def from_here(path: Path) -> str:
    """A path as a person would write it here."""
    whole = path.resolve()
    return str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole)


def open_study(folder: Path, study: str) -> tuple[Path, History, Study]:
    """Find a study by its name, its file or its folder. Returns its folder, its history and the study itself."""
    from raysweep.report.result import find_study

    return find_study(folder, study)


def store_for(place: Path, history: History, given: str | None) -> str:
    """The MLflow store that a command uses: the given one, or the one that the study ran with."""
    from raysweep.tracking.store import store_of

    known = history.session.get("store", "")
    if HIDDEN in known and not given and "MLFLOW_TRACKING_URI" not in os.environ:
        raise TrackingError(
            f"{place.name} is tracked at {known}, whose password is not kept. Pass --tracking URI, or set"
            " MLFLOW_TRACKING_URI (and MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, with no password in it)"
        )
    return store_of(place, given or (known if HIDDEN not in known else None))


def mlflow_for(place: Path, history: History, given: str | None) -> str:
    """Like `store_for`, but for a command that cannot do without MLflow."""
    from raysweep.tracking.store import OFF

    uri = store_for(place, history, given)
    if uri == OFF:
        raise TrackingError("tracking is off. Pass --tracking URI to say where MLflow is")
    return uri
