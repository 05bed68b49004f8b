"""The tables of search_spaces/README.md, from the code: `python tests/reference.py` writes them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from raysweep.study import options
from raysweep.study.study import Study
from raysweep.trainables import arguments
from raysweep.trainables.data import load

HEAD = ["| key | type | default | meaning |", "|---|---|---|---|"]
TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "object": "mapping",
}
MODELS: dict[str, type[BaseModel]] = {
    "study": Study,
    "finalists": options.Finalists,
    "per_trial": options.Resources,
    "stop": options.Stop,
    "auto": options.AutoAlgorithm,
    "hyperopt": options.HyperOptAlgorithm,
    "optuna": options.OptunaAlgorithm,
    "asha": options.AshaScheduler,
    "hyperband": options.HyperbandScheduler,
    "median": options.MedianScheduler,
    "pbt and pb2": options.PopulationScheduler,
}
ARGUMENTS = {"training": arguments.Training, "mlp": arguments.MLP, "transfer": arguments.Transfer}
DATA = {
    "data": "`digits`, `mnist`, `fashion_mnist`, `cifar10`, `cifar100`, or a path: see below",
    "data_dir": "where the files of MNIST and CIFAR are, or are downloaded to",
    "target": "for a table: the column to predict, by name or number; by default the last",
    "header": "for a CSV file: whether its first line holds names; by default that is guessed",
    "task": "`auto` decides by the target",
    "validation": "the share of the validation split",
    "test": "the share of the test split",
    "split_seed": "the seed of the splits",
    "image_size": "for a folder of images: their size in pixels (`mlp` only)",
    "classes": "use these classes only, such as `ants, bees`",
    "skip_bad": "leave out images that cannot be decoded",
    "numbers": "for a table: how its numbers become inputs, see below",
    "bins": "for a table: the pieces of `numbers: piecewise`, at most",
    "drop": "for a table: leave out these columns, such as `name, id`",
}


def row(name: str, kind: str, default: Any, meaning: str) -> str:
    if default in (PydanticUndefined, inspect.Parameter.empty):
        shown = "required"
    elif default is None or isinstance(default, BaseModel | dict | list):
        shown = ""
    else:
        shown = f"`{str(default).lower() if isinstance(default, bool) else default}`"
        shown = f"`{default:g}`" if isinstance(default, float) else shown
    return f"| `{name}` | {kind} | {shown} | {meaning} |"


def kind_of(schema: dict[str, Any], name: str) -> str:
    """The type of a key, as its JSON Schema has it."""
    if "enum" in schema or "const" in schema:
        return ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    if "$ref" in schema or name in {"algorithm", "scheduler"}:
        return "name or mapping" if name in {"algorithm", "scheduler"} else "mapping"
    if "anyOf" in schema:
        found = [kind_of(s, name) for s in schema["anyOf"] if s.get("type") != "null"]
        return " or ".join(dict.fromkeys(found))
    if schema["type"] == "array":
        return "list"
    return TYPES[schema["type"]]


def of_model(model: type[BaseModel]) -> Iterator[str]:
    schema = model.model_json_schema()
    for name, about in model.model_fields.items():
        if not (name == "name" and model is not Study):
            yield row(name, kind_of(schema["properties"][name], name), about.default, about.description or "")


def of_record(record: type) -> Iterator[str]:
    """The fields of a record of arguments; what a field means is the comment behind it."""
    source = inspect.getsource(record)
    meanings = dict(re.findall(r"^    (\w+): [^#\n]+  # (.*)$", source, re.MULTILINE))
    if len(meanings) != source.count("  # "):
        raise ValueError(f"a comment in {record.__name__} does not stand behind its field, on one line")
    for name, kind in record.__annotations__.items():
        yield row(name, _plain(kind), getattr(record, name), meanings.get(name, ""))


def _plain(annotation: str) -> str:
    """An annotation in words."""
    value = getattr(arguments, annotation.removesuffix(" | None"), None)
    text = str(value) if str(value).startswith("typing.Literal") else annotation
    if (options_ := re.search(r"Literal\[(.*)\]", text)) is not None:
        return options_[1].replace('"', "").replace("'", "")
    words = {
        "Count": "whole number from 1",
        "Natural": "whole number from 0",
        "Share": "number from 0 to below 1",
        "Positive": "number above 0",
        "NotNegative": "number from 0",
        "bool": "true or false",
        "str": "text",
        "list[Count]": "list",
        "dict[str, str]": "mapping",
    }
    if text.startswith("Annotated"):
        return "number above 0, at most 1" if "Gt" in text else "number from 0 to 1"
    return " or ".join(words[part] for part in text.split(" | ") if part != "None")


def of_data() -> Iterator[str]:
    words = {"str": "text", "int": "whole number", "bool": "true or false", "Part": "number between 0 and 1"}
    for name, about in inspect.signature(load).parameters.items():
        given = str(about.annotation)
        kind = next((w for k, w in words.items() if k in given), "text")
        kind = "auto, classification, regression" if given == "Task" else kind
        yield row(name, "text or whole number" if name == "target" else kind, about.default, DATA[name])


def tables() -> dict[str, str]:
    found = {name: list(of_model(model)) for name, model in MODELS.items()}
    found |= {name: list(of_record(record)) for name, record in ARGUMENTS.items()}
    found["data"] = list(of_data())
    return {name: "\n".join([*HEAD, *rows]) for name, rows in found.items()}


if __name__ == "__main__":
    path = Path(__file__).parents[1] / "search_spaces" / "README.md"
    text = path.read_text()
    for name, table in tables().items():
        begin, end = f"<!-- {name} -->\n", "<!-- end -->"
        head, found, rest = text.partition(begin)
        if not found:
            raise SystemExit(f"{path} has no place for the table '{name}'")
        text = head + begin + table + "\n" + end + rest.partition(end)[2]
    path.write_text(text)
