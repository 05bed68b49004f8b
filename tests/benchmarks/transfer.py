"""A search over the head of a frozen backbone: raysweep against Ray Tune written by hand, in one run on one machine.

Both try the same 16 points for 5 epochs, one core a trial, on the same Ray. By hand the backbone runs in every trial
and every epoch, as in PyTorch's tutorial; to its advantage the images are decoded once and shared. Of it so many
trials and epochs are measured as `--measured` says, and the rest follows from the time of an epoch. The start of
trials' processes is left out for both; the extraction's counts. raysweep runs first with an empty cache, then with a
warm one. What `run` takes as a whole stands beside it, with data, start-up, test and export.

    python tests/benchmarks/transfer.py --data FOLDER --weights mobilenet_v2.pth

The bound is what sharing the backbone can bring at most: T E (b + h) / (b + T E h), with b and h the measured costs
of the backbone and the head for an image.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import raysweep
from raysweep import Choice, Float, Int, Study
from raysweep.execution.ray_session import connected
from raysweep.journal.history import History
from raysweep.journal.records import FILE, read
from raysweep.search.samplers import sampler_of
from raysweep.trainables import images
from raysweep.trainables.backbones import Source
from raysweep.trainables.data import Data, load_images

TRIALS, EPOCHS = 16, 5
SPACE = {
    "lr": Float(1e-4, 1e-2, log=True),
    "layers": 1,
    "units": Int(32, 256, log=True),
    "dropout": Float(0.0, 0.6),
    "batch_size": Choice([16, 32]),
}


def by_hand(config: dict[str, Any], points: list[dict[str, Any]], data: Data, source: Source) -> None:
    """What a person who knows Ray Tune and PyTorch well writes, following the transfer-learning tutorial."""
    import torch
    from ray import tune
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(1)
    point = points[config["point"]]
    backbone = source.network().eval().requires_grad_(False)
    head = nn.Sequential(nn.Linear(1280, point["units"]), nn.ReLU(), nn.Dropout(point["dropout"]),
                         nn.Linear(point["units"], 2))  # fmt: skip
    optimizer = torch.optim.Adam(head.parameters(), point["lr"])
    transform = source.transform()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (transform.mean, transform.std))

    def features(x: Any) -> torch.Tensor:
        inputs = (torch.as_tensor(np.array(x)).permute(0, 3, 1, 2) / 255 - mean) / std
        with torch.no_grad():
            return functional.adaptive_avg_pool2d(backbone(inputs), 1).flatten(1)

    while True:
        began = time.perf_counter()
        head.train()
        for index in torch.randperm(len(data.y_train)).split(point["batch_size"]):
            loss = functional.cross_entropy(
                head(features(data.x_train[index])), torch.as_tensor(data.y_train[index])
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        head.eval()
        right = 0
        with torch.no_grad():
            for start in range(0, len(data.y_val), 32):
                said = head(features(data.x_val[start : start + 32])).argmax(1)
                right += int((said == torch.as_tensor(data.y_val[start : start + 32])).sum())
        tune.report({"val_accuracy": right / len(data.y_val), "seconds": time.perf_counter() - began})


def ray_tune(points: list[dict[str, Any]], data: Data, source: Source, trials: int, epochs: int) -> float:
    """The mean seconds of an epoch, with as many trials at once as there are cores."""
    from ray import tune

    for name in [n for n in os.environ if n.startswith("TUNE_")]:
        del os.environ[name]
    trainable = tune.with_parameters(by_hand, points=points, data=data, source=source)
    results = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"point": tune.grid_search(list(range(trials)))},
        run_config=tune.RunConfig(
            storage_path=tempfile.mkdtemp(), verbose=0, stop={"training_iteration": epochs}
        ),
    ).fit()
    return float(np.mean([r.metrics["seconds"] for r in results]))


def ours(study: Study, folder: Path) -> tuple[float, float, History]:
    """Seconds of features and search, seconds of the whole `run`, and what the journal says."""
    began = time.perf_counter()
    raysweep.run(study, folder=folder)
    whole = time.perf_counter() - began
    records, _ = read(folder / study.name / FILE)
    history = History(records)
    search = max(t.finished for t in history.trials) - min(t.started for t in history.trials)
    return search + sum(f["took"] for f in history.features), whole, history


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="a folder of images, as hymenoptera's")
    parser.add_argument("--weights", required=True, help="a file with mobilenet_v2's state dict")
    parser.add_argument("--measured", type=int, nargs=2, default=(2, 3), metavar=("TRIALS", "EPOCHS"))
    given = parser.parse_args()
    work = Path(tempfile.mkdtemp())
    space = {"data": str(Path(given.data).resolve()), "backbone": "mobilenet_v2", "epochs": EPOCHS}
    space |= {"weights": str(Path(given.weights).resolve()), "cache_dir": str(work / "cache"), **SPACE}
    shared: dict[str, Any] = {"trainable": "transfer", "maximize": "val_accuracy", "algorithm": "random"}
    study = Study(name="cold", **shared, scheduler="none", trials=TRIALS, space=space)
    sampler = sampler_of(study)
    points = [sampler.ask(n) or {} for n in range(TRIALS)]
    source = Source("mobilenet_v2", space["weights"])
    data = load_images(space["data"])
    pixels = [images.pixels(x, source.transform()) for x in (data.x_train, data.x_val)]
    shown = replace(data, x_train=pixels[0], x_val=pixels[1])
    with connected(None, work / "ray.log") as ray:
        slots = int(ray.cluster_resources()["CPU"])
        cold, whole_cold, history = ours(study, work)
        warm, whole_warm, again = ours(study.model_copy(update={"name": "warm"}), work)
        epoch = ray_tune(points, shown, source, *given.measured)
    peer = TRIALS * EPOCHS * epoch / slots
    seen = len(data.y_train) + len(data.y_val)
    (made,) = history.features
    h = sum(t.seconds for t in again.trials) / (TRIALS * EPOCHS * seen)
    b = epoch / seen - h
    bound = TRIALS * EPOCHS * (b + h) / (b + TRIALS * EPOCHS * h)
    best = max(s.value for t in history.trials if (s := t.score(study.objective)))
    print(f"{TRIALS} trials x {EPOCHS} epochs, {data}, {slots} cores; best {best:.4f}")
    print(
        f"by hand   {peer:8.1f} s  (epochs of {epoch:.1f} s measured: {given.measured[0]} x {given.measured[1]})"
    )
    for name, part, whole in (("cold", cold, whole_cold), ("warm", warm, whole_warm)):
        print(
            f"{name}      {part:8.1f} s  {peer / part:6.1f}x; all of run {whole:.1f} s, {peer / whole:.1f}x"
        )
    print(f"extraction {made['took']:.1f} s of the cold one")
    print(f"bound     {bound:8.1f}x  (backbone {1e3 * b:.1f} ms, head {1e3 * h:.3f} ms an image)")


if __name__ == "__main__":
    main()
