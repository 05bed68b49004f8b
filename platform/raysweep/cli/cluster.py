"""Commands for a cluster that `ray up` launches: cluster up, down, status; and what they call on its head."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raysweep.cli.base import Commands, cli, console
from raysweep.cli.options import STUDIES, file_argument, folder_option, say

if TYPE_CHECKING:
    from raysweep.execution.nodes import Node


@cli.group(cls=Commands)
def cluster() -> None:
    """Launch, inspect and shut down a Ray cluster. See cluster/README.md."""


@cluster.command()
@file_argument
@click.option("--patience", default=900.0, show_default=True, help="Seconds to wait for the workers.")
@click.option(
    "--restart", is_flag=True, help="Restart Ray if it is running, which ends everything that runs on it."
)
def up(file: Path, patience: float, restart: bool) -> None:
    """Launch a cluster, wait for its workers, and check that each node can run trials.

    \b
    raysweep cluster up cluster/onprem.yaml
    """
    from raysweep.cluster.launcher import up as launch
    from raysweep.execution.ray_session import token

    token()
    if not launch(file, say, patience, restart):
        sys.exit(1)


@cluster.command()
@file_argument
@click.option("--force", is_flag=True, help="Shut it down even while a study is running.")
def down(file: Path, force: bool) -> None:
    """Shut a cluster down, with everything that runs on it. The shared folder is kept."""
    from raysweep.cluster.launcher import down as end

    end(file, say, force)
    click.echo(f"the cluster of {file} is down")


@cluster.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--wait", default=0, help="Wait until this many workers have joined (FILE says how many).")
@click.option("--patience", default=0.0, help="How long to wait, in seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def status(file: Path | None, wait: int, patience: float, as_json: bool) -> None:
    """Show a cluster's nodes and whether each can run trials. Without FILE: this machine's cluster."""
    if file is not None:
        from raysweep.cluster import launcher

        if as_json:
            sys.exit(launcher.head_of(file).run("raysweep cluster status --json"))
        sys.exit(not launcher.status(file, say, patience))
    from raysweep.execution.ray_session import connected

    folder = Path(STUDIES).resolve()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with connected("auto", folder / ".cluster.log"):
        from raysweep.execution import nodes

        nodes.wait_for(wait, patience, say)
        found, used = nodes.probe(folder), nodes.used()
    studies = _running(folder)
    if as_json:
        click.echo(json.dumps({"nodes": [asdict(n) for n in found], "studies": studies}))
    else:
        _print(found, used, studies)
    if any(n.problems for n in found) or len(found) - 1 < wait:
        sys.exit(1)


def _running(folder: Path) -> list[str]:
    """The names of the running studies in a folder."""
    from raysweep.journal.journal import running
    from raysweep.journal.records import FILE

    return [j.parent.name for j in sorted(folder.glob(f"*/{FILE}")) if running(j.parent)]


def _print(found: list[Node], used: dict[str, dict[str, float]], studies: list[str]) -> None:
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("node", "", "CPU", "GPU", "versions", "problems"):
        shown.add_column(heading)
    for node in found:
        amounts = [
            f"{used.get(node.address, {}).get(k, 0):g}/{node.resources.get(k, 0):g}" for k in ("CPU", "GPU")
        ]
        versions = ", ".join(f"{k} {v}" for k, v in node.versions.items())
        shown.add_row(node.address, "head" if node.head else "", *amounts, versions, "; ".join(node.problems))
    console().print(shown)
    click.echo(f"{len(found)} nodes; {', '.join(studies) or 'no study'} running")


@cli.command(hidden=True)
@click.argument("study")
@folder_option
def receive(study: str, folder: Path) -> None:
    """Take a study's code from standard input: the other end of `run --cluster`."""
    from raysweep.cluster.jobs import receive as unpack

    unpack(folder.resolve() / study, sys.stdin.buffer)
