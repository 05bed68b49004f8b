"""The JSON Schema of study files, which editors use for completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from raysweep.study.options import ALGORITHMS, SCHEDULERS
from raysweep.study.study import Study
from raysweep.trainables.trainable import BUILTIN, find


def schema() -> dict[str, Any]:
    """The schema, with the built-in trainables' arguments as names of the space."""
    scalar: dict[str, Any] = {"type": ["number", "string", "boolean", "null"]}
    number = {"type": "number"}
    more: dict[str, Any] = {
        "when": {"type": "object", "description": "exists only where these names above have these values"},
        "each": {"type": "string", "description": "the integer above that says how many values"},
        "prior": {"description": "where you believe the best to be"},
    }
    ranged = {"log": {"type": "boolean"}, "step": number, "grid": {"type": "integer", "minimum": 2}, **more}

    def form(kind: str, value: Any, rest: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": [kind],
            "additionalProperties": False,
            "properties": {kind: value, **rest},
        }

    pair = {"type": "array", "minItems": 2, "maxItems": 2}
    forms = [
        scalar,
        {"type": "array", "minItems": 1, "description": "one of these"},
        form("float", {**pair, "items": number}, ranged),
        form("int", {**pair, "items": {"type": "integer"}}, ranged),
        form("choice", {"type": "array", "minItems": 1}, more),
    ]
    names = {n: {"$ref": "#/$defs/Param"} for t in BUILTIN for n in find(t).arguments}
    model = Study.model_json_schema()
    model["$defs"] = {**model.get("$defs", {}), "Param": {"anyOf": forms}}
    tables: dict[str, Mapping[str, type[BaseModel]]] = {"algorithm": ALGORITHMS, "scheduler": SCHEDULERS}
    for key, table in tables.items():
        model["properties"][key]["anyOf"].insert(0, {"enum": list(table)})
        for options in set(table.values()):
            model["$defs"][options.__name__]["required"] = ["name"]
    model["properties"]["space"] |= {
        "properties": names,
        "additionalProperties": {"$ref": "#/$defs/Param"},
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **model, "title": "raysweep study"}
