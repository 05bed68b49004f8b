"""What a data set's name or path holds, as it is: named sets, tables, arrays, folders of images."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import itertools
import os
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raysweep.errors import DataError, did_you_mean
from raysweep.trainables.images import UNDECODABLE, open_image

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, np.dtype[Any]]

DEFAULT = "digits"
LIGHT = 1 << 27  # bytes
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Raw:
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
    target: str = ""
    """The column of a table that is predicted."""


def check_path(data: str) -> None:
    """Raise DataError if `data` is neither a name nor a path that is there."""
    path = Path(data)
    if data not in _NAMED and not path.exists():
        known = did_you_mean(data, _NAMED) if path.suffix == "" else ""
        raise DataError(f"data: '{data}' does not exist (looked in {Path.cwd()}).{known}")


def is_light(data: str) -> bool:
    """Whether it is read within a moment, by a process that has not imported torch."""
    if data in _NAMED or not Path(data).exists():
        return data == DEFAULT
    path = Path(data)
    files = (f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    return all(size < LIGHT for size in itertools.accumulate(f.stat().st_size for f in files))


def read(
    data: str,
    data_dir: str | None,
    target: str | int | None,
    header: bool | None,
    image_size: int | None,
    skip_bad: bool,
) -> Raw:
    """The data called `data`; the arguments are `load`'s. Raises DataError."""
    if data in _NAMED:
        return _NAMED[data](data, data_dir)
    check_path(data)
    path = Path(data)
    if path.is_dir():
        return _image_folder(path, image_size, skip_bad)
    if path.suffix == ".npz":
        return _arrays(path)
    if path.suffix in {".csv", ".parquet"}:
        return _table(path, target, header)
    raise DataError(f"data: '{path}' is none of .csv, .parquet, .npz and a folder of images")


def _digits(name: str, data_dir: str | None) -> Raw:
    # scikit-learn has the file; importing it would take longer than all else that loading does.
    package = importlib.util.find_spec("sklearn")
    root = Path(package.origin).parent if package and package.origin else Path()
    rows = np.loadtxt(root / "datasets" / "data" / "digits.csv.gz", delimiter=",", dtype=np.int64)
    pixels = np.round(rows[:, :-1].reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)  # they come as 0 to 16
    return Raw(pixels, rows[:, -1], {"kind": "image", "shape": [8, 8]})


def _torchvision(name: str, data_dir: str | None) -> Raw:
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
    return Raw(x, y, inputs, x_test=x_test, y_test=y_test)


_NAMED: dict[str, Callable[[str, str | None], Raw]] = {
    DEFAULT: _digits,
    **dict.fromkeys(("mnist", "fashion_mnist", "cifar10", "cifar100"), _torchvision),
}


def _arrays(path: Path) -> Raw:
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
        return Raw(inputs={"kind": "image", "shape": shape}, **parts)
    return Raw(inputs={"kind": "array", "shape": shape}, **parts)


def _table(path: Path, target: str | int | None, header: bool | None) -> Raw:
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
        number_given = (
            f" A column's number is written without quotes: target: {column}" if column.isdecimal() else ""
        )
        hint = number_given or did_you_mean(column, frame.columns)
        raise DataError(f"data: '{path}' has no column '{column}'.{hint}")
    missing = int(frame[column].isna().sum())
    if missing:
        raise DataError(
            f"data: the target '{column}' is missing in {missing:,} rows of '{path}'. Remove or fill them"
        )
    for name in frame.columns:
        if pd.api.types.is_float_dtype(frame[name]) and (infinite := int(np.isinf(frame[name]).sum())):
            raise DataError(
                f"data: column '{name}' of '{path}' holds {infinite:,} infinite numbers. Remove them, or leave the"
                " cells empty: missing values are filled"
            )
    return Raw(frame.drop(columns=column), frame[column].to_numpy(), {"kind": "table"}, target=column)


def read_table(path: Path, header: bool | None = None) -> pd.DataFrame:
    """Read a .csv or .parquet file. A CSV without a header gets columns c0, c1 ... If `header` does not say,
    the first line decides: a header holds no numbers, unless they count the columns; in a table of only text,
    it holds names that do not occur as values further down."""
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
    """Whether a first line of text is a data row: all columns are text, and most of its values occur
    again."""
    import pandas as pd

    below = pd.read_csv(path, skiprows=1, nrows=10_000, header=None, skipinitialspace=True)
    if len(below.columns) != len(first) or any(map(pd.api.types.is_numeric_dtype, below.dtypes)):
        return False
    again = sum(bool((below[i] == value).any()) for i, value in enumerate(first))
    return 2 * again > len(first)


def _image_folder(path: Path, size: int | None, skip_bad: bool) -> Raw:
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
    return Raw(x, y, inputs, x_val, y_val, x_test, y_test, digests, skipped)


def _images(
    folder: Path, classes: Sequence[str], size: int | None, skip_bad: bool
) -> tuple[Array, Array, dict[str, str], int]:
    """Images (or paths, without a size), their classes, their contents' digests, how many were left out."""
    files = [(f, c) for c in classes for f in sorted((folder / c).rglob("*")) if f.suffix.lower() in IMAGES]
    with ThreadPoolExecutor(os.cpu_count()) as readers:  # decoders release the GIL
        found = list(readers.map(lambda file: _decoded(file[0], size), files))
    broken = [f for (f, _), picture in zip(files, found, strict=True) if picture is None]
    if broken and not skip_bad:
        raise DataError(
            f"data: {len(broken):,} of {len(files):,} images cannot be decoded; first: {broken[0]}."
            " Repair or remove them, or leave them out with skip_bad: true"
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
    """The image, or without a size the digest of its file; None if it cannot be decoded."""
    try:
        if size is not None:
            return read_image(file, [size, size, 3])
        content = file.read_bytes()
        open_image(io.BytesIO(content))
        return hashlib.sha256(content).hexdigest()
    except UNDECODABLE:
        return None


def read_image(file: Path, shape: Sequence[int]) -> Array:
    """An image file as uint8 `shape`: `[height, width]` in grey, or `[height, width, 3]` in colour."""
    from PIL import Image

    mode = "RGB" if len(shape) == 3 and shape[2] == 3 else "L"
    scaled = open_image(file).convert(mode).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(scaled, dtype=np.uint8).reshape(shape)
