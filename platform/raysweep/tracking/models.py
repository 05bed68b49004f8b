"""The best trial as an MLflow model: raw inputs in, predictions out, loadable where raysweep is not installed."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

import raysweep
from raysweep.errors import DataError, TrackingError, scrubbed
from raysweep.trainables.images import UNDECODABLE, open_image
from raysweep.trainables.readers import IMAGES, read_image, read_table

_EXAMPLE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c636000000002000148afa4710000000049454e44ae426082"
)
"""An image: one black pixel, as PNG."""


def log(folder: Path, run: str, name: str, versions: dict[str, str]) -> str:
    """Log the model in `folder` to `run` and register it as `name`. Returns its version.

    Nothing is pickled: MLflow gets the files, and the code that reads them. The requirements are written
    out, because inferring them would import the model in a fresh process, which takes seconds.
    """
    about = json.loads((folder / "model.json").read_text())
    signature, example = _signature(about)
    needs = ["torch", "numpy", "pandas", *(["torchvision"] if about["inputs"]["kind"] == "files" else [])]
    if str(about["network"].get("backbone")).startswith("timm:"):
        versions = {**versions, "timm": importlib.metadata.version("timm")}
        needs.append("timm")
    pinned = [f"{p}=={versions[p]}" for p in needs if p in versions]
    with mlflow.start_run(run_id=run):
        info = Model.log(
            artifact_path=None,
            name="model",
            flavor=_Pyfunc,
            validate_serving_input=False,
            loader_module="raysweep.trainables.predict",
            data_path=str(folder),
            code_paths=[str(Path(raysweep.__file__).parent)],
            signature=signature,
            input_example=example,
            pip_requirements=[*pinned, "annotated-types"],
            registered_model_name=name,
        )
    return str(info.registered_model_version)


class _Pyfunc:
    """MLflow's flavor `pyfunc`, but nobody tries the example as an input: that would import torch here."""

    @staticmethod
    def save_model(validate_serving_input: bool, **more: Any) -> None:
        mlflow.pyfunc.save_model(**more)


def warm_up() -> None:
    """Have MLflow import and look up now what it needs to log a model, which takes seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        data.touch()
        mlflow.pyfunc.save_model(
            Path(scratch) / "model",
            loader_module="raysweep.trainables.predict",
            data_path=str(data),
            pip_requirements=["numpy"],
        )


def add_code(folder: Path, files: Mapping[str, bytes]) -> None:
    """Add the modules in `files` to the MLflow model in `folder`, unless it has code: loading a user's own model
    may need its classes, wherever that is."""
    model = Model.load(str(folder))
    if not files or any(flavor.get("code") for flavor in model.flavors.values()):
        return
    for name, content in files.items():
        path = folder / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for flavor in model.flavors.values():
        flavor["code"] = "code"
    model.save(str(folder / "MLmodel"))


def register(client: Any, folder: Path, run: str, name: str, tags: dict[str, str]) -> str:
    """Log the MLflow model in `folder`, which a user's code has written, to `run`, and register it as `name` with
    these tags, unless a version has them. Returns the version."""
    client.log_artifacts(run, str(folder), "model")
    with suppress(mlflow.exceptions.MlflowException):  # it is there already
        client.create_registered_model(name)
    for known in client.search_model_versions(f"name = '{name}'"):
        if tags.items() <= known.tags.items():  # the answer to an earlier request was lost
            return str(known.version)
    source = f"{client.get_run(run).info.artifact_uri}/model"
    return str(client.create_model_version(name, source, run, tags=tags).version)


def mark(client: Any, name: str, version: str, tags: dict[str, str], alias: str = "best") -> None:
    """Make a version of study `name`'s model its `@best`, or what else. The alias comes last: it tells a later
    publisher that everything is there."""
    for tag, value in {"study": name, **tags}.items():
        client.set_model_version_tag(name, version, tag, value)
    client.set_registered_model_alias(name, alias, version)


def predict(name: str, uri: str, inputs: Sequence[Path]) -> pd.DataFrame:
    """Predictions of study `name`'s registered best model for a table, or for images (and folders of
    them)."""
    mlflow.set_tracking_uri(uri)
    try:
        model = mlflow.pyfunc.load_model(f"models:/{name}@best")
    except mlflow.exceptions.MlflowException as error:
        raise TrackingError(f"there is no model '{name}@best' in {scrubbed(uri)}: {error.message}") from None
    except Exception as error:  # loading a user's own model imports what it needs, which may not be here
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise TrackingError(f"the model '{name}@best' cannot be loaded here: {what}") from error
    try:
        return _predicted(model, inputs)
    except (DataError, OSError):
        raise
    except Exception as error:  # a user's own model may raise anything
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(f"predict: the model cannot predict from this: {what}") from error


def _predicted(model: Any, inputs: Sequence[Path]) -> pd.DataFrame:
    schema = model.metadata.get_input_schema()
    if schema is None:  # of a user's own model, that does not say
        return _framed(model.predict(_table(inputs)))
    shape = schema.inputs[0].shape[1:] if schema.is_tensor_spec() else None
    raw = not schema.is_tensor_spec() and schema.input_names() == ["image"]
    files = [f for i in inputs for f in (sorted(i.rglob("*")) if i.is_dir() else [i])]
    pictures = [f for f in files if f.suffix.lower() in IMAGES]
    tables = [f for f in files if f.suffix in {".csv", ".parquet"}]
    if pictures and raw:
        found = pd.DataFrame(model.predict(pd.DataFrame({"image": [_content(f) for f in pictures]})))
        found.insert(0, "file", [str(f) for f in pictures])
    elif pictures and shape is not None:
        found = pd.DataFrame(model.predict(np.stack([_picture(f, shape) for f in pictures])))
        found.insert(0, "file", [str(f) for f in pictures])
    elif tables and not raw:
        frame = pd.concat([read_table(f) for f in tables])
        found = _framed(model.predict(_columns(frame, schema) if shape is None else _flat(frame, shape)))
    else:
        wanted = (
            "images" if raw else "a .csv or .parquet table" + (", or images" if shape is not None else "")
        )
        raise DataError(f"predict: this model takes {wanted}")
    return found


def _table(inputs: Sequence[Path]) -> pd.DataFrame:
    """The tables as one, for a model that does not say what it takes."""
    if not all(file.suffix in {".csv", ".parquet"} for file in inputs):
        raise DataError("predict: this model has no signature. Give it a .csv or .parquet table")
    return pd.concat([read_table(f) for f in inputs])


def _framed(predicted: Any) -> pd.DataFrame:
    """Predictions as a table, whatever a user's own model returns."""
    if isinstance(predicted, pd.DataFrame):
        return predicted
    values = np.asarray(predicted)
    return pd.DataFrame({"prediction": values} if values.ndim == 1 else values)


def download(name: str, uri: str, folder: Path) -> None:
    """Bring the files of an MLflow model that raysweep has logged (`models:/NAME@best`, `runs:/ID/model`) to
    `folder`. Raises DataError when there is none, or raysweep did not log it."""
    mlflow.set_tracking_uri(uri)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            root = Path(mlflow.artifacts.download_artifacts(artifact_uri=name, dst_path=scratch))
        except (mlflow.exceptions.MlflowException, OSError) as error:
            raise DataError(f"weights: {name} is not in {scrubbed(uri)}: {error}") from None
        about = next(root.rglob("model.json"), None)
        if about is None:
            raise DataError(f"weights: {name} is not a model that raysweep has trained")
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copytree(about.parent, folder.with_suffix(".part"), dirs_exist_ok=True)
        folder.with_suffix(".part").replace(folder)  # last, so that a folder that exists is complete


def _content(file: Path) -> bytes:
    """The bytes of an image file that can be decoded."""
    try:
        open_image(file)
        return file.read_bytes()
    except UNDECODABLE as error:
        raise DataError(f"predict: '{file}' cannot be decoded: {error}") from None


def _picture(file: Path, shape: Sequence[int]) -> Any:
    try:
        return read_image(file, shape).astype(np.float64)
    except UNDECODABLE as error:
        raise DataError(f"predict: '{file}' cannot be decoded: {error}") from None


def _columns(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The model's columns in its own types; MLflow does not accept an integer as a double."""
    missing = [c for c in schema.input_names() if c not in frame.columns]
    if missing:
        raise DataError(f"predict: the table lacks the columns {', '.join(missing)}")
    number = {c.name for c in schema.inputs if c.type == DataType.double}
    return pd.DataFrame(
        {
            c: pd.to_numeric(frame[c], errors="coerce").astype(float)
            if c in number
            else frame[c]
            .astype(object)
            .where(frame[c].notna(), None)
            .map(lambda v: v if v is None else str(v))
            for c in schema.input_names()
        }
    )


def _flat(frame: pd.DataFrame, shape: Sequence[int]) -> Any:
    wanted = int(np.prod(shape))
    if frame.shape[1] != wanted:
        raise DataError(
            f"predict: this model takes {wanted} columns of numbers, the table has {frame.shape[1]}"
        )
    try:
        return frame.to_numpy(np.float64).reshape(-1, *shape)
    except ValueError as error:
        raise DataError(f"predict: the table must hold numbers only ({error})") from None


def _signature(about: dict[str, Any]) -> tuple[ModelSignature, Any]:
    """The columns or the shape that the model takes, what it gives, and an example of its input."""
    inputs = about["inputs"]
    if inputs["kind"] == "files":
        example: Any = pd.DataFrame({"image": [_EXAMPLE]})
        takes = Schema([ColSpec(DataType.binary, "image")])
    elif inputs["kind"] == "table":
        columns = inputs["columns"]
        number = {"number": DataType.double, "category": DataType.string}
        takes = Schema([ColSpec(number[c["type"]], c["name"], required=False) for c in columns])
        example = pd.DataFrame(
            {c["name"]: [c["median"] if c["type"] == "number" else (c["values"] or [""])[0]] for c in columns}
        )
    else:
        example = np.zeros((1, *inputs["shape"]), dtype=np.float64)
        takes = Schema([TensorSpec(np.dtype(np.float64), (-1, *inputs["shape"]))])
    classes = about["classes"]
    kind = DataType.string if classes else DataType.double
    gives = [ColSpec(kind, "prediction"), *(ColSpec(DataType.double, f"p_{c}") for c in classes)]
    return ModelSignature(takes, Schema(gives)), example
