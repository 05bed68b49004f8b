"""The command line. Each command is a few lines over the library; stdout is data, stderr is for the person."""

from __future__ import annotations

from raysweep.cli import cluster, maintenance, results, running, search
from raysweep.cli.base import cli

__all__ = ["cli", "cluster", "main", "maintenance", "results", "running", "search"]


def main() -> None:
    """The console command `raysweep`."""
    cli(prog_name="raysweep")
