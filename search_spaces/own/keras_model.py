"""A Keras model on PyTorch: the saved model, its optimizer included, is the state, so it resumes exactly.

pip install keras; raysweep run search_spaces/own/keras_model.yaml
"""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
from sklearn.datasets import load_digits

x, y = load_digits(return_X_y=True)
x = x / 16


def network(width: int, dropout: float, lr: float):
    dense, drop = keras.layers.Dense, keras.layers.Dropout
    model = keras.Sequential([keras.layers.Input((64,)), dense(width, "relu"), drop(dropout), dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(lr), loss, metrics=["accuracy"])
    return model


def train(lr: float, width: int, dropout: float = 0.2, epochs: int = 6, seed: int = 0, state=None):
    keras.utils.set_random_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        if state:
            path.write_bytes(state["model"])
        else:
            network(width, dropout, lr).save(path)
        for epoch in range((state["epoch"] if state else 0) + 1, epochs + 1):
            keras.utils.set_random_seed(seed + epoch)
            model = keras.saving.load_model(path)  # every epoch, so that a resumed trial does the very same
            options = {"batch_size": 64, "verbose": 0, "epochs": epoch, "initial_epoch": epoch - 1}
            history = model.fit(x[:1500], y[:1500], validation_data=(x[1500:], y[1500:]), **options).history
            model.save(path)
            yield (
                {name: values[-1] for name, values in history.items()},
                {"epoch": epoch, "model": path.read_bytes()},
            )
