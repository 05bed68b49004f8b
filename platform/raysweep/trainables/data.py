"""Data for the built-in trainables: one record of arrays, split and scaled the same way every time.

What a name means: `digits` (scikit-learn's handwritten digits, no network needed), torchvision's `mnist`,
`fashion_mnist`, `cifar10`, `cifar100`, or a path: a `.csv` or `.parquet` table, an `.npz` of arrays, a folder
of images with one sub-folder for each class. All that is learned of the data (means, medians, categories) is
learned from the training split alone.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Lt

from raysweep.errors import DataError, did_you_mean
from raysweep.trainables.images import UNDECODABLE, fits, opened

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, np.dtype[Any]]

Part = Annotated[float, Gt(0.0), Lt(1.0)]
Task = Literal["auto", "classification", "regression"]

CATEGORIES = 64
"""One-hot columns for each category column of a table; rarer values share the all-zero code of missing ones."""
CLASSES_FROM_INTEGERS = 20
"""A whole-number target of at most this many different values is taken for classes."""
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Data:
    """Inputs x `[n, ...]` and targets y `[n]` of three splits, and how raw inputs become x.

    x is float32, or uint8 for images (0 to 255, which the network scales), or paths of image files. y is int64
    (an index into `classes`), or float32 when `classes` is empty: a regression.
    """

    name: str
    x_train: Array
    y_train: Array
    x_val: Array
    y_val: Array
    x_test: Array
    y_test: Array
    classes: tuple[str, ...]
    inputs: dict[str, Any]
    """`kind`: image (`shape`; pixels from 0 to 255), files, array (`shape`, `mean`, `std`) or table (`columns`)."""
    fingerprint: str
    """SHA-256 of all of it: two studies with the same fingerprint saw the same numbers."""
    skipped: int = 0
    """Images that could not be decoded."""
    unsplit: tuple[str, ...] = ()
    """Classes with so few samples that the validation or the test split has none of them."""

    @property
    def outputs(self) -> int:
        """How many numbers the network puts out: one for each class, or one."""
        return len(self.classes) or 1

    def __str__(self) -> str:
        sizes = " + ".join(f"{len(y):,}" for y in (self.y_train, self.y_val, self.y_test))
        what = f"{len(self.classes)} classes" if self.classes else "a number to predict"
        inputs = "images of any size" if self.inputs["kind"] == "files" else f"{self.x_train[0].size} inputs"
        left = f"; {self.skipped} files left out" if self.skipped else ""
        few = f"; too rare for every split: {', '.join(self.unsplit)}" if self.unsplit else ""
        return f"{self.name}: {sizes} samples (train + validation + test), {inputs}, {what}{left}{few}"


def load(
    data: str = "digits",
    data_dir: str | None = None,
    target: str | int | None = None,
    header: bool | None = None,
    task: Task = "auto",
    validation: Part = 0.15,
    test: Part = 0.15,
    split_seed: Annotated[int, Ge(0)] = 0,
    image_size: Annotated[int, Ge(1)] = 32,
    classes: str | None = None,
    skip_bad: bool = False,
) -> Data:
    """The data called `data`, split by `split_seed`. Where it brings its own test split, that is kept.

    `data_dir` is where torchvision's copies lie (and are downloaded to). `target` is a table's column, by
    name or number (the last when not given); `header` says whether a CSV has one, where its first line leaves
    that open; `task` is auto, classification or regression. Images of a
    folder are scaled to `image_size` pixels square; those that cannot be decoded are left out with `skip_bad`.
    `classes`, as "ants, bees", leaves all others out. Raises DataError when the data is missing, empty, corrupt
    or does not fit together.
    """
    return _load(
        data, data_dir, validation, test, split_seed, classes, skip_bad, target, header, task, image_size
    )


def load_images(
    data: str = "digits",
    data_dir: str | None = None,
    validation: Part = 0.15,
    test: Part = 0.15,
    split_seed: Annotated[int, Ge(0)] = 0,
    classes: str | None = None,
    skip_bad: bool = False,
    task: Task = "auto",
) -> Data:
    """The same of images for a network that has its own idea of their size: a folder's stay files, as paths."""
    found = _load(data, data_dir, validation, test, split_seed, classes, skip_bad, task=task)
    if not fits(found.x_train):
        raise DataError(
            f"data: '{data}' holds no images. Give a folder of them, or arrays of uint8 [n, height, width] or"
            f" [n, height, width, 1 or 3], got {found.x_train.dtype} {list(found.x_train.shape)}"
        )
    return found


def _load(
    data: str,
    data_dir: str | None,
    validation: float,
    test: float,
    split_seed: int,
    classes: str | None,
    skip_bad: bool,
    target: str | int | None = None,
    header: bool | None = None,
    task: str = "auto",
    image_size: int | None = None,
) -> Data:
    if validation + test >= 1:
        raise DataError(f"data: validation {validation} + test {test} leave nothing to train on")
    if data in _NAMED:
        raw = _NAMED[data](data, data_dir)
    else:
        path = Path(data)
        if not path.exists():
            known = did_you_mean(data, _NAMED) if path.suffix == "" else ""
            raise DataError(f"data: '{data}' does not exist (looked in {Path.cwd()}).{known}")
        raw = _read(path, target, header, image_size, skip_bad)
    if classes is not None:
        raw = _only(raw, [c.strip() for c in classes.split(",")])
    return _assemble(raw, Path(data).stem, task, validation, test, split_seed)


@dataclass(frozen=True)
class _Raw:
    """What a reader found: inputs and targets, and the splits that the source itself makes."""

    x: Any  # an array, or a table's frame
    y: Array
    inputs: dict[str, Any]
    x_val: Any = None
    y_val: Array | None = None
    x_test: Any = None
    y_test: Array | None = None
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the contents of files, by path."""
    skipped: int = 0


# --- readers ----------------------------------------------------------------------------------------------


def _digits(name: str, data_dir: str | None) -> _Raw:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.round(bunch.images * 255 / 16).astype(np.uint8)  # they come as 0 to 16
    return _Raw(pixels, bunch.target, {"kind": "image", "shape": [8, 8]})


def _torchvision(name: str, data_dir: str | None) -> _Raw:
    from torchvision import datasets

    kind = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}[
        name
    ]
    root = Path(data_dir) if data_dir else Path.home() / ".cache" / "raysweep"
    parts = []
    for train in (True, False):
        try:
            parts.append(getattr(datasets, kind)(str(root), train=train, download=True))
        except (RuntimeError, OSError) as error:
            why = " ".join(str(error).split())
            raise DataError(
                f"data: {name} is not complete in {root} and could not be downloaded there ({why})."
                " Put a copy there, or say where one is with data_dir"
            ) from error
    x, x_test = (np.asarray(p.data) for p in parts)
    y, y_test = (np.asarray([p.classes[int(i)] for i in p.targets]) for p in parts)
    inputs = {"kind": "image", "shape": list(x.shape[1:])}
    return _Raw(x, y, inputs, x_test=x_test, y_test=y_test)


_NAMED: dict[str, Callable[[str, str | None], _Raw]] = {
    "digits": _digits,
    **dict.fromkeys(("mnist", "fashion_mnist", "cifar10", "cifar100"), _torchvision),
}


def _read(
    path: Path, target: str | int | None, header: bool | None, image_size: int | None, skip_bad: bool
) -> _Raw:
    if path.is_dir():
        return _image_folder(path, image_size, skip_bad)
    if path.suffix == ".npz":
        return _arrays(path)
    if path.suffix in {".csv", ".parquet"}:
        return _table(path, target, header)
    raise DataError(f"data: '{path}' is none of .csv, .parquet, .npz and a folder of images")


def _arrays(path: Path) -> _Raw:
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {k: archive[k] for k in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"data: '{path}' cannot be read ({error})") from error
    x_name, y_name = ("x_train", "y_train") if "x_train" in found else ("x", "y")
    if x_name not in found or y_name not in found:
        raise DataError(f"data: '{path}' needs arrays x and y (or x_train, y_train), has {', '.join(found)}")
    parts: dict[str, Any] = {}
    for part, (xs, ys) in {
        "": (x_name, y_name),
        "_val": ("x_val", "y_val"),
        "_test": ("x_test", "y_test"),
    }.items():
        x, y = found.get(xs), found.get(ys)
        if x is None or y is None:
            continue
        if x.ndim == 0 or not len(x) or not np.issubdtype(x.dtype, np.number):
            raise DataError(f"data: {xs} must be an array of numbers [n, ...], got {x.dtype} {list(x.shape)}")
        if y.ndim == 0 or y.size != len(y):
            raise DataError(f"data: {ys} must hold one target for each sample, got shape {list(y.shape)}")
        if len(x) != len(y):
            raise DataError(f"data: '{path}' has {len(x):,} {xs} but {len(y):,} {ys}")
        if x.shape[1:] != found[x_name].shape[1:]:
            raise DataError(
                f"data: {xs} has shape {list(x.shape[1:])} but {x_name} {list(found[x_name].shape[1:])}"
            )
        if np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all():
            raise DataError(f"data: {xs} holds numbers that are not finite")
        parts |= {f"x{part}": x, f"y{part}": y.reshape(-1)}
    shape = list(parts["x"].shape[1:])
    if parts["x"].dtype == np.uint8:
        return _Raw(inputs={"kind": "image", "shape": shape}, **parts)
    return _Raw(inputs={"kind": "array", "shape": shape}, **parts)


def _table(path: Path, target: str | int | None, header: bool | None) -> _Raw:
    import pandas as pd

    frame = read_table(path, header)
    if len(frame.columns) < 2 or frame.empty:
        raise DataError(
            f"data: '{path}' has {len(frame):,} rows and {len(frame.columns)} columns; a table needs more"
        )
    if not isinstance(target, str):
        number = -1 if target is None else target
        if not -len(frame.columns) <= number < len(frame.columns):
            raise DataError(f"data: target is column {number} but '{path}' has {len(frame.columns)}, from 0")
        target = str(frame.columns[number])
    column = target
    if column not in frame.columns:
        raise DataError(f"data: '{path}' has no column '{column}'.{did_you_mean(column, frame.columns)}")
    missing = int(frame[column].isna().sum())
    if missing:
        raise DataError(
            f"data: the target '{column}' is missing in {missing:,} rows of '{path}'. Remove or fill them"
        )
    for name in frame.columns:
        if pd.api.types.is_float_dtype(frame[name]) and (infinite := int(np.isinf(frame[name]).sum())):
            raise DataError(
                f"data: column '{name}' of '{path}' holds {infinite:,} infinite numbers. Remove them, or leave the"
                " cells empty: what is missing is filled"
            )
    return _Raw(frame.drop(columns=column), frame[column].to_numpy(), {"kind": "table"})


def read_table(path: Path, header: bool | None = None) -> pd.DataFrame:
    """A .csv or .parquet file. A CSV without a header has columns c0, c1 ...; whether it has one is seen from
    its first line when `header` does not say: a header holds no numbers, unless they count the columns, and in a
    table of text alone, names that are no values further down."""
    import pandas as pd

    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else _read_csv(path, header)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise DataError(f"data: '{path}' cannot be read ({error})") from error


def _read_csv(path: Path, header: bool | None) -> pd.DataFrame:
    import pandas as pd

    if header is None:
        first = pd.read_csv(path, nrows=1, header=None, dtype=str, skipinitialspace=True).iloc[0]
        numbers = {i: float(n) for i, n in enumerate(pd.to_numeric(first, errors="coerce")) if pd.notna(n)}
        header = all(n == i for i, n in numbers.items()) or all(n == i + 1 for i, n in numbers.items())
        header = header and (bool(numbers) or not _is_a_row(path, first))
    frame = pd.read_csv(path, header=0 if header else None, skipinitialspace=True, na_values=["?"])
    return frame.rename(columns=lambda c: f"c{c}" if isinstance(c, int) else str(c).strip())


def _is_a_row(path: Path, first: pd.Series[Any]) -> bool:
    """Whether a first line of text is one like those below it: of text alone, most of which stands there again."""
    import pandas as pd

    below = pd.read_csv(path, skiprows=1, nrows=10_000, header=None, skipinitialspace=True)
    if len(below.columns) != len(first) or any(map(pd.api.types.is_numeric_dtype, below.dtypes)):
        return False
    again = sum(bool((below[i] == value).any()) for i, value in enumerate(first))
    return 2 * again > len(first)


def _image_folder(path: Path, size: int | None, skip_bad: bool) -> _Raw:
    parts = {name: path / name for name in ("train", "val", "test") if (path / name).is_dir()}
    if "train" not in parts:
        parts = {"train": path}
    classes = {part: sorted(d.name for d in folder.iterdir() if d.is_dir()) for part, folder in parts.items()}
    if not classes["train"]:
        raise DataError(f"data: '{parts['train']}' has no sub-folders; one for each class is needed")
    for part, names in classes.items():
        if names != classes["train"]:
            odd = sorted(set(names) ^ set(classes["train"]))
            raise DataError(f"data: the classes of {part} and train differ: {', '.join(odd)}")
    read = {part: _images(folder, classes["train"], size, skip_bad) for part, folder in parts.items()}
    inputs = {"kind": "image", "shape": [size, size, 3]} if size else {"kind": "files"}
    x, y, *_ = read["train"]
    none = (None, None)
    (x_val, y_val), (x_test, y_test) = (read[p][:2] if p in read else none for p in ("val", "test"))
    digests = {path: digest for _, _, found, _ in read.values() for path, digest in found.items()}
    skipped = sum(left for _, _, _, left in read.values())
    return _Raw(x, y, inputs, x_val, y_val, x_test, y_test, digests, skipped)


def _images(
    folder: Path, classes: Sequence[str], size: int | None, skip_bad: bool
) -> tuple[Array, Array, dict[str, str], int]:
    """Pictures (or with no size their paths), their classes, the contents' digests, how many were left out."""
    files = [(f, c) for c in classes for f in sorted((folder / c).rglob("*")) if f.suffix.lower() in IMAGES]
    with ThreadPoolExecutor(os.cpu_count()) as readers:  # decoders let go of Python's lock
        found = list(readers.map(lambda file: _decoded(file[0], size), files))
    broken = [f for (f, _), picture in zip(files, found, strict=True) if picture is None]
    if broken and not skip_bad:
        raise DataError(
            f"data: {len(broken):,} of {len(files):,} images cannot be decoded; first: {broken[0]}."
            " Mend or remove them, or leave them out with skip_bad: true"
        )
    kept = [(f, c, p) for (f, c), p in zip(files, found, strict=True) if p is not None]
    empty = [c for c in classes if not any(c == owner for _, owner, _ in kept)]
    if empty:
        raise DataError(f"data: class '{empty[0]}' has 0 images in {folder}")
    y = np.asarray([c for _, c, _ in kept])
    if size is not None:
        return np.stack([p for _, _, p in kept]), y, {}, len(broken)
    paths = [str(f.resolve()) for f, _, _ in kept]
    return np.asarray(paths), y, dict(zip(paths, (p for _, _, p in kept), strict=True)), len(broken)


def _decoded(file: Path, size: int | None) -> Any:
    """The picture, or with no size the digest of its file; None if it cannot be decoded."""
    try:
        if size is not None:
            return read_image(file, [size, size, 3])
        content = file.read_bytes()
        opened(io.BytesIO(content))
        return hashlib.sha256(content).hexdigest()
    except UNDECODABLE:
        return None


def read_image(file: Path, shape: Sequence[int]) -> Array:
    """An image file as uint8 `shape`: `[height, width]` in grey, or `[height, width, 3]` in colour."""
    from PIL import Image

    mode = "RGB" if len(shape) == 3 and shape[2] == 3 else "L"
    scaled = opened(file).convert(mode).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(scaled, dtype=np.uint8).reshape(shape)


# --- splitting and scaling -----------------------------------------------------------------------------------


def _only(raw: _Raw, wanted: Sequence[str]) -> _Raw:
    """The samples of the classes `wanted`. Raises DataError when there are none of one."""
    known = {str(c) for c in np.unique(raw.y)}
    for name in wanted:
        if name not in known:
            raise DataError(f"data: there is no class '{name}'.{did_you_mean(name, known)}")
    parts: dict[str, Any] = {}
    for part in ("", "_val", "_test"):
        x, y = getattr(raw, f"x{part}"), getattr(raw, f"y{part}")
        if y is not None:
            chosen = np.flatnonzero(np.isin(y.astype(str), list(wanted)))
            parts |= {f"x{part}": _rows(x, chosen), f"y{part}": y[chosen]}
    return replace(raw, **parts)


def _assemble(raw: _Raw, name: str, task: str, validation: float, test: float, seed: int) -> Data:
    classes = _classes(raw, task)
    if classes and len(classes) < 2:
        raise DataError(f"data: every target is '{classes[0]}'; there is nothing to learn")
    number = {c: i for i, c in enumerate(classes)}

    def targets(y: Array) -> Array:
        if not classes:
            values = y.astype(np.float32)
            if not np.isfinite(values).all():
                raise DataError("data: the target holds numbers that are not finite")
            return values
        unknown = sorted({str(v) for v in y} - set(number))
        if unknown:
            raise DataError(f"data: class '{unknown[0]}' is not among those of the training split")
        return np.asarray([number[str(v)] for v in y], dtype=np.int64)

    y = targets(raw.y)
    own = {"val": raw.x_val is not None, "test": raw.x_test is not None}
    train, val, rest = _split(
        y, bool(classes), 0 if own["val"] else validation, 0 if own["test"] else test, seed
    )
    x_train = _rows(raw.x, train)
    inputs, encoder = _learned(raw.inputs, x_train)
    parts = {
        "x_train": encoder(x_train),
        "y_train": y[train],
        "x_val": encoder(raw.x_val if own["val"] else _rows(raw.x, val)),
        "y_val": targets(raw.y_val) if raw.y_val is not None else y[val],
        "x_test": encoder(raw.x_test if own["test"] else _rows(raw.x, rest)),
        "y_test": targets(raw.y_test) if raw.y_test is not None else y[rest],
    }
    for part in ("train", "val", "test"):
        if not len(parts[f"y_{part}"]):
            raise DataError(f"data: nothing is left for the {part} split of {name} ({len(y):,} samples)")
    fingerprint = _fingerprint(parts, classes, raw.digests)
    held = [set(parts[f"y_{part}"].tolist()) for part in ("val", "test")]
    unsplit = tuple(c for i, c in enumerate(classes) if any(i not in those for those in held))
    return Data(
        name,
        **parts,
        classes=classes,
        inputs=inputs,
        fingerprint=fingerprint,
        skipped=raw.skipped,
        unsplit=unsplit,
    )


def _classes(raw: _Raw, task: str) -> tuple[str, ...]:
    """The classes in order, or none for a regression."""
    numeric = np.issubdtype(raw.y.dtype, np.number) and raw.y.dtype != bool
    values = np.unique(raw.y) if numeric else np.asarray(sorted({str(v) for v in raw.y}))
    if task == "regression":
        if not numeric:
            raise DataError("data: a regression needs a target of numbers")
        return ()
    whole = numeric and bool(np.all(values == np.round(values)))
    if task == "auto" and numeric and not (whole and len(values) <= CLASSES_FROM_INTEGERS):
        return ()
    return tuple(str(v) for v in values)


def _split(y: Array, stratify: bool, validation: float, test: float, seed: int) -> tuple[Array, Array, Array]:
    """Indices of train, validation and test; each class is split in the same proportion."""
    order = np.random.default_rng(seed).permutation(len(y))
    groups = [order[y[order] == c] for c in np.unique(y)] if stratify else [order]
    parts: list[list[Array]] = [[], [], []]
    for group in groups:
        n_test, n_val = round(len(group) * test), round(len(group) * validation)
        parts[2].append(group[:n_test])
        parts[1].append(group[n_test : n_test + n_val])
        parts[0].append(group[n_test + n_val :])
    train, val, rest = (np.sort(np.concatenate(p)) for p in parts)
    return train, val, rest


def _rows(x: Any, index: Array) -> Any:
    return x[index] if isinstance(x, np.ndarray) else x.iloc[index]


def _learned(inputs: dict[str, Any], x_train: Any) -> tuple[dict[str, Any], Callable[[Any], Array]]:
    """The inputs' description completed from the training split, and the function that encodes by it."""
    if inputs["kind"] in {"image", "files"}:
        return inputs, np.ascontiguousarray
    if inputs["kind"] == "array":
        x = x_train.astype(np.float64)
        inputs = {**inputs, "mean": x.mean(0).ravel().tolist(), "std": _spread(x.std(0)).ravel().tolist()}
    else:
        inputs = {**inputs, "columns": [_column(x_train[c]) for c in x_train.columns]}
    return inputs, lambda raw: encode(inputs, raw)


def _spread(std: Array) -> Array:
    return np.where(std > 1e-12, std, 1.0)  # a constant column is left at zero


def _column(values: pd.Series[Any]) -> dict[str, Any]:
    import pandas as pd

    name = str(values.name)
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        median = values.median()
        filled = values.fillna(median if pd.notna(median) else 0.0).astype(float)
        std = float(_spread(np.asarray(filled.std(ddof=0))))
        return {
            "name": name,
            "type": "number",
            "median": float(filled.median()),
            "mean": float(filled.mean()),
            "std": std,
        }
    counts = values.dropna().astype(str).value_counts()
    return {"name": name, "type": "category", "values": sorted(counts.index[:CATEGORIES].tolist())}


def encode(inputs: dict[str, Any], raw: Any) -> Array:
    """Raw inputs as the network takes them: float32 `[n, ...]`, by what was learned from the training split.

    `raw` is a frame with the table's columns, or an array `[n, *shape]` (or a frame of its flat columns).
    Raises DataError when columns are missing or the shape differs.
    """
    if inputs["kind"] == "table":
        missing = [c["name"] for c in inputs["columns"] if c["name"] not in raw.columns]
        if missing:
            raise DataError(f"data: the table lacks the columns {', '.join(missing)}")
        return np.concatenate([_encode_column(c, raw[c["name"]]) for c in inputs["columns"]], axis=1)
    try:
        x = np.asarray(raw, dtype=np.float64).reshape(-1, *inputs["shape"])
    except ValueError as error:
        raise DataError(f"data: inputs must be numbers of shape [n, {inputs['shape']}] ({error})") from error
    if inputs["kind"] == "image":
        return (x / 255).astype(np.float32)
    mean, std = (np.asarray(inputs[k]).reshape(inputs["shape"]) for k in ("mean", "std"))
    return ((x - mean) / std).astype(np.float32)


def _encode_column(column: dict[str, Any], values: pd.Series[Any]) -> Array:
    import pandas as pd

    if column["type"] == "number":
        numbers: Array = pd.to_numeric(values, errors="coerce").fillna(column["median"]).to_numpy(float)
        scaled: Array = ((numbers - column["mean"]) / column["std"]).astype(np.float32)[:, None]
        return scaled
    text = values.astype("object").where(values.notna(), None).map(lambda v: None if v is None else str(v))
    codes: Array = np.zeros((len(values), len(column["values"])), np.float32)
    for i, value in enumerate(column["values"]):
        codes[:, i] = text == value
    return codes


def _fingerprint(parts: dict[str, Array], classes: Sequence[str], files: dict[str, str]) -> str:
    digest = hashlib.sha256("\0".join(classes).encode())
    for name, array in sorted(parts.items()):
        if array.dtype.kind == "U" and files:
            array = np.asarray([files[path].encode() for path in array])  # wherever they lie
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
