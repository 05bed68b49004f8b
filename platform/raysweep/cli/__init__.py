"""The command line. Each command is a thin layer over the library; stdout gets data, stderr messages."""

from __future__ import annotations

from raysweep.cli import cluster, control, maintenance, results, run
from raysweep.cli.base import cli

__all__ = ["cli", "cluster", "control", "main", "maintenance", "results", "run"]


def main() -> None:
    """The console command `raysweep`."""
    cli(prog_name="raysweep")
