"""Arguments and options that several commands share, and how commands print messages."""

from __future__ import annotations

import functools
import glob
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raysweep.errors import Problem, StudyError, scrubbed
from raysweep.journal.records import FILE

if TYPE_CHECKING:
    from raysweep.study.space import Point
    from raysweep.study.study import Study

STUDIES = os.environ.get("RAYSWEEP_FOLDER", "studies")

file_argument = click.argument("file", type=click.Path(path_type=Path))


def complete_studies(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The names of studies that begin with what was typed, for a shell to complete."""
    folder = Path(ctx.params.get("folder") or STUDIES)
    return sorted(p.parent.name for p in folder.glob(f"{glob.escape(incomplete)}*/{FILE}"))


study_argument = click.argument("study", shell_complete=complete_studies)
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


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def changes_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that change values of a study file for this command. It gets them as the mapping `changes`."""

    @click.option("--trials", "fewer", type=click.IntRange(min=1), help="Another number of trials.")
    @click.option(
        "--set",
        "changed",
        multiple=True,
        metavar="KEY=VALUE",
        help="Another value for a key of the file, such as space.epochs=10. May be repeated.",
    )
    @functools.wraps(command)
    def with_changes(fewer: int | None, changed: tuple[str, ...], **options: Any) -> None:
        command(changes=changes_of({"fewer": fewer, "changed": changed}), **options)

    return with_changes


def changes_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The values that `--trials` and `--set` put in place of a file's, by their keys. Raises StudyError."""
    from raysweep.study.yaml import parse_yaml

    changes: dict[str, Any] = {"trials": options["fewer"]} if options.get("fewer") else {}
    for text in options.get("changed", ()):
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise StudyError([Problem("--set", f"write KEY=VALUE, such as space.epochs=10, got {text}")])
        changes[key.strip()] = parse_yaml(f"value: {value}")["value"]
    return changes


def say(text: str) -> None:
    click.echo(text, err=True)


def again(folder: Path, tracking: str | None = None) -> str:
    """The options that a later command needs to find the same study. A URI with a password is shown as `URI`,
    for the reader to fill in."""
    shown = tracking if tracking and scrubbed(tracking) == tracking else "URI"
    return "".join(
        [
            "" if folder.resolve() == Path(STUDIES).resolve() else f" --folder {folder}",
            f" --tracking {shown}" if tracking else "",
        ]
    )


def point_of(values: Sequence[str], study: Study, others: Point | None = None) -> Point:
    """The point that NAME=VALUE arguments say: what they leave out is as in `others`, or fixed. Raises StudyError
    when the study has no such point."""
    from raysweep.study.yaml import parse_yaml

    wrong = [v for v in values if "=" not in v]
    if wrong:
        raise StudyError([Problem("", f"write NAME=VALUE, got {v}") for v in wrong])
    pairs = [v.partition("=") for v in values]
    given = dict(parse_yaml("\n".join(f"{n}: {v}" for n, _, v in pairs)))
    point = study.space.completed({**(others or {}), **given})
    problems = study.space.check(point)
    if problems:
        raise StudyError(problems, source=study.name)
    return point
