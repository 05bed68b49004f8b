"""Pretrained networks as a sequence of blocks. A cut between any two separates frozen blocks (before it) from
trained ones (after it). Supports any classification model of torchvision, `timm:NAME`, and the small `cnn`.

The weights come from torchvision (downloaded once per machine), a file with a state dict, the folder of a
model that an earlier study exported, or nowhere.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from raysweep.errors import DataError, did_you_mean
from raysweep.storage.lock import file_lock
from raysweep.trainables.images import Transform

CNN = "cnn"
TIMM = "timm:"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, by default
SIZE = 224
WEIGHTS, ABOUT = "weights.pt", "model.json"  # of an exported model


@dataclass(frozen=True)
class Source:
    """A pretrained network: its backbone and its weights."""

    backbone: str
    weights: str
    """`none`, `default` or the name of torchvision's weights, a file, or the folder of an exported model."""

    def identity(self) -> str:
        """A string that identifies these weights: part of the cache key of features computed with them."""
        path = Path(self.weights)
        if path.exists():
            file = path / WEIGHTS if path.is_dir() else path
            about = file.stat()
            return f"{self.backbone} {_sha256(str(file), about.st_size, about.st_mtime_ns)}"
        if self.weights == "none":
            return f"{self.backbone} untrained"
        return f"{self.backbone} {_named(self.backbone, self.weights).url.rpartition('/')[2]}"

    def transform(self, size: int | None = None) -> Transform:
        """How images become inputs: as the weights expect them, or scaled to `size` x `size` pixels."""
        path = Path(self.weights)
        if path.is_dir():
            own = Transform(**_about(path)["inputs"]["transform"])
        elif self.backbone == CNN:
            own = Transform(SIZE, SIZE, "bilinear", MEAN, STD)
        elif self.backbone.startswith(TIMM):
            own = _timm_transform(self.backbone.removeprefix(TIMM))
        else:
            named = self.weights if self.weights != "none" and not path.exists() else "default"
            preset = _named(self.backbone, named).transforms()
            (crop,), (resize,) = preset.crop_size, preset.resize_size
            own = Transform(crop, resize, preset.interpolation.value, tuple(preset.mean), tuple(preset.std))
        return own if size is None else Transform(**{**asdict(own), "size": size, "resize": size})

    def network(self) -> nn.Sequential:
        """The blocks with their weights. PyTorch's global generator initialises an untrained network.

        Raises DataError when the weights do not exist or do not fit.
        """
        path = Path(self.weights)
        if path.is_dir():
            return _exported(path, self.backbone)
        model = _model(self.backbone)
        blocks = _blocks(model, self.backbone)
        if self.weights != "none":
            state = _read(path) if path.exists() else _downloaded(self.backbone, self.weights)
            _fill(model, blocks, state, self)
        return blocks


def check(source: Source) -> None:
    """Check that the network exists and its weights are available. Downloads them if necessary."""
    source.transform()
    source.network()


def _timm_transform(name: str) -> Transform:
    """The input transform of timm's weights `name`: sizes, scale and colours differ between models."""
    timm = _timm_with(name)
    known = timm.get_pretrained_cfg(name)
    wanted = timm.data.resolve_data_config(pretrained_cfg=known.to_dict() if known else {})
    size, how = wanted["input_size"][-1], wanted["interpolation"]
    return Transform(
        size,
        int(size / wanted["crop_pct"]),
        how if how in {"bilinear", "bicubic", "nearest"} else "bilinear",
        tuple(wanted["mean"]),
        tuple(wanted["std"]),
    )


def _model(backbone: str) -> nn.Module:
    if backbone == CNN:
        return _cnn()
    if backbone.startswith(TIMM):
        return _timm(backbone.removeprefix(TIMM))
    more = {"init_weights": False} if backbone in {"googlenet", "inception_v3"} else {}
    model: nn.Module = models.get_model(backbone, weights=None, **more)
    return model


def _named(backbone: str, weights: str) -> Any:
    """Torchvision's weights of that name."""
    if backbone == CNN or backbone.startswith(TIMM):
        raise DataError(f"weights: {backbone} has none of its own. Name a file, an MLflow model, or none")
    try:
        known = models.get_model_weights(backbone)
    except ValueError:
        near = did_you_mean(backbone, [CNN, *models.list_models(module=models)])
        raise DataError(f"backbone: there is no '{backbone}'.{near}") from None
    name = "DEFAULT" if weights == "default" else weights
    if name not in known.__members__:
        has = ", ".join(["default", *known.__members__])
        raise DataError(
            f"weights: '{weights}' is no file, and {backbone} has no weights of that name. It has: {has}"
        )
    return known[name]


def _downloaded(backbone: str, weights: str) -> dict[str, Tensor]:
    """Torchvision's weights from its cache. One process per machine downloads them there."""
    named, folder = _named(backbone, weights), Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / named.url.rpartition("/")[2]
    with file_lock(folder / f"{file.name}.lock"):
        try:
            state: dict[str, Tensor] = named.get_state_dict(
                progress=False, check_hash=True, weights_only=True, map_location="cpu"
            )
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"weights: {named} are not in {file} and could not be downloaded ({error})."
                f" Put {named.url} there, or name a file of your own"
            ) from error
    return state


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, possibly nested under `state_dict` or `model`, as trainers write it."""
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise DataError(f"weights: '{path}' holds no tensors that can be read safely ({why})") from error
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise DataError(f"weights: '{path}' holds no state dict")
    return {k.removeprefix("module."): v for k, v in found.items()}


def _fill(model: nn.Module, blocks: nn.Sequential, state: dict[str, Tensor], source: Source) -> None:
    """Load the tensors of the blocks, all of which must fit. Ignore the rest, the old task's head."""
    own = {id(t) for t in (*blocks.parameters(), *blocks.buffers())}
    wanted = {name: t for name, t in model.state_dict(keep_vars=True).items() if id(t) in own}
    state = {_modern(name): t for name, t in state.items()}
    missing = [n for n in wanted if n not in state and not n.endswith("num_batches_tracked")]
    odd = [n for n, t in wanted.items() if n in state and state[n].shape != t.shape]
    if missing or odd:
        told = [f"{len(missing)} are missing ({_some(missing)})"] * bool(missing)
        told += [f"{len(odd)} have another shape ({_some(odd)})"] * bool(odd)
        raise DataError(
            f"weights: '{source.weights}' does not fit {source.backbone}: of its {len(wanted)} tensors"
            f" {' and '.join(told)}; the file has {_some(list(state))}"
        )
    model.load_state_dict({n: state[n] for n in wanted if n in state}, strict=False)


def _modern(name: str) -> str:
    """DenseNet's files still use the old names: `norm.1` for `norm1`."""
    parts = name.split(".")
    for i, part in enumerate(parts[:-1]):
        if part in {"norm", "relu", "conv"} and parts[i + 1] in {"1", "2"} and "denselayer" in name:
            return ".".join([*parts[:i], part + parts[i + 1], *parts[i + 2 :]])
    return name


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


@lru_cache(maxsize=32)
def _sha256(path: str, size: int, modified: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _about(folder: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text())
        about["network"]["backbone"]
    except (OSError, ValueError, KeyError):
        raise DataError(f"weights: '{folder}' does not hold a model exported by `transfer`") from None
    return about


def _exported(folder: Path, backbone: str) -> nn.Sequential:
    """The blocks of a model from an earlier study, without its head, which belongs to the old task."""
    own = _about(folder)["network"]["backbone"]
    if own != backbone:
        raise DataError(f"weights: the model in '{folder}' is a {own}. Say backbone: {own}")
    blocks = _blocks(_model(backbone), backbone)
    state = torch.load(folder / WEIGHTS, weights_only=True, map_location="cpu")
    blocks.load_state_dict({k.removeprefix("trunk."): v for k, v in state.items() if k.startswith("trunk.")})
    return blocks


# --- blocks ---------------------------------------------------------------------------------------------------


def _blocks(model: nn.Module, backbone: str) -> nn.Sequential:
    """A model without its head, as a sequence of blocks. Their output is the head's input before pooling."""
    if backbone.startswith(TIMM):
        return nn.Sequential(nn.Sequential(model))
    rows = _ROWS.get(type(model).__name__)
    layers = rows(model) if rows is not None else list(getattr(model, "features"))  # noqa: B009
    return nn.Sequential(*(nn.Sequential(*block) for block in _grouped(layers)))


def _grouped(layers: Iterable[nn.Module]) -> list[list[nn.Module]]:
    """Group single layers into blocks that end with pooling. A layer with layers of its own makes a block."""
    blocks: list[list[nn.Module]] = []
    current: list[nn.Module] = []
    for layer in layers:
        bare = next(layer.parameters(), None) is None
        if bare and not current and blocks:
            blocks[-1].append(layer)
            continue
        current.append(layer)
        if (next(layer.children(), None) is not None and not bare) or isinstance(layer, nn.MaxPool2d):
            blocks.append(current)
            current = []
    return [*blocks, current] if current else blocks


def _resnet(m: Any) -> list[nn.Module]:
    return [nn.Sequential(m.conv1, m.bn1, m.relu, m.maxpool), *m.layer1, *m.layer2, *m.layer3, *m.layer4]


def _regnet(m: Any) -> list[nn.Module]:
    return [m.stem, *(block for stage in m.trunk_output for block in stage)]


def _shufflenet(m: Any) -> list[nn.Module]:
    return [m.conv1, m.maxpool, *m.stage2, *m.stage3, *m.stage4, m.conv5]


def _inception(m: Any) -> list[nn.Module]:
    """GoogLeNet and Inception v3 without their auxiliary heads."""
    heads = {"aux1", "aux2", "AuxLogits", "avgpool", "dropout", "fc"}
    return [_Rescale(), *(layer for name, layer in m.named_children() if name not in heads)]


def _swin(m: Any) -> list[nn.Module]:
    return [*m.features, nn.Sequential(m.norm, m.permute)]


def _convnext(m: Any) -> list[nn.Module]:
    return [*m.features, nn.Sequential(m.avgpool, m.classifier[0])]  # its norm comes after pooling


def _vit(m: Any) -> list[nn.Module]:
    return [_Patches(m), *m.encoder.layers, nn.Sequential(m.encoder.ln, _First())]


_ROWS: dict[str, Callable[[Any], list[nn.Module]]] = {
    "ResNet": _resnet,
    "RegNet": _regnet,
    "ShuffleNetV2": _shufflenet,
    "MNASNet": lambda m: list(m.layers),
    "DenseNet": lambda m: [*m.features, nn.ReLU()],
    "GoogLeNet": _inception,
    "Inception3": _inception,
    "SwinTransformer": _swin,
    "ConvNeXt": _convnext,
    "MaxVit": lambda m: [m.stem, *m.blocks],
    "VisionTransformer": _vit,
    "Sequential": list,
}
"""By torchvision class name. All other classes keep their blocks in `features`."""


class _Rescale(nn.Module):
    """Converts ImageNet normalisation to -1 ... 1, with which these two models' weights were trained."""

    def forward(self, x: Tensor) -> Tensor:  # [n, 3, h, w]
        mean, std = (torch.tensor(v, device=x.device, dtype=x.dtype).view(3, 1, 1) for v in (MEAN, STD))
        return (x * std + mean - 0.5) / 0.5


class _Patches(nn.Module):
    """A vision transformer up to its first layer: the class token, then patches, with position embeddings."""

    def __init__(self, vit: Any):
        super().__init__()
        self.projection, self.token, self.position = vit.conv_proj, vit.class_token, vit.encoder.pos_embedding

    def forward(self, x: Tensor) -> Tensor:
        patches = self.projection(x).flatten(2).transpose(1, 2)  # [n, patches, width]
        if patches.shape[1] + 1 != self.position.shape[1]:
            pixels = round((self.position.shape[1] - 1) ** 0.5) * self.projection.kernel_size[0]
            raise ValueError(f"size: this vision transformer takes images of {pixels} pixels only")
        found: Tensor = torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.position
        return found


class _First(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


def _cnn() -> nn.Sequential:
    """Four convolutions, for images that are small."""
    blocks: list[nn.Module] = []
    for inputs, outputs in ((3, 32), (32, 64), (64, 96), (96, 128)):
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        pool = [nn.MaxPool2d(2)] if outputs in {64, 96} else []
        blocks.append(nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(), *pool))
    return nn.Sequential(*blocks)


def _timm(name: str) -> nn.Module:
    """A model of timm as one block: all of it is frozen, or none."""
    model: nn.Module = _timm_with(name).create_model(name, pretrained=False, num_classes=0)
    return model


def _timm_with(name: str) -> Any:
    """The timm package, checked to have the model `name`, such as `resnet18` or `resnet18.a1_in1k`."""
    try:
        import timm
    except ImportError as error:
        raise DataError("backbone: timm is not installed: pip install 'raysweep[timm]'") from error
    if name.partition(".")[0] not in timm.list_models():
        raise DataError(f"backbone: timm has no '{name}'.{did_you_mean(name, timm.list_models())}")
    return timm
