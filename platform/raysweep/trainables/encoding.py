"""Encode raw inputs for a network: scaled numbers and one-hot categories, as the training split defines
them."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from raysweep.errors import DataError
from raysweep.trainables.readers import Array

if TYPE_CHECKING:
    import pandas as pd

CATEGORIES = 64
"""One-hot columns for each category column of a table; rarer values share the all-zero code of missing ones."""

KNOTS = 100
"""Of the map from a number's quantiles to a normal distribution."""

FARTHEST = 3.0
"""How many bins beyond the first or the last bin a number may lie: a far outlier must not outweigh all else."""


Numbers = Literal["standard", "robust", "quantile", "piecewise"]


def encoder_of(
    inputs: dict[str, Any], x_train: Any, numbers: Numbers = "standard", bins: int = 32
) -> tuple[dict[str, Any], Callable[[Any], Array]]:
    """The inputs' description completed from the training split, and the function that encodes by it. The numbers of
    a table are encoded as `numbers` says; piecewise in at most so many `bins`."""
    if numbers != "standard" and inputs["kind"] != "table":
        raise DataError(f"numbers: {numbers} is for the columns of a table. Remove it")
    if inputs["kind"] in {"image", "files"}:
        return inputs, np.ascontiguousarray
    if inputs["kind"] == "array":
        x = x_train.astype(np.float64)
        inputs = {**inputs, "mean": x.mean(0).ravel().tolist(), "std": _spread(x.std(0)).ravel().tolist()}
    else:
        inputs = {**inputs, "columns": [_column(x_train[c], numbers, bins) for c in x_train.columns]}
    return inputs, lambda raw: encode(inputs, raw)


def _spread(std: Array) -> Array:
    return np.where(std > 1e-12, std, 1.0)  # a constant column is left at zero


def _column(values: pd.Series[Any], numbers: Numbers, bins: int) -> dict[str, Any]:
    import pandas as pd

    name = str(values.name)
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        median = values.median()
        filled = values.fillna(median if pd.notna(median) else 0.0).astype(float)
        std = float(_spread(np.asarray(filled.std(ddof=0))))
        found = {
            "name": name,
            "type": "number",
            "median": float(filled.median()),
            "mean": float(filled.mean()),
            "std": std,
        }
        return found | _scale(filled.to_numpy(), numbers, bins)
    known = values.dropna().astype(str)
    counts = known.value_counts()
    column = {"name": name, "type": "category", "values": sorted(counts.index[:CATEGORIES].tolist())}
    is_text = len(counts) > CATEGORIES and 2 * len(counts) > len(known)
    return column | ({"text": len(counts)} if is_text else {})


def _scale(x: Array, numbers: Numbers, bins: int) -> dict[str, Any]:
    """How a column of numbers is encoded, if not by mean and standard deviation alone.

    robust: median and interquartile range, with smooth clipping (Holzmueller et al. 2024, RealMLP). quantile: knots of
    a monotone map to a normal distribution, cut off at 3 standard deviations. piecewise: the edges of bins; in each bin
    there is a piece of a linear spline (Gorishniy et al. 2022). The edges are quantiles of the different values, so
    that a number that is mostly zero has more than one bin.
    """
    distinct, counts = np.unique(x, return_counts=True)
    if numbers == "standard" or len(distinct) < 3:
        return {}
    if numbers == "robust":
        low, high = np.quantile(x, [0.25, 0.75])
        scale = high - low or (distinct[-1] - distinct[0]) / 2
        return {"center": float(np.median(x)), "scale": float(scale)}
    if numbers == "quantile":
        chosen = np.unique(np.linspace(0, len(distinct) - 1, KNOTS).round().astype(int))
        below = (np.cumsum(counts) - counts / 2) / len(x)
        scores = [min(max(NormalDist().inv_cdf(float(p)), -3.0), 3.0) for p in below[chosen]]
        return {"knots": distinct[chosen].tolist(), "scores": scores}
    return {"edges": np.unique(np.quantile(distinct, np.linspace(0, 1, bins + 1))).tolist()}


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


def _encode_numbers(column: dict[str, Any], x: Array) -> Array:
    """Numbers `[n]` as `[n, width]`."""
    if "edges" in column:
        edges = np.asarray(column["edges"])
        pieces = (x[:, None] - edges[:-1]) / np.diff(edges)
        # Beyond the ends, the first and the last piece go on for a while.
        low, high = np.zeros(len(edges) - 1), np.ones(len(edges) - 1)
        low[0], high[-1] = -FARTHEST, FARTHEST
        spline: Array = np.clip(pieces, low, high)
        return spline
    if "knots" in column:
        x = np.interp(x, column["knots"], column["scores"])
    elif "center" in column:
        x = (x - column["center"]) / column["scale"]
        x = x / np.sqrt(1 + (x / 3) ** 2)
    else:
        x = (x - column["mean"]) / column["std"]
    return x[:, None]


def _encode_column(column: dict[str, Any], values: pd.Series[Any]) -> Array:
    import pandas as pd

    if column["type"] == "number":
        numbers: Array = pd.to_numeric(values, errors="coerce").fillna(column["median"]).to_numpy(float)
        return _encode_numbers(column, numbers).astype(np.float32)
    text = values.astype("object").where(values.notna(), None).map(lambda v: None if v is None else str(v))
    codes: Array = np.zeros((len(values), len(column["values"])), np.float32)
    for i, value in enumerate(column["values"]):
        codes[:, i] = text == value
    return codes
