"""Racing backbones on samples: what it saves, and whether it finds the one that whole extraction finds.

    python tests/benchmarks/race.py --data FOLDER --weights mobilenet_v2.pth --splits 10

MobileNetV2 with the given weights races three backbones with random ones. Features do not depend on how the images are
split, so those of all images are computed once, and each split is raced on them with the real rules
(`execution/race.py`). The winner by whole extraction is the backbone whose exact linear head has the lowest loss on the
validation split; that of the race is the best of those that it kept, by the same measure.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from raysweep.execution.race import Array, Ran, compete, sample_order
from raysweep.trainables import exact
from raysweep.trainables.arguments import Transfer
from raysweep.trainables.backbones import Source
from raysweep.trainables.data import _split, load_images
from raysweep.trainables.extraction import Extractor

RANDOM = ("resnet18", "shufflenet_v2_x0_5", "squeezenet1_1")


def features(folder: Path, weights: str) -> tuple[dict[str, Array], dict[str, float], Array, int]:
    """The features of all images by each backbone, the seconds an image takes, the classes, and how many there are."""
    data = load_images(str(folder))
    y = np.concatenate([data.y_train, data.y_val, data.y_test])
    found, seconds = {}, {}
    for name in ("mobilenet_v2", *RANDOM):
        torch.manual_seed(0)
        source = Source(name, weights if name == "mobilenet_v2" else "none")
        extractor = Extractor(data, source, source.transform(), None, Transfer(), torch.device("cpu"))
        began = time.perf_counter()
        found[name] = extractor.compute(np.arange(len(y)))[:, 0]
        seconds[name] = (time.perf_counter() - began) / len(y)
    return found, seconds, y, len(data.classes)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a folder of images, one sub-folder a class")
    parser.add_argument("--weights", required=True, help="a state dict of mobilenet_v2")
    parser.add_argument("--splits", type=int, default=10)
    given = parser.parse_args()
    x, seconds, y, classes = features(given.data, given.weights)
    same, raced, whole = 0, 0.0, 0.0
    for split in range(given.splits):
        train, val, _ = _split(y, True, 0.15, 0.15, split)
        order = train[sample_order(y[train], classes)]

        def run(names: Sequence[str], rows: Array) -> dict[str, Ran]:
            return {
                n: Ran(
                    exact.leave_one_out(torch.tensor(x[n][rows]), torch.tensor(y[rows]), classes).numpy(),
                    seconds[n],
                )
                for n in names
            }

        def loss(name: str, train: Array = train, val: Array = val) -> float:
            parts = [exact.Split(torch.tensor(x[name][i]), torch.tensor(y[i])) for i in (train, val)]
            head = exact.solve(*parts, classes)
            return float(functional.cross_entropy(parts[1].x @ head.weight.T + head.bias, parts[1].y))

        kept, known, _ = compete(list(x), order, classes, run, lambda line: None)
        same += min(kept, key=loss) == min(x, key=loss)
        # Those that are kept see all images; the others, their samples.
        raced += sum(seconds[n] * (len(y) if n in kept else len(known[n].scores)) for n in x)
        whole += sum(seconds[n] * len(y) for n in x)
    print(
        f"the same winner in {same} of {given.splits} splits; extraction takes {raced / whole:.2f} of all of it"
    )


if __name__ == "__main__":
    main()
