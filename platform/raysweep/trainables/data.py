"""Data for the built-in trainables: one record of arrays, split and scaled the same way every time.

What a name means: `digits` (scikit-learn's handwritten digits, no network needed), torchvision's `mnist`,
`fashion_mnist`, `cifar10`, `cifar100`, or a path: a `.csv` or `.parquet` table, an `.npz` of arrays, a folder
of images with one sub-folder for each class. Statistics of the data (means, medians,
categories) come from the training split alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Lt

from raysweep.errors import DataError, did_you_mean
from raysweep.trainables.encoding import Numbers, encoder_of
from raysweep.trainables.images import are_images
from raysweep.trainables.readers import DEFAULT, Array, Raw, read

Part = Annotated[float, Gt(0.0), Lt(1.0)]
Task = Literal["auto", "classification", "regression"]

SCORES_OF_CLASSES, SCORES_OF_NUMBERS = ("balanced_accuracy", "f1", "auc"), ("mae",)
"""See metrics.py."""

CLASSES_FROM_INTEGERS = 20
"""A whole-number target with at most this many different values is treated as classes."""


@dataclass(frozen=True)
class View:
    """Which examples a training learns from, and which it is judged by, of all that are not test data."""

    kind: Literal["fold", "resplit", "whole"]
    """fold: judged by one of `count` parts. resplit: the validation split is drawn anew, as large as it was. whole:
    learns from all (and what it reports of the validation split means nothing)."""
    index: int = 0
    """Which fold; the seed of the split."""
    count: int = 0


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
    target: str = ""
    """The column of a table that is predicted."""
    scored: tuple[str, ...] = ()
    """Which of `scores` a training reports after every epoch, of the validation split."""
    view: View | None = None
    """Another division into training and validation data, made by `seen`: until then, all arrays are as loaded.
    (Numbers are scaled by the statistics of the training split as loaded.)"""

    def seen(self) -> Data:
        """The data as its view divides it. Classes have the same share of each part, as far as that can be."""
        if self.view is None:
            return self
        x, y = np.concatenate([self.x_train, self.x_val]), np.concatenate([self.y_train, self.y_val])
        kind, index, count = self.view.kind, self.view.index, self.view.count
        train = val = np.arange(len(y))
        if kind == "fold":
            order = np.random.default_rng(0).permutation(len(y))
            if self.classes:
                order = order[np.argsort(y[order], kind="stable")]
            mine = np.arange(len(y)) % count == index
            train, val = np.sort(order[~mine]), np.sort(order[mine])
        elif kind == "resplit":
            train, val, _ = _split(y, bool(self.classes), len(self.y_val) / len(y), 0.0, index)
        else:
            val = np.arange(len(self.y_train), len(y))
        return replace(
            self,
            x_train=x[train],
            y_train=y[train],
            x_val=x[val],
            y_val=y[val],
            fingerprint=f"{self.fingerprint}/{kind} {index} of {count}",
            view=None,
        )

    @property
    def outputs(self) -> int:
        """The number of network outputs: one for each class, or one for a regression."""
        return len(self.classes) or 1

    @property
    def metrics(self) -> tuple[str, ...]:
        """What a training on this data reports, or can report: see `scores`."""
        kinds = ("loss", "accuracy") if self.classes else ("loss", "rmse", "r2")
        usual = tuple(f"{split}_{kind}" for split in ("train", "val") for kind in kinds)
        return usual + tuple(f"val_{name}" for name in self.scores)

    @property
    def scores(self) -> tuple[str, ...]:
        """The metrics that cost some time, so they are reported where a study names them (and of test data)."""
        return SCORES_OF_CLASSES if self.classes else SCORES_OF_NUMBERS

    def scoring(self, wanted: Collection[str]) -> Data:
        """The data, with those scores reported that are among the `wanted` metrics."""
        return replace(self, scored=tuple(name for name in self.scores if f"val_{name}" in wanted))

    def __str__(self) -> str:
        sizes = " + ".join(f"{len(y):,}" for y in (self.y_train, self.y_val, self.y_test))
        what = f"{len(self.classes)} classes" if self.classes else "a number to predict"
        what += f" (column '{self.target}')" if self.target else ""
        inputs = "images of any size" if self.inputs["kind"] == "files" else f"{self.x_train[0].size} inputs"
        left = f"; {self.skipped} files left out" if self.skipped else ""
        few = f"; too rare for every split: {', '.join(self.unsplit)}" if self.unsplit else ""
        text = "".join(f"; {note}" for note in self._texts())
        return f"{self.name}: {sizes} samples (train + validation + test), {inputs}, {what}{left}{few}{text}"

    def _texts(self) -> Iterator[str]:
        """What to know of each column that holds neither numbers nor categories."""
        for column in self.inputs.get("columns", ()):
            if "text" in column:
                yield (
                    f"column '{column['name']}' is text with {column['text']:,} different values, which a perceptron"
                    f" cannot read: leave it out (drop: {column['name']}), or make numbers or categories of it"
                )


def load(
    data: str = DEFAULT,
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
    numbers: Numbers = "standard",
    bins: Annotated[int, Ge(2)] = 32,
    drop: str | None = None,
) -> Data:
    """Load the data called `data`, split by `split_seed`. If it has its own test split, that is kept.

    `data_dir` is where torchvision's copies are (and are downloaded to). `target` is a table's column, by
    name or number (by default the last). `header` says whether a CSV has a header, if its first line leaves
    that open. `task` is auto, classification or regression. Images of a folder are scaled to `image_size` x
    `image_size` pixels; with `skip_bad`, those that cannot be decoded are left out. `classes`, such as
    "ants, bees", leaves out all other classes. `numbers` is how a table's numbers become inputs: standard (by mean
    and standard deviation), robust (by median and quartiles, with smooth clipping), quantile (to a normal
    distribution) or piecewise (a linear spline of at most `bins` pieces). `drop`, such as "name, id", leaves out
    columns of a table. Raises DataError when the data is missing, empty, corrupt or
    inconsistent.
    """
    _check_shares(validation, test)
    raw = _without(read(data, data_dir, target, header, image_size, skip_bad), drop)
    return _assemble(_only(raw, classes), Path(data).stem, task, validation, test, split_seed, numbers, bins)


def load_images(
    data: str = DEFAULT,
    data_dir: str | None = None,
    validation: Part = 0.15,
    test: Part = 0.15,
    split_seed: Annotated[int, Ge(0)] = 0,
    classes: str | None = None,
    skip_bad: bool = False,
    task: Task = "auto",
) -> Data:
    """Like `load`, but images only, for a network that sets their size: a folder's stay files, as paths."""
    _check_shares(validation, test)
    raw = read(data, data_dir, None, None, None, skip_bad)
    found = _assemble(_only(raw, classes), Path(data).stem, task, validation, test, split_seed)
    if not are_images(found.x_train):
        raise DataError(
            f"data: '{data}' holds no images. Give a folder of them, or arrays of uint8 [n, height, width] or"
            f" [n, height, width, 1 or 3], got {found.x_train.dtype} {list(found.x_train.shape)}"
        )
    return found


def _check_shares(validation: float, test: float) -> None:
    if validation + test >= 1:
        raise DataError(f"data: validation {validation} + test {test} leave nothing to train on")


def _only(raw: Raw, classes: str | None) -> Raw:
    """The samples of these classes ("ants, bees"), or all of them. Raises DataError when a class has none."""
    if classes is None:
        return raw
    wanted = [c.strip() for c in classes.split(",")]
    known = {str(c) for c in np.unique(raw.y)}
    for name in wanted:
        if name not in known:
            raise DataError(f"data: there is no class '{name}'.{did_you_mean(name, known)}")
    parts: dict[str, Any] = {}
    for part in ("", "_val", "_test"):
        x, y = getattr(raw, f"x{part}"), getattr(raw, f"y{part}")
        if y is not None:
            chosen = np.flatnonzero(np.isin(y.astype(str), wanted))
            parts |= {f"x{part}": _rows(x, chosen), f"y{part}": y[chosen]}
    return replace(raw, **parts)


def _without(raw: Raw, drop: str | None) -> Raw:
    """The data without these columns ("name, id"). Raises DataError when there is no such column, or no other."""
    if drop is None:
        return raw
    if raw.inputs["kind"] != "table":
        raise DataError("drop: names columns of a table, and this data is none. Remove it")
    names = [c.strip() for c in drop.split(",") if c.strip()]
    for name in names:
        if name == raw.target:
            raise DataError(f"drop: '{name}' is the target")
        if name not in raw.x.columns:
            raise DataError(
                f"drop: there is no column '{name}' of inputs.{did_you_mean(name, raw.x.columns)}"
            )
    if len(set(names)) == len(raw.x.columns):
        raise DataError("drop: no column of inputs is left")
    return replace(raw, x=raw.x.drop(columns=names))


def _assemble(
    raw: Raw,
    name: str,
    task: str,
    validation: float,
    test: float,
    seed: int,
    numbers: Numbers = "standard",
    bins: int = 32,
) -> Data:
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
    inputs, encoder = encoder_of(raw.inputs, x_train, numbers, bins)
    parts: dict[str, Any] = {
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
        target=raw.target,
    )


def _classes(raw: Raw, task: str) -> tuple[str, ...]:
    """The classes in order, or none for a regression."""
    numeric = np.issubdtype(raw.y.dtype, np.number) and raw.y.dtype != bool
    values = np.unique(raw.y) if numeric else np.asarray(sorted({str(v) for v in raw.y}))
    if (
        task == "auto"
        and raw.target
        and not numeric
        and len(values) > CLASSES_FROM_INTEGERS
        and 2 * len(values) > len(raw.y)
    ):
        raise DataError(
            f"data: the target '{raw.target}' is text with {len(values):,} different values in {len(raw.y):,} rows;"
            " it must be a number or a class. Name another column: target"
        )
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


def _fingerprint(parts: dict[str, Array], classes: Sequence[str], files: dict[str, str]) -> str:
    digest = hashlib.sha256("\0".join(classes).encode())
    for name, array in sorted(parts.items()):
        if array.dtype.kind == "U" and files:
            array = np.asarray([files[path].encode() for path in array])  # independent of their location
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
