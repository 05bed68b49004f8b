"""What a person's trainable is made of, as one digest: whether a study goes on with the code it began with."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any


def digest(function: Callable[..., Any]) -> str:
    """SHA-256 of the module of `function` and of all that it imports from beside it; of a function of a notebook or a
    script, of its source and that of the functions and classes there that it uses."""
    file = inspect.getsourcefile(function)
    module = str(getattr(function, "__module__", "__main__"))
    if module != "__main__" and file and Path(file).is_file():
        path = Path(file)
        root = path.parents[module.count(".") + (path.name == "__init__.py")]
        texts = [f"{p.relative_to(root)}\n".encode() + p.read_bytes() for p in sorted(_imported(path, root))]
    else:
        texts = sorted(text.encode() for text in _used(function))
    whole = hashlib.sha256()
    for text in texts:
        whole.update(hashlib.sha256(text).digest())
    return whole.hexdigest()


def _imported(file: Path, root: Path) -> set[Path]:
    """The files under `root` that `file` imports, and those that they do: seen by reading them, so that it is the same
    in every process."""
    found: set[Path] = set()
    left = [file]
    while left:
        path = left.pop()
        if path in found:
            continue
        found.add(path)
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue  # imported in a branch that is not taken
        package = path.relative_to(root).parent.parts
        left += [p for name in _names(tree, package) for p in _files(root, name) if p.is_file()]
    return found


def _names(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The modules that a file of `package` imports, and what may be modules of those that it imports names from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = (*above, *(node.module.split(".") if node.module else ()))
            yield base
            yield from ((*base, alias.name) for alias in node.names)


def _files(root: Path, name: tuple[str, ...]) -> Iterator[Path]:
    """Where a module would lie, and the packages that are imported with it."""
    for i in range(1, len(name) + 1):
        yield root.joinpath(*name[:i], "__init__.py")
    if name:
        yield root.joinpath(*name).with_suffix(".py")


def _used(function: Any) -> Iterator[str]:
    """The sources of a function and of what it uses of its own module."""
    seen: set[int] = set()
    left = [inspect.unwrap(function)]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield _text(one)
        if isinstance(one, FunctionType):
            names = {n for code in _codes(one.__code__) for n in code.co_names}
            values = [one.__globals__[n] for n in names if n in one.__globals__]
            values += [cell.cell_contents for cell in one.__closure__ or () if _is_full(cell)]
            left += [v for v in values if _is_own(v, one.__module__)]
        elif isinstance(one, type):
            left += [v for v in vars(one).values() if isinstance(v, FunctionType)]


def _is_own(value: Any, module: str) -> bool:
    return isinstance(value, FunctionType | type) and value.__module__ == module


def _is_full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # of a name that has no value yet
        return False


def _text(one: Any) -> str:
    try:
        return inspect.getsource(one)
    except (OSError, TypeError):  # typed at a prompt
        codes = _codes(one.__code__) if isinstance(one, FunctionType) else ()
        plain = [[c for c in code.co_consts if not isinstance(c, CodeType)] for code in codes]
        return repr((getattr(one, "__qualname__", ""), [c.co_code for c in codes], plain))


def _codes(code: CodeType) -> list[CodeType]:
    """A function's code, and that of the functions in it."""
    inner = [c for c in code.co_consts if isinstance(c, CodeType)]
    return [code, *(nested for c in inner for nested in _codes(c))]
