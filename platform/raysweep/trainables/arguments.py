"""The arguments of the built-in trainables, with their bounds and defaults: what a study may write under `space`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import update_wrapper
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

Activation = Literal["relu", "tanh", "sigmoid", "gelu", "silu", "elu", "leaky_relu"]
Optimizer = Literal["sgd", "adam", "adamw", "rmsprop"]
Schedule = Literal["constant", "cosine", "linear", "step", "exponential"]
Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
Share = Annotated[float, Ge(0.0), Lt(1.0)]
Positive = Annotated[float, Gt(0.0)]
NotNegative = Annotated[float, Ge(0.0)]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network is trained, whatever it looks like."""

    optimizer: Optimizer = "adam"
    lr: Positive = 1e-3  # the learning rate
    momentum: Share = 0.0  # for sgd and rmsprop
    nesterov: bool = False  # Nesterov's momentum, for sgd
    weight_decay: NotNegative = 0.0
    l1: NotNegative = 0.0  # the weight of the L1 penalty
    schedule: Schedule = "constant"  # how the learning rate changes
    warmup: Natural = 0  # epochs over which the learning rate rises
    batch_size: Count = 64
    label_smoothing: Annotated[float, Ge(0.0), Le(1.0)] = 0.0
    class_weight: Literal["none", "balanced"] = "none"  # balanced: in the loss, all classes count the same
    epochs: Count = 5
    patience: Count | None = None  # stop after this many epochs without a lower validation loss
    calibrate: bool = False  # the exported model's probabilities are scaled to fit the validation data
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: the GPU that the trial holds, else the CPU


@dataclass(frozen=True, kw_only=True)
class MLP(Training):
    """A multilayer perceptron."""

    layers: Natural | None = None  # how many hidden layers; by default one, or as many as `units` lists
    units: Count | list[Count] = 64  # the width of every hidden layer, or a list of widths
    activation: Activation = "relu"
    dropout: Share = 0.0  # after every hidden layer
    batch_norm: bool = False  # in every hidden layer


@dataclass(frozen=True, kw_only=True)
class Transfer(Training):
    """A network for images that makes use of a pretrained one."""

    transfer: Literal["feature", "model", "relation", "scratch"] = "feature"  # what is transferred: see above
    solver: Literal["gradient", "exact"] = "gradient"  # feature: exact solves a linear head, without epochs
    start: Literal["random", "probe"] = "random"  # probe: training begins at the exact linear head
    backbone: str = "mobilenet_v2"  # a classification model of torchvision, `timm:NAME`, `cnn`, or `auto`
    weights: str | dict[str, str] = "default"  # a name, a file, `models:/STUDY@best`, `none`, or a mapping
    size: Count | None = None  # the images' size in pixels; by default what the weights expect
    student: str | None = None  # relation: the architecture that learns; by default the backbone's
    relation: NotNegative = 1.0  # relation: the weight of its loss
    unfreeze: Natural | None = None  # model: how many of the last blocks are trained; by default all
    backbone_lr: Positive = 0.1  # model: the learning rate of the backbone, as a factor on `lr`
    layer_decay: Annotated[float, Gt(0.0), Le(1.0)] = 1.0  # model: a further factor for each lower block
    gradual: Natural = 0  # model: epochs between unfreezing one block and the next; 0: all at once
    norm: Literal["batch", "frozen"] = "batch"  # model: frozen keeps the statistics of batch norm
    augment: Literal["none", "flip", "crop"] = "none"  # random changes of images; not with feature
    views: Literal["plain", "flip"] = "plain"  # feature: flip adds the features of mirrored images
    pooling: Literal["average", "flatten"] = "average"  # of the backbone's output
    layers: Natural | None = None  # hidden layers of the head; by default none
    units: Count | list[Count] | None = None  # their width, or a list of widths
    activation: Activation = "relu"
    dropout: Share = 0.0  # in the head
    batch_norm: bool = False  # in the head
    batch_size: Count = 32
    cache_dir: str | None = None  # where features are kept; by default ~/.cache/raysweep/features
    cache_gb: Positive = 20.0  # the largest size of that folder
    cache_dtype: Literal["float32", "float16"] = "float32"  # of the features


ADJUSTABLE = frozenset(
    {"lr", "momentum", "weight_decay", "l1", "dropout", "label_smoothing", "batch_size", "schedule", "warmup"}
)
"""The arguments that may change during training: a state can be resumed with other values of them."""

Epochs = Iterator[tuple[dict[str, float], dict[str, Any]]]
Record = TypeVar("Record")


def of_point(record: type[Record], point: Mapping[str, Any]) -> Record:
    """The record of a point's values, without those that describe the data."""
    known = {f.name for f in fields(record)}  # type: ignore[arg-type]
    return record(**{k: v for k, v in point.items() if k in known})


def together(p: MLP | Transfer, layers: int) -> tuple[int, int, bool]:
    """What perceptrons on the same inputs must have in common to be trained in one pack. (Large ones also need similar
    widths.) `layers` are those where the arguments do not say."""
    said = len(p.units) if isinstance(p.units, list) else p.layers
    return p.batch_size, layers if said is None else said, p.batch_norm


def keywords(record: type[Any]) -> Callable[[Callable[..., Epochs]], Callable[..., Epochs]]:
    """Let a trainable `f(p, data, seed, state, packs)` take the fields of `record` as keyword arguments, and
    pass it the record as `p`. The fields become its signature, against which studies are checked."""
    hints = get_type_hints(record, include_extras=True)
    options = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(record)
    ]

    def decorate(function: Callable[..., Epochs]) -> Callable[..., Epochs]:
        def called(
            data: Any = "digits",
            *,
            seed: int = 0,
            state: dict[str, Any] | None = None,
            packs: Any = None,
            **given: Any,
        ) -> Epochs:
            return function(record(**given), data, seed, state, packs)

        data, *others, _ = inspect.signature(called, eval_str=True).parameters.values()
        update_wrapper(called, function)
        called.__signature__ = inspect.Signature([data, *options, *others])  # type: ignore[attr-defined]
        return called

    return decorate
