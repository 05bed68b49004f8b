"""The trained network as something that predicts: raw inputs in, classes or numbers out.

MLflow loads it by `_load_pyfunc`; nothing is unpickled, the folder holds weights and JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysweep.trainables.data import encode
from raysweep.trainables.mlp import network

if TYPE_CHECKING:
    import pandas as pd


class Predictor:
    """A trained network with the preprocessing that belongs to it."""

    def __init__(self, folder: Path):
        import torch

        about = json.loads((folder / "model.json").read_text())
        self.inputs: dict[str, Any] = about["inputs"]
        self.classes: list[str] = about["classes"]
        self.target: list[float] | None = about["target"]
        self.network = network(**about["network"])
        self.network.load_state_dict(torch.load(folder / "weights.pt", weights_only=True, map_location="cpu"))
        self.network.eval()

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """`prediction` for each row, and for classes the probability `p_CLASS` of each.

        `model_input` is a table with the training table's columns, or numbers `[n, ...]` in the units of
        the training data (pixels from 0 to 255, say).
        """
        import pandas as pd
        import torch

        with torch.inference_mode():
            output = self.network(torch.as_tensor(encode(self.inputs, model_input)))
        if self.target is not None:
            mean, std = self.target
            return pd.DataFrame({"prediction": (output[:, 0] * std + mean).numpy()})
        chances = output.softmax(1).numpy()
        frame = pd.DataFrame({f"p_{c}": chances[:, i] for i, c in enumerate(self.classes)})
        frame.insert(0, "prediction", [self.classes[i] for i in chances.argmax(1)])
        return frame


def _load_pyfunc(path: str) -> Predictor:
    return Predictor(Path(path))
