"""Encode raw inputs for a network: scaled numbers and one-hot categories, as the training split defines
them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from raysweep.errors import DataError
from raysweep.trainables.readers import Array

if TYPE_CHECKING:
    import pandas as pd

CATEGORIES = 64
"""One-hot columns for each category column of a table; rarer values share the all-zero code of missing ones."""


def encoder_of(inputs: dict[str, Any], x_train: Any) -> tuple[dict[str, Any], Callable[[Any], Array]]:
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
