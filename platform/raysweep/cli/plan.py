"""The command that says what a study will take: plan."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raysweep.cli.base import cli
from raysweep.cli.options import changes_options, file_argument, json_option, say
from raysweep.cli.remote import StudyCommand
from raysweep.cli.run import load_data

if TYPE_CHECKING:
    from raysweep.execution.plan import Plan
    from raysweep.study.study import Study


@cli.command(cls=StudyCommand)
@file_argument
@changes_options
@click.option(
    "--workers", type=click.IntRange(min=1), help="How many trials run at once. Default: as many as fit here."
)
@click.option("--price", type=click.FloatRange(min=0), help="What an hour of the machines costs.")
@json_option
def plan(
    file: Path, changes: dict[str, Any], workers: int | None, price: float | None, as_json: bool
) -> None:
    """Say what a study will take: time, epochs, disk, cost.

    A few points are trained here for one or two epochs, and the search is run in virtual time.

    \b
    raysweep plan search_spaces/digits_mlp.yaml --workers 32 --price 12.5
    """
    from raysweep.execution.plan import plan as plan_of
    from raysweep.study.study import Study

    study = Study.load(file, changes)
    tell = say if not as_json else lambda text: None
    found = plan_of(study, load_data(study, file, tell), workers)
    if as_json:
        cost = {"cost": price * found.wall / 3600} if price is not None else {}
        click.echo(json.dumps(asdict(found) | cost))
        return
    for line in _lines(study, found, price):
        click.echo(line)


def _lines(study: Study, plan: Plan, price: float | None) -> list[str]:
    from raysweep.study.options import duration

    together = f", {plan.together} trained together in each" if plan.together > 1 else ""
    lines = [
        f"{study.name}: {plan.trials} trials on {plan.workers} workers{together}, by {study.method}",
        f"an epoch: {plan.epoch:.3g} s; about {plan.epochs:,} of {plan.whole:,} epochs are trained",
        f"time: about {duration(plan.wall)} ({duration(plan.low)} to {duration(plan.high)});"
        f" the first trial ends after about {duration(plan.first)}",
        f"with twice the workers: about {duration(plan.twice)}",
        f"computing: about {duration(plan.computing)} in all trials together"
        + (f", {plan.gpu_hours:.2g} GPU hours" if plan.gpu_hours else ""),
        f"disk: at most {plan.disk / 1e6:,.3g} MB, without what is shared by all studies",
    ]
    if price is not None:
        low, middle, high = (price * seconds / 3600 for seconds in (plan.low, plan.wall, plan.high))
        lines.append(f"cost: about {middle:,.2f} ({low:,.2f} to {high:,.2f})")
    return lines
