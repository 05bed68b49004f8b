"""The features that a pretrained network's first blocks extract from images: computation and full
description."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from raysweep.trainables import images
from raysweep.trainables.arguments import Transfer
from raysweep.trainables.data import Data
from raysweep.trainables.features import CACHE, Features
from raysweep.trainables.network import Pixels, pooled
from raysweep.trainables.readers import Array

if TYPE_CHECKING:
    from raysweep.trainables.backbones import Source

AT_ONCE = {"cpu": 4, "cuda": 64}
"""Images that go through a backbone together. On a CPU, what more of them leave between two layers does not stay in its
caches: MobileNetV2 is half as fast with 16."""


class Extractor:
    """Computes the outputs of a source's first blocks for images, always in the same way: the rows of the
    train, validation and test splits, in this order."""

    def __init__(
        self,
        data: Data,
        source: Source,
        transform: images.Transform,
        cut: int | None,
        p: Transfer,
        device: torch.device,
    ):
        """`cut`: the number of blocks before it; 0 for pixels, None for all blocks, pooled, for each view."""
        self._data, self._source, self._transform, self._cut = data, source, transform, cut
        self._device, self._pooling = device, p.pooling
        self._views = ["plain", "flip"] if p.views == "flip" else ["plain"]
        self._dtype = "uint8" if cut == 0 else p.cache_dtype

    @property
    def rows(self) -> int:
        return sum(len(y) for y in (self._data.y_train, self._data.y_val, self._data.y_test))

    @property
    def about(self) -> dict[str, Any]:
        """Everything that determines the features."""
        transform = asdict(self._transform)
        told: dict[str, Any] = {"data": self._data.fingerprint, "dtype": self._dtype, "cut": self._cut}
        if self._cut == 0:  # mean and std are applied in the network
            return told | {"transform": {k: v for k, v in transform.items() if k not in {"mean", "std"}}}
        if self._source.backbone.startswith("timm:"):
            told["packages"] = ["timm"]
        told |= {"transform": transform, "weights": self._source.identity(), "device": self._device.type}
        return told if self._cut is not None else told | {"pooling": self._pooling, "views": self._views}

    def check(self) -> None:
        """Check that the weights are available. Raises DataError."""
        _ = self._network  # kept for what is computed next

    def describe(self) -> tuple[tuple[int, ...], str]:
        """The shape of a row and its type."""
        return self.compute(np.arange(1)).shape[1:], self._dtype

    def compute(self, rows: Array) -> Array:
        """Some rows, by their numbers in ascending order. The next images are decoded while the backbone has the last
        ones."""
        raw = self._raw(rows)
        if self._cut == 0:
            return images.pixels(raw, self._transform)
        step, made = AT_ONCE[self._device.type], []
        with ThreadPoolExecutor(torch.get_num_threads()) as decoders, torch.inference_mode():
            parts = [raw[start : start + step] for start in range(0, len(raw), step)]
            for found in decoders.map(images.pixels, parts, repeat(self._transform)):
                batch = torch.as_tensor(found).to(self._device).float() / 255
                made.append(self._forward(batch).cpu().numpy())
        return np.concatenate(made)

    def _forward(self, batch: Tensor) -> Tensor:
        x = self._entry(batch).contiguous(memory_format=torch.channels_last)
        if self._cut is not None:
            out: Tensor = self._network(x)
            return out
        flipped = {"plain": lambda t: t, "flip": lambda t: t.flip(3)}
        return torch.stack([pooled(self._network(flipped[v](x)), self._pooling) for v in self._views], 1)

    @cached_property
    def _entry(self) -> Any:
        return Pixels(self._transform, "none").to(self._device)

    @cached_property
    def _network(self) -> Any:
        with torch.random.fork_rng():
            blocks = self._source.network()
        return blocks[: self._cut].to(self._device).to(memory_format=torch.channels_last).eval()

    def _raw(self, rows: Array) -> Array:
        start, found = 0, []
        for x in (self._data.x_train, self._data.x_val, self._data.x_test):
            found.append(x[rows[(rows >= start) & (rows < start + len(x))] - start])
            start += len(x)
        return np.concatenate(found)


def entry_of(extractor: Extractor, p: Transfer) -> Features:
    root = Path(p.cache_dir).expanduser() if p.cache_dir else CACHE
    return Features(extractor.about, extractor.rows, extractor.describe, root, p.cache_gb * 1e9)


def extracted(extractor: Extractor, p: Transfer, held: ExitStack) -> Array:
    """The rows. Those that are not cached yet are computed."""
    entry = entry_of(extractor, p)
    held.callback(entry.close)
    entry.complete(extractor.compute)
    return entry.rows()
