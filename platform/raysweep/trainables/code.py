"""A person's code: the function itself, the folder it is imported from, and all files that it imports from there.

All of it is read once, when a session begins: its digest tells whether a study resumes with the code that it
began with, and the session's workers import these very files (importing.py), whatever is edited meanwhile.
"""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import importlib.util
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

INSTALLED = {"site-packages", "dist-packages"}
PLAIN = (bool, int, float, complex, str, bytes, type(None))


@dataclass(frozen=True)
class Snapshot:
    """A person's code as it was at one moment."""

    files: Mapping[str, bytes]
    """What the function imports from its root, directly or indirectly, by relative paths. Nothing of an
    installed package, which workers have, and nothing that another module of the same name hides."""
    digest: str
    """SHA-256 of these files (in an installed package: of that package's). For a function of a notebook or a
    script: of its source, and of what it uses from there and from the same folder."""


def snapshot(function: Callable[..., Any], module: str) -> Snapshot:
    """The code of `function`, which is found in `module`. Modules that it imports by a computed name are not
    seen."""
    root, file = root_of(module), file_of_module(module)
    if file is not None:
        imported = _imported(file, root)
        texts = _texts(imported, root)
    else:
        uses = list(_uses(core(function), root))
        modules = [_imported(one, root) for one in uses if isinstance(one, Path)]
        texts = sorted(
            [
                *(t for files in modules for t in _texts(files, root)),
                *(_text(one).encode() for one in uses if not isinstance(one, Path)),
            ]
        )
        imported = {path: text for files in modules for path, text in files.items()}
    sent = {} if INSTALLED & set(root.parts) else {p.relative_to(root): t for p, t in imported.items()}
    files = {p.as_posix(): text for p, text in sorted(sent.items()) if _is_found(p.parts[0], root)}
    return Snapshot(files, _digest([*texts, *_settings(function)]))


def digest_of(file: Path, root: Path) -> str:
    """The digest of a function of the module in `file`, which need not have been imported."""
    return _digest(_texts(_imported(file, root), root))


def _digest(texts: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for text in texts:
        whole.update(hashlib.sha256(text).digest())
    return whole.hexdigest()


def core(function: Callable[..., Any]) -> Any:
    """The function that was written: without `functools.partial`, decorators that use `functools.wraps`, the
    object that a method is bound to, or the object whose `__call__` it is."""
    *_, written = _layers(function)
    return written


def _layers(function: Any) -> Iterator[Any]:
    """What is around the function that was written, and at last the function itself."""
    while True:
        yield function
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif not isinstance(function, FunctionType | type) and hasattr(type(function), "__call__"):  # noqa: B004
            called = type(function).__call__
            if not isinstance(called, FunctionType):
                return
            function = called
        else:
            return


def _settings(function: Any) -> Iterator[bytes]:
    """What a function was given before it is called: the arguments of a `functools.partial`, the attributes of
    the object that it is a method of. Plain values only: the text of others is not the same in every process."""
    for layer in _layers(function):
        if isinstance(layer, functools.partial):
            yield b"functools.partial"
            given = {str(i): value for i, value in enumerate(layer.args)} | layer.keywords
        elif isinstance(layer, FunctionType | type) or inspect.isbuiltin(layer):
            continue
        else:
            owner = layer.__self__ if inspect.ismethod(layer) else layer
            given = {} if isinstance(owner, type) else getattr(owner, "__dict__", {})
        yield from (f"{name} = {v!r}".encode() for name, v in sorted(given.items()) if _is_plain(v))


def file_of(function: Callable[..., Any]) -> str:
    """The file that a function was written in; empty where there is none."""
    try:
        return inspect.getsourcefile(core(function)) or ""
    except TypeError:  # not written in Python
        return ""


def file_of_module(module: str) -> Path | None:
    """The file of an imported module; None for a script or a notebook, whose functions no name leads to."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if file and module != "__main__" and Path(file).is_file() else None


def root_of(module: str) -> Path:
    """The folder that a module is imported from: the one that holds its top-level package. For a script the
    script's folder, for a notebook the current one."""
    file = file_of_module(module)
    if file is None:
        script = getattr(sys.modules.get("__main__"), "__file__", None)
        return Path(script).resolve().parent if script else Path.cwd()
    return root_of_file(file, module)


def root_of_file(file: Path, module: str) -> Path:
    """The folder that `module` is imported from if it is in `file`."""
    return file.parents[module.count(".") + (file.name == "__init__.py")]


def found_file(module: str, beside: Path) -> Path | None:
    """The file that `module` would be imported from, if need be in the folder `beside`. Nothing is imported."""
    first, *rest = module.split(".")
    spec = _spec(first) or PathFinder.find_spec(first, [str(beside)])
    if spec is None:
        return None
    file = Path(spec.origin) if spec.origin else None
    places = [Path(p) for p in spec.submodule_search_locations or ()]
    for part in rest:
        file, places = _found_in(places, part)
    return file if file is not None and file.is_file() else None


def _found_in(places: Iterable[Path], name: str) -> tuple[Path | None, list[Path]]:
    """The file of the module or package `name` in one of these folders, and the folders of its own modules."""
    inside = [place / name for place in places]
    for path in inside:
        if (path / "__init__.py").is_file():
            return path / "__init__.py", [path]
        if path.with_suffix(".py").is_file():
            return path.with_suffix(".py"), []
    return None, inside


def _spec(name: str) -> ModuleSpec | None:
    """The specification of a top-level module."""
    try:
        return importlib.util.find_spec(name)
    except ValueError:  # it has none, as __main__
        return None


def _is_found(name: str, root: Path) -> bool:
    """Whether the module or package called `name` is imported from `root`."""
    spec = _spec(name.removesuffix(".py"))
    places = [spec.origin or "", *(spec.submodule_search_locations or ())] if spec else []
    return any(p and Path(p).resolve().is_relative_to(root.resolve()) for p in places)


def _texts(files: Mapping[Path, bytes], root: Path) -> list[bytes]:
    return [f"{path.relative_to(root)}\n".encode() + files[path] for path in sorted(files)]


def _imported(file: Path, root: Path) -> dict[Path, bytes]:
    """The files under `root` that `file` imports, directly or indirectly, each read once. They are found by
    parsing, so that the result is the same in every process. For an installed package, only files of that
    package count."""
    found: dict[Path, bytes] = {}
    inside = root / file.relative_to(root).parts[0] if INSTALLED & set(root.parts) else root
    left = [file]
    while left:
        path = left.pop()
        if path in found:
            continue
        found[path] = path.read_bytes()
        package = path.relative_to(root).parent.parts
        named = _named(found[path], package, root)
        left += [p for p in named if p.is_relative_to(inside) and p.is_file()]
    return found


def _named(text: bytes, package: tuple[str, ...], root: Path) -> Iterator[Path]:
    """Where the modules would be that a source text of `package` imports."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return  # imported in a branch that is not taken, or no source text
    for name in _names(tree, package):
        yield from _files(root, name)


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


def _uses(function: Any, root: Path) -> Iterator[Any]:
    """A function of a script or notebook and what it uses: functions and classes from there, plain values as
    text, and the files of modules in `root`."""
    seen: set[int] = set()
    left = [function]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, FunctionType):
            inside = _named(textwrap.dedent(_text(one)).encode(), (), root)
            yield from sorted({p for p in inside if p.is_file()})
            used = {n: one.__globals__[n] for n in _globals(one) if n in one.__globals__}
            used |= {f"{i}": c.cell_contents for i, c in enumerate(one.__closure__ or ()) if _is_full(c)}
            for name, value in sorted(used.items()):
                if _is_own(value, one.__module__):
                    left.append(value)
                elif _is_plain(value):
                    yield f"{name} = {value!r}"
                elif (file := _file_of(value)) is not None and file.is_relative_to(root):
                    yield file
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


def _is_plain(value: Any) -> bool:
    """Whether the text of a value is the same in every process."""
    return all(map(_is_plain, value)) if isinstance(value, tuple) else isinstance(value, PLAIN)


def _is_full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # of a name that has no value yet
        return False


def _text(one: Any) -> str:
    if isinstance(one, str):
        return one
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
