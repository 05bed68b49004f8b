"""Commands that are run on a cluster's head instead of here: the same words, over ssh."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raysweep.cli.options import STUDIES, cluster_option, say
from raysweep.errors import ClusterError

if TYPE_CHECKING:
    from raysweep.cluster.launcher import Head

SEARCHES = {"run", "resume", "extend"}
ARGUMENTS = "raysweep.arguments"  # of the command, as they were written


class StudyCommand(click.Command):
    """A command on a study, which with --cluster FILE runs on that cluster's head instead of here."""

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
    """Arguments without options that take a value, and their values."""
    kept: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument in options:
            next(left, None)
        elif argument.partition("=")[0] not in options:
            kept.append(argument)
    return kept


def run_on_head(cluster: Path, arguments: list[str], options: dict[str, Any]) -> int:
    """Run `raysweep ARGUMENTS` on the head of a cluster; its exit code.

    A search becomes a job of the cluster, which is followed unless it was to be detached; who stops following it
    does not stop it.
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
    """The option that says where studies are kept there, if it is not where the cluster keeps them."""
    if given == Path(STUDIES):
        return []
    if not given.is_absolute():
        raise ClusterError(f"--folder {given}: a folder of the cluster must be a whole path")
    return ["--folder", str(given)]


def _search(head: Head, arguments: list[str], options: dict[str, Any], folder: list[str]) -> tuple[str, str]:
    """The name of the study that is to be searched, and what does it, in the folder of its code; that is shipped first
    if there is a file."""
    detached = [*arguments, *([] if options["detach"] else ["--detach"])]
    file, name = options.get("file"), options.get("study")
    if file is not None:
        name = _shipped(head, file, name, folder)
        at = next(
            i
            for i, a in enumerate(detached)
            if a.removeprefix("--to=") and Path(a.removeprefix("--to=")) == file
        )
        detached[at] = file.name if not detached[at].startswith("--to=") else f"--to={file.name}"
    studies = shlex.quote(folder[1]) if folder else '"$RAYSWEEP_FOLDER"'
    return str(name), f"{{ cd {studies}/{name}/code 2>/dev/null || true; }} && {_line(detached)}"


def _shipped(head: Head, file: Path, name: str | None, folder: list[str]) -> str:
    """Ship the folder of a study's file to the study in the cluster, which is called by its file unless `name` says
    otherwise. Relative paths of the study then mean the file's folder."""
    from raysweep.cluster import jobs
    from raysweep.study.study import Study

    name = name or Study.load(file).name  # what is wrong with it is said here
    place = file.resolve().parent
    packed = jobs.bundle(place)
    say(f"Shipping {place} ({len(packed) / 1e6:,.2f} MB, packed) ...")
    if code := head.run(_line(["receive", name, *folder]), packed=packed):
        sys.exit(code)
    return name


def ui(cluster: Path, study: str | None) -> None:
    """Bring MLflow and Ray's dashboard here, and print where they are."""
    from raysweep.cluster.launcher import head_of, tunnels

    head = head_of(cluster)
    base = head.ask('printf %s "$MLFLOW_TRACKING_URI"')
    link = head.ask(_line(["ui", *([study] if study else []), "--tracking", base])).strip()
    own = not head.ask('printf %s "${RAYSWEEP_MLFLOW:-}"')
    where = link.replace(base, "http://127.0.0.1:5000") if own else link
    click.echo(f"MLflow: {where}" + "   (user raysweep, password: what is in ~/.ray/auth_token)" * own)
    click.echo("Ray's dashboard: http://127.0.0.1:8265   (the same token). Ctrl-C closes both.")
    tunnels(head, [5000, 8265] if own else [8265])


def _line(arguments: list[str]) -> str:
    return shlex.join(["raysweep", *arguments])
