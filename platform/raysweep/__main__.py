"""`python -m raysweep` is the command `raysweep`."""

from raysweep.cli import main

main()
