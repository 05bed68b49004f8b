"""`cluster/slurm.sbatch` on three machines, with stand-ins for srun and scontrol: run, signalled, submitted again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from cluster.conftest import SHARED, Hosts
from conftest import ROOT
from faults.conftest import assert_invariants, history, until
from raysweep.journal.records import FILE

STUDY = """\
trainable: mlp
maximize: val_accuracy
algorithm: random
scheduler: none
trials: 12
checkpoint_every: 1 s
space: {data: digits, epochs: 300, units: 64, lr: {float: [1e-4, 1e-1], log: true}}
"""
PLACE = SHARED / "studies" / "batch"
JOB = (
    "SLURM_JOB_ID=7 SLURM_JOB_NODELIST='h[0-2]' SLURM_JOB_NUM_NODES=3 SLURM_CPUS_PER_TASK=2 MLFLOW_TRACKING_URI=off "
    "RAY_health_check_period_ms=1000 RAY_health_check_timeout_ms=1000"
)


@pytest.mark.cluster
def test_a_batch_job_that_is_signalled_goes_on_when_it_runs_again(hosts: Callable[[int], Hosts]) -> None:
    three = hosts(3)
    scripts = ROOT / "tests" / "cluster"
    three.write("h0", "/usr/bin/srun", (scripts / "srun.sh").read_text())
    three.write(
        "h0",
        "/usr/bin/scontrol",
        f'#!/bin/bash\n[ "$1" = requeue ] && touch {SHARED}/requeued-$2 || printf "%s\\n" h0 h1 h2\n',
    )
    three.run("h0", "chmod +x /usr/bin/srun /usr/bin/scontrol")
    key = three.run("cli", "cat ~/.ssh/id_ed25519").stdout
    three.write("h0", "~/.ssh/id_ed25519", key)
    three.run("h0", "chmod 600 ~/.ssh/id_ed25519")
    (SHARED / "batch.yaml").write_text(STUDY)
    venv = three.run("h0", "dirname $(dirname $(command -v raysweep))").stdout.strip()
    batch = f"cd {SHARED} && {JOB} RAYSWEEP_VENV={venv} bash {ROOT}/cluster/slurm.sbatch batch.yaml"

    said: list[str] = []
    first = threading.Thread(target=lambda: said.append(three.run("h0", batch).stdout))
    began = time.monotonic()
    first.start()
    until(lambda: (PLACE / FILE).exists() and any(t.reports for t in history(PLACE).trials), 120)
    print(f"{time.monotonic() - began:6.1f} s  trials run")
    token = SHARED / "studies" / ".token-7"
    assert token.stat().st_mode & 0o777 == 0o600
    until(lambda: {t.worker.split()[0] for t in history(PLACE).trials if t.worker} == {"h0", "h1", "h2"}, 120)
    three.run("h0", "pkill -TERM -f 'bash .*/slurm.sbatch'")
    first.join(200)
    print(f"{time.monotonic() - began:6.1f} s  signalled, and ended")
    assert (SHARED / "requeued-7").exists(), said
    done = {t.number for t in history(PLACE).trials if t.ended}
    assert history(PLACE).over and len(done) < 12 and not token.exists()

    second = three.run("h0", batch)
    assert second.returncode == 0, second.stdout
    print(f"{time.monotonic() - began:6.1f} s  complete")
    trials = assert_invariants(PLACE, interval=300).trials
    assert len(trials) == 12 and all(t.status == "completed" for t in trials)
    assert sum(t.attempts for t in trials if t.number in done) == len(done), "what was done is not done again"
