"""What a trial costs beside its training: raysweep against Ray Tune written by hand, in one run on one machine.

All three train the same points of the same MLP on the digits for 5 epochs, on the same Ray, on one core each.
Ray Tune records nothing beyond its own files; raysweep journals, writes checkpoints and has MLflow on.

    python tests/benchmarks/overhead.py [--trials 48]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import raysweep
from raysweep import Choice, Float, Int, Study
from raysweep.execution.ray_session import connected
from raysweep.search.samplers import sampler_of
from raysweep.trainables.data import load

SPACE = {
    "epochs": 5,
    "layers": Int(1, 3),
    "units": Int(32, 128, each="layers"),
    "lr": Float(1e-4, 1e-1, log=True),
    "batch_size": Choice([32, 64, 128]),
}


def by_hand(config: dict[str, Any], points: list[dict[str, Any]], data: Any) -> None:
    """What a person who knows Ray Tune well writes."""
    import torch
    from ray import tune

    from raysweep.trainables.mlp import mlp

    torch.set_num_threads(1)
    for metrics, _ in mlp(data=data, **points[config["point"]]):
        tune.report(metrics)


def ray_tune(points: list[dict[str, Any]], reuse: bool) -> float:
    """Seconds for all points by Ray Tune alone."""
    from ray import tune

    # What we set for ourselves must not help or hinder the peer.
    for name in [n for n in os.environ if n.startswith("TUNE_")]:
        del os.environ[name]
    trainable = tune.with_parameters(by_hand, points=points, data=load("digits"))
    began = time.perf_counter()
    tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"point": tune.grid_search(list(range(len(points))))},
        tune_config=tune.TuneConfig(metric="val_accuracy", mode="max", reuse_actors=reuse),
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), verbose=0),
    ).fit()
    return time.perf_counter() - began


def memory(seen: dict[str, float]) -> None:
    """The largest resident memory so far of this process, and of any worker of ours, in MB (Linux)."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            worker = b"Worker" in (process / "cmdline").read_bytes()
            peak = int((process / "status").read_text().split("VmHWM:")[1].split()[0]) / 1000
        except (OSError, IndexError):
            continue  # it has ended since, or belongs to the kernel
        if worker or int(process.name) == os.getpid():
            kind = "worker" if worker else "driver"
            seen[kind] = max(seen.get(kind, 0.0), peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=48)
    trials = parser.parse_args().trials
    os.chdir(tempfile.mkdtemp())
    study = Study(name="overhead", trainable="mlp", maximize="val_accuracy", trials=trials, space=SPACE)
    sampler = sampler_of(study)
    points = [p for p in (sampler.ask(n) for n in range(trials)) if p is not None]
    seen: dict[str, float] = {}
    with connected(None, Path("ray.log")):
        default = ray_tune(points, reuse=False)
        tuned = ray_tune(points, reuse=True)
        began = time.perf_counter()
        result = raysweep.run(study, watch=lambda *_: Sampling(seen))
        whole = time.perf_counter() - began
    first = min(t.asked for t in result.trials)
    search = max(t.finished for t in result.trials) - first
    training = sum(t.seconds for t in result.trials) / len(result.trials)
    print(f"{trials} trials, 5 epochs each, {os.cpu_count()} cores; seconds a trial:")
    print(f"  training itself, on one core             {training:8.3f}")
    print(f"  Ray Tune, default settings               {default / trials:8.3f}")
    print(f"  Ray Tune, reuse_actors=True              {tuned / trials:8.3f}")
    print(f"  raysweep, search                         {search / trials:8.3f}")
    print(f"  raysweep, all of run (data, test, MLflow){whole / trials:8.3f}")
    print(
        f"ratio to the default:    search {default / search:5.1f}x, all of run {default / whole:5.1f}x faster"
    )
    print(f"ratio to reuse_actors:   search {tuned / search:5.1f}x, all of run {tuned / whole:5.1f}x faster")
    print(f"largest resident memory: driver {seen['driver']:.0f} MB, worker {seen['worker']:.0f} MB")


class Sampling:
    """Looks at the memory while a search runs."""

    def __init__(self, seen: dict[str, float]):
        self._seen, self._over = seen, False

    def __enter__(self) -> None:
        import threading

        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join()

    def _look(self) -> None:
        while not self._over:
            memory(self._seen)
            time.sleep(0.25)


if __name__ == "__main__":
    main()
