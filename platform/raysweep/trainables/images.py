"""Images as a pretrained network wants them: decoded, scaled, cropped; always the same way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

Array = np.ndarray[Any, np.dtype[Any]]

UNDECODABLE = (OSError, SyntaxError, ValueError)
"""What Pillow and `open_image` raise for a file that cannot be decoded."""


@dataclass(frozen=True)
class Transform:
    """Scale the shorter side to `resize` pixels, then crop `size` x `size` pixels from the centre, as
    torchvision's presets do. Their `mean` and `std` (of pixels from 0 to 1) are applied in the network."""

    size: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, image: Image) -> Array:
        """uint8 `[size, size, 3]`."""
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms import functional as F

        scaled = F.resize(image, [self.resize], InterpolationMode(self.interpolation), antialias=True)
        return np.asarray(F.center_crop(scaled, [self.size, self.size]), dtype=np.uint8)


def open_image(file: Path | str | BinaryIO) -> Image:
    """An image file in colour. Raises one of UNDECODABLE for what cannot be decoded."""
    from PIL import Image as images

    try:
        with images.open(file) as image:
            image.load()
            return to_rgb(image)
    except images.DecompressionBombError as error:
        raise ValueError(str(error)) from error


def to_rgb(image: Image) -> Image:
    """Any image as 8-bit RGB: grey ones widened, 16 bits scaled (Pillow would cut them off), transparency ignored."""
    from PIL import Image as images

    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds numbers that are not finite")
        most = max(float(values.max(initial=0.0)), 1e-12)
        top = most if image.mode == "F" else 255.0 if image.mode == "I" and most <= 255 else 65535.0
        image = images.fromarray(np.clip(np.round(values / top * 255), 0, 255).astype(np.uint8))
    return image.convert("RGB")


def pixels(x: Array, transform: Transform) -> Array:
    """uint8 `[n, size, size, 3]` of files (an array of paths), or of images `[n, h, w]`, `[n, h, w, 1 or 3]`."""
    from PIL import Image as images

    if x.dtype.kind == "U":
        return np.stack([transform(open_image(str(path))) for path in x])
    x = x[..., 0] if x.ndim == 4 and x.shape[-1] == 1 else x
    return np.stack([transform(to_rgb(images.fromarray(image))) for image in x])


def are_images(x: Array) -> bool:
    """Whether `pixels` can take such an array."""
    return x.dtype.kind == "U" or (
        x.dtype == np.uint8 and (x.ndim == 3 or (x.ndim == 4 and x.shape[-1] in {1, 3}))
    )
