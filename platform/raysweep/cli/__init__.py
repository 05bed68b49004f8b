"""The command line. Each command is a thin layer over the library; stdout gets data, stderr messages."""

from __future__ import annotations

from raysweep.cli import cluster, control, maintenance, plan, results, run, studies
from raysweep.cli.base import cli

__all__ = ["cli", "cluster", "control", "main", "maintenance", "plan", "results", "run", "studies"]


def main() -> None:
    """The console command `raysweep`."""
    cli(prog_name="raysweep")
