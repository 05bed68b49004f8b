"""mlp: the textbook multilayer perceptron on any data of `data.py`, for classification or regression."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysweep.errors import Infeasible
from raysweep.trainables.arguments import ADJUSTABLE, MLP, keywords, of_point, together
from raysweep.trainables.data import Data, load

if TYPE_CHECKING:  # torch costs seconds to import; checking a study must not pay for it
    from torch import nn

    from raysweep.trainables.pack import Packs

__all__ = ["ADJUSTABLE", "export", "load", "mlp", "outputs", "signature"]


@keywords(MLP)
def mlp(
    p: MLP, data: str | Data, seed: int, state: dict[str, Any] | None, packs: Packs | None
) -> Iterator[tuple[dict[str, float], dict[str, Any]]]:
    """Train a perceptron of `layers` hidden layers of `units` (one number, or one for each layer).

    `data` is what `load` returns, or a name for it. `device: auto` uses the GPU it is given; large networks, with
    bfloat16 if the GPU supports it. Yields train_ and val_ loss and accuracy; for a regression loss (of the
    standardised target), rmse and r2. Trainings with the same `packs` are computed together.
    """
    import torch

    from raysweep.trainables import training
    from raysweep.trainables.data_parallel import ranks
    from raysweep.trainables.member import Member
    from raysweep.trainables.optimizers import FlatOptimizer
    from raysweep.trainables.pack import Packs, belongs
    from raysweep.trainables.perceptron import Shape

    if p.batch_norm and p.batch_size == 1:
        raise Infeasible("batch_norm needs a batch_size of 2 or more")
    found = (data if isinstance(data, Data) else load(data)).seen()
    with torch.random.fork_rng():
        torch.manual_seed(training.epoch_seed(seed, 0))
        hidden = widths(p.layers, p.units)
        model = network(found.x_train[0].size, found.outputs, hidden, p.activation, p.dropout, p.batch_norm)
    device = training.pick_device(p.device)
    shape = Shape(found.x_train[0].size, tuple(hidden), found.outputs, p.batch_norm)
    if ranks().size == 1 and belongs(device, shape, p.batch_size):
        pack = (packs or Packs()).of(found, found.fingerprint, p, shape, device=device)
        return Member(pack, model, shape, p, seed, state)
    optimizer = FlatOptimizer(p.optimizer, model.to(device), p.momentum, p.nesterov, p.weight_decay)
    return training.fit(model, found, optimizer, p, device, seed, state)


def signature(point: dict[str, Any]) -> Hashable:
    """What points have in common that can be trained in one pack."""
    p = of_point(MLP, point)
    data = sorted((name, repr(value)) for name, value in point.items() if not hasattr(p, name))
    return *together(p, 1), *data


def widths(layers: int | None, units: int | Sequence[int]) -> list[int]:
    """The width of each hidden layer. One number stands for every layer (one layer when not said)."""
    if isinstance(units, int):
        return [units] * (1 if layers is None else layers)
    if layers is not None and layers != len(units):
        raise ValueError(f"layers is {layers} but units has {len(units)} widths: {list(units)}")
    return list(units)


def network(
    inputs: int, outputs: int, hidden: Sequence[int], activation: str, dropout: float, batch_norm: bool
) -> nn.Sequential:
    """Flatten, then for each width Linear, batch norm, activation and dropout, then Linear to the outputs.

    Weights are initialised as in Glorot & Bengio (2010) for tanh, sigmoid and the outputs, and as in He et
    al. (2015) for the others.
    """
    from torch import nn

    functions: dict[str, type[nn.Module]] = {
        "relu": nn.ReLU,
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "elu": nn.ELU,
        "leaky_relu": nn.LeakyReLU,
    }
    parts: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        parts.append(nn.Linear(inputs, width))
        if batch_norm:
            parts.append(nn.BatchNorm1d(width))
        parts.append(functions[activation]())
        # Always present: weights are named by their position, and dropout may change during training.
        parts.append(nn.Dropout(dropout) if dropout else nn.Identity())
        inputs = width
    model = nn.Sequential(*parts, nn.Linear(inputs, outputs))
    *inner, last = [layer for layer in model if isinstance(layer, nn.Linear)]
    for layer in [*inner, last]:
        # PyTorch's own initialisation shrinks the signal layer by layer; 20 layers hardly learn.
        if layer is last or activation in {"tanh", "sigmoid"}:
            nn.init.xavier_uniform_(layer.weight)
        else:
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return model


def export(point: dict[str, Any], state: dict[str, Any], data: Data, folder: Path) -> dict[str, float]:
    """Write the trained network into `folder`, as predict.py reads it; return its metrics on the test split."""
    import torch

    from raysweep.trainables import training

    data = data.seen()
    shape, model, found = _loaded(point, state, data)
    test = training.Tensors(data.x_test, data.y_test, data, torch.device("cpu"))
    metrics = found | training.evaluate(model, test, data, "test", data.scores)
    training.write_tables(model, test, data, folder)
    about = {
        "network": shape,
        "inputs": data.inputs,
        "classes": list(data.classes),
        "target": None if data.classes else training.target_scale(data),
    }
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), folder / "weights.pt")
    (folder / "model.json").write_text(json.dumps(about, indent=2))
    return metrics


def outputs(point: dict[str, Any], state: dict[str, Any], data: Data) -> tuple[Any, Any]:
    """What the trained network says of the validation and of the test split: see `training.outputs`."""
    import torch

    from raysweep.trainables import training

    _, model, _ = _loaded(point, state, data)
    device = torch.device("cpu")
    splits = (data.x_val, data.y_val), (data.x_test, data.y_test)
    val, test = (training.outputs(model, training.Tensors(*s, data, device), data) for s in splits)
    return val, test


def _loaded(
    point: dict[str, Any], state: dict[str, Any], data: Data
) -> tuple[dict[str, Any], nn.Sequential, dict[str, float]]:
    """The arguments of `network` for a point, the network with a state's weights, and what calibrating it found."""
    import torch
    from torch import nn

    from raysweep.trainables import training

    p = of_point(MLP, point)
    shape: dict[str, Any] = {
        "inputs": int(data.x_train[0].size),
        "outputs": data.outputs,
        "hidden": widths(p.layers, p.units),
        "activation": p.activation,
        "dropout": p.dropout,
        "batch_norm": p.batch_norm,
    }
    model = network(**shape)
    model.load_state_dict({k: v.cpu() for k, v in state["model"].items()})
    found = {}
    *_, last = (layer for layer in model if isinstance(layer, nn.Linear))
    if p.calibrate and data.classes:
        found["temperature"] = training.calibrate(model, [last], data, torch.device("cpu"))
    return shape, model, found
