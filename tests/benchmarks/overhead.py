"""What a trial costs beside its training: raysweep against Ray Tune written by hand, in one run on one machine.

All train the same points on the digits for 5 epochs, on one core each. By hand the network is a plain PyTorch loop
(data in memory, batches by index, torch.optim's fused Adam). Ray Tune records nothing beyond its own files;
raysweep journals, writes checkpoints and has MLflow on. Ray runs already, in either case; the peers' Ray has none of
our settings. With --built-in, the peers train with raysweep's own `mlp`: what is left is the cost of trials.

    python tests/benchmarks/overhead.py [--trials 48] [--built-in] [--without-default]
"""

from __future__ import annotations

import argparse
import math
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
    """What a person who knows Ray Tune and PyTorch well writes."""
    import torch
    from ray import tune
    from torch import nn

    torch.set_num_threads(1)
    point = points[config["point"]]
    x, xv = (torch.as_tensor(v).flatten(1).float() / 255 for v in (data.x_train, data.x_val))
    y, yv = (torch.as_tensor(v) for v in (data.y_train, data.y_val))
    layers: list[nn.Module] = []
    width = x.shape[1]
    for units in point["units"]:
        layers += [nn.Linear(width, units), nn.ReLU()]
        width = units
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    optimizer, loss_of = (
        torch.optim.Adam(model.parameters(), lr=point["lr"], fused=True),
        nn.CrossEntropyLoss(),
    )
    for _ in range(point["epochs"]):
        order, total, right = torch.randperm(len(x)), torch.zeros(()), torch.zeros((), dtype=torch.int64)
        model.train()
        for start in range(0, len(x), point["batch_size"]):
            index = order[start : start + point["batch_size"]]
            output = model(x[index])
            loss = loss_of(output, y[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(index)
            right += (output.detach().argmax(1) == y[index]).sum()
        model.eval()
        with torch.inference_mode():
            said = model(xv)
            metrics = {
                "val_loss": float(loss_of(said, yv)),
                "val_accuracy": float((said.argmax(1) == yv).float().mean()),
            }
        tune.report(metrics | {"train_loss": float(total) / len(x), "train_accuracy": float(right) / len(x)})


def by_built_in(config: dict[str, Any], points: list[dict[str, Any]], data: Any) -> None:
    """The same with raysweep's `mlp`."""
    import torch
    from ray import tune

    from raysweep.trainables.mlp import mlp

    torch.set_num_threads(1)
    for metrics, _ in mlp(data=data, **points[config["point"]]):
        tune.report(metrics)


def ray_tune(points: list[dict[str, Any]], reuse: bool, train: Any) -> float:
    """Seconds for all points by Ray Tune alone."""
    from ray import tune

    trainable = tune.with_parameters(train, points=points, data=load("digits"))
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
    parser.add_argument("--built-in", action="store_true", help="the peers train with raysweep's own mlp")
    parser.add_argument("--without-default", action="store_true", help="leave out the slowest peer")
    given = parser.parse_args()
    trials, train = given.trials, by_built_in if given.built_in else by_hand
    os.chdir(tempfile.mkdtemp())
    study = Study(name="overhead", trainable="mlp", maximize="val_accuracy", trials=trials, space=SPACE)
    sampler = sampler_of(study)
    points = [p for p in (sampler.ask(n) for n in range(trials)) if p is not None]
    seen: dict[str, float] = {}
    import ray

    ray.init(include_dashboard=False, log_to_driver=False)
    default = math.nan if given.without_default else ray_tune(points, reuse=False, train=train)
    tuned = ray_tune(points, reuse=True, train=train)
    ray.shutdown()
    with connected(None, Path("ray.log")):
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
