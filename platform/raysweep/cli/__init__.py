"""The command line. Each command is a few lines over the library; stdout is data, stderr is for the person."""

from __future__ import annotations

from raysweep.cli import cluster, results, running, search, upkeep
from raysweep.cli.base import cli

__all__ = ["cli", "cluster", "main", "results", "running", "search", "upkeep"]


def main() -> None:
    """The console command `raysweep`."""
    cli(prog_name="raysweep")
