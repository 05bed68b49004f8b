"""Arguments and options that several commands share, and how commands print messages."""

from __future__ import annotations

import os
from pathlib import Path

import click

from raysweep.errors import scrubbed

STUDIES = os.environ.get("RAYSWEEP_FOLDER", "studies")

file_argument = click.argument("file", type=click.Path(path_type=Path))
study_argument = click.argument("study")
folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=STUDIES,
    show_default=True,
    help="The folder of all studies.",
)
tracking_option = click.option(
    "--tracking",
    metavar="URI",
    help="The MLflow store, or off. Default: MLFLOW_TRACKING_URI, or mlflow.db in the folder of all studies.",
)
cluster_option = click.option(
    "--cluster",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="RAYSWEEP_CLUSTER",
    help="Run the command on the head of this cluster. See cluster/README.md.",
)


def say(text: str) -> None:
    click.echo(text, err=True)


def again(folder: Path, tracking: str | None = None) -> str:
    """The options that a later command needs to find the same study. A URI with a password is shown as `URI`,
    for the reader to fill in."""
    shown = tracking if tracking and scrubbed(tracking) == tracking else "URI"
    return "".join(
        [
            "" if str(folder) == STUDIES else f" --folder {folder}",
            f" --tracking {shown}" if tracking else "",
        ]
    )
