"""Features of a frozen backbone, in images a second: raysweep's extraction, the plain loop, and what the core can do.

    python tests/benchmarks/extraction.py --data FOLDER --images 64

All run on one thread, on the same image files, in turns; the fastest of `--rounds` counts. The plain loop is the one of
PyTorch's tutorials: a DataLoader with torchvision's transforms and batches of 32, `no_grad`. The bound is the
backbone's multiply-adds over the rate at which this core multiplies matrices of 1,024 x 1,024, measured in the same
turns; decoding and scaling the images come on top of it. The weights are random, which takes as long.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from raysweep.trainables import images
from raysweep.trainables.arguments import Transfer
from raysweep.trainables.backbones import Source
from raysweep.trainables.data import Data, load_images
from raysweep.trainables.extraction import Extractor
from raysweep.trainables.network import pooled

SIDE = 1024


class Files(Dataset[Any]):
    """Image files as the plain loop reads them."""

    def __init__(self, paths: Any, transform: images.Transform):
        from torchvision import transforms

        self._paths = paths
        self._transform = transforms.Compose(
            [
                transforms.Resize(transform.resize),
                transforms.CenterCrop(transform.size),
                transforms.ToTensor(),
                transforms.Normalize(transform.mean, transform.std),
            ]
        )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Any:
        return self._transform(images.open_image(str(self._paths[index])))


def gemm_rate() -> float:
    """Multiply-adds a second."""
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    began = time.perf_counter()
    for _ in range(5):
        a @ b
    return 5 * SIDE**3 / (time.perf_counter() - began)


def multiply_adds(network: nn.Module, size: int) -> int:
    """Of an image, in convolutions and linear layers."""
    total = 0

    def count(module: Any, _: Any, out: Any) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += out[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += out[0].numel() * module.in_features

    hooks = [m.register_forward_hook(count) for m in network.modules()]
    with torch.inference_mode():
        network(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return total


def plain(network: nn.Module, files: Files) -> Any:
    """The loop of the tutorials."""
    with torch.no_grad():
        return torch.cat([pooled(network(x), "average") for x in DataLoader(files, batch_size=32)])


def rate(count: int, run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return count / (time.perf_counter() - began)


def measured(backbone: str, data: Data, count: int, rounds: int) -> str:
    source = Source(backbone, "none")
    transform = source.transform()
    extractor = Extractor(data, source, transform, None, Transfer(backbone=backbone), torch.device("cpu"))
    network = source.network().eval()
    cost, files = multiply_adds(network, transform.size), Files(data.x_train[:count], transform)
    extractor.compute(np.arange(4))
    ours, theirs, bound = [], [], []
    for _ in range(rounds):
        bound.append(gemm_rate() / cost)
        ours.append(rate(len(files), lambda: extractor.compute(np.arange(len(files)))))
        theirs.append(rate(len(files), lambda: plain(network, files)))
    most = max(bound)
    return (
        f"{backbone:<14} {max(ours):7.1f} {max(theirs):10.1f} {most:8.1f}"
        f" {max(ours) / max(theirs):12.2f} {most / max(ours):10.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a folder of images, one sub-folder a class")
    parser.add_argument("--backbones", nargs="+", default=["mobilenet_v2", "resnet50", "vgg16"])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = load_images(str(given.data))
    print("images a second     ours  plain loop    bound   ours/plain  bound/ours")
    for backbone in given.backbones:
        print(measured(backbone, data, given.images, given.rounds), flush=True)


if __name__ == "__main__":
    main()
