"""The textbook training loop: forward, loss, backpropagation, update. One generator for all networks.

The data fits in memory, so there is no loader: tensors stay where the network is, and batches are drawn by
index. Metrics are copied back from the device once per epoch.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from raysweep.errors import Infeasible
from raysweep.trainables.arguments import Training
from raysweep.trainables.data import Data
from raysweep.trainables.data_parallel import Ranks, ranks
from raysweep.trainables.metrics import scores
from raysweep.trainables.optimizers import FlatOptimizer, Groups

ALONE = Ranks()
EVALUATE_AT_ONCE = 4096, 1 << 24  # samples, and numbers in them; bounds the memory of an evaluation


def pick_device(device: str) -> torch.device:
    """`auto` is the GPU that this process may use, or else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("device cuda was asked for but no GPU is visible. Give per_trial a gpu")
    return torch.device(device)


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """A CPU computes with numbers below 1e-38 a hundred times slower, and adam's means of units that no longer learn
    become that small."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def epoch_seed(seed: int, epoch: int, *what: object) -> int:
    """The seed of one epoch, or of one thing in it: randomness depends on these alone, so resuming needs no
    generator."""
    return random.Random("/".join(map(str, (seed, epoch, *what)))).getrandbits(63)


def lr_factor(schedule: str, epoch: int, epochs: int, warmup: int) -> float:
    """The factor on the learning rate in `epoch` (from 1): `warmup` epochs of warm-up, then the schedule."""
    if epoch <= warmup:
        return epoch / (warmup + 1)
    done = (epoch - 1 - warmup) / max(1, epochs - warmup)  # 0 at the first epoch after the warm-up
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "linear":
        return 1 - done
    if schedule == "step":
        return float(0.1 ** int(done * 3))  # a tenth after each third
    if schedule == "exponential":
        return float(0.01**done)
    return 1.0


class Tensors:
    """A split on the device: inputs as they are stored (uint8 images are scaled batch by batch), targets as
    classes or as standardised numbers."""

    def __init__(self, x: Any, y: Any, data: Data, device: torch.device):
        with warnings.catch_warnings():
            # The arrays may be read-only views of memory that processes share. Nothing here writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
            self.x = torch.as_tensor(x)
            self.y = torch.as_tensor(y).to(device)
        if device.type == "cuda" and 2 * self.x.nbytes < torch.cuda.mem_get_info(device)[0]:
            self.x = self.x.to(device)  # else batch by batch
        if not data.classes:
            mean, std = target_scale(data)
            self.y = (self.y - mean) / std

    def batch(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        x = self.x[index.to(self.x.device) if isinstance(index, Tensor) else index].to(self.y.device)
        return (x.float() / 255 if x.dtype == torch.uint8 else x.float()), self.y[index]

    def batches(self, among: Ranks = ALONE) -> Iterator[tuple[Tensor, Tensor]]:
        """All of it, or a rank's part, in as few batches as memory allows."""
        samples, numbers = EVALUATE_AT_ONCE
        step = max(1, min(samples, numbers // max(1, self.x[:1].numel())))
        begin, end = among.bounds(len(self))
        for start in range(begin, end, step):
            yield self.batch(slice(start, min(start + step, end)))

    def __len__(self) -> int:
        return len(self.y)


def target_scale(data: Data) -> tuple[float, float]:
    """Mean and standard deviation of the training targets of a regression."""
    return float(data.y_train.mean()), max(float(data.y_train.std()), 1e-12)


def evaluate(
    model: nn.Module, split: Tensors, data: Data, prefix: str, names: Sequence[str] = ()
) -> dict[str, float]:
    """Loss and accuracy (or rmse and r2, in the target's own units) of `model` on a split, and the scores `names`."""
    model.eval()
    among = ranks()
    among.broadcast_buffers(model)
    totals = torch.zeros(2, device=split.y.device, dtype=torch.float64)
    said = torch.zeros(len(split), data.outputs, device=split.y.device) if names else None
    done, _ = among.bounds(len(split))
    with torch.inference_mode():
        for x, y in split.batches(among):
            output = model(x)
            totals += totals_of(output, y, bool(data.classes))
            if said is not None:
                said[done : done + len(y)] = output
                done += len(y)
    among.all_reduce(totals)
    metrics = metrics_of(totals.tolist(), len(split), prefix, data, split)
    if said is not None:
        among.all_reduce(said)
        metrics |= scores_of(said, split, data, prefix, names)
    return metrics


def scores_of(
    output: Tensor, split: Tensors, data: Data, prefix: str, names: Sequence[str]
) -> dict[str, float]:
    """Metrics of metrics.py of the outputs `[n, outputs]` for a split; of test data, those that have a value. Raises
    Infeasible for other data on which one has none."""
    scale = 1.0 if data.classes else target_scale(data)[1]
    found = scores(output, split.y, names, scale)
    missing = [name for name, value in found.items() if math.isnan(value)]
    if missing and prefix != "test" and bool(output.isfinite().all()):
        raise Infeasible(
            f"{prefix}_{missing[0]} has no value: the examples are all of one class. Use a larger validation split"
        )
    return {
        f"{prefix}_{name}": value for name, value in found.items() if prefix != "test" or name not in missing
    }


def class_weights(kind: str, data: Data, device: torch.device) -> Tensor | None:
    """The weight `[classes]` of each class in the loss, 1 on average over the training examples; None if all are 1.
    Raises Infeasible when there are no classes."""
    if kind == "none":
        return None
    if not data.classes:
        raise Infeasible("class_weight: the target is a number, so there are no classes to weigh")
    counts = torch.bincount(torch.as_tensor(np.array(data.y_train)), minlength=data.outputs)
    return (len(data.y_train) / (data.outputs * counts.clamp(min=1)).float()).to(device)


def calibrate(model: nn.Module, last: Iterable[nn.Linear], data: Data, device: torch.device) -> float:
    """Scale a classifier's outputs, by way of its `last` layers, so that its probabilities fit the validation data best
    (temperature scaling: Guo et al. 2017). Returns the temperature, by which the outputs are divided. If all of
    the data are classified correctly, it is no less than 1: of them no probability would be high enough."""
    val = Tensors(data.x_val, data.y_val, data, device)
    model.eval()
    with torch.inference_mode():
        said = torch.cat([model(x).double() for x, _ in val.batches()])
        right = said.gather(1, val.y[:, None]).mean()
        all_right = bool((said.argmax(1) == val.y).all())
        # Logarithms of the factor on the outputs, in which the loss is convex.
        low, high = -7.0, 0.0 if all_right else 7.0
        for _ in range(50):
            middle = (low + high) / 2
            mean = ((said * math.exp(middle)).softmax(1) * said).sum(1).mean()
            low, high = (middle, high) if mean < right else (low, middle)
    factor = math.exp(low)
    with torch.no_grad():
        for layer in last:
            layer.weight.mul_(factor)
            layer.bias.mul_(factor)
    return 1 / factor


def outputs(
    model: nn.Module, split: Tensors, data: Data
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """What `model` says of each example of a split: probabilities `[n, classes]`, or numbers `[n, 1]` in the target's
    own units."""
    model.eval()
    with torch.inference_mode():
        said = torch.cat([model(x).double().cpu() for x, _ in split.batches()])
    if data.classes:
        return said.softmax(1).numpy()
    mean, std = target_scale(data)
    return (said * std + mean).numpy()


def write_tables(model: nn.Module, split: Tensors, data: Data, folder: Path) -> None:
    """The confusion matrix and each class's accuracy on a split, as tables in `folder`/tables; for classes only."""
    import pandas as pd

    if not data.classes:
        return
    model.eval()
    counts = torch.zeros(data.outputs, data.outputs, dtype=torch.int64)
    with torch.inference_mode():
        for x, y in split.batches():
            for truth, said in zip(y.tolist(), model(x).argmax(1).tolist(), strict=True):
                counts[truth, said] += 1
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    matrix = pd.DataFrame(
        counts.numpy(), index=pd.Index(data.classes, name="class"), columns=list(data.classes)
    )
    matrix.to_csv(folder / "tables" / "confusion.csv")
    samples = counts.sum(1)
    right = counts.diagonal() / samples.clamp(min=1)
    about = {"class": data.classes, "samples": samples.numpy(), "accuracy": right.numpy()}
    pd.DataFrame(about).to_csv(folder / "tables" / "classes.csv", index=False)


def totals_of(output: Tensor, y: Tensor, classes: bool) -> Tensor:
    """[summed loss, number right] of a batch; for a regression [summed squared error, 0]. Of several networks
    (`output` `[K, B, outputs]`, `y` `[K, B]`) a row for each."""
    output = output if output.dtype == torch.float64 else output.float()
    if classes:
        # Not log_softmax, which is slow for few classes.
        loss = torch.logsumexp(output, -1) - output.gather(-1, y.unsqueeze(-1)).squeeze(-1)
        return torch.stack([loss.sum(-1).double(), (output.argmax(-1) == y).sum(-1).double()], -1)
    error = ((output.squeeze(-1) - y) ** 2).sum(-1).double()
    return torch.stack([error, torch.zeros_like(error)], -1)


def metrics_of(totals: list[float], n: int, prefix: str, data: Data, split: Tensors) -> dict[str, float]:
    """The metrics of `n` samples, from their totals."""
    loss = totals[0] / n
    if data.classes:
        return {f"{prefix}_loss": loss, f"{prefix}_accuracy": totals[1] / n}
    spread = float(split.y.double().var(correction=0)) or 1.0
    rmse = math.sqrt(loss) * target_scale(data)[1] if math.isfinite(loss) else loss
    return {f"{prefix}_loss": loss, f"{prefix}_rmse": rmse, f"{prefix}_r2": 1 - loss / spread}


def fit(
    model: nn.Module,
    data: Data,
    optimizer: FlatOptimizer | Groups,
    p: Training,
    device: torch.device,
    seed: int,
    state: dict[str, Any] | None,
    penalty: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[tuple[dict[str, float], dict[str, Any]]]:
    """Train `model`, which is on `device`; yield `(metrics, state)` after each epoch. The state's tensors are
    live: whoever keeps them must copy or write them before the next epoch. `penalty` is added to the loss of
    each batch; it takes the indices of the batch's samples."""
    epoch, lowest, waited = 0, math.inf, 0
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load(state["optimizer"])
        epoch, lowest, waited = state["epoch"], state["lowest"], state["waited"]
    train = Tensors(data.x_train, data.y_train, data, device)
    val = Tensors(data.x_val, data.y_val, data, device)
    weights = class_weights(p.class_weight, data, device)
    cuda = [device] if device.type == "cuda" else []
    while epoch < p.epochs and (p.patience is None or waited < p.patience):
        epoch += 1
        now = p.lr * lr_factor(p.schedule, epoch, p.epochs, p.warmup)
        optimizer.begin(epoch)
        # Several executions may take turns in one process: each leaves the global generator as it was.
        with torch.random.fork_rng(devices=cuda), denormals_as_zero():
            torch.manual_seed(epoch_seed(seed, epoch))
            totals, seen = _one_epoch(model, train, optimizer, p, now, bool(data.classes), penalty, weights)
        metrics = metrics_of(totals.tolist(), seen, "train", data, train) | evaluate(
            model, val, data, "val", data.scored
        )
        waited = 0 if metrics["val_loss"] < lowest else waited + 1
        lowest = min(lowest, metrics["val_loss"])
        yield (
            metrics,
            {
                "epoch": epoch,
                "model": model.state_dict(),
                "optimizer": optimizer.state(),
                "lowest": lowest,
                "waited": waited,
            },
        )


def _loss(output: Tensor, y: Tensor, p: Training, classes: bool, weights: Tensor | None) -> Tensor:
    """The mean loss of a batch, in which each example counts by its class's weight."""
    if not classes:
        return functional.mse_loss(output.squeeze(1), y)
    if weights is None:
        return functional.cross_entropy(output, y, label_smoothing=p.label_smoothing)
    each = functional.cross_entropy(output, y, label_smoothing=p.label_smoothing, reduction="none")
    return (weights[y] * each).mean()


def _one_epoch(
    model: nn.Module,
    train: Tensors,
    optimizer: FlatOptimizer | Groups,
    p: Training,
    lr: float,
    classes: bool,
    penalty: Callable[[Tensor], Tensor] | None = None,
    weights: Tensor | None = None,
) -> tuple[Tensor, int]:
    """Train on each sample once (but see batch norm), in random order. Return `totals_of`, number of
    samples."""
    device, among = train.y.device, ranks()
    model.train()
    order = torch.randperm(len(train)).to(device)
    among.reseed()
    totals = torch.zeros(2, device=device, dtype=torch.float64)
    # Not for a regression: its predictions would be rounded to eight bits before the loss.
    half = classes and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    normalised = any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) and m.training for m in model.modules())
    seen = 0
    for start in range(0, len(train), p.batch_size):
        whole = order[start : start + p.batch_size]
        if len(whole) < among.size * (2 if normalised else 1):
            continue  # batch norm cannot learn from a last batch of one, and no rank from none
        seen += len(whole)
        index = among.shard(whole)
        x, y = train.batch(index)
        with torch.autocast("cuda", torch.bfloat16) if half else nullcontext():
            output = model(x)
            loss = _loss(output, y, p, classes, weights)
            if p.l1:
                loss = loss + p.l1 * sum(w.abs().sum() for w in model.parameters() if w.ndim > 1)
            if penalty is not None:
                loss = loss + penalty(index)
            if among.size > 1:  # a batch's mean is the sum of its parts' means, weighted by size
                loss = loss * (len(index) / len(whole))
        optimizer.zero()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.sum(among)
        optimizer.step(lr)
        totals += totals_of(output.detach(), y, classes)
    among.all_reduce(totals)
    if not seen:
        why = "batch norm cannot learn from batches of one" if normalised else "each process needs a sample"
        raise Infeasible(f"batch_size {p.batch_size}: {why}")
    return totals, seen
