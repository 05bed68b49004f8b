"""A digest of the code of a user's trainable, to tell whether a study resumes with the code it began with."""

from __future__ import annotations

import ast
import dis
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

INSTALLED = {"site-packages", "dist-packages"}
PLAIN = (bool, int, float, complex, str, bytes, tuple, type(None))


def digest(function: Callable[..., Any]) -> str:
    """SHA-256 of the module of `function` and of everything it imports from the same source folder (in an
    installed package: from that package). For a function of a notebook or a script: of its source and of
    what it uses from there and from the same folder."""
    file = inspect.getsourcefile(function)
    module = str(getattr(function, "__module__", "__main__"))
    if module != "__main__" and file and Path(file).is_file():
        path = Path(file)
        texts = _texts(path, path.parents[module.count(".") + (path.name == "__init__.py")])
    else:
        texts = sorted(_used(function))
    whole = hashlib.sha256()
    for text in texts:
        whole.update(hashlib.sha256(text).digest())
    return whole.hexdigest()


def _texts(file: Path, root: Path) -> list[bytes]:
    return [f"{p.relative_to(root)}\n".encode() + p.read_bytes() for p in sorted(_imported(file, root))]


def _imported(file: Path, root: Path) -> set[Path]:
    """The files under `root` that `file` imports, directly or indirectly. They are found by parsing, so that
    the result is the same in every process. For an installed package, only files of that package count."""
    found: set[Path] = set()
    inside = root / file.relative_to(root).parts[0] if INSTALLED & set(root.parts) else root
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
        named = (p for name in _names(tree, package) for p in _files(root, name))
        left += [p for p in named if p.is_relative_to(inside) and p.is_file()]
    return found


def _names(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The modules that a file of `package` imports. A name imported from a module may be a module, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = (*above, *(node.module.split(".") if node.module else ()))
            yield base
            yield from ((*base, alias.name) for alias in node.names)


def _files(root: Path, name: tuple[str, ...]) -> Iterator[Path]:
    """The path where a module would be, and those of the packages imported with it."""
    for i in range(1, len(name) + 1):
        yield root.joinpath(*name[:i], "__init__.py")
    if name:
        yield root.joinpath(*name).with_suffix(".py")


def _used(function: Any) -> Iterator[bytes]:
    """The sources of a function, of the functions, classes and plain values that it uses from its own module,
    and of the modules it uses from the same folder."""
    seen: set[int] = set()
    beside = Path(getattr(sys.modules.get("__main__"), "__file__", None) or "x").resolve().parent
    left = [inspect.unwrap(function)]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield _text(one).encode()
        if isinstance(one, FunctionType):
            used = {n: one.__globals__[n] for n in _globals(one) if n in one.__globals__}
            used |= {f"{i}": c.cell_contents for i, c in enumerate(one.__closure__ or ()) if _is_full(c)}
            for name, value in sorted(used.items()):
                if _is_own(value, one.__module__):
                    left.append(value)
                elif isinstance(value, PLAIN):
                    yield f"{name} = {value!r}".encode()
                elif (file := _file_of(value)) is not None and file.is_relative_to(beside):
                    yield from _texts(file, beside)
        elif isinstance(one, type):
            left += [v for v in vars(one).values() if isinstance(v, FunctionType)]


def _globals(function: FunctionType) -> set[str]:
    """The global names that a function looks up, without the names of attributes."""
    looked_up = (i for code in _codes(function.__code__) for i in dis.get_instructions(code))
    return {i.argval for i in looked_up if i.opname in {"LOAD_GLOBAL", "LOAD_NAME"}}


def _file_of(value: Any) -> Path | None:
    """The file of a module, or of the module that a function or class is from."""
    module = (
        value if isinstance(value, ModuleType) else sys.modules.get(getattr(value, "__module__", None) or "")
    )
    file = getattr(module, "__file__", None)
    path = Path(file).resolve() if file else None
    return None if path is None or INSTALLED & set(path.parts) else path


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
        plain = [[_stable(c) for c in code.co_consts if not isinstance(c, CodeType)] for code in codes]
        names = [code.co_names for code in codes]
        return repr((getattr(one, "__qualname__", ""), [c.co_code for c in codes], plain, names))


def _stable(constant: Any) -> Any:
    """A constant in a form whose text is the same in every process. (The text of a set is not.)"""
    return sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant


def _codes(code: CodeType) -> list[CodeType]:
    """A function's code, and that of the functions in it."""
    inner = [c for c in code.co_consts if isinstance(c, CodeType)]
    return [code, *(nested for c in inner for nested in _codes(c))]
