"""The classic case: five fixed perceptrons on MNIST, an epoch with validation, one core. raysweep's `mlp` beside a
good hand-written PyTorch loop and beside Keras, all in one run.

CPU seconds of the second epoch (in the first, libraries set themselves up). The bound is what the arithmetic itself
takes: multiply-adds at the rate of the core's own matrix products, and the update's bytes at its memory bandwidth.

    python tests/benchmarks/classic.py [--data-dir FOLDER_OF_MNIST] [--keras PYTHON_WITH_KERAS]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NETWORKS = {2: [128], 5: [256] * 4, 9: [256] * 8, 14: [128] * 13, 20: [64] * 19}
"""The hidden layers of networks with so many layers of weights."""
BATCH, LR = 32, 1e-3

OURS = """
import sys, json, time
import numpy as np, torch
from raysweep.trainables.data import load
from raysweep.trainables.mlp import mlp
torch.set_num_threads(1)
data = load(sys.argv[3], data_dir=sys.argv[4] or None, validation=1 / 6)
epochs = mlp(data=data, units=json.loads(sys.argv[2]), batch_size=32, lr=1e-3, epochs=2)
next(epochs)
began = time.process_time()
metrics, _ = next(epochs)
print(json.dumps([time.process_time() - began, metrics["val_accuracy"]]))
"""

PYTORCH = """
import sys, json, time
import numpy as np, torch
from torch import nn
torch.set_num_threads(1)
file, hidden = np.load(sys.argv[1]), json.loads(sys.argv[2])
x, y, xv, yv = (torch.from_numpy(file[n]) for n in ("x", "y", "xv", "yv"))
x, xv = x.flatten(1).float() / 255, xv.flatten(1).float() / 255
layers, width = [], x.shape[1]
for units in hidden:
    layers += [nn.Linear(width, units), nn.ReLU()]
    width = units
model = nn.Sequential(*layers, nn.Linear(width, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
loss_of = nn.CrossEntropyLoss()
for epoch in range(2):
    began, order, total, right = time.process_time(), torch.randperm(len(x)), 0.0, 0
    model.train()
    for start in range(0, len(x), 32):
        index = order[start : start + 32]
        output = model(x[index])
        loss = loss_of(output, y[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(index)
        right += (output.detach().argmax(1) == y[index]).sum()
    model.eval()
    with torch.inference_mode():
        accuracy = float(torch.cat([(model(part).argmax(1) == label).float() for part, label in zip(xv.split(4096), yv.split(4096))]).mean())
print(json.dumps([time.process_time() - began, accuracy]))
"""

KERAS = """
import sys, json, time
import numpy as np, tensorflow as tf, keras
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
file, hidden = np.load(sys.argv[1]), json.loads(sys.argv[2])
x, y, xv, yv = (file[n] for n in ("x", "y", "xv", "yv"))
x, xv = (v.reshape(len(v), -1).astype("float32") / 255 for v in (x, xv))
model = keras.Sequential([keras.Input((x.shape[1],)), *[keras.layers.Dense(u, "relu") for u in hidden], keras.layers.Dense(10)])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
class Clock(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.process_time()
    def on_epoch_end(self, epoch, logs=None):
        self.taken, self.accuracy = time.process_time() - self.began, float(logs["val_accuracy"])
clock = Clock()
model.fit(x, y, batch_size=32, epochs=2, validation_data=(xv, yv), validation_batch_size=4096, callbacks=[clock], verbose=0)
print(json.dumps([clock.taken, clock.accuracy]))
"""


def measured(python: str, script: str, *arguments: str) -> tuple[float, float]:
    """CPU seconds of an epoch, and the validation accuracy after two."""
    done = subprocess.run(
        (python, "-c", script, *arguments),
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "KERAS_BACKEND": "tensorflow",
        },
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    seconds, accuracy = json.loads(done.stdout.splitlines()[-1])
    return seconds, accuracy


def rates() -> tuple[float, float]:
    """Multiply-adds a second in matrix products of one core, and bytes a second that it moves."""
    import torch

    torch.set_num_threads(1)
    a, big = torch.randn(512, 512), torch.zeros(1 << 25)
    times = []
    for work in (lambda: torch.mm(a, a), lambda: big.add_(1.0)):
        work()
        began = time.process_time()
        for _ in range(10):
            work()
        times.append((time.process_time() - began) / 10)
    return 512**3 / times[0], 2 * big.nbytes / times[1]


def bound(inputs: int, hidden: list[int], samples: int, validation: int) -> float:
    """Seconds that an epoch's arithmetic takes: a forward pass is one product a weight, backpropagation two; adam
    reads four numbers a weight and writes three."""
    products, moves = rates()
    widths = [inputs, *hidden, 10]
    weights = sum(a * b for a, b in itertools.pairwise(widths))
    multiply = (3 * samples + validation) * weights - samples * widths[0] * widths[1]
    return multiply / products + -(-samples // BATCH) * weights * 7 * 4 / moves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="mnist", help="mnist, or digits to try the benchmark")
    parser.add_argument("--data-dir", default="", help="where MNIST is")
    parser.add_argument("--keras", help="a Python that has Keras and TensorFlow")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    from raysweep.trainables.data import load

    data = load(given.data, data_dir=given.data_dir or None, validation=1 / 6)
    file = Path(tempfile.mkdtemp()) / "mnist.npz"
    np.savez(file, x=data.x_train, y=data.y_train, xv=data.x_val, yv=data.y_val)
    peers = {"raysweep": (sys.executable, OURS), "PyTorch": (sys.executable, PYTORCH)}
    if given.keras:
        peers["Keras"] = (given.keras, KERAS)
    ratios: dict[str, list[float]] = {name: [] for name in peers if name != "raysweep"}
    print(f"{data.name}, {len(data.y_train):,} + {len(data.y_val):,} samples, batch {BATCH}, one core")
    print("layers   " + "".join(f"{name:>22}" for name in peers) + "     bound   ratios")
    for layers, hidden in NETWORKS.items():
        found: dict[str, tuple[float, float]] = {}
        for _ in range(given.rounds):  # the fastest of some rounds, which take turns
            for name, (python, script) in peers.items():
                one = measured(python, script, str(file), json.dumps(hidden), given.data, given.data_dir)
                found[name] = min(found.get(name, one), one)
        for name in ratios:
            ratios[name].append(found["raysweep"][0] / found[name][0])
        cells = "".join(f"{s:12.2f} s ({a:.1%})" for s, a in found.values())
        shown = ", ".join(f"{r[-1]:.2f} of {n}" for n, r in ratios.items())
        print(
            f"{layers:6}   {cells} {bound(data.x_train[0].size, hidden, len(data.y_train), len(data.y_val)):7.2f} s   {shown}",
            flush=True,
        )
    for name, all_of in ratios.items():
        print(f"geometric mean: {statistics.geometric_mean(all_of):.2f} of {name}'s CPU time")


if __name__ == "__main__":
    main()
