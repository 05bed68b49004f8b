"""The perceptron, written out: forward, loss, backpropagation, update. Several networks are trained at once, each
with weights, samples and a learning rate of its own, as one batched computation; one network is the case K = 1.

Layers are those of `mlp.network`: Linear, batch norm, activation, dropout. The formulas are the textbook's
(Goodfellow, Bengio & Courville 2016, chapter 6; batch norm: Ioffe & Szegedy 2015). Tensors are `[K, B, width]`:
K networks, B samples of each. Narrower networks are padded with units that stay zero. All results go to buffers
that are made once: for networks this small, allocating memory would take as long as computing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import torch
from torch import Tensor

MOMENTUM, EPSILON = 0.1, 1e-5  # of batch norm, as PyTorch has them

ops = torch.ops.aten  # PyTorch's own functions and their derivatives, with the buffer for the result


@dataclass(frozen=True)
class Activation:
    """`forward(z, a)` writes the activations of z to a; `backward(g, z, a)` turns g, the loss's derivative by a,
    into that by z."""

    forward: Callable[[Tensor, Tensor], object]
    backward: Callable[[Tensor, Tensor, Tensor], object]
    of_zero: bool = False
    """Whether it is not zero at zero."""


ACTIVATIONS = {
    "relu": Activation(
        lambda z, a: torch.clamp_min(z, 0, out=a),
        lambda g, z, a: ops.threshold_backward.grad_input(g, a, 0, grad_input=g),
    ),
    "tanh": Activation(
        lambda z, a: ops.tanh.out(z, out=a),
        lambda g, z, a: ops.tanh_backward.grad_input(g, a, grad_input=g),
    ),
    "sigmoid": Activation(
        lambda z, a: ops.sigmoid.out(z, out=a),
        lambda g, z, a: ops.sigmoid_backward.grad_input(g, a, grad_input=g),
        of_zero=True,
    ),
    "gelu": Activation(
        lambda z, a: ops.gelu.out(z, out=a),
        lambda g, z, a: ops.gelu_backward.grad_input(g, z, grad_input=g),
    ),
    "silu": Activation(
        lambda z, a: ops.silu.out(z, out=a),
        lambda g, z, a: ops.silu_backward.grad_input(g, z, grad_input=g),
    ),
    "elu": Activation(
        lambda z, a: ops.elu.out(z, out=a),
        lambda g, z, a: ops.elu_backward.grad_input(g, 1.0, 1.0, 1.0, False, z, grad_input=g),
    ),
    "leaky_relu": Activation(
        lambda z, a: ops.leaky_relu.out(z, out=a),
        lambda g, z, a: ops.leaky_relu_backward.grad_input(g, z, 0.01, False, grad_input=g),
    ),
}


@dataclass(frozen=True)
class Shape:
    """The widths of a network, or of the widest of several, layer by layer."""

    inputs: int
    hidden: tuple[int, ...]
    outputs: int
    batch_norm: bool

    def wider(self, other: Shape) -> Shape:
        """The shape that holds both."""
        hidden = tuple(map(max, self.hidden, other.hidden))
        return Shape(self.inputs, hidden, self.outputs, self.batch_norm)

    def rounded(self) -> Shape:
        """The same with widths that are powers of two, which holds it."""
        return replace(self, hidden=tuple(1 << (width - 1).bit_length() for width in self.hidden))

    def sizes(self) -> list[list[tuple[int, ...]]]:
        """The parameters of each layer, in the order of a module's: weight and bias; gain and shift of batch
        norm."""
        layers: list[list[tuple[int, ...]]] = []
        for before, width in pairwise((self.inputs, *self.hidden, self.outputs)):
            normed = self.batch_norm and len(layers) < len(self.hidden)
            layers.append([(width, before), (width,), *([(width,), (width,)] if normed else [])])
        return layers

    def views(self, vectors: Tensor) -> list[list[Tensor]]:
        """The same as views of `vectors` `[K, all parameters]`."""
        start = 0
        layers: list[list[Tensor]] = []
        for sizes in self.sizes():
            layers.append([])
            for size in sizes:
                end = start + torch.Size(size).numel()
                layers[-1].append(vectors[:, start:end].view(len(vectors), *size))
                start = end
        return layers

    @property
    def count(self) -> int:
        """How many parameters a network has."""
        return sum(torch.Size(size).numel() for sizes in self.sizes() for size in sizes)

    def places(self, narrower: Shape) -> Tensor:
        """Where the parameters of a narrower network are in a vector of this shape."""
        whole = self.views(torch.arange(self.count).view(1, -1))
        parts = (part for sizes in narrower.sizes() for part in sizes)
        views = (view[0] for layer in whole for view in layer)
        return torch.cat([v[tuple(map(slice, p))].reshape(-1) for v, p in zip(views, parts, strict=True)])


class Layer:
    """A layer of K networks: views of its parameters and of their gradients, and what a forward pass leaves for
    backpropagation, in buffers for each batch size."""

    def __init__(self, values: Sequence[Tensor], gradients: Sequence[Tensor]):
        self.weight, bias, *norm = values  # [K, width, inputs]
        self.bias, self.gain, self.shift = (v.unsqueeze(1) for v in (bias, *(norm or (bias, bias))))
        self.weight_grad, self.bias_grad, *self.norm_grads = gradients
        self._buffers: dict[tuple[str, int], Tensor] = {}

    def buffer(self, name: str, samples: int) -> Tensor:
        """A buffer `[K, samples, width]`."""
        found = self._buffers.get((name, samples))
        if found is None:
            networks, width, _ = self.weight.shape
            found = self._buffers[name, samples] = self.weight.new_empty(networks, samples, width)
        return found

    def linear(self, x: Tensor, out: Tensor) -> Tensor:
        """The weighted sums of x."""
        self.x = x
        return torch.baddbmm(self.bias, x, self.weight.transpose(1, 2), out=out)

    def normalise(self, z: Tensor, mean: Tensor, variance: Tensor, training: bool) -> Tensor:
        """Batch norm, in place. In training by the batch's own statistics, of which the running `mean` and
        `variance` `[K, 1, width]` take note."""
        n, center, spread = z.shape[1], mean, variance
        if training:
            center = z.mean(1, keepdim=True)
        self.normal = torch.sub(z, center, out=self.buffer("normal", n))
        if training:
            spread = self.normal.square().mean(1, keepdim=True)
            mean.lerp_(center, MOMENTUM)
            variance.lerp_(spread * (n / (n - 1)), MOMENTUM)
        self.scale = (spread + EPSILON).rsqrt_()
        self.normal.mul_(self.scale)
        return torch.addcmul(self.shift, self.normal, self.gain, out=z)

    def normalise_back(self, g: Tensor) -> None:
        """The derivative of batch norm, in place of g; and that by gain and shift."""
        n, (by_gain, by_shift) = g.shape[1], self.norm_grads
        torch.sum(g, 1, out=by_shift)
        torch.sum(g * self.normal, 1, out=by_gain)
        g.sub_(by_shift.unsqueeze(1) / n).addcmul_(self.normal, by_gain.unsqueeze(1) / n, value=-1)
        g.mul_(self.scale).mul_(self.gain)

    def linear_back(self, g: Tensor) -> None:
        """The derivatives by weight and bias."""
        torch.bmm(g.transpose(1, 2), self.x, out=self.weight_grad)
        if self.norm_grads:
            # Batch norm takes the bias away again. Of what rounding leaves, Adam would make whole steps.
            self.bias_grad.zero_()
        else:
            torch.sum(g, 1, out=self.bias_grad)


class Perceptrons:
    """K networks of one shape, whose parameters are the rows of one matrix."""

    def __init__(
        self,
        shape: Shape,
        parameters: Tensor,
        activations: Sequence[str],
        statistics: Sequence[tuple[Tensor, Tensor]] = (),
        units: Sequence[Tensor] = (),
    ):
        """`parameters` `[K, shape.count]` are updated by whoever owns them. Networks with the same activation
        must be next to each other. `statistics` are the running mean and variance `[K, 1, width]` of each hidden
        layer with batch norm; `units` is 1 for each unit that is no padding, `[K, 1, width]`, if there is any."""
        self.gradients = torch.zeros_like(parameters)
        pairs = zip(shape.views(parameters), shape.views(self.gradients), strict=True)
        *self._hidden, self._last = [Layer(*pair) for pair in pairs]
        self._statistics, self._units = statistics, units
        self._groups = list(_groups(activations))

    def forward(self, x: Tensor, out: Tensor, masks: Sequence[Tensor] = (), training: bool = False) -> Tensor:
        """The outputs for x `[K, B, inputs]`, in `out` `[K, B, outputs]`. `masks` `[K, B, width]` of each hidden
        layer are dropout's."""
        n = x.shape[1]
        for i, layer in enumerate(self._hidden):
            z = layer.linear(x, layer.buffer("z", n))
            if self._statistics:
                layer.normalise(z, *self._statistics[i], training)
            x = layer.buffer("a", n)
            for rows, activation in self._groups:
                activation.forward(rows(z), rows(x))
                if self._units and activation.of_zero:
                    rows(x).mul_(rows(self._units[i]))
            if masks:
                x = torch.mul(x, masks[i], out=layer.buffer("dropped", n))
        return self._last.linear(x, out)

    def gradient_buffer(self, output: Tensor) -> Tensor:
        """A buffer for the derivative of the loss by these outputs."""
        return self._last.buffer("g", output.shape[1])

    def backward(self, g: Tensor, masks: Sequence[Tensor] = ()) -> None:
        """Backpropagation: from `g` `[K, B, outputs]`, the derivative of the loss by the outputs, to `gradients`."""
        n, above = g.shape[1], self._last
        above.linear_back(g)
        for i, layer in reversed(list(enumerate(self._hidden))):
            g = torch.bmm(g, above.weight, out=layer.buffer("g", n))
            if masks:
                g.mul_(masks[i])
            for rows, activation in self._groups:
                activation.backward(rows(g), rows(layer.buffer("z", n)), rows(layer.buffer("a", n)))
            if self._statistics:
                layer.normalise_back(g)
            layer.linear_back(g)
            above = layer


def _groups(activations: Sequence[str]) -> Iterator[tuple[Callable[[Tensor], Tensor], Activation]]:
    """Each activation, and what takes the part of a tensor that is of its networks."""
    for name, group in groupby(range(len(activations)), key=lambda k: activations[k]):
        rows = list(group)
        if len(rows) == len(activations):
            yield (lambda tensor: tensor), ACTIVATIONS[name]
        else:
            yield operator.itemgetter(slice(rows[0], rows[-1] + 1)), ACTIVATIONS[name]


def loss_gradient(output: Tensor, target: Tensor, classes: bool, out: Tensor) -> Tensor:
    """The derivative of the mean loss of a batch by the outputs `[K, B, outputs]`: of cross-entropy with
    `target` as the classes' probabilities, or of the squared error."""
    if classes:
        torch.sub(
            output, output.amax(2, keepdim=True), out=out
        ).exp_()  # torch.softmax is slow for few classes
        return out.div_(out.sum(2, keepdim=True)).sub_(target).mul_(1 / output.shape[1])
    return torch.sub(output, target, out=out).mul_(2 / output.shape[1])


def weights_only(shape: Shape) -> Iterator[bool]:
    """For each parameter whether it is a weight, which a penalty counts, and no bias or part of batch norm."""
    for sizes in shape.sizes():
        for size in sizes:
            yield from [len(size) > 1] * torch.Size(size).numel()
