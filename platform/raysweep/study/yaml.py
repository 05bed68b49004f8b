"""Study files: YAML parsed safely and as people expect, and written so that it reads back equal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from raysweep.errors import Problem, StudyError
from raysweep.study.params import show

LARGEST = 1 << 20  # bytes


class _Loader(yaml.SafeLoader):
    """YAML as people expect it: 1e-4 is a number, `on` is a string, and a key may occur only once."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in rules
        if tag not in {"tag:yaml.org,2002:float", "tag:yaml.org,2002:bool"}
    ]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


_IN_OTHER_WORDS = {
    "\\t": "tabs cannot indent. Use spaces",
    "mapping values are not allowed": "a ':' that is not expected here. Is this line, or the one above, indented as"
    " it should be? Text that holds ': ' needs quotes",
    "expected <block end>": "this line is indented differently from those it belongs to",
    "could not find expected ':'": "a key and its value are written 'key: value'; the ':' is missing here",
    "found unexpected end of stream": "quotes or brackets are not closed",
    "expected ',' or": "a list or mapping on one line is not closed, or a comma is missing",
    "found character '@'": "text that begins with @ needs quotes",
    "found character '`'": "text that begins with ` needs quotes",
}
"""What the YAML library says, in part, and what a person can do."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a study file safely: plain types only, no duplicate keys, at most 1 MiB.

    Raises StudyError with the line of each problem.
    """
    if path.is_dir():
        there = ", ".join(sorted(p.name for p in path.glob("*.y*ml"))[:5])
        raise StudyError([Problem("", "is a folder. Give a study file" + (f": {there}" if there else ""))])
    if path.suffix == ".py":
        what = f"is Python. Give a study file, in YAML, that says trainable: {path.stem}:FUNCTION"
        raise StudyError([Problem("", what)])
    try:
        if path.stat().st_size > LARGEST:
            raise StudyError([Problem("", f"is larger than {LARGEST:,} bytes")])
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise StudyError([Problem("", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise StudyError([Problem("", "is not UTF-8 text")]) from None
    return parse_yaml(text)


def parse_yaml(text: str) -> dict[str, Any]:
    """The mapping that `text` writes, as `read_yaml` reads it from a file."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        problems = [] if node is None else list(_node_problems(node, set()))
        if problems:
            raise StudyError(problems)
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader, see above
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else ""
        what = str(getattr(error, "problem", None) or error)
        what = next((ours for theirs, ours in _IN_OTHER_WORDS.items() if theirs in what), what)
        raise StudyError([Problem(where, what)]) from None
    except RecursionError:
        raise StudyError([Problem("", "is nested too deeply")]) from None
    if value is None:
        raise StudyError(
            [Problem("", "is empty. A study says trainable, maximize or minimize, trials and space")]
        )
    if not isinstance(value, dict):
        raise StudyError([Problem("", f"must map keys to values, got {show(value)}")])
    odd = [k for k in value if not isinstance(k, str)]
    if odd:
        raise StudyError([Problem("", f"keys must be text, got {show(k)}") for k in odd])
    return value


def _node_problems(node: yaml.Node, seen: set[int]) -> Iterator[Problem]:
    where = f"line {node.start_mark.line + 1}"
    if id(node) in seen:
        yield Problem(where, "aliases (*name) are not used in studies. Write the value out")
        return
    seen.add(id(node))
    if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
        yield Problem(where, f"unsafe YAML tag {node.tag.replace('tag:yaml.org,2002:', '!!')}")
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _node_problems(child, seen)
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                if key.value in first:
                    yield Problem(
                        f"line {line}", f"duplicate key '{key.value}' (first on line {first[key.value]})"
                    )
                first.setdefault(key.value, line)
            yield from _node_problems(value, seen)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
# Floats by repr, which reads back to the last bit; lists on one line, as people write them.
_Dumper.add_representer(float, lambda d, x: d.represent_scalar("tag:yaml.org,2002:float", repr(x)))
_Dumper.add_representer(list, lambda d, x: d.represent_sequence("tag:yaml.org,2002:seq", x, flow_style=True))


class _Line(dict[str, Any]):
    """A mapping that is written on one line, as people write parameters."""


_Dumper.add_representer(
    _Line, lambda d, x: d.represent_mapping("tag:yaml.org,2002:map", x.items(), flow_style=True)
)


def on_one_line(value: Any) -> Any:
    """`value`, with each of its mappings marked to be written on one line."""
    return _Line({k: on_one_line(v) for k, v in value.items()}) if isinstance(value, dict) else value


def write_yaml(value: Mapping[str, Any]) -> str:
    """A mapping as YAML that `read_yaml` reads back equal."""
    return yaml.dump(dict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
