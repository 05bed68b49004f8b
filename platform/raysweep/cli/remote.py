"""Commands that run on a cluster's head instead of here: the same command line, sent over ssh."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raysweep.cli.options import STUDIES, changes_of, cluster_option, say
from raysweep.errors import ClusterError

if TYPE_CHECKING:
    from raysweep.cluster.launcher import Head

SEARCHES = {"run", "resume", "extend"}
ARGUMENTS = "raysweep.arguments"  # the command's arguments, as typed


class StudyCommand(click.Command):
    """A command on a study. With --cluster FILE it runs on that cluster's head instead of here."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        cluster_option(self)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[ARGUMENTS] = [self.name, *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        cluster = ctx.params.pop("cluster")
        if cluster is None:
            return super().invoke(ctx)
        return ctx.exit(run_on_head(cluster, without(ctx.meta[ARGUMENTS], "--cluster"), ctx.params))


def without(arguments: list[str], *options: str) -> list[str]:
    """The arguments without `options`, which all take a value, and without their values."""
    kept: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument in options:
            next(left, None)
        elif argument.partition("=")[0] not in options:
            kept.append(argument)
    return kept


def run_on_head(cluster: Path, arguments: list[str], options: dict[str, Any]) -> int:
    """Run `raysweep ARGUMENTS` on the head of a cluster. Returns its exit code.

    A search becomes a job of the cluster. Its progress is followed unless --detach was given. Ending the
    following does not end the job.
    """
    from raysweep.cluster.launcher import head_of

    head = head_of(cluster)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if arguments[0] not in SEARCHES:
        return head.run(_line(arguments), terminal)
    folder = _folder(options["folder"])
    name, script = _search(head, arguments, options, folder)
    code = head.run(script)
    more = f"--cluster {cluster}"
    if code or options["detach"]:
        if not code:
            say(f"From here: raysweep status {name} --watch {more}; or logs, stop, cancel, trials, best.")
        return code
    try:
        return head.run(_line(["status", name, "--watch", *folder]), terminal)
    finally:
        say(f"{name} is on the cluster. Look again: raysweep status {name} --watch {more}")


def _folder(given: Path) -> list[str]:
    """The --folder option for the command on the head; none if studies are where the cluster keeps them."""
    if given == Path(STUDIES):
        return []
    if not given.is_absolute():
        raise ClusterError(f"--folder {given}: a folder on the cluster must be an absolute path")
    return ["--folder", str(given)]


def _search(head: Head, arguments: list[str], options: dict[str, Any], folder: list[str]) -> tuple[str, str]:
    """The name of the study to search, and the shell script that searches it from the folder of its code. If
    a file was given, its folder is shipped first."""
    detached = [*arguments, *([] if options["detach"] else ["--detach"])]
    file, name = options.get("file"), options.get("study")
    if file is not None:
        name = _shipped(head, file, name, folder, changes_of(options))
        at = next(
            i
            for i, a in enumerate(detached)
            if a.removeprefix("--to=") and Path(a.removeprefix("--to=")) == file
        )
        detached[at] = file.name if not detached[at].startswith("--to=") else f"--to={file.name}"
    studies = shlex.quote(folder[1]) if folder else '"$RAYSWEEP_FOLDER"'
    return str(name), f"{{ cd {studies}/{name}/code 2>/dev/null || true; }} && {_line(detached)}"


def _shipped(head: Head, file: Path, name: str | None, folder: list[str], changes: dict[str, Any]) -> str:
    """Ship the folder of a study's file to the study's folder on the cluster. Returns the study's name:
    `name`, or else the one from its file. Relative paths in the study then refer to the file's folder."""
    from raysweep.cluster import jobs
    from raysweep.study.study import Study

    name = name or Study.load(file, changes).name  # errors in the file are reported here
    place = file.resolve().parent
    packed = jobs.bundle(place)
    say(f"Shipping {place} ({len(packed) / 1e6:,.2f} MB, packed) ...")
    if code := head.run(_line(["receive", name, *folder]), packed=packed):
        sys.exit(code)
    return name


def ui(cluster: Path, study: str | None) -> None:
    """Forward MLflow and Ray's dashboard to this machine, and print their addresses."""
    from raysweep.cluster.launcher import head_of, tunnels

    head = head_of(cluster)
    base = head.ask('printf %s "$MLFLOW_TRACKING_URI"')
    link = head.ask(_line(["ui", *([study] if study else []), "--tracking", base])).strip()
    own = not head.ask('printf %s "${RAYSWEEP_MLFLOW:-}"')
    where = link.replace(base, "http://127.0.0.1:5000") if own else link
    click.echo(f"MLflow: {where}" + "   (user raysweep, password: the content of ~/.ray/auth_token)" * own)
    click.echo("Ray's dashboard: http://127.0.0.1:8265   (the same token). Ctrl-C closes both.")
    tunnels(head, [5000, 8265] if own else [8265])


def _line(arguments: list[str]) -> str:
    return shlex.join(["raysweep", *arguments])
