"""What one head carries: 1,000 trials at once 256, of workers that compute nothing, all on this machine.

    python tests/benchmarks/scale.py [--trials 1000] [--at-once 64 256]

Each trial is a process of its own, since Ray gives each one; they hold 2 / AT_ONCE of a CPU. Prints trials and reports a
second, the memory and CPU of the driver, and how far MLflow (SQLite) was behind at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
STUDY = """\
trainable: idle:train
minimize: loss
algorithm: random
scheduler: none
trials: {trials}
per_trial: {{cpu: {share}}}
space: {{x: {{float: [0.0, 1.0]}}, epochs: 10, pause: {pause}}}
"""
IDLE = """\
import time
from ray import tune
def train(config):  # a Ray Tune function, so that 256 processes do without torch
    for epoch in range(1, config["epochs"] + 1):
        time.sleep(config["pause"])
        tune.report({"loss": config["x"] + 1 / epoch})
"""


def of(pid: int, name: str) -> float:
    """A number of a process's status, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return float(line.split()[1]) / 1024
    return 0.0


def measured(trials: int, at_once: int, pause: float) -> dict[str, float]:
    from raysweep.journal.history import Reader
    from raysweep.tracking.process import publisher_status

    place = Path(tempfile.mkdtemp(prefix="raysweep-scale-"))
    (place / "idle.py").write_text(IDLE)
    share = os.cpu_count() / at_once  # type: ignore[operator]
    (place / "scale.yaml").write_text(STUDY.format(trials=trials, share=round(share, 4), pause=pause))
    process = subprocess.Popen(
        (sys.executable, "-m", "raysweep", "run", "scale.yaml", "-q"), cwd=place, stdout=subprocess.DEVNULL
    )
    study, most, ended = place / "studies" / "scale", 0.0, 0.0
    while process.poll() is None:
        if Path(f"/proc/{process.pid}").exists():
            most = max(most, of(process.pid, "VmRSS"))
        if not ended and (study / "journal.jsonl").exists():
            reader = Reader(study)
            reader.update()
            if reader.history.over:
                ended, behind = time.time(), publisher_status(study).pending
        time.sleep(0.5)
    over = time.time()
    reader = Reader(study)
    records = reader.update()
    started = [r["time"] for r in records if r["kind"] == "started"]
    reports = [r["time"] for r in records if r["kind"] == "report"]
    done = [r["time"] for r in records if r["kind"] == "ended"]
    shutil.rmtree(place)
    assert process.returncode == 0 and len(done) == trials
    # Steady: while all places are taken, and not while 256 processes start on two cores.
    full = sorted(started)[min(at_once, len(started)) - 1]
    steady = [t for t in reports if t >= full]
    return {
        "trials at once": at_once,
        "first trial to last, s": max(done) - min(started),
        "reports/s": len(steady) / max(0.1, max(steady) - full),
        "driver, MB": most,
        "MLflow behind at the end, trials": behind,
        "until MLflow held all, s": over - ended,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--at-once", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--pause", type=float, default=1.0, help="seconds that an epoch does nothing")
    options = parser.parse_args()
    rows = [measured(options.trials, n, options.pause) for n in options.at_once]
    print(json.dumps(rows, indent=2))
    print("| " + " | ".join(rows[0]) + " |")
    print("|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(f"{v:,.0f}" for v in row.values()) + " |")


if __name__ == "__main__":
    main()
