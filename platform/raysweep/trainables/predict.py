"""A trained network as a predictor: raw inputs in, classes or numbers out.

MLflow loads it with `_load_pyfunc`. Nothing is unpickled: the folder holds weights and JSON.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysweep.errors import DataError
from raysweep.trainables.encoding import encode
from raysweep.trainables.mlp import network

if TYPE_CHECKING:
    import pandas as pd
    import torch

AT_ONCE = 16  # images that go through a backbone together; bounds its memory


class Predictor:
    """A trained network with the preprocessing that belongs to it."""

    def __init__(self, folder: Path):
        import torch

        about = json.loads((folder / "model.json").read_text())
        self.inputs: dict[str, Any] = about["inputs"]
        self.classes: list[str] = about["classes"]
        self.target: list[float] | None = about["target"]
        shares = about.get("members", [])
        self.members = [(Predictor(folder / str(i)), share) for i, share in enumerate(shares)]
        """The networks of an ensemble, and the weight of each."""
        if self.members:
            return
        weights = torch.load(folder / "weights.pt", weights_only=True, map_location="cpu")
        if self.inputs["kind"] == "files":
            self.network = _transferred(about)
            weights = {k.replace("trunk.", "tuned.", 1): v for k, v in weights.items()}
        else:
            self.network = network(**about["network"])
        self.network.load_state_dict(weights)
        self.network.eval()

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """`prediction` for each row, and for classes the probability `p_CLASS` of each.

        `model_input` is a table with the training table's columns, or numbers `[n, ...]` in the units of
        the training data (pixels from 0 to 255, say). A model that was trained by `transfer` takes images of any
        size: a table whose column `image` holds the contents of image files, or pixels `[n, h, w]`, `[n, h, w, 3]`.
        """
        import pandas as pd
        import torch

        if self.members:
            return self._together(model_input)
        with torch.inference_mode():
            output = self._output(model_input)
        if self.target is not None:
            mean, std = self.target
            return pd.DataFrame({"prediction": (output[:, 0] * std + mean).numpy()})
        chances = output.softmax(1).numpy()
        frame = pd.DataFrame({f"p_{c}": chances[:, i] for i, c in enumerate(self.classes)})
        frame.insert(0, "prediction", [self.classes[i] for i in chances.argmax(1)])
        return frame

    def _together(self, model_input: Any) -> pd.DataFrame:
        """The weighted mean of what the members of an ensemble predict."""
        import numpy as np
        import pandas as pd

        frames = [member.predict(model_input) for member, _ in self.members]
        column = [n for n in frames[0].columns if not self.classes or n != "prediction"]
        mean = np.tensordot([s for _, s in self.members], [f[column].to_numpy() for f in frames], 1)
        found = pd.DataFrame(mean, columns=column)
        if self.classes:
            found.insert(0, "prediction", [self.classes[i] for i in mean.argmax(1)])
        return found

    def _output(self, model_input: Any) -> torch.Tensor:
        import torch

        if self.inputs["kind"] != "files":
            found: torch.Tensor = self.network(torch.as_tensor(encode(self.inputs, model_input)))
            return found
        pixels = torch.as_tensor(self._pixels(model_input))
        parts = [pixels[i : i + AT_ONCE] for i in range(0, len(pixels), AT_ONCE)]
        return torch.cat([self.network(part.float() / 255) for part in parts])

    def _pixels(self, model_input: Any) -> Any:
        """uint8 `[n, size, size, 3]`. Raises DataError when an image cannot be decoded."""
        import numpy as np
        import pandas as pd

        from raysweep.trainables import images

        transform = images.Transform(**self.inputs["transform"])
        if not isinstance(model_input, pd.DataFrame):
            return images.pixels(np.asarray(model_input).astype(np.uint8), transform)
        made = []
        for i, content in enumerate(model_input["image"]):
            try:
                made.append(transform(images.open_image(io.BytesIO(content))))
            except images.UNDECODABLE as error:
                raise DataError(f"predict: image {i} cannot be decoded: {error}") from None
        return np.stack(made)


def _transferred(about: dict[str, Any]) -> torch.nn.Module:
    """The whole network that `transfer` has trained, backbone and head, without its weights."""
    from raysweep.trainables import images
    from raysweep.trainables.backbones import Source
    from raysweep.trainables.network import Net, Pixels, head_of

    shape = about["network"]
    entry = Pixels(images.Transform(**about["inputs"]["transform"]), "none")
    return Net(
        entry, None, Source(shape["backbone"], "none").network(), head_of(**shape["head"]), shape["pooling"]
    )


def _load_pyfunc(path: str) -> Predictor:
    return Predictor(Path(path))
