"""A person's code: the function itself, the folder it is imported from, and all files that it imports from there.

A session's digest of these files tells whether a study resumes with the code that it began with, and the
session's workers import these very files (importing.py), whatever is edited meanwhile.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

INSTALLED = {"site-packages", "dist-packages"}
PLAIN = (bool, int, float, complex, str, bytes, tuple, type(None))


def core(function: Callable[..., Any]) -> Any:
    """The function that was written: without `functools.partial`, decorators that use `functools.wraps`, the
    object that a method is bound to, or the object whose `__call__` it is."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif not isinstance(function, FunctionType | type) and hasattr(type(function), "__call__"):  # noqa: B004
            called = type(function).__call__
            if not isinstance(called, FunctionType):
                return function
            function = called
        else:
            return function


def file_of(function: Callable[..., Any]) -> str:
    """The file that a function was written in; empty where there is none."""
    try:
        return inspect.getsourcefile(core(function)) or ""
    except TypeError:  # not written in Python
        return ""


def root_of(function: Callable[..., Any]) -> Path:
    """The folder that a function's module is imported from: the one that holds its top-level package. For a
    script the script's folder, for a notebook the current one."""
    file, module = file_of(function), str(getattr(core(function), "__module__", "__main__"))
    if module == "__main__" or not Path(file).is_file():
        return Path(getattr(sys.modules.get("__main__"), "__file__", None) or "x").resolve().parent
    path = Path(file)
    return path.parents[module.count(".") + (path.name == "__init__.py")]


def digest(function: Callable[..., Any]) -> str:
    """SHA-256 of the module of `function` and of everything it imports from the same root (in an installed
    package: from that package). For a function of a notebook or a script: of its source and of what it uses
    from there and from the same folder."""
    function = core(function)
    file, root = file_of(function), root_of(function)
    texts = _texts(Path(file), root) if _has_module(function) else sorted(_used(function))
    whole = hashlib.sha256()
    for text in texts:
        whole.update(hashlib.sha256(text).digest())
    return whole.hexdigest()


def sources(function: Callable[..., Any]) -> dict[str, bytes]:
    """The files under the function's root that it imports, directly or indirectly, by their relative paths.
    None of an installed package, which workers have, and none that another module of the same name hides."""
    function = core(function)
    root = root_of(function)
    if INSTALLED & set(root.parts):
        return {}
    if _has_module(function):
        files = _imported(Path(file_of(function)), root)
    else:
        used = {one for one in _uses(function, root) if isinstance(one, Path)}
        files = {f for one in used for f in _imported(one, root)}
    paths = {p: p.relative_to(root) for p in sorted(files)}
    return {r.as_posix(): p.read_bytes() for p, r in paths.items() if _is_found(r.parts[0], root)}


def _has_module(function: Any) -> bool:
    """Whether a function is in a module that can be imported by its name."""
    module = str(getattr(function, "__module__", "__main__"))
    return module != "__main__" and Path(file_of(function)).is_file()


def _is_found(name: str, root: Path) -> bool:
    """Whether the module or package called `name` is imported from `root`."""
    try:
        spec = importlib.util.find_spec(name.removesuffix(".py"))
    except ValueError:  # a module without a specification, such as __main__
        return False
    places = [spec.origin or "", *(spec.submodule_search_locations or ())] if spec else []
    return any(p and Path(p).resolve().is_relative_to(root.resolve()) for p in places)


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
        package = path.relative_to(root).parent.parts
        named = _named(path.read_bytes(), package, root)
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


def _used(function: Any) -> Iterator[bytes]:
    """The sources of a function, of the functions, classes and plain values that it uses from its own module,
    and of the modules it uses from the same folder."""
    root = root_of(function)
    for one in _uses(function, root):
        if isinstance(one, Path):
            yield from _texts(one, root)
        else:
            yield (one if isinstance(one, str) else _text(one)).encode()


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
                elif isinstance(value, PLAIN):
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
