"""Random kills of random things for ten minutes, then the invariants: `make soak`, or

    python tests/faults/soak.py --minutes 2 --seed 7

Starts one study after the other, in a folder of its own. Every few seconds a process of it is killed: the search,
a worker, the publisher, Ray's node manager or its head. What is gone is started again, until the study is complete;
then everything that must hold after a fault is checked, and that MLflow holds each trial once.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from faults.conftest import STUDY, assert_invariants

VICTIMS = ("raysweep run", "raysweep resume", "ray::", "raysweep.tracking.publisher", "raylet", "gcs_server")


def processes(folder: Path) -> dict[int, str]:
    """The processes that were started for the studies of this folder, by what they are."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"SOAK={folder}".encode() not in (path / "environ").read_bytes().split(b"\0"):
                continue
            told = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            name = next((v for v in VICTIMS if v in told), None)
            if name is not None:
                found[int(path.name)] = name
    return found


def search(folder: Path, name: str, rng: random.Random, killed: Counter[str]) -> float:
    """Run a study to its end whatever happens; the seconds that took."""
    file = folder / f"{name}.yaml"
    file.write_text(
        STUDY.format(
            function="steady",
            trials=12,
            epochs=12,
            concurrency=2,
            more="checkpoint_every: 1e-6",
            marks=folder,
        )
    )
    store = f"sqlite:///{folder}/mlflow.db"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        "MLFLOW_TRACKING_URI": store,
        "SOAK": str(folder),
    }
    began = time.monotonic()
    while True:
        log = (folder / "log").open("a")
        run = subprocess.Popen(
            (sys.executable, "-m", "raysweep", "run", file.name, "-q"),
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
        with suppress(subprocess.TimeoutExpired):
            run.wait(timeout=rng.uniform(5, 25))
        if run.poll() == 0:
            return time.monotonic() - began
        running = processes(folder)
        if running and rng.random() < 0.8:
            pid, what = rng.choice(sorted(running.items()))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed[what] += 1
        with suppress(subprocess.TimeoutExpired):
            run.wait(timeout=rng.uniform(0, 100))
        if run.poll() is None:
            run.kill()
            killed["raysweep run"] += 1
        run.wait()
        if run.returncode == 0:
            return time.monotonic() - began


def check(folder: Path, name: str) -> None:
    """The invariants of the study, and one finished run in MLflow for each of its trials."""
    import mlflow

    told = assert_invariants(folder / "studies" / name, interval=2)
    store = f"sqlite:///{folder}/mlflow.db"
    subprocess.run(
        (sys.executable, "-m", "raysweep", "sync", name, "--tracking", store), cwd=folder, check=True
    )
    client = mlflow.MlflowClient(store)
    experiments = [e.experiment_id for e in client.search_experiments()]
    wanted = f"tags.study_id = '{told.study['id']}' and tags.role = 'trial'"
    runs = client.search_runs(experiments, wanted, max_results=1000)
    trials = Counter(r.data.tags["trial"] for r in runs)
    assert trials == {str(t.number): 1 for t in told.trials}, trials
    assert "RUNNING" not in {r.info.status for r in runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, killed, folder = random.Random(given.seed), Counter[str](), Path(tempfile.mkdtemp(prefix="soak-"))
    end, studies = time.monotonic() + 60 * given.minutes, 0
    while time.monotonic() < end:
        seconds = search(folder, f"soak_{studies}", rng, killed)
        check(folder, f"soak_{studies}")
        print(f"study {studies}: {seconds:.0f} s, all invariants hold", flush=True)
        studies += 1
    print(f"{studies} studies; killed: {', '.join(f'{v} x {n}' for v, n in killed.most_common())}; {folder}")


if __name__ == "__main__":
    main()
