"""Commands that are run on a cluster's head instead of here: the same words, over ssh."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from raysweep.cli.base import say

SEARCHES = {"run", "resume", "extend"}


def there(cluster: Path, arguments: list[str], options: dict[str, Any]) -> int:
    """Run `raysweep ARGUMENTS` on the head of a cluster; its exit code.

    A search becomes a job of the cluster, which is followed unless it was to be detached; who stops following it
    does not stop it.
    """
    from raysweep.launcher import head_of

    head = head_of(cluster)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if arguments[0] not in SEARCHES:
        return head.run(_line(arguments), terminal)
    name, script = _search(head, arguments, options)
    code = head.run(script)
    more = f"--cluster {cluster}"
    if code or options["detach"]:
        if not code:
            say(f"From here: raysweep status {name} --watch {more}; or logs, stop, cancel, trials, best.")
        return code
    try:
        return head.run(_line(["status", name, "--watch"]), terminal)
    finally:
        say(f"{name} is on the cluster. Look again: raysweep status {name} --watch {more}")


def _search(head: Any, arguments: list[str], options: dict[str, Any]) -> tuple[str, str]:
    """The name of the study that is to be searched, and what does it; its code is shipped first."""
    detached = [*arguments, *([] if options["detach"] else ["--detach"])]
    if "file" not in options or options.get("study"):
        return options["study"], _line(detached)
    from raysweep import jobs
    from raysweep.study import Study

    file: Path = options["file"]
    study = Study.load(file)  # what is wrong with it is said here
    place = f"{shlex.quote(study.name)}"
    if code := head.run(f"raysweep receive {place}", packed=jobs.bundle(file.resolve().parent)):
        sys.exit(code)
    detached[detached.index(str(file))] = file.name
    return study.name, f'cd "$RAYSWEEP_FOLDER"/{place}/{jobs.CODE} && {_line(detached)}'


def ui(cluster: Path, study: str | None) -> None:
    """Bring MLflow and Ray's dashboard here, and print where they are."""
    from raysweep.launcher import head_of, tunnels

    head = head_of(cluster)
    link = head.ask(_line(["ui", *([study] if study else [])])).strip()
    own = head.ask('printf %s "${RAYSWEEP_MLFLOW:-}"')
    base = head.ask('printf %s "$MLFLOW_TRACKING_URI"')
    here = link if own else link.replace(base, "http://127.0.0.1:5000")
    click.echo(
        f"MLflow: {here}" + ("" if own else "   (user raysweep, password: what is in ~/.ray/auth_token)")
    )
    click.echo("Ray's dashboard: http://127.0.0.1:8265   (the same token). Ctrl-C closes both.")
    tunnels(head, [8265] if own else [5000, 8265])


def _line(arguments: list[str]) -> str:
    return shlex.join(["raysweep", *arguments])
