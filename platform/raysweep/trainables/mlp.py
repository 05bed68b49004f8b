"""mlp: the textbook's multilayer perceptron on any of `data.py`'s data, classes or a number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from raysweep.errors import Infeasible
from raysweep.trainables.data import Data, Part, Task, load

if TYPE_CHECKING:  # torch costs seconds to import; checking a study must not pay for it
    from torch import nn

__all__ = ["export", "load", "mlp"]

Activation = Literal["relu", "tanh", "sigmoid", "gelu", "silu", "elu", "leaky_relu"]
Optimizer = Literal["sgd", "adam", "adamw", "rmsprop"]
Schedule = Literal["constant", "cosine", "linear", "step", "exponential"]
Count = Annotated[int, Ge(1)]
Share = Annotated[float, Ge(0.0), Lt(1.0)]
Positive = Annotated[float, Gt(0.0)]
NotNegative = Annotated[float, Ge(0.0)]

ADJUSTABLE = frozenset(
    {"lr", "momentum", "weight_decay", "l1", "dropout", "label_smoothing", "batch_size", "schedule", "warmup"}
)


def mlp(
    data: str | Data = "digits",
    data_dir: str | None = None,
    target: str | int | None = None,
    header: bool | None = None,
    task: Task = "auto",
    validation: Part = 0.15,
    test: Part = 0.15,
    split_seed: Annotated[int, Ge(0)] = 0,
    image_size: Count = 32,
    classes: str | None = None,
    skip_bad: bool = False,
    layers: Annotated[int, Ge(0)] | None = None,
    units: Count | list[Count] = 64,
    activation: Activation = "relu",
    dropout: Share = 0.0,
    batch_norm: bool = False,
    optimizer: Optimizer = "adam",
    lr: Positive = 1e-3,
    momentum: Share = 0.0,
    nesterov: bool = False,
    weight_decay: NotNegative = 0.0,
    l1: NotNegative = 0.0,
    schedule: Schedule = "constant",
    warmup: Annotated[int, Ge(0)] = 0,
    batch_size: Count = 64,
    label_smoothing: Annotated[float, Ge(0.0), Le(1.0)] = 0.0,
    epochs: Count = 5,
    patience: Count | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    seed: int = 0,
    state: dict[str, Any] | None = None,
) -> Iterator[tuple[dict[str, float], dict[str, Any]]]:
    """Train a perceptron of `layers` hidden layers of `units` (one number, or one for each layer).

    `data` to `skip_bad` are `data.load`'s. `dropout` follows every hidden layer; `momentum` belongs to sgd
    and rmsprop; `l1` is the penalty on the weights' absolute sum; `schedule` and `warmup` (epochs) act on
    `lr`; `patience` ends training after so many epochs without a lower validation loss. `device: auto` takes
    the GPU it is given, in bfloat16 where the GPU has it. Yields train_ and val_ loss and accuracy, or loss
    (of the standardised target), rmse and r2 for a number.
    """
    import torch

    from raysweep.trainables import fit
    from raysweep.trainables.update import Update

    if batch_norm and batch_size == 1:
        raise Infeasible("batch_norm needs a batch_size of 2 or more")
    if not isinstance(data, Data):
        data = load(
            data, data_dir, target, header, task, validation, test, split_seed, image_size, classes, skip_bad
        )
    with torch.random.fork_rng():
        torch.manual_seed(fit.mixed(seed, 0))
        model = network(
            data.x_train[0].size, data.outputs, widths(layers, units), activation, dropout, batch_norm
        )
    where = fit.pick_device(device)
    update = Update(optimizer, model.to(where), momentum, nesterov, weight_decay)
    yield from fit.fit(
        model,
        data,
        update,
        lr=lr,
        l1=l1,
        schedule=schedule,
        warmup=warmup,
        batch_size=batch_size,
        label_smoothing=label_smoothing,
        epochs=epochs,
        patience=patience,
        device=where,
        seed=seed,
        state=state,
    )


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

    Weights start as in Glorot & Bengio (2010) for tanh, sigmoid and the outputs, as in He et al. (2015) for
    the others.
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
        # In its place in any case: weights are known by theirs, and dropout may change in the middle of a training.
        parts.append(nn.Dropout(dropout) if dropout else nn.Identity())
        inputs = width
    model = nn.Sequential(*parts, nn.Linear(inputs, outputs))
    *inner, last = [layer for layer in model if isinstance(layer, nn.Linear)]
    for layer in [*inner, last]:
        # PyTorch's own start shrinks the signal from layer to layer, and a network of 20 hardly learns.
        if layer is last or activation in {"tanh", "sigmoid"}:
            nn.init.xavier_uniform_(layer.weight)
        else:
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return model


def export(point: dict[str, Any], state: dict[str, Any], data: Data, folder: Path) -> dict[str, float]:
    """Write the trained network into `folder`, as predict.py reads it; return its metrics on the test split."""
    import torch

    from raysweep.trainables import fit

    shape = {
        "inputs": int(data.x_train[0].size),
        "outputs": data.outputs,
        "hidden": widths(point.get("layers"), point.get("units", 64)),
        "activation": point.get("activation", "relu"),
        "dropout": point.get("dropout", 0.0),
        "batch_norm": point.get("batch_norm", False),
    }
    model = network(**shape)
    model.load_state_dict({k: v.cpu() for k, v in state["model"].items()})
    device = torch.device("cpu")
    test = fit.Tensors(data.x_test, data.y_test, data, device)
    metrics = fit.evaluate(model, test, data, "test")
    fit.write_tables(model, test, data, folder)
    about = {
        "network": shape,
        "inputs": data.inputs,
        "classes": list(data.classes),
        "target": None if data.classes else fit.target_scale(data),
    }
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), folder / "weights.pt")
    (folder / "model.json").write_text(json.dumps(about, indent=2))
    return metrics
