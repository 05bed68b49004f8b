"""transfer: transfer learning on images. Three kinds of transfer (and none):

feature   the backbone is frozen; a perceptron is trained on its features, which are computed once and cached
model     training starts from the backbone's weights; its last blocks, or all, are fine-tuned
relation  a network of any architecture learns to relate samples to one another as the backbone does
scratch   the same network with nothing transferred, for comparison
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raysweep.errors import Infeasible
from raysweep.trainables.arguments import ADJUSTABLE as SHARED
from raysweep.trainables.arguments import Transfer, keywords, of_point, together
from raysweep.trainables.data import Data, load_images
from raysweep.trainables.mlp import widths
from raysweep.trainables.readers import Array

if TYPE_CHECKING:  # torch costs seconds to import; checking a study must not pay for it
    import torch
    from torch import Tensor

    from raysweep.trainables.backbones import Source
    from raysweep.trainables.exact import Head
    from raysweep.trainables.extraction import Extractor
    from raysweep.trainables.member import Member
    from raysweep.trainables.network import Net
    from raysweep.trainables.optimizers import FlatOptimizer, Groups
    from raysweep.trainables.pack import Packs
    from raysweep.trainables.perceptron import Shape

__all__ = ["export", "load", "outputs", "signature", "transfer"]

load = load_images

LOCATIONS = frozenset({"weights", "cache_dir"})
ADJUSTABLE = SHARED | {"backbone_lr", "layer_decay", "relation", "augment"}


@keywords(Transfer)
def transfer(
    p: Transfer, data: str | Data, seed: int, state: dict[str, Any] | None, packs: Packs | None
) -> Iterator[tuple[dict[str, float], dict[str, Any]]]:
    """Train a network on images with the help of a pretrained one.

    `data` is what `load` returns, or a name for it. Images become inputs as the weights expect them, or
    scaled to `size` x `size` pixels. The head takes the backbone's features, averaged over the image or
    flattened. Yields train_ and val_ loss and accuracy; for a regression loss, rmse and r2. Heads with the same
    `packs` are trained together.
    """
    import torch

    from raysweep.trainables import training
    from raysweep.trainables.data_parallel import ranks
    from raysweep.trainables.pack import Packs, belongs

    images = data if isinstance(data, Data) else load(data)
    with ExitStack() as held:
        built = _built(images, p, seed, held, begins=state is None)
        try:
            if p.solver == "exact":
                yield from _solved(built, images, p, state)
                return
            shape = _perceptron(built, p)
            if shape is not None and ranks().size == 1 and belongs(built.device, shape, p.batch_size):
                with closing(_head(built, shape, p, seed, state, packs or Packs())) as head:
                    yield from head
                return
            yield from training.fit(
                built.model,
                built.data,
                _optimizer(built.model, p),
                p,
                built.device,
                seed,
                state,
                built.penalty,
            )
        except torch.OutOfMemoryError as error:
            why = str(error).partition(". ")[0]
            raise torch.OutOfMemoryError(
                f"batch_size {p.batch_size} is too much for the GPU: {why}"
            ) from None


def signature(point: dict[str, Any]) -> Hashable:
    """What points have in common whose heads can be trained in one pack."""
    p = of_point(Transfer, point)
    head = 0 if p.units is None else 1
    return *together(p, head), *(str(getattr(p, name)) for name in ("transfer", *FEATURE_ARGUMENTS))


@dataclass(frozen=True)
class _Built:
    """Everything needed to start training."""

    model: Net
    data: Data
    """Its inputs are the features at the cut, or pixels."""
    device: torch.device
    source: Source
    learner: Source
    """The network that the model starts as: the source, or an untrained network."""
    penalty: Callable[[Tensor], Tensor] | None = None


def _built(images: Data, p: Transfer, seed: int, held: ExitStack, begins: bool) -> _Built:
    """Build what the arguments `p` describe. This computes the features, or waits for them. A training that `begins`
    has its first weights."""
    import torch

    from raysweep.trainables import training
    from raysweep.trainables.backbones import Source

    _refuse(p)
    device = training.pick_device(p.device)
    source = Source(p.backbone, weights_of(p.weights, p.backbone))
    learner = source if p.transfer in {"feature", "model"} else Source(p.student or p.backbone, "none")
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(training.epoch_seed(seed, 0))
        blocks = learner.network() if p.transfer != "feature" else None
        frozen = (
            0 if blocks is None or p.transfer != "model" or p.unfreeze is None else len(blocks) - p.unfreeze
        )
        if blocks is not None and frozen < 0:
            raise Infeasible(f"unfreeze is {p.unfreeze} but {p.backbone} has {len(blocks)} blocks")
        entry, x, live = _inputs(images, p, source, frozen, device, held)
        model = _network(images, p, blocks, frozen, entry, x, live)
    if begins and p.start == "probe" and p.transfer in {"feature", "model"}:
        from raysweep.trainables.network import start

        probe = _probe(images, p, source, device, held)
        start(model.head, probe.weight, probe.bias)
    model.to(device)
    penalty = _relations(images, p, source, model, device, held) if p.transfer == "relation" else None
    return _Built(model, _with(images, x), device, source, learner, penalty)


def _perceptron(built: _Built, p: Transfer) -> Shape | None:
    """The shape of what is trained, if that is a perceptron on features `[n, views, width]`."""
    from raysweep.trainables.perceptron import Shape

    if p.transfer != "feature" or _is_residual(p):
        return None
    return Shape(built.data.x_train.shape[2], tuple(_hidden(p)), built.data.outputs, p.batch_norm)


def _head(
    built: _Built, shape: Shape, p: Transfer, seed: int, state: dict[str, Any] | None, packs: Packs
) -> Member:
    """The training of a head on features `[n, views, width]`."""
    from raysweep.trainables.member import Member

    x = built.data.x_train
    flat = replace(built.data, x_train=x.reshape(-1, x.shape[2]), x_val=built.data.x_val[:, 0])
    features = "/".join(str(getattr(p, name)) for name in FEATURE_ARGUMENTS)
    pack = packs.of(flat, f"{flat.fingerprint}/{features}", p, shape, x.shape[1], built.device)
    return Member(pack, built.model, shape, p, seed, state)


def _refuse(p: Transfer) -> None:
    """Raise Infeasible for arguments that cannot be combined."""
    if weights_of(p.weights, p.backbone) == "none" and p.transfer != "scratch":
        raise Infeasible(f"weights: none has nothing to transfer by {p.transfer}. Use transfer: scratch")
    if p.transfer == "feature" and p.augment != "none":
        raise Infeasible(
            "augment: features are computed once and cannot change by chance. Use views: flip, or transfer: model"
        )
    if p.solver == "exact" and (p.transfer != "feature" or _hidden(p) or p.l1):
        raise Infeasible(
            "solver: exact solves a linear head on features: transfer: feature, layers: 0, no l1"
        )
    if p.start == "probe" and p.transfer not in {"feature", "model"}:
        raise Infeasible(
            f"start: probe is a head on the backbone's features, and not for transfer: {p.transfer}"
        )
    if p.batch_norm and p.batch_size == 1:
        raise Infeasible("batch_norm needs a batch_size of 2 or more")


def _inputs(
    images: Data, p: Transfer, source: Source, frozen: int, device: torch.device, held: ExitStack
) -> tuple[Any, Array, bool]:
    """The input module, the inputs, and whether frozen blocks run on each batch."""
    from torch import nn

    from raysweep.trainables.extraction import Extractor, extracted
    from raysweep.trainables.features import TooLargeError
    from raysweep.trainables.network import Pixels, Views

    transform = source.transform(p.size)

    def made(cut: int | None) -> Array:
        return extracted(Extractor(images, source, transform, cut, p, device), p, held)

    if p.transfer == "feature":
        return Views(), made(None), False
    if frozen and p.augment == "none":
        try:  # the deepest cut there is
            return nn.Identity(), made(frozen), False
        except TooLargeError:
            pass  # caching pixels takes less room, but more time
    return Pixels(transform, p.augment), made(0), True


def _network(images: Data, p: Transfer, blocks: Any, frozen: int, entry: Any, x: Array, live: bool) -> Net:
    import torch
    from torch import nn

    from raysweep.trainables.network import Net, head_of

    blocks = blocks if blocks is not None else nn.Sequential()
    below = blocks[:frozen] if live and frozen else None
    body = Net(
        entry, below, blocks[frozen:], nn.Identity(), p.pooling, p.transfer == "model" and p.norm == "frozen"
    )
    sample = torch.as_tensor(np.array(x[:1]))
    with torch.inference_mode():
        body.eval()
        width = body(sample.float()).shape[1]
    body.head = head_of(**_head_shape(width, images, p))
    return body


def _head_shape(inputs: int, images: Data, p: Transfer) -> dict[str, Any]:
    """The arguments of `network.head_of`."""
    return {
        "inputs": inputs,
        "outputs": images.outputs,
        "hidden": _hidden(p),
        "activation": p.activation,
        "dropout": p.dropout,
        "batch_norm": p.batch_norm,
        "residual": _is_residual(p),
    }


def _is_residual(p: Transfer) -> bool:
    """Whether the head is a perceptron beside the linear head that it begins as."""
    return p.start == "probe" and bool(_hidden(p))


def _probe(images: Data, p: Transfer, source: Source, device: torch.device, held: ExitStack) -> Head:
    """The linear head, solved exactly on the features of the whole backbone."""
    from raysweep.trainables.extraction import Extractor, extracted

    views = p.views if p.transfer == "feature" else "plain"
    extractor = Extractor(images, source, source.transform(p.size), None, replace(p, views=views), device)
    return _solution(_with(images, extracted(extractor, p, held)), images, p, 0.0, device)


def _solution(data: Data, images: Data, p: Transfer, decay: float, device: torch.device) -> Head:
    """The linear head on features `[n, views, width]`, solved for a `decay`, or 0: for the best one. Where `images` are
    seen as a whole, that is the best on their own validation split, from which the others have not learned."""
    from raysweep.trainables import exact, training

    if images.view is not None and images.view.kind == "whole" and not decay:
        own = len(images.y_train)
        honest = replace(data, x_train=data.x_train[:own], y_train=data.y_train[:own])
        decay = _solution(honest, replace(images, view=None), p, 0.0, device).decay
    views, width = data.x_train.shape[1:]
    train = training.Tensors(data.x_train.reshape(-1, width), data.y_train.repeat(views), data, device)
    val = training.Tensors(data.x_val[:, 0], data.y_val, data, device)
    return exact.solve(
        exact.Split(train.x, train.y),
        exact.Split(val.x, val.y),
        len(data.classes),
        decay,
        p.label_smoothing,
        training.class_weights(p.class_weight, data, device),
    )


def _solved(
    built: _Built, images: Data, p: Transfer, state: dict[str, Any] | None
) -> Iterator[tuple[dict[str, float], dict[str, Any]]]:
    """Solve the head: one epoch, whatever `epochs` says."""
    from raysweep.trainables import training
    from raysweep.trainables.network import start

    if state is not None:
        return
    data, device = built.data, built.device
    head = _solution(data, images, p, p.weight_decay, device)
    start(built.model.head, head.weight, head.bias)
    metrics: dict[str, float] = {}
    for name, x, y in (("train", data.x_train, data.y_train), ("val", data.x_val, data.y_val)):
        names = data.scored if name == "val" else ()
        metrics |= training.evaluate(built.model, training.Tensors(x, y, data, device), data, name, names)
    lowest = metrics["val_loss"]
    yield (
        metrics,
        {"epoch": 1, "model": built.model.state_dict(), "optimizer": {}, "lowest": lowest, "waited": 0},
    )


def _hidden(p: Transfer) -> list[int]:
    """The widths of the head's hidden layers."""
    if p.layers is None and p.units is None:
        return []
    return widths(p.layers, 64 if p.units is None else p.units)


def _optimizer(model: Net, p: Transfer) -> FlatOptimizer | Groups:
    """One learning rate for all, but to fine-tune a backbone a rate and a start per block, from the last
    down."""
    from raysweep.trainables.optimizers import FlatOptimizer, Group, Groups

    rule = (p.momentum, p.nesterov, p.weight_decay)
    if p.transfer != "model":
        return FlatOptimizer(p.optimizer, model, *rule)
    groups = [Group(model.head, FlatOptimizer(p.optimizer, model.head, *rule))]
    learning = [b for b in model.tuned if next(b.parameters(), None) is not None]
    for depth, block in enumerate(reversed(learning)):
        factor, since = p.backbone_lr * p.layer_decay**depth, 1 + p.gradual * depth
        groups.append(Group(block, FlatOptimizer(p.optimizer, block, *rule), factor, since))
    return Groups(groups)


def _relations(
    images: Data, p: Transfer, source: Source, model: Net, device: torch.device, held: ExitStack
) -> Callable[[Tensor], Tensor]:
    """The loss that compares how the model and the source relate the samples of a batch."""
    import torch

    from raysweep.trainables import relations
    from raysweep.trainables.extraction import Extractor, extracted

    plain = replace(p, views="plain")
    extractor = Extractor(images, source, source.transform(p.size), None, plain, device)
    rows = np.array(extracted(extractor, p, held)[:, 0])
    teacher = torch.as_tensor(_with(images, rows).x_train).to(device)
    return lambda index: p.relation * relations.loss(model.embedding, teacher[index])


def _with(images: Data, x: Array) -> Data:
    """The data with other inputs, divided as its view says."""
    train, val = len(images.y_train), len(images.y_train) + len(images.y_val)
    return replace(images, x_train=x[:train], x_val=x[train:val], x_test=x[val:]).seen()


# --- before the trials ------------------------------------------------------------------------------------------

FEATURE_ARGUMENTS = (
    "transfer",
    "start",
    "backbone",
    "weights",
    "size",
    "pooling",
    "views",
    "cache_dtype",
    "cache_dir",
    "cache_gb",
    "device",
)
"""The arguments that determine which features a trial needs."""


def weights_of(weights: str | Mapping[str, str], backbone: str) -> str:
    """The weights of one backbone, where they are given for several."""
    return weights if isinstance(weights, str) else weights.get(backbone, "default")


def feature_sets(points: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The feature sets that trials with these partial points need: arguments of `check`, `pending`,
    `extract`."""
    defaults = {n: v for n, v in asdict(Transfer()).items() if n in FEATURE_ARGUMENTS}
    found: list[dict[str, Any]] = []
    for point in points:
        one = defaults | point
        kind, start = one.pop("transfer"), one.pop("start")
        one["weights"] = weights_of(one["weights"], one["backbone"])
        if kind == "model" and start == "probe":
            kind = "probe"  # which stands on the features of the whole backbone
        one["frozen"] = kind in {"feature", "relation", "probe"}
        if kind in {"relation", "probe"}:
            one["views"] = "plain"
        if kind != "scratch" and one["weights"] != "none" and one not in found:
            found.append(one)
    return found


KEPT = ("class_weight", "calibrate", "label_smoothing")
"""Arguments beside those of the features with which a baseline is solved, if a study fixes them."""


def baselines(points: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The linear head solved on each set of features that points need, given these parts of them. (That is what a
    search over other heads must beat.)"""
    found: list[dict[str, Any]] = []
    for point in points:
        about = {n: v for n, v in point.items() if n != "start"}
        weights = weights_of(point.get("weights", "default"), point.get("backbone", Transfer.backbone))
        if point.get("transfer", "feature") != "feature" or weights == "none":
            continue
        if (one := about | {"solver": "exact"}) not in found:
            found.append(one)
    return found


POOL = ("mobilenet_v3_small", "resnet18", "efficientnet_v2_s", "regnet_y_3_2gf", "convnext_tiny")
"""The backbones that `backbone: auto` stands for: of several sizes, and good at transfer with little data."""


def sampled(arguments: dict[str, Any], data: Data, rows: Array) -> dict[str, Any]:
    """How well a linear head on some features does, which are computed if need be: the `scores` of the training
    examples `rows` (see `exact.leave_one_out`), and the `seconds` of computing the features of an image."""
    import time

    import torch

    from raysweep.trainables import exact
    from raysweep.trainables.extraction import entry_of

    extractor = _extractor(arguments, data)
    extractor.check()
    with closing(entry_of(extractor, of_point(Transfer, arguments))) as entry:
        x = entry.sample(rows, extractor.compute)[:, 0]
    began = time.perf_counter()
    extractor.compute(rows[:1])
    seconds = time.perf_counter() - began
    y = torch.as_tensor(data.y_train[rows])
    scores = exact.leave_one_out(torch.as_tensor(np.array(x)), y, len(data.classes))
    return {"scores": scores.tolist(), "seconds": seconds}


def check(arguments: dict[str, Any]) -> None:
    """Check that the backbone and the weights exist. Raises DataError."""
    from raysweep.trainables import backbones

    backbones.check(backbones.Source(arguments["backbone"], arguments["weights"]))


def pending(arguments: dict[str, Any], data: Data) -> dict[str, Any]:
    """Check that the weights are available. Return which features are still missing."""
    from raysweep.trainables.extraction import entry_of

    if not arguments["frozen"]:
        check(arguments)
        return {}
    extractor = _extractor(arguments, data)
    extractor.check()  # also where all features are there: the export will need the weights
    with closing(entry_of(extractor, of_point(Transfer, arguments))) as entry:
        entry.verify()
        about = {"key": entry.key, "folder": str(entry.folder), "rows": entry.count, "bytes": entry.size}
        return about | {"shards": len(entry.pending())}


def extract(arguments: dict[str, Any], data: Data) -> int:
    """Compute the missing features, alongside other processes. Return how many images were computed here."""
    from raysweep.trainables.extraction import entry_of

    extractor = _extractor(arguments, data)
    with closing(entry_of(extractor, of_point(Transfer, arguments))) as entry:
        return entry.complete(extractor.compute)


def _extractor(arguments: dict[str, Any], data: Data) -> Extractor:
    from raysweep.trainables import backbones, training
    from raysweep.trainables.extraction import Extractor

    p = of_point(Transfer, arguments)
    source = backbones.Source(p.backbone, weights_of(p.weights, p.backbone))
    return Extractor(data, source, source.transform(p.size), None, p, training.pick_device(p.device))


# --- after the trials -------------------------------------------------------------------------------------------


def export(point: dict[str, Any], state: dict[str, Any], data: Data, folder: Path) -> dict[str, float]:
    """Write the trained network into `folder`, as predict.py reads it; return its metrics on the test split."""
    import torch

    from raysweep.trainables import training

    p = of_point(Transfer, point)
    with ExitStack() as held:
        built = _built(data, p, 0, held, begins=False)
        model = built.model
        model.load_state_dict(state["model"])
        found = _calibrated(built, p)
        test = training.Tensors(built.data.x_test, built.data.y_test, built.data, built.device)
        metrics = found | training.evaluate(model, test, built.data, "test", data.scores)
        training.write_tables(model, test, built.data, folder)
    trunk = _trunk(built)
    width = next(m.in_features for m in model.head.modules() if isinstance(m, torch.nn.Linear))
    about = {
        "network": {
            "backbone": built.learner.backbone,
            "pooling": p.pooling,
            "head": _head_shape(width, data, p),
        },
        "inputs": {"kind": "files", "transform": asdict(built.source.transform(p.size))},
        "classes": list(data.classes),
        "target": None if data.classes else training.target_scale(built.data),
    }
    weights = {f"trunk.{k}": v for k, v in trunk.items()}
    weights |= {f"head.{k}": v for k, v in model.head.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({k: v.cpu().contiguous() for k, v in weights.items()}, folder / "weights.pt")
    (folder / "model.json").write_text(json.dumps(about, indent=2))
    return metrics


def outputs(point: dict[str, Any], state: dict[str, Any], data: Data) -> tuple[Any, Any]:
    """What the trained network says of the validation and of the test split: see `training.outputs`."""
    from raysweep.trainables import training

    with ExitStack() as held:
        p = of_point(Transfer, point)
        built = _built(data, p, 0, held, begins=False)
        built.model.load_state_dict(state["model"])
        _calibrated(built, p)
        known, device = built.data, built.device
        splits = (known.x_val, known.y_val), (known.x_test, known.y_test)
        val, test = (
            training.outputs(built.model, training.Tensors(*s, known, device), known) for s in splits
        )
        return val, test


def _calibrated(built: _Built, p: Transfer) -> dict[str, float]:
    """Calibrate the model, if that is wanted. Returns what that found."""
    from raysweep.trainables import training
    from raysweep.trainables.network import last_layers

    if not p.calibrate or not built.data.classes:
        return {}
    last = last_layers(built.model.head)
    return {"temperature": training.calibrate(built.model, last, built.data, built.device)}


def _trunk(built: _Built) -> dict[str, Any]:
    """The backbone's weights, frozen and trained, by their position among all blocks."""
    tuned = built.model.tuned.state_dict()
    if built.learner is not built.source:
        return tuned
    import torch

    with torch.random.fork_rng():
        whole = built.source.network().state_dict()
    return whole | tuned  # a part of a row of blocks keeps their numbers
