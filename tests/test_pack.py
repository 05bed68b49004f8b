"""The written-out training step computes what autograd does, and a member of a pack trains as if it were alone."""

from __future__ import annotations

import copy
import gc
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from conftest import saved
from raysweep.trainables import pack as pack_module
from raysweep.trainables.arguments import MLP, Activation
from raysweep.trainables.cuda_graph import Batch
from raysweep.trainables.data import Data, load
from raysweep.trainables.member import Member
from raysweep.trainables.mlp import network, widths
from raysweep.trainables.optimizers import BETA1, BETA2, JoinedRule, Rule, update
from raysweep.trainables.pack import Pack
from raysweep.trainables.pack_size import seconds
from raysweep.trainables.perceptron import Perceptrons, Shape, loss_gradient
from raysweep.trainables.stack import Stack

DOUBLE = torch.float64


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Data:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 64))
    path = tmp_path_factory.mktemp("line") / "line.npz"
    np.savez(path, x=x, y=x @ rng.normal(size=64) + 5)
    return load(str(path))


# --- one step against autograd --------------------------------------------------------------------------------

STEPS = {
    **{name: {"activation": name} for name in get_args(Activation)},
    **{f"{name} with batch norm": {"activation": name, "batch_norm": True} for name in get_args(Activation)},
    "no hidden layer": {"layers": 0},
    "deep": {"units": [7, 9, 5, 8]},
    "deep, with batch norm and dropout": {"units": [7, 9, 5], "batch_norm": True, "dropout": 0.4},
    "dropout": {"dropout": 0.5},
    "label smoothing": {"label_smoothing": 0.3},
    "regression": {"regression": True},
    "regression with all": {"regression": True, "batch_norm": True, "dropout": 0.2, "units": [6, 4]},
}


def stacked(models: list[nn.Sequential], shape: Shape) -> Tensor:
    """The parameters of narrower networks as rows."""
    rows = torch.zeros(len(models), shape.count, dtype=DOUBLE)
    for row, model in zip(rows, models, strict=True):
        row[shape.places(shape_of(model))] = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    return rows


def shape_of(model: nn.Sequential) -> Shape:
    linear = [m for m in model if isinstance(m, nn.Linear)]
    normed = any(isinstance(m, nn.BatchNorm1d) for m in model)
    hidden = tuple(m.out_features for m in linear[:-1])
    return Shape(linear[0].in_features, hidden, linear[-1].out_features, normed)


def by_autograd(model: nn.Sequential, x: Tensor, y: Tensor, masks: list[Tensor], smoothing: float) -> Tensor:
    """Backpropagation as PyTorch does it, with given masks of dropout."""
    dropped = iter(masks)
    for layer in model:
        after_activation = isinstance(layer, nn.Dropout | nn.Identity)
        x = x * next(dropped) if after_activation and masks else x if after_activation else layer(x)
    if y.dtype == torch.int64:
        loss = functional.cross_entropy(x, y, label_smoothing=smoothing)
    else:
        loss = functional.mse_loss(x.squeeze(1), y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([g.reshape(-1) for g in gradients])


@pytest.mark.parametrize("options", STEPS.values(), ids=STEPS)
def test_its_gradients_are_those_of_autograd(options: dict[str, Any]) -> None:
    """For one network and for three of different widths and samples; also twice, with what the first left."""
    options = dict(options)
    regression = options.pop("regression", False)
    p = MLP(**options)
    torch.manual_seed(1)
    units = widths(p.layers, 6 if p.units == 64 else p.units)
    outputs, n = (1 if regression else 5), 13
    for k in (1, 3):
        models = [
            network(11, outputs, [w + 2 * i for w in units], p.activation, p.dropout, p.batch_norm).double()
            for i in range(k)
        ]
        shapes = [shape_of(m) for m in models]
        shape = shapes[-1]
        rows = stacked(models, shape)
        statistics = [
            (torch.zeros(k, 1, w, dtype=DOUBLE), torch.ones(k, 1, w, dtype=DOUBLE))
            for w in (shape.hidden if p.batch_norm else ())
        ]
        real = [
            torch.stack([(torch.arange(w) < s.hidden[i]).double() for s in shapes]).unsqueeze(1)
            for i, w in enumerate(shape.hidden)
        ]
        ours = Perceptrons(shape, rows, [p.activation] * k, statistics, real if k > 1 else ())
        for _ in range(2):
            x, masks = torch.randn(k, n, 11, dtype=DOUBLE), []
            if p.dropout:
                masks = [
                    (torch.rand(k, n, w) >= p.dropout).double() / (1 - p.dropout) * r
                    for w, r in zip(shape.hidden, real, strict=True)
                ]
            y = torch.randn(k, n, dtype=DOUBLE) if regression else torch.randint(outputs, (k, n))
            if regression:
                target = y.unsqueeze(2)
            else:
                target = (
                    functional.one_hot(y, outputs).double() * (1 - p.label_smoothing)
                    + p.label_smoothing / outputs
                )
            output = ours.forward(x, x.new_empty(k, n, outputs), masks, training=True)
            ours.backward(loss_gradient(output, target, not regression, torch.empty_like(output)), masks)
            for i, (model, own) in enumerate(zip(models, shapes, strict=True)):
                model.train()
                theirs = by_autograd(
                    model,
                    x[i],
                    y[i],
                    [m[i, :, :w] for m, w in zip(masks, own.hidden, strict=bool(masks))],
                    p.label_smoothing,
                )
                places = shape.places(own)
                torch.testing.assert_close(ours.gradients[i][places], theirs, rtol=1e-10, atol=1e-12)
                padding = torch.ones(shape.count, dtype=torch.bool).index_fill(0, places, 0)
                assert not ours.gradients[i][padding].any()
        for i, model in enumerate(models):
            norms = [m for m in model if isinstance(m, nn.BatchNorm1d)]
            for norm, (mean, variance) in zip(norms, statistics, strict=True):
                width = norm.num_features
                torch.testing.assert_close(mean[i, 0, :width], norm.running_mean, rtol=1e-10, atol=1e-12)
                torch.testing.assert_close(variance[i, 0, :width], norm.running_var, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "decay"), [(n, d) for n in ("adam", "adamw") for d in (0.0, 0.1)])
def test_the_fused_update_is_the_textbook_s(name: str, decay: float) -> None:
    torch.manual_seed(0)
    values = torch.randn(50, dtype=DOUBLE)
    other = values.clone()
    fused, written = (Rule(name, values, decay=decay) for _ in range(2))
    for _ in range(20):
        g = torch.randn(50, dtype=DOUBLE)
        fused.step(values, g, 0.01)
        corrections = 1 - BETA1**fused.steps, 1 - BETA2**fused.steps
        update(name, other, g, written.memory, 0.01, 0.0, False, decay or None, corrections)
    torch.testing.assert_close(values, other, rtol=1e-12, atol=1e-14)


RULES: list[dict[str, Any]] = [
    {"name": "sgd"},
    {"name": "sgd", "momentum": (0.5, 0.9), "decay": (0.0, 0.1)},
    {"name": "sgd", "momentum": (0.5, 0.9), "nesterov": True},
    {"name": "adam", "decay": (0.1, 0.0)},
    {"name": "adamw", "decay": (0.1, 0.2)},
    {"name": "rmsprop", "momentum": (0.3, 0.6)},
    {"name": "rmsprop"},
]


@pytest.mark.parametrize("options", RULES, ids=str)
def test_joined_rules_are_the_rules_of_each(options: dict[str, Any]) -> None:
    """Also of those that have made other numbers of steps before."""
    torch.manual_seed(0)
    values = torch.randn(2, 50, dtype=DOUBLE)
    rules = [
        Rule(like=values[i], **{k: v[i] if isinstance(v, tuple) else v for k, v in options.items()})
        for i in range(2)
    ]
    for _ in range(3):
        rules[1].step(values[1], torch.randn(50, dtype=DOUBLE), 0.01)
    memory = {name: torch.stack([r.memory[name] for r in rules]) for name in rules[0].memory}
    together = values.clone()
    joined = JoinedRule(rules, memory, together)
    for _ in range(20):
        g = torch.randn(2, 50, dtype=DOUBLE)
        joined.step(together, g, torch.tensor([[0.01], [0.1]], dtype=DOUBLE))
        for rule, row, own, lr in zip(rules, values, g, (0.01, 0.1), strict=True):
            rule.step(row, own, lr)
    torch.testing.assert_close(together, values, rtol=1e-12, atol=1e-14)


# --- as on a GPU ----------------------------------------------------------------------------------------------


class Tape(TorchDispatchMode):
    """What a CUDA graph does, on a CPU: the operations on tensors are recorded, and done again with the same tensors
    and the same numbers, without the code that asked for them."""

    def __init__(self) -> None:
        super().__init__()
        self._recorded: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), named: dict[str, Any] | None = None
    ) -> Any:
        assert "_local_scalar_dense" not in str(function), "a graph cannot know a number"
        result = function(*arguments, **(named or {}))
        self._recorded.append((function, arguments, named or {}, result))
        return result

    def play(self) -> None:
        for function, arguments, named, result in self._recorded:
            again = function(*arguments, **named)
            for before, now in zip(tree_flatten(result)[0], tree_flatten(again)[0], strict=True):
                before.copy_(now)


def taped(function: Callable[[], None]) -> Callable[[], None]:
    """A capture (cuda_graph.py) by a tape."""
    tape, to_record = Tape(), [function]
    del function

    def replay() -> None:
        if to_record:
            with tape:
                to_record.pop()()
        else:
            tape.play()

    return replay


ON_CPU, ON_GPU = torch.device("cpu"), torch.device("cuda")


class ThereOnly(TorchDispatchMode):
    """Refuses what a CUDA graph cannot capture: whatever is not on the GPU alone."""

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), named: dict[str, Any] | None = None
    ) -> Any:
        result = function(*arguments, **(named or {}))
        for tensor in tree_flatten((arguments, named, result))[0]:
            assert not isinstance(tensor, Tensor) or tensor.device.type == "cuda", function
        return result


def there_only(function: Callable[[], None]) -> Callable[[], None]:
    def replay() -> None:
        with ThereOnly():
            function()

    return replay


WAYS: dict[str, tuple[torch.device, Any]] = {
    "computed": (ON_CPU, None),
    "replayed": (ON_CPU, taped),
    "on a GPU": (ON_GPU, None),
}
"""How training steps are done: as on a CPU; as on a GPU, but without one; on a GPU, if there is one."""
no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
EVERY_WAY = [pytest.param(w, marks=no_gpu) if device is ON_GPU else w for w, (device, _) in WAYS.items()]
ALONE = {"computed": "computed", "replayed": "computed", "on a GPU": "on a GPU"}
"""How a training alone is done, beside which one in company is done so: each device draws in its own way."""


def test_a_pack_lies_on_its_gpu(digits: Data, line: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's fake tensors have a device and no numbers, and refuse an operation on two devices. What is replayed
    takes nothing from the computer's memory."""
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 30, 1 << 30))
    # There are no generators for a device that is not there.
    monkeypatch.setattr(Member, "_generator", lambda *what, device="": torch.Generator())
    for data, batch_norm in itertools.product((digits, line), (False, True)):
        names = [n for n in MEMBERS if data.classes or n not in {"smoothing", "weighted"}]
        with FakeTensorMode(allow_non_fake_inputs=True):
            pack = Pack(data, 1, 64, gpu, replay=there_only)
        members = [member(pack, data, i, batch_norm, **MEMBERS[n]) for i, n in enumerate(names)]
        with FakeTensorMode(allow_non_fake_inputs=True):
            stack = pack._stacked(sorted(members, key=Stack.place))
            stack.begin()
            trained = pack._train_epoch(stack, 1000)
            with pytest.raises(DataDependentOutputException):  # it asks for the epoch's metrics
                pack._evaluate(stack)
            stack.end(16)
        assert {t.device.type for t in (trained, stack.networks.gradients)} == {"cuda"}
        assert members[0]._row.device.type == "cpu"


# --- in company as alone --------------------------------------------------------------------------------------

MEMBERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True},
    "wide": {"units": [24, 12], "activation": "sigmoid"},
    "tanh": {"activation": "tanh", "weight_decay": 1e-3, "schedule": "cosine"},
    "dropout": {"dropout": 0.4, "activation": "gelu"},
    "smoothing": {"label_smoothing": 0.1, "l1": 1e-4, "activation": "silu"},
    "rmsprop": {"optimizer": "rmsprop", "momentum": 0.5, "warmup": 1, "activation": "elu"},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "step", "activation": "leaky_relu"},
    "weighted": {"class_weight": "balanced"},
    "patience": {"patience": 1, "lr": 0.3},
    "diverging": {"optimizer": "sgd", "lr": 1e30},
}
EPOCHS = 4


def pack_of(data: Data, way: str = "computed", dtype: torch.dtype = DOUBLE) -> Pack:
    device, replay = WAYS[way]
    return Pack(data, 1, 64, device, dtype, replay)


def member(
    pack: Pack, data: Data, seed: int, batch_norm: bool, state: dict[str, Any] | None = None, **options: Any
) -> Member:
    p = MLP(**{"units": [16, 8], "epochs": EPOCHS, "batch_norm": batch_norm, **options})
    torch.manual_seed(seed)
    hidden = widths(p.layers, p.units)
    model = network(64, data.outputs, hidden, p.activation, p.dropout, p.batch_norm).to(pack.dtype)
    return Member(pack, model, Shape(64, tuple(hidden), data.outputs, p.batch_norm), p, seed, state)


def curve(epochs: Iterator[Any]) -> list[dict[str, float]]:
    return [metrics for metrics, _ in epochs]


def same(one: list[dict[str, float]], other: list[dict[str, float]], tolerance: float) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(b[k] == pytest.approx(a[k], rel=tolerance, nan_ok=True) for k in a)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("kind", ["classes", "regression"])
@pytest.mark.parametrize("way", EVERY_WAY)
def test_a_member_s_curve_is_its_curve_alone(
    way: str, kind: str, batch_norm: bool, digits: Data, line: Data
) -> None:
    """80 steps in packs of 3 and of 16, to 1e-10, and replayed as computed; none feels one that diverges."""
    data = digits if kind == "classes" else line
    names = list(MEMBERS) if kind == "classes" else [n for n in MEMBERS if n not in {"smoothing", "weighted"}]
    alone = {
        name: curve(member(pack_of(data, ALONE[way]), data, i, batch_norm, **MEMBERS[name]))
        for i, name in enumerate(names)
    }
    for size in (3, 16):
        pack = pack_of(data, way)
        chosen = [names[i % len(names)] for i in range(size)]
        members = [member(pack, data, names.index(n), batch_norm, **MEMBERS[n]) for n in chosen]
        curves: list[list[dict[str, float]]] = [[] for _ in members]
        for _ in range(EPOCHS):
            for m, one in zip(members, curves, strict=True):
                one += [metrics for metrics, _ in itertools.islice(m, 1)]
        for name, one in zip(chosen, curves, strict=True):
            assert same(alone[name], one, 1e-10), (name, alone[name], one)


@pytest.mark.parametrize("way", EVERY_WAY)
def test_whoever_joins_or_leaves_the_others_go_on_as_alone(way: str, digits: Data) -> None:
    alone = [curve(member(pack_of(digits, ALONE[way]), digits, i, True, units=[8 + i, 8])) for i in range(4)]
    pack = pack_of(digits, way)
    first, gone = (member(pack, digits, i, True, units=[8 + i, 8]) for i in (0, 3))
    curves: dict[int, list[dict[str, float]]] = {0: [], 1: [], 2: []}
    curves[0].append(next(first)[0])
    next(gone)
    second = member(pack, digits, 1, True, units=[9, 8])
    curves[0].append(next(first)[0])
    next(gone)
    curves[1].append(next(second)[0])
    gone.close()  # the widest leaves
    third = member(pack, digits, 2, True, units=[10, 8])
    for i, m in enumerate((first, second, third)):
        curves[i] += curve(m)
    assert all(same(alone[i], one, 1e-10) for i, one in curves.items())


@pytest.mark.parametrize("way", EVERY_WAY)
@pytest.mark.parametrize("company", [[[30, 20], [9, 9]], [[16, 8]] * 15], ids=["others", "alike"])
@pytest.mark.parametrize("name", [name for name in MEMBERS if name != "diverging"])
def test_a_state_of_a_member_is_one_of_a_training_alone(
    name: str, company: list[list[int]], way: str, digits: Data
) -> None:
    """Written in a pack of others, it resumes alone."""
    options = MEMBERS[name]
    # Not adam: the gradient of a bias before batch norm is zero but for rounding, which adam enlarges.
    norm = name == "sgd"
    one = ALONE[way]
    states = [saved(state) for _, state in member(pack_of(digits, one), digits, 1, norm, **options)]
    pack = pack_of(digits, way)
    mine = member(pack, digits, 1, norm, **options)
    others = [member(pack, digits, seed, norm, units=units) for seed, units in enumerate(company)]
    for whole in states:
        _, state = next(mine)
        for other in others:
            next(other)
        state = saved(state)
        assert list(state["model"]) == list(whole["model"])
        for key, value in whole["model"].items():
            torch.testing.assert_close(state["model"][key], value, rtol=1e-9, atol=1e-9, equal_nan=True)
            assert state["model"][key].untyped_storage().nbytes() < 1 << 16, "it holds no one else's"
        assert state["optimizer"].keys() == whole["optimizer"].keys()
        for key, value in whole["optimizer"].items():
            held = state["optimizer"][key]
            assert not torch.is_tensor(value) or held.untyped_storage().nbytes() == value.nbytes
    rest = curve(member(pack_of(digits, one), digits, 1, norm, state=copy.deepcopy(states[0]), **options))
    assert same(curve(member(pack_of(digits, one), digits, 1, norm, **options))[1:], rest, 1e-12)


def test_an_error_is_that_of_each_and_none_goes_on_from_the_middle_of_an_epoch(
    digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = pack_of(digits)
    members = [member(pack, digits, i, False) for i in range(3)]
    for m in members:
        next(m)
    steps = itertools.count()

    def fails(*arguments: Any) -> None:
        if next(steps) == 5:
            raise MemoryError("no more of it")

    monkeypatch.setattr(members[1].rule, "step", fails)
    for m in members:
        with pytest.raises(RuntimeError, match="3 trained together: MemoryError: no more of it"):
            next(m)
        assert list(m) == []
    assert not pack.members


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("no more of it"), RuntimeError("CUDA error: out of memory\nSearch for ...")],
    ids=["PyTorch's", "CUDA's"],
)
def test_more_than_a_gpu_s_memory_holds_are_trained_in_turn(
    error: Exception, digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no longer used is freed at once, without the garbage collector."""
    alone = [curve(member(pack_of(digits), digits, i, False, dropout=0.1 * i)) for i in range(5)]
    pack = pack_of(digits, "replayed")
    members = [member(pack, digits, i, False, dropout=0.1 * i) for i in range(5)]
    step, make = Stack._step, Stack.__init__
    steps = itertools.count()
    living: weakref.WeakSet[Stack] = weakref.WeakSet()

    def made(stack: Stack, *arguments: Any) -> None:
        living.add(stack)
        make(stack, *arguments)

    def fails(stack: Stack, batch: Batch) -> None:
        if next(steps) > 4 and sum(len(one.members) for one in living) > 2:  # in the middle of a later epoch
            raise type(error)(*error.args)
        step(stack, batch)

    monkeypatch.setattr(Stack, "_step", fails)
    monkeypatch.setattr(Stack, "__init__", made)
    monkeypatch.setattr(pack_module, "free", lambda: None)
    curves: list[list[dict[str, float]]] = [[] for _ in members]
    gc.disable()
    try:
        for _ in range(EPOCHS):
            for m, one in zip(members, curves, strict=True):
                one.append(next(m)[0])
    finally:
        gc.enable()
    assert all(same(a, b, 1e-10) for a, b in zip(alone, curves, strict=True))
    assert pack.pays_off == 2
    for m in members:
        m.close()
    assert not living, "no memory is held for nobody"


@pytest.mark.parametrize("way", EVERY_WAY)
def test_what_pays_off_is_measured_as_it_is_trained(way: str) -> None:
    shape = Shape(8, (4,), 3, True)
    device, replay = WAYS[way]
    assert 0 < seconds(shape, 16, 3, device, replay) < 10


def test_in_single_precision_a_pack_changes_no_more_than_threads_do(digits: Data) -> None:
    """After four epochs, the losses differ by no more than ten times what another number of threads does, or by
    rounding."""

    def losses(pack: Pack, count: int) -> list[float]:
        members = [member(pack, digits, i, False, units=[128, 64]) for i in range(count)]
        for _ in range(EPOCHS - 1):
            for m in members:
                next(m)
        return [next(m)[0]["val_loss"] for m in members]

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = losses(pack_of(digits, dtype=torch.float32), 1)[0]
        together = losses(pack_of(digits, dtype=torch.float32), 5)[0]
        torch.set_num_threads(3)
        spread = abs(losses(pack_of(digits, dtype=torch.float32), 1)[0] - alone)
    finally:
        torch.set_num_threads(threads)
    assert abs(together - alone) <= max(10 * spread, 1e-4 * alone)
